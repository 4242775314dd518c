"""The Responses API: what is sent, and the ways in which servers speak it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.errors import ModelRefused, ModelSpokeNonsense, ModelUnavailable
from runtime.messages import Message, ToolCall
from runtime.models.base import (
    Delta,
    Finish,
    ModelRequest,
    ReasoningText,
    Text,
    ToolCallFragment,
)
from runtime.models.fold import fold
from runtime.models.responses_wire import ResponseDecoder, request_body
from runtime.runnable import RunOptions, ToolInfo
from tests.models.servers.responses import response
from tests.runtime.support import user

LOOK = ToolInfo(name="look", description="Look.", parameters={"type": "object"})
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def heard(*events: dict[str, Any]) -> list[Delta]:
    """Return the deltas of events, and the finish."""
    decoder = ResponseDecoder()
    deltas = [delta for event in events for delta in decoder.take(json.dumps(event))]
    return [*deltas, decoder.finish()]


def done(status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": response(status, **fields)}


def item(kind: str, index: int, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.output_item.{kind}", "output_index": index, "item": fields}


def test_the_request_carries_history_tools_and_options() -> None:
    call = ToolCall(id="c1", name="look", arguments='{"city":"Bern"}')
    asked = ModelRequest(
        (
            Message(role="system", content="Be kind."),
            Message(role="system", content="Be brief."),
            user("hi"),
            Message(role="assistant", content="Let me see.", tool_calls=(call,), message_id="m"),
            Message(role="tool", content="sunny", tool_call_id="c1"),
            Message(role="system", content="Now be long."),
            Message(role="assistant", content="Sunny."),
        ),
        tools=(LOOK,),
        options=RunOptions(temperature=0.5, max_tokens=9, stop_sequences=("END",)),
        output_schema=PLACE,
        output_name="a place!",
    )
    assert request_body("gpt-x", asked) == {
        "model": "gpt-x",
        "instructions": "Be kind.\n\nBe brief.",
        "input": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "Let me see."},
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "look",
                "arguments": '{"city":"Bern"}',
            },
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
            {"role": "system", "content": "Now be long."},
            {"role": "assistant", "content": "Sunny."},
        ],
        "stream": True,
        "store": False,
        "tools": [
            {
                "type": "function",
                "name": "look",
                "description": "Look.",
                "parameters": {"type": "object"},
                "strict": False,
            }
        ],
        "temperature": 0.5,
        "max_output_tokens": 9,
        "text": {
            "format": {"type": "json_schema", "name": "a_place_", "schema": PLACE, "strict": True}
        },
    }


def test_what_is_unset_is_not_sent() -> None:
    assert request_body("m", ModelRequest((user("hi"),))) == {
        "model": "m",
        "input": [{"role": "user", "content": "hi"}],
        "stream": True,
        "store": False,
    }


def test_calls_are_numbered_in_order_whatever_is_between_them() -> None:
    deltas = heard(
        item("added", 0, type="reasoning"),
        item("added", 1, type="function_call", call_id="c1", name="look", arguments=""),
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
        item("added", 2, type="message", content=[]),
        item("added", 3, type="function_call", call_id="c2", name="find", arguments=""),
        {"type": "response.function_call_arguments.delta", "output_index": 3, "delta": "{}"},
        done(),
    )
    assert deltas[:-1] == [
        ToolCallFragment(0, "c1", "look"),
        ToolCallFragment(0, arguments="{}"),
        ToolCallFragment(1, "c2", "find"),
        ToolCallFragment(1, arguments="{}"),
    ]
    assert fold(deltas).finished().reason == "tool_calls"


def test_what_a_server_tells_only_whole_is_not_lost_and_never_told_twice() -> None:
    arguments = '{"city":"Bern"}'
    deltas = heard(
        item("added", 0, type="function_call", call_id="c1", name="look", arguments='{"ci'),
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": 'ty"'},
        {
            "type": "response.function_call_arguments.done",
            "output_index": 0,
            "arguments": arguments,
        },
        item("done", 0, type="function_call", call_id="c1", name="look", arguments=arguments),
        item("done", 1, type="function_call", call_id="c2", name="find", arguments="{}"),
        {"type": "response.output_text.delta", "output_index": 2, "delta": "Hel"},
        {"type": "response.output_text.done", "output_index": 2, "text": "Hello"},
        {"type": "response.output_text.done", "output_index": 2, "content_index": 1, "text": "!"},
        done(),
    )
    answer = fold(deltas)
    assert answer.text == "Hello!"
    assert [(call.id, call.arguments) for call in answer.tool_calls] == [
        ("c1", arguments),
        ("c2", "{}"),
    ]


def test_reasoning_comes_as_paragraphs() -> None:
    def thought(part: int, delta: str) -> dict[str, Any]:
        kind = "response.reasoning_summary_text.delta"
        return {"type": kind, "output_index": 0, "summary_index": part, "delta": delta}

    deltas = heard(
        thought(0, "a"),
        thought(0, "b"),
        thought(1, "c"),
        {"type": "response.reasoning_text.delta", "output_index": 1, "delta": "d"},
        done(),
    )
    assert deltas[:-1] == list(map(ReasoningText, ["a", "b", "\n\nc", "\n\nd"]))


def test_a_character_that_is_cut_between_two_events_comes_out_whole() -> None:
    decoder = ResponseDecoder()
    halves = [
        f'{{"type": "response.output_text.delta", "delta": "{half}"}}'
        for half in ("rain \\ud83c", "\\udf27!")
    ]
    assert [d for half in halves for d in decoder.take(half)] == [Text("rain "), Text("🌧!")]


def test_a_refusal_is_text_and_the_finish_says_so() -> None:
    deltas = heard({"type": "response.refusal.delta", "delta": "I must not."}, done())
    assert fold(deltas).text == "I must not."
    assert fold(deltas).finished().reason == "content_filter"


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"reason": "max_output_tokens"}, "length"),
        ({"reason": "content_filter"}, "content_filter"),
        (None, "incomplete"),
    ],
)
def test_an_incomplete_answer_says_why(details: dict[str, str] | None, reason: str) -> None:
    (finish,) = heard(done("incomplete", incomplete_details=details))
    assert finish == Finish(reason, None, "m-2026", "resp_1")


@pytest.mark.parametrize(
    ("event", "error", "text"),
    [
        (
            done("failed", error={"code": "server_error", "message": "secret"}),
            ModelUnavailable,
            "failed while answering: server_error",
        ),
        (
            done("failed", error={"code": "invalid_prompt", "message": "secret"}),
            ModelRefused,
            "stopped answering: invalid_prompt",
        ),
        (done("failed"), ModelRefused, "stopped answering"),
        (
            {"type": "error", "error": {"type": "server_error", "code": "rate_limit_exceeded"}},
            ModelUnavailable,
            "rate_limit_exceeded",
        ),
        ({"error": {"code": 503}}, ModelUnavailable, "failed while answering"),
        ({"type": "response.output_text.delta", "delta": 5}, ModelSpokeNonsense, "cannot be read"),
        (
            {"type": "response.function_call_arguments.delta", "output_index": 5, "delta": "{"},
            ModelSpokeNonsense,
            "had not begun",
        ),
    ],
)
def test_what_ends_an_answer_badly(
    event: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        heard({"type": "response.output_text.delta", "delta": "Hel"}, event)
    assert "secret" not in str(caught.value)
