"""The OpenAI provider against a server that speaks the real wire."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from runtime import (
    Agent,
    Message,
    ModelError,
    ModelRefused,
    ModelRequest,
    ModelUnavailable,
    RunOptions,
    ToolCall,
    Usage,
    tool,
)
from runtime.events import ModelRetrying, RunCompleted, RunFailed
from runtime.models.base import Delta, Finish, ReasoningText, Text, ToolCallFragment
from runtime.models.fold import Answer, fold
from runtime.models.openai import OpenAIModel
from tests.models.servers.chat_completions import DONE, ChatCompletions, chunk
from tests.models.servers.loopback import KEY, Loopback, serving
from tests.runtime.support import PATIENCE, run, user

HELLO = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"})]
END = [chunk({}, finish="stop"), DONE]
ASKED = ModelRequest((user("hi"),))


@pytest.fixture
async def provider() -> AsyncIterator[Loopback]:
    async with serving() as provider:
        yield provider


async def model_of(provider: Loopback, **options: Any) -> OpenAIModel:
    return await asyncio.to_thread(ChatCompletions().model, provider.url, **options)


async def said(provider: Loopback, asked: ModelRequest = ASKED) -> list[Delta]:
    model = await model_of(provider)
    try:
        async with asyncio.timeout(PATIENCE), aclosing(model.stream(asked)) as deltas:
            return [delta async for delta in deltas]
    finally:
        await model.aclose()


async def answer(provider: Loopback) -> Answer:
    return fold(await said(provider))


@tool
async def get_weather(city: str) -> str:
    """Look up the weather."""
    return f"sunny in {city}"


async def test_an_answer_comes_as_deltas_and_one_finish_with_its_usage(provider: Loopback) -> None:
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


async def test_the_request_carries_history_tools_and_options(provider: Loopback) -> None:
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
    assert provider.keys == [KEY]


async def test_a_character_that_is_cut_between_two_chunks_comes_out_whole(
    provider: Loopback,
) -> None:
    first = chunk({"content": "rain X"}).replace(b"X", b"\\ud83c")
    second = chunk({"content": "X!"}).replace(b"X", b"\\udf27")
    lone = chunk({"content": "X."}).replace(b"X", b"\\udf27")
    provider.pieces = [first, second, lone, *END]
    assert (await answer(provider)).text == "rain 🌧!\ufffd."


async def test_calls_of_a_server_that_does_not_number_them_are_told_apart_by_id(
    provider: Loopback,
) -> None:
    def piece(arguments: str, call_id: str | None = None) -> bytes:
        function = {"arguments": arguments, "name": "t" if call_id else None}
        return chunk({"tool_calls": [{"id": call_id, "function": function}]})

    provider.pieces = [piece('{"a"', "c1"), piece(":1}"), piece("{}", "c2"), *END]
    assert [(c.id, c.arguments) for c in (await answer(provider)).tool_calls] == [
        ("c1", '{"a":1}'),
        ("c2", "{}"),
    ]


async def test_calls_that_a_server_gives_one_number_are_told_apart_by_id(
    provider: Loopback,
) -> None:
    def piece(arguments: str, call_id: str | None = None, name: str | None = None) -> bytes:
        function = {"arguments": arguments, "name": name}
        return chunk({"tool_calls": [{"index": 0, "id": call_id, "function": function}]})

    provider.pieces = [
        piece('{"a"', name="t"),  # this server gives the id too late, and then an empty one
        piece(":", "c1"),
        piece("1}", ""),
        piece("{", "c2", "t"),
        piece("}"),
        *END,
    ]
    assert [delta for delta in await said(provider) if isinstance(delta, ToolCallFragment)] == [
        ToolCallFragment(0, None, "t", '{"a"'),
        ToolCallFragment(0, "c1", None, ":"),
        ToolCallFragment(0, None, None, "1}"),
        ToolCallFragment(1, "c2", "t", "{"),
        ToolCallFragment(1, None, None, "}"),
    ]


async def test_a_refusal_is_text_and_a_second_choice_is_not_heard(provider: Loopback) -> None:
    second = json.dumps({"choices": [{"index": 1, "delta": {"content": "me too"}}]})
    provider.pieces = [
        chunk({"content": None, "refusal": "I must "}),
        f"data: {second}\n\n".encode(),
        chunk({"refusal": "not."}),
        *END,
    ]
    assert (await answer(provider)).text == "I must not."


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_is_read_under_both_of_its_names(provider: Loopback, field: str) -> None:
    provider.pieces = [chunk({field: "hm"}), chunk({"content": "42"}), *END]
    assert (await said(provider))[:2] == [ReasoningText("hm"), Text("42")]


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        ({"message": "slow down", "code": 429}, ModelUnavailable, "failed while answering"),
        ({"code": "content_policy"}, ModelRefused, "stopped answering: content_policy"),
        ({"code": f"prompt with {KEY}"}, ModelRefused, "stopped answering$"),
        ("just text", ModelRefused, "stopped answering"),
    ],
)
async def test_an_error_in_the_middle_is_read_as_servers_write_it(
    provider: Loopback, error: object, kind: type[ModelError], text: str
) -> None:
    provider.pieces = [*HELLO, f"data: {json.dumps({'error': error})}\n\n".encode()]
    with pytest.raises(kind, match=text):
        await said(provider)


async def test_waiting_does_not_fill_an_account(provider: Loopback) -> None:
    spent = json.dumps({"error": {"message": "pay", "code": "insufficient_quota"}}).encode()
    provider.status, provider.pieces = 429, [spent]
    with pytest.raises(ModelRefused, match="HTTP 429, insufficient_quota"):
        await said(provider)


async def test_the_schema_of_the_answer_is_sent_with_a_guarantee_where_there_is_one(
    provider: Loopback,
) -> None:
    free = {"type": "object", "additionalProperties": {"type": "string"}}
    listed = {"type": "array", "items": {"type": "string"}}
    loose = {"type": "object", "properties": {"a": {"type": "string", "default": "x"}}}
    strict = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    for schema in (free, listed, loose, strict):
        provider.pieces = END
        await said(provider, ModelRequest((user("hi"),), output_schema=schema, output_name="A B"))
    forms = [request["response_format"]["json_schema"] for request in provider.requests]
    assert {request["response_format"]["type"] for request in provider.requests} == {"json_schema"}
    assert [(form["name"], form["schema"], form["strict"]) for form in forms] == [
        ("A_B", free, False),
        ("A_B", listed, False),
        ("A_B", strict, True),
        ("A_B", strict, True),
    ]


async def test_extra_fields_are_sent_and_win(provider: Loopback) -> None:
    provider.pieces = END
    model = await model_of(provider, extra={"seed": 7, "stream_options": None})
    async with aclosing(model.stream(ASKED)) as deltas:
        assert [type(delta) for delta in [d async for d in deltas]] == [Finish]
    await model.aclose()
    assert provider.requests[0]["seed"] == 7
    assert provider.requests[0]["stream_options"] is None


async def test_an_agent_works_on_it_with_tools_and_tries_again_when_told_to(
    provider: Loopback,
) -> None:
    function = {"name": "get_weather", "arguments": '{"city":"Bern"}'}
    call = {"index": 0, "id": "c1", "function": function}
    provider.status, provider.headers = 503, {"retry-after-ms": "1"}
    provider.later = [
        (200, {}, [chunk({"tool_calls": [call]}), chunk({}, finish="tool_calls"), DONE]),
        (200, {}, [chunk({"content": "Sunny."}), *END]),
    ]
    model = await model_of(provider)
    log = await run(Agent("a", model, tools=[get_weather]))
    assert log.one(ModelRetrying).delay_ms == 1.0
    assert log.one(RunCompleted).output == "Sunny."
    assert provider.requests[-1]["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "c1",
        "content": "sunny in Bern",
    }
    await model.aclose()


async def test_a_cut_answer_fails_the_run(provider: Loopback) -> None:
    provider.pieces = HELLO
    model = await model_of(provider)
    log = await run(Agent("a", model))
    assert log.one(RunFailed).error.code == "model_stream_broken"
    await model.aclose()


@pytest.mark.rows("S2")
async def test_where_and_with_which_key_may_come_from_the_environment(
    provider: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    provider.pieces = END
    for key in (None, "sk-given"):
        model = await asyncio.to_thread(OpenAIModel, "gpt-x", api_key=key)
        async with aclosing(model.stream(ASKED)) as deltas:
            assert isinstance(await anext(deltas), Finish)
        await model.aclose()
    assert provider.keys == ["sk-from-the-environment", "sk-given"]
    assert [request["model"] for request in provider.requests] == ["gpt-x", "gpt-x"]


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
    monkeypatch.delitem(sys.modules, "runtime.models.openai")
    monkeypatch.delitem(sys.modules, "runtime.models.openai_responses", raising=False)
    fresh = importlib.import_module("runtime.models.openai")
    responses = importlib.import_module("runtime.models.openai_responses")
    for model in (fresh.OpenAIModel, responses.OpenAIResponsesModel):
        with pytest.raises(ImportError, match=rf"{model.__name__} .*'tidegate\[openai\]'"):
            model("m", api_key="k")
