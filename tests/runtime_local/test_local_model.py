"""The real model: it answers, remembers, keeps to limits, and fits its context."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from runtime.errors import ModelRefused
from runtime.messages import Message
from runtime.models.base import Delta, Finish, ModelRequest, Text
from runtime.models.local import LocalModel
from runtime.runnable import RunOptions, ToolInfo
from tests.runtime_local.conftest import ask, deltas


def text(answer: list[Delta]) -> str:
    return "".join(delta.text for delta in answer if isinstance(delta, Text))


def finish(answer: list[Delta]) -> Finish:
    last = answer[-1]
    assert isinstance(last, Finish)
    return last


async def busy_slots(model: LocalModel) -> int:
    assert model._serving is not None
    slots = await model._serving.process._ask("GET", "/slots")
    return sum(slot["is_processing"] for slot in slots)


async def until_idle(model: LocalModel) -> None:
    async with asyncio.timeout(30):
        while await busy_slots(model):  # noqa: ASYNC110 - the slots are in another process
            await asyncio.sleep(0.01)


async def test_an_answer_streams_and_ends_with_a_finish(model: LocalModel) -> None:
    answer = await deltas(model, ask("Why is the sky blue?"))
    assert len([delta for delta in answer if isinstance(delta, Text)]) > 5
    assert any(word in text(answer).lower() for word in ("sky", "light", "blue"))
    usage = finish(answer).usage
    assert usage is not None
    assert 0 < usage.completion_tokens <= 40


async def test_a_second_turn_knows_the_first(model: LocalModel) -> None:
    first, question = "I have a dog called Rex.", "Write a sentence about my dog."
    reply = text(await deltas(model, ask(first)))
    assert "Rex" in text(await deltas(model, ask(first, reply, question)))
    assert "Rex" not in text(await deltas(model, ask(question)))


async def test_run_options_win_over_the_defaults(model: LocalModel) -> None:
    end = finish(await deltas(model, ask("Tell me a long story.", max_tokens=3)))
    assert end.reason == "length"
    assert end.usage is not None
    assert end.usage.completion_tokens == 3


async def test_a_long_conversation_goes_on_without_its_oldest_turns() -> None:
    model = LocalModel(context=512)
    try:
        turns = [f"Tell me about the number {n}. " + "It is a number. " * 3 for n in range(81)]
        answer = await deltas(model, ask(*turns, max_tokens=8))
        usage = finish(answer).usage
        assert usage is not None
        assert 150 < usage.prompt_tokens < 512
        with pytest.raises(ModelRefused, match="too long for this model"):
            await deltas(model, ask("1234 " * 400, max_tokens=8))
    finally:
        await model.aclose()


async def test_tools_and_their_old_answers_do_not_confuse_it(model: LocalModel) -> None:
    request = ask("What is the capital of France?")
    offered = ToolInfo(name="look", description="Look.", parameters={"type": "object"})
    answer = await deltas(model, ModelRequest(request.messages, (offered,), request.options))
    assert "Paris" in text(answer)


async def test_two_conversations_are_answered_at_the_same_time(model: LocalModel) -> None:
    both_speak = asyncio.Barrier(2)

    async def speak(topic: str) -> None:
        async with aclosing(model.stream(ask(topic, max_tokens=1000))) as stream:
            await anext(stream)
            await both_speak.wait()
            assert await busy_slots(model) == 2
            await both_speak.wait()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(speak("Tell me a long story about the sea."))
        group.create_task(speak("Tell me a long story about the moon."))
    await until_idle(model)


async def test_closing_a_stream_frees_its_slot_at_once(model: LocalModel) -> None:
    endless = ModelRequest(
        (Message(role="user", content="Count: one, two, three, four"),),
        options=RunOptions(max_tokens=1000, temperature=0),
    )
    async with aclosing(model.stream(endless)) as stream:
        await anext(stream)
        assert await busy_slots(model) == 1
    await until_idle(model)


async def test_cancelling_the_task_that_reads_frees_the_slot_too(model: LocalModel) -> None:
    speaking = asyncio.Event()

    async def read() -> None:
        async for _ in model.stream(ask("Tell me a long story.", max_tokens=1000)):
            speaking.set()

    task = asyncio.create_task(read())
    async with asyncio.timeout(30):
        await speaking.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_idle(model)


async def test_requests_in_quick_succession_all_reach_the_server(model: LocalModel) -> None:
    for _ in range(15):
        assert (
            finish(await deltas(model, ask("Tell me a story.", max_tokens=30))).reason == "length"
        )
