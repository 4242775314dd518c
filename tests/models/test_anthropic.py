"""The Messages API: what is sent, and the ways in which it answers."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from contextlib import aclosing
from typing import Any

import pytest

from runtime.errors import ModelRefused, ModelUnavailable
from runtime.messages import Message, ToolCall, Usage
from runtime.models.anthropic import AnthropicModel
from runtime.models.anthropic_wire import MessageDecoder, request_body
from runtime.models.base import (
    Delta,
    Finish,
    ModelRequest,
    ReasoningText,
    Text,
    ToolCallFragment,
)
from runtime.models.fold import fold
from runtime.runnable import RunOptions, ToolInfo
from tests.models.benches import WIRES, http_bench
from tests.runtime.support import user

LOOK = ToolInfo(name="look", description="Look.", parameters={"type": "object"})
STOP = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}


def body(*messages: Message, **fields: Any) -> dict[str, Any]:
    return request_body("claude-x", ModelRequest(messages, **fields), max_tokens=4096)


def heard(*events: dict[str, Any]) -> list[Delta]:
    """Return the deltas of events, and the finish."""
    decoder = MessageDecoder()
    deltas = [delta for event in events for delta in decoder.take(json.dumps(event))]
    return [*deltas, decoder.finish()]


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def end(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def test_the_request_carries_history_tools_and_options() -> None:
    calls = (
        ToolCall(id="c1", name="look", arguments='{"city":"Bern"}'),
        ToolCall(id="c2", name="look", arguments=""),
    )
    sent = body(
        Message(role="system", content="Be kind."),
        user("hi"),
        Message(role="assistant", content="Let me see.", tool_calls=calls),
        Message(role="tool", content="sunny", tool_call_id="c1"),
        Message(role="tool", content="rainy", tool_call_id="c2"),
        Message(role="system", content="Be brief."),
        user("and?"),
        tools=(LOOK,),
        options=RunOptions(temperature=1.0, max_tokens=9, stop_sequences=("END", "\n\n")),
        output_schema={"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}},
    )
    assert sent == {
        "model": "claude-x",
        "max_tokens": 9,
        "system": "Be kind.\n\nBe brief.",
        "messages": [
            {"role": "user", "content": [text("hi")]},
            {
                "role": "assistant",
                "content": [
                    text("Let me see."),
                    {"type": "tool_use", "id": "c1", "name": "look", "input": {"city": "Bern"}},
                    {"type": "tool_use", "id": "c2", "name": "look", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "rainy"},
                    text("and?"),
                ],
            },
        ],
        "stream": True,
        "tools": [{"name": "look", "description": "Look.", "input_schema": {"type": "object"}}],
        "temperature": 1.0,
        "stop_sequences": ["END"],
        "output_config": {
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"n": {"type": "integer", "description": "(minimum: 1)"}},
                    "required": ["n"],
                    "additionalProperties": False,
                },
            }
        },
    }


def test_what_is_unset_is_not_sent_but_for_the_limit_which_the_api_wants() -> None:
    assert body(user("hi")) == {
        "model": "claude-x",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [text("hi")]}],
        "stream": True,
    }


def test_a_schema_that_the_api_cannot_guarantee_is_told_in_the_instructions() -> None:
    free = {"type": "object", "additionalProperties": {"type": "integer"}}
    sent = body(Message(role="system", content="Be kind."), user("hi"), output_schema=free)
    assert "output_config" not in sent
    assert sent["system"].startswith("Be kind.\n\nAnswer with one JSON value and nothing else.")
    assert sent["system"].endswith(json.dumps(free))


@pytest.mark.rows("K17")
async def test_a_temperature_that_is_too_high_is_refused_and_not_changed() -> None:
    async with http_bench(WIRES["anthropic"]) as bench:
        asked = ModelRequest((user("hi"),), options=RunOptions(temperature=1.5))
        with pytest.raises(ModelRefused, match=r"from 0 to 1; 1\.5 was asked"):
            await anext(bench.model.stream(asked))
        assert bench.server.requests == []


def test_a_conversation_begins_with_the_user_and_takes_turns_without_empty_texts() -> None:
    turns = body(
        Message(role="assistant", content="Hello."),
        user(" "),
        Message(role="assistant", content="Are you there?"),
    )["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    assert turns[0]["content"] == [text("(The conversation begins.)")]
    assert turns[1]["content"] == [text("Hello."), text("Are you there?")]


def test_calls_of_another_provider_are_put_so_that_this_one_takes_them() -> None:
    calls = (
        ToolCall(id="functions.look:0", name="look", arguments="no json"),
        ToolCall(id="c2", name="look", arguments="[1]"),
    )
    sent = body(
        user("hi"),
        Message(role="assistant", tool_calls=calls),
        Message(role="tool", content="", tool_call_id="functions.look:0"),
        Message(role="tool", content="", tool_call_id="c2"),
    )
    uses, results = sent["messages"][1]["content"], sent["messages"][2]["content"]
    assert [use["id"] for use in uses] == ["functions_look_0", "c2"]
    assert [use["input"] for use in uses] == [
        {"no_json_object": "no json"},
        {"no_json_object": "[1]"},
    ]
    assert [result["tool_use_id"] for result in results] == ["functions_look_0", "c2"]
    # A history with calls is taken only with tools; the agent that speaks now has none.
    assert sent["tools"] == [{"name": "look", "input_schema": {"type": "object"}}]
    assert sent["tool_choice"] == {"type": "none"}


def test_thinking_text_and_calls_come_out_apart_and_calls_are_numbered() -> None:
    deltas = heard(
        begin(0, type="thinking", thinking="", signature=""),
        piece(0, type="thinking_delta", thinking="hm"),
        piece(0, type="signature_delta", signature="abc"),
        end(0),
        begin(1, type="redacted_thinking", data="xyz"),
        end(1),
        begin(2, type="text", text=""),
        piece(2, type="text_delta", text="ok"),
        piece(2, type="citations_delta", citation={"type": "char_location"}),
        end(2),
        begin(3, type="server_tool_use", id="s1", name="web_search", input={}),
        piece(3, type="input_json_delta", partial_json='{"query":1}'),
        end(3),
        begin(4, type="tool_use", id="c1", name="look", input={}),
        piece(4, type="input_json_delta", partial_json=""),
        piece(4, type="input_json_delta", partial_json='{"a":1}'),
        end(4),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    )
    assert deltas == [
        ReasoningText("hm"),
        Text("ok"),
        ToolCallFragment(0, "c1", "look"),
        ToolCallFragment(0, arguments='{"a":1}'),
        Finish("tool_calls"),
    ]


def test_a_call_without_pieces_has_the_arguments_that_it_began_with() -> None:
    deltas = heard(
        begin(0, type="tool_use", id="c1", name="look", input={}),
        end(0),
        begin(1, type="tool_use", id="c2", name="look", input={"a": 1}),
        end(1),
        begin(2, type="text", text="so"),
        end(2),
        STOP,
    )
    assert [call.arguments for call in fold(deltas).tool_calls] == ["{}", '{"a": 1}']
    assert fold(deltas).text == "so"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_why_an_answer_ended_is_told_in_our_words(told: str, reason: str) -> None:
    assert heard({"type": "message_delta", "delta": {"stop_reason": told}}) == [Finish(reason)]


def test_usage_is_what_was_counted_last_and_the_prompt_is_all_that_was_read() -> None:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 30,
        "output_tokens": 1,
    }
    later = {"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 4}}
    (finish,) = heard(
        {"type": "message_start", "message": {"id": "msg_1", "model": "c", "usage": usage}},
        {**STOP, "usage": {"output_tokens": 3}},
        {"type": "message_delta", "delta": {}, "usage": later},
    )
    assert finish == Finish(
        "stop",
        Usage(
            prompt_tokens=60,
            completion_tokens=7,
            total_tokens=67,
            cache_read_tokens=30,
            reasoning_tokens=4,
        ),
        "c",
        "msg_1",
    )


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("overloaded_error", ModelUnavailable),
        ("rate_limit_error", ModelUnavailable),
        ("api_error", ModelUnavailable),
        ("timeout_error", ModelUnavailable),
        ("invalid_request_error", ModelRefused),
    ],
)
def test_an_error_event_is_a_fault_in_the_api_s_word(word: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=word) as caught:
        heard({"type": "error", "error": {"type": word, "message": "secret"}})
    assert "secret" not in str(caught.value)


async def test_extra_fields_are_sent_with_every_request() -> None:
    async with http_bench(WIRES["anthropic"], extra={"metadata": {"user_id": "u"}}) as bench:
        bench.play(Finish("stop"))
        async for _ in bench.model.stream(ModelRequest((user("hi"),))):
            pass
        assert bench.server.requests[0]["metadata"] == {"user_id": "u"}


@pytest.mark.rows("S2")
async def test_where_and_with_which_key_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with http_bench(WIRES["anthropic"]) as bench:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", bench.server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-from-the-environment")
        bench.play(Finish("stop"))
        for key in (None, "sk-given"):
            model = await asyncio.to_thread(AnthropicModel, "claude-x", api_key=key)
            async with aclosing(model.stream(ModelRequest((user("hi"),)))) as deltas:
                assert isinstance(await anext(deltas), Finish)
            await model.aclose()
        assert bench.server.keys == ["sk-from-the-environment", "sk-given"]


def test_without_a_key_anthropic_is_not_asked_but_another_server_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    with pytest.raises(ModelRefused, match="set ANTHROPIC_API_KEY"):
        AnthropicModel("claude-x")
    assert AnthropicModel("m", base_url="http://127.0.0.1:1").name == "m"


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    monkeypatch.delitem(sys.modules, "runtime.models.anthropic")
    fresh = importlib.import_module("runtime.models.anthropic")
    with pytest.raises(ImportError, match=r"pip install 'tidegate\[anthropic\]'"):
        fresh.AnthropicModel("m", api_key="k")
