"""A model without an agent: one question, one answer, whole or in chunks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime.cancel import CancelToken
from runtime.errors import ModelSpokeNonsense, ModelUnavailable, RunAborted
from runtime.messages import Message, ToolCall
from runtime.models.base import Delta, Finish, ModelRequest, Text, ToolCallFragment
from runtime.models.chat import ChatChunk, ToolCallChunk, chat, merge_tool_calls, stream_chat
from runtime.models.scripted import Cue, ScriptedModel, say
from tests.runtime.support import PATIENCE, user

ASKED = ModelRequest((user("hi"),))


@pytest.mark.rows("C4")
def test_a_message_has_one_of_four_roles() -> None:
    for role in ("system", "user", "assistant", "tool"):
        assert Message.model_validate({"role": role, "content": "hi"}).role == role
    with pytest.raises(ValidationError, match="role"):
        Message.model_validate({"role": "robot", "content": "hi"})


@pytest.mark.rows("C5")
async def test_a_call_that_cannot_be_opened_fails_before_the_first_chunk() -> None:
    model = ScriptedModel([[ModelUnavailable("busy")]])
    chunks: list[ChatChunk] = []
    with pytest.raises(ModelUnavailable, match="busy"):
        chunks.extend([chunk async for chunk in stream_chat(model, ASKED)])
    assert chunks == []


@pytest.mark.rows("C8", "C9")
async def test_nothing_is_added_to_what_the_model_says() -> None:
    model = ScriptedModel([[Text(""), *say("one two\n"), Text("after the end")]])
    stream = stream_chat(model, ASKED)
    assert [chunk.content async for chunk in stream] == ["one", " two", "\n"]
    assert stream.finish is not None
    assert stream.finish.reason == "stop"


async def test_nothing_is_asked_before_the_first_chunk_is_wanted() -> None:
    model = ScriptedModel([say("ok")])
    async with stream_chat(model, ASKED) as stream:
        assert model.requests == []
        assert (await anext(stream)).content == "ok"
        assert model.requests == [ASKED]


async def test_a_block_that_is_left_ends_the_answer() -> None:
    left = asyncio.Event()

    def script(_: ModelRequest) -> Iterator[Cue]:
        try:
            yield "Hel"
            yield asyncio.Event()
        finally:
            left.set()

    async with asyncio.timeout(PATIENCE):
        async with stream_chat(ScriptedModel(script), ASKED) as stream:
            await anext(stream)
        assert left.is_set()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


# --- cancelling --------------------------------------------------------------------------------


@pytest.mark.rows("C3")
async def test_a_token_that_was_aborted_before_is_obeyed_before_anything_is_asked() -> None:
    model = ScriptedModel([say("ok")])
    token = CancelToken()
    token.abort("too late")
    with pytest.raises(RunAborted, match="too late"):
        await chat(model, ASKED, cancel=token)
    assert model.requests == []


async def test_an_abort_ends_a_whole_answer_too_and_from_a_thread() -> None:
    asked = asyncio.Event()

    def script(_: ModelRequest) -> Iterator[Cue]:
        asked.set()
        yield asyncio.Event()

    token = CancelToken()
    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(chat(ScriptedModel(script), ASKED, cancel=token))
        await asked.wait()
        await asyncio.to_thread(token.abort, "enough")
        with pytest.raises(RunAborted, match="enough"):
            await task


async def test_an_abort_while_the_consumer_is_busy_does_not_cancel_the_consumer() -> None:
    token = CancelToken()
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
    stream = stream_chat(ScriptedModel([["a", "b", Finish("stop")]]), ASKED, cancel=token)
    assert (await anext(stream)).content == "a"
    token.abort()
    await asyncio.sleep(0)  # the token's watchers have their turn: this is not cancelled
    with pytest.raises(RunAborted):
        await anext(stream)
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0
    assert complaints == []


async def test_a_provider_that_does_not_hear_the_abort_is_left_at_its_next_delta() -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    class Deaf(ScriptedModel):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
            waiting.set()
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                yield Text("what?")

    token = CancelToken()
    chunks: list[str] = []

    async def read() -> None:
        async for chunk in stream_chat(Deaf([]), ASKED, cancel=token):
            chunks.append(chunk.content)  # noqa: PERF401 - what came is kept

    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(read())
        await waiting.wait()
        token.abort()
        with pytest.raises(RunAborted):
            await task
    assert chunks == ["what?"]


async def test_a_time_limit_of_the_provider_is_not_taken_for_an_abort() -> None:
    token = CancelToken()
    with pytest.raises(TimeoutError, match="mine"):
        await chat(ScriptedModel([[TimeoutError("mine")]]), ASKED, cancel=token)


async def test_a_time_limit_of_the_caller_stays_a_time_limit() -> None:
    token = CancelToken()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await chat(ScriptedModel([[asyncio.Event()]]), ASKED, cancel=token)
    assert token._watchers == {}


# --- tool calls --------------------------------------------------------------------------------


@given(
    count=st.integers(1, 4),
    numbered=st.booleans(),
    order=st.randoms(use_true_random=False),
)
@pytest.mark.rows("C10")
def test_fragments_of_interleaved_calls_become_whole_calls(
    count: int, *, numbered: bool, order: Random
) -> None:
    """Without numbers, only the calls' ids tell them apart, and each fragment carries its own."""
    whole = [
        ToolCall(id=f"c{n}", name=f"t{n}", arguments=json.dumps({"n": n, "é": "x" * n}))
        for n in range(count)
    ]

    def piece(n: int, text: str) -> ToolCallChunk:
        return ToolCallChunk(n if numbered else 0, None if numbered else f"c{n}", None, text)

    chunks = [
        ToolCallChunk(n if numbered else 0, call.id, call.name, call.arguments[:1])
        for n, call in enumerate(whole)
    ]
    rest = [[piece(n, c) for c in call.arguments[1:]] for n, call in enumerate(whole)]
    while any(rest):
        chunks.append(order.choice([pieces for pieces in rest if pieces]).pop(0))
    merged = merge_tool_calls(chunks)
    assert merged == whole
    assert all(json.loads(call.arguments) for call in merged)


def test_calls_with_one_number_one_after_the_other_are_told_apart() -> None:
    chunks = [
        ToolCallFragment(0, "c1", "look", "{"),
        ToolCallFragment(0, arguments="}"),
        ToolCallFragment(0, "c2", "find", "{"),
        ToolCallFragment(0, "", arguments="}"),
    ]
    assert [(call.id, call.arguments) for call in merge_tool_calls(chunks)] == [
        ("c1", "{}"),
        ("c2", "{}"),
    ]


def test_a_call_without_a_name_is_no_call() -> None:
    assert merge_tool_calls([]) == []
    with pytest.raises(ModelSpokeNonsense, match="without naming it"):
        merge_tool_calls([ToolCallFragment(0, "c1", arguments="{}")])
