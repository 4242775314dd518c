"""The OpenAI provider against a server that speaks the real wire."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from runtime import (
    Agent,
    Message,
    ModelError,
    ModelRefused,
    ModelRequest,
    ModelSpokeNonsense,
    ModelUnavailable,
    RunOptions,
    ToolCall,
    Usage,
    tool,
)
from runtime.events import MessageDelta, ModelRetrying, RunCancelled, RunCompleted, RunFailed
from runtime.models.base import Delta, Finish, ReasoningText, Text
from runtime.models.fold import Answer, fold
from runtime.models.openai import OpenAIModel
from tests.runtime.provider import CUT, DONE, KEY, Provider, chunk, serving
from tests.runtime.support import PATIENCE, Log, check_ended, request, run, user

HELLO = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"})]
END = [chunk({}, finish="stop"), DONE]
ASKED = ModelRequest((user("hi"),))


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with serving() as provider:
        yield provider


async def said(provider: Provider, asked: ModelRequest = ASKED) -> list[Delta]:
    model = await provider.model()
    try:
        async with asyncio.timeout(PATIENCE), aclosing(model.stream(asked)) as deltas:
            return [delta async for delta in deltas]
    finally:
        await model.aclose()


async def answer(provider: Provider) -> Answer:
    return fold(await said(provider))


@tool
async def get_weather(city: str) -> str:
    """Look up the weather."""
    return f"sunny in {city}"


async def test_an_answer_comes_as_deltas_and_one_finish_with_its_usage(provider: Provider) -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    provider.pieces = [
        *HELLO,
        b": keep-alive\n\n",
        chunk({"content": "lo"}),
        chunk({}, finish="stop"),
        chunk(usage=usage),
        DONE,
    ]
    assert await said(provider) == [
        Text("Hel"),
        Text("lo"),
        Finish(
            "stop",
            Usage(
                prompt_tokens=5,
                completion_tokens=2,
                total_tokens=7,
                cache_read_tokens=4,
                reasoning_tokens=1,
            ),
            "m-2026",
            "chatcmpl-1",
        ),
    ]


async def test_the_request_carries_history_tools_and_options(provider: Provider) -> None:
    provider.pieces = END
    call = ToolCall(id="c1", name="get_weather", arguments='{"city":"Bern"}')
    asked = ModelRequest(
        (
            Message(role="system", content="Be kind."),
            user("hi"),
            Message(role="assistant", content="", tool_calls=(call,), message_id="msg_1"),
            Message(role="tool", content="sunny", tool_call_id="c1"),
        ),
        tools=(get_weather.info,),
        options=RunOptions(temperature=0.5, max_tokens=9, stop_sequences=("END",)),
    )
    await said(provider, asked)
    (sent,) = provider.requests
    assert sent == {
        "model": "gpt-x",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city":"Bern"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "description": "Look up the weather.",
                    "parameters": get_weather.info.parameters,
                },
            }
        ],
        "temperature": 0.5,
        "max_tokens": 9,
        "stop": ["END"],
    }
    assert provider.authorizations == [f"Bearer {KEY}"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
async def test_bytes_may_be_cut_anywhere(provider: Provider, size: int) -> None:
    whole = b"".join([chunk({"content": "Zürich "}), chunk({"content": "🌧 \u2028x"}), *END])
    whole = whole.replace(b"\\u00fc", "ü".encode()).replace(b"\\ud83c\\udf27", "🌧".encode())
    provider.pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert (await answer(provider)).text == "Zürich 🌧 \u2028x"


async def test_a_character_that_is_cut_between_two_chunks_comes_out_whole(
    provider: Provider,
) -> None:
    first = chunk({"content": "rain X"}).replace(b"X", b"\\ud83c")
    second = chunk({"content": "X!"}).replace(b"X", b"\\udf27")
    lone = chunk({"content": "X."}).replace(b"X", b"\\udf27")
    provider.pieces = [first, second, lone, *END]
    assert (await answer(provider)).text == "rain 🌧!\ufffd."


async def test_interleaved_tool_calls_keep_their_pieces_apart(provider: Provider) -> None:
    def piece(index: int, arguments: str = "", **first: str) -> bytes:
        function = {"arguments": arguments} | ({"name": first["name"]} if first else {})
        named = {"id": first["id"], "type": "function"} if first else {}
        return chunk({"tool_calls": [{"index": index, "function": function, **named}]})

    provider.pieces = [
        piece(0, id="c1", name="get_weather"),
        piece(0, '{"ci'),
        piece(1, '{"city":', id="c2", name="get_weather"),
        piece(0, 'ty":"Bern"}'),
        piece(1, '"Rome"}'),
        chunk({}, finish="tool_calls"),
        DONE,
    ]
    folded = await answer(provider)
    assert folded.tool_calls == (
        ToolCall(id="c1", name="get_weather", arguments='{"city":"Bern"}'),
        ToolCall(id="c2", name="get_weather", arguments='{"city":"Rome"}'),
    )
    assert folded.finished().reason == "tool_calls"


async def test_calls_of_a_server_that_does_not_number_them_are_told_apart_by_id(
    provider: Provider,
) -> None:
    def piece(arguments: str, call_id: str | None = None) -> bytes:
        function = {"arguments": arguments, "name": "t" if call_id else None}
        return chunk({"tool_calls": [{"id": call_id, "function": function}]})

    provider.pieces = [piece('{"a"', "c1"), piece(":1}"), piece("{}", "c2"), *END]
    assert [(c.id, c.arguments) for c in (await answer(provider)).tool_calls] == [
        ("c1", '{"a":1}'),
        ("c2", "{}"),
    ]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_is_read_under_both_of_its_names(provider: Provider, field: str) -> None:
    provider.pieces = [chunk({field: "hm"}), chunk({"content": "42"}), *END]
    assert (await said(provider))[:2] == [ReasoningText("hm"), Text("42")]


@pytest.mark.parametrize(
    ("tail", "error", "text"),
    [
        ([], ModelSpokeNonsense, "ended without a finish"),
        ([DONE], ModelSpokeNonsense, "ended without a finish"),
        ([CUT], ModelSpokeNonsense, "broke off before its end"),
        ([b"data: {nonsense\n\n"], ModelSpokeNonsense, "cannot be read"),
        ([b'data: "\xff"\n\n'], ModelSpokeNonsense, "cannot be read"),
        ([b'data: {"choices": 5}\n\n'], ModelSpokeNonsense, "a chunk that cannot be read"),
        ([b"data: [1]\n\n"], ModelSpokeNonsense, "a chunk that cannot be read"),
        (
            [b'data: {"error": {"message": "sk-very-secret", "type": "server_error"}}\n\n'],
            ModelUnavailable,
            "failed while answering: server_error",
        ),
        (
            [b'data: {"error": {"message": "slow down", "code": 429}}\n\n'],
            ModelUnavailable,
            "failed while answering",
        ),
        (
            [b'data: {"error": {"message": "no", "code": "content_policy"}}\n\n'],
            ModelRefused,
            "stopped answering: content_policy",
        ),
    ],
)
async def test_an_answer_that_breaks_off_is_an_error_and_never_a_short_success(
    provider: Provider, tail: list[object], error: type[ModelError], text: str
) -> None:
    provider.pieces = [*HELLO, *tail]
    with pytest.raises(error, match=text):
        await said(provider)


def refused(code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": f"bad {KEY}", "type": "t", "code": code}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (400, refused(), ModelRefused, "refused the request: HTTP 400, t"),
        (401, refused("invalid_api_key"), ModelRefused, "HTTP 401, invalid_api_key"),
        (404, b"<html>not here</html>", ModelRefused, "refused the request: HTTP 404"),
        (408, refused(), ModelUnavailable, "not available: HTTP 408"),
        (409, refused(), ModelUnavailable, "not available: HTTP 409"),
        (429, refused("rate_limit_exceeded"), ModelUnavailable, "HTTP 429, rate_limit_exceeded"),
        (429, refused("insufficient_quota"), ModelRefused, "HTTP 429, insufficient_quota"),
        (500, b"", ModelUnavailable, "not available: HTTP 500"),
        (503, refused(), ModelUnavailable, "not available: HTTP 503"),
    ],
)
async def test_a_status_becomes_a_fault_whose_text_holds_no_secret(
    provider: Provider, status: int, body: bytes, error: type[ModelError], text: str
) -> None:
    provider.status, provider.pieces = status, [body]
    with pytest.raises(error, match=text) as caught:
        await said(provider)
    assert caught.value.status_code == status
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
async def test_how_long_a_provider_asks_to_wait_is_kept(
    provider: Provider, headers: dict[str, str], seconds: float | None
) -> None:
    provider.status, provider.headers = 429, headers
    with pytest.raises(ModelUnavailable) as caught:
        await said(provider)
    assert caught.value.retry_after == seconds


async def test_a_provider_that_is_not_there_or_silent_is_unavailable(provider: Provider) -> None:
    nobody = await asyncio.to_thread(
        OpenAIModel, "m", base_url="http://127.0.0.1:1/v1", api_key="k"
    )
    provider.pieces = [asyncio.Event()]
    silent = await provider.model(timeout=0.05)
    for model, text in ((nobody, "cannot be reached"), (silent, "did not answer in time")):
        with pytest.raises(ModelUnavailable, match=text):
            async for _ in model.stream(ASKED):
                pass
        await model.aclose()


async def test_closing_the_stream_closes_the_connection(provider: Provider) -> None:
    provider.pieces = [*HELLO, asyncio.Event()]
    model = await provider.model()
    async with asyncio.timeout(PATIENCE):
        async with aclosing(model.stream(ASKED)) as deltas:
            assert await anext(deltas) == Text("Hel")
        await provider.gone.wait()
    await model.aclose()
    await model.aclose()


@pytest.mark.parametrize("opened", [True, False])
async def test_cancelling_a_run_closes_the_connection(provider: Provider, *, opened: bool) -> None:
    provider.pieces = [*HELLO, asyncio.Event()] if opened else [asyncio.Event()]
    model = await provider.model()
    log = Log()
    task = asyncio.create_task(Agent("a", model).execute(request(), log.emit))
    async with asyncio.timeout(PATIENCE):
        if opened:
            await log.until(MessageDelta)
        await provider.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await provider.gone.wait()
    check_ended(log)
    assert log.one(RunCancelled).partial_output == ("Hel" if opened else None)
    await model.aclose()


async def test_an_agent_works_on_it_with_tools_and_tries_again_when_told_to(
    provider: Provider,
) -> None:
    function = {"name": "get_weather", "arguments": '{"city":"Bern"}'}
    call = {"index": 0, "id": "c1", "function": function}
    provider.status, provider.headers = 503, {"retry-after-ms": "1"}
    provider.later = [
        (200, {}, [chunk({"tool_calls": [call]}), chunk({}, finish="tool_calls"), DONE]),
        (200, {}, [chunk({"content": "Sunny."}), *END]),
    ]
    model = await provider.model()
    log = await run(Agent("a", model, tools=[get_weather]))
    assert log.one(ModelRetrying).delay_ms == 1.0
    assert log.one(RunCompleted).output == "Sunny."
    assert provider.requests[-1]["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "c1",
        "content": "sunny in Bern",
    }
    await model.aclose()


async def test_a_cut_answer_fails_the_run(provider: Provider) -> None:
    provider.pieces = HELLO
    model = await provider.model()
    log = await run(Agent("a", model))
    assert log.one(RunFailed).error.code == "model_stream_broken"
    await model.aclose()


def test_without_a_key_openai_is_not_asked_but_another_server_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ModelRefused, match="set OPENAI_API_KEY"):
        OpenAIModel("gpt-x")
    assert OpenAIModel("m", base_url="http://127.0.0.1:1/v1").name == "m"


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    for module in ("runtime.models.openai", "runtime.models.openai_errors"):
        monkeypatch.delitem(sys.modules, module)
    fresh = importlib.import_module("runtime.models.openai")
    with pytest.raises(ImportError, match=r"pip install 'tidegate\[openai\]'"):
        fresh.OpenAIModel("m", api_key="k")
