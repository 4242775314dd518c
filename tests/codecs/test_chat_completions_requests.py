"""Requests for chat completions: what is taken, what is passed over, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.codecs.openai.chat_completions import read_request
from gateway.codecs.openai.error import InvalidRequest
from runtime.messages import Message, ToolCall

USER = {"role": "user", "content": "x"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
OTHER = {**CALL, "id": "c2"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL, OTHER]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "1"}
SECOND = {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "2"}]}
FUNCTION = {"type": "function", "function": {"name": "look"}}


def request(**fields: Any) -> dict[str, Any]:
    return {"model": "a", "messages": [USER]} | fields


def test_the_last_of_the_tools_results_is_the_input() -> None:
    said = read_request(request(messages=[USER, CALLING, RESULT, SECOND])).conversation
    assert said.text is None
    assert said.result == {"call_id": "c2", "content": "2"}
    calls = (
        ToolCall(id="c1", name="look", arguments="{}"),
        ToolCall(id="c2", name="look", arguments="{}"),
    )
    assert said.history == (
        Message(role="user", content="x"),
        Message(role="assistant", tool_calls=calls),
        Message(role="tool", content="1", tool_call_id="c1"),
    )


def test_a_user_may_leave_calls_unanswered() -> None:
    said = read_request(request(messages=[USER, CALLING, USER])).conversation
    assert said.text == "x"
    assert len(said.history) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "logprobs": False, "top_logprobs": 0, "modalities": ["text"]},
        {"response_format": {"type": "text"}, "functions": [], "function_call": "auto"},
        {"tool_choice": "auto", "parallel_tool_calls": True, "tools": [FUNCTION]},
        {"parallel_tool_calls": False, "tool_choice": "none"},
        {"top_p": 0.5, "seed": 1, "store": True, "user": "u", "made_up": {}, "audio": None},
        {"stop": None, "tools": None, "stream": None, "stream_options": None, "metadata": None},
    ],
    ids=str,
)
def test_what_means_the_default_and_what_only_steers_a_model_is_taken(fields: Any) -> None:
    read = read_request(request(**fields))
    assert read.options == {}
    assert not read.stream


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": "text"}, "response_format"),
        ({"functions": [{}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": FUNCTION}, "tool_choice"),
        ({"tools": [FUNCTION], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": {}}, "tools"),
        ({"tools": [FUNCTION, FUNCTION]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
        ({"tools": ["look"]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        (
            {"tools": [FUNCTION, {"type": "function", "function": {"name": ""}}]},
            "tools[1].function",
        ),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"metadata": []}, "metadata"),
        ({"stop": 1}, "stop"),
        ({"stop": ["x", 1]}, "stop"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0].role"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": 1}, USER]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        ({"messages": [USER, CALLING, RESULT]}, "messages"),
        ({"messages": [USER, RESULT]}, "messages[1].tool_call_id"),
        ({"messages": [USER, CALLING, RESULT, RESULT]}, "messages[3].tool_call_id"),
        ({"messages": [USER, CALLING, USER, RESULT]}, "messages[3].tool_call_id"),
        ({"messages": [USER, {**CALLING, "tool_calls": "x"}, USER]}, "messages[1].tool_calls"),
        ({"messages": [USER, {**CALLING, "tool_calls": [{}]}, USER]}, "messages[1].tool_calls[0]"),
        (
            {"messages": [USER, {**CALLING, "tool_calls": [{**CALL, "id": None}]}, USER]},
            "messages[1].tool_calls[0]",
        ),
        ({"messages": [USER, {**CALLING, "tool_calls": [CALL, CALL]}, USER]}, "messages"),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(request(**fields))
    assert caught.value.param == param
    assert str(caught.value).startswith(f"`{param}`")


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_tokens": 6}),
        ({"max_tokens": 5, "max_completion_tokens": None}, {"max_tokens": 5}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
        ({"stop": []}, {}),
    ],
    ids=str,
)
def test_parameters_become_run_options(fields: Any, options: Any) -> None:
    assert read_request(request(**fields)).options == options


def test_usage_is_for_streams() -> None:
    asks = {"stream_options": {"include_usage": True}}
    assert read_request(request(stream=True, **asks)).include_usage
    assert not read_request(request(**asks)).include_usage
    assert not read_request(request(stream=True)).include_usage


def test_a_tool_is_taken_as_it_is() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    function = {"name": "look", "description": "Looks.", "parameters": schema, "strict": None}
    (tool,) = read_request(request(tools=[{"type": "function", "function": function}])).tools
    assert (tool.name, tool.description, tool.parameters) == ("look", "Looks.", schema)
    assert read_request(request(tools=[FUNCTION], tool_choice="none")).tools == ()


def test_instructions_are_what_system_and_developer_said_in_order() -> None:
    told = [("system", "one"), ("developer", ""), ("developer", "two")]
    messages = [{"role": role, "content": text} for role, text in told]
    assert read_request(request(messages=[*messages, USER])).conversation.instructions == (
        "one\n\ntwo"
    )
    assert read_request(request(messages=[messages[1], USER])).conversation.instructions is None
