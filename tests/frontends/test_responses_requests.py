"""What requests for responses may hold, and what is refused, by the name of the field."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.frontends.names import RunName
from gateway.frontends.openai.errors import InvalidRequest
from gateway.frontends.openai.responses.input import (
    Answered,
    Called,
    Decided,
    Referred,
    Said,
    Wanted,
    read_request,
)
from gateway.frontends.openai.responses.log import owner_of
from runtime.messages import ClientTool


def test_the_least_that_can_be_asked() -> None:
    assert read_request({"input": "hi"}) == Wanted(model=None, pieces=(Said("user", "hi"),))


def test_all_that_can_be_asked() -> None:
    wanted = read_request(
        {
            "model": "m",
            "input": "hi",
            "instructions": "i",
            "previous_response_id": "resp_a.b",
            "stream": True,
            "background": True,
            "temperature": 0,
            "max_output_tokens": 3,
            "metadata": {"a": "b"},
            "tools": [{"type": "function", "name": "f", "strict": True, "parameters": None}],
            "text": {"format": {"type": "text"}, "verbosity": "low"},
            "tool_choice": "auto",
            "top_p": 1,
            "top_logprobs": 0,
            "include": ["reasoning.encrypted_content"],
            "parallel_tool_calls": True,
            "prompt_cache_key": "k",
            "reasoning": {"effort": "low"},
            "service_tier": "auto",
            "store": False,
            "stream_options": {"include_obfuscation": False},
            "truncation": "auto",
            "user": "u",
            "conversation": None,
        }
    )
    assert wanted == Wanted(
        model="m",
        pieces=(Said("user", "hi"),),
        stream=True,
        background=True,
        previous="resp_a.b",
        instructions="i",
        tools=(ClientTool(name="f"),),
        options={"temperature": 0, "max_tokens": 3},
        metadata={"a": "b"},
    )


def test_each_kind_of_item() -> None:
    call = {"name": "f", "arguments": "{}"}
    items: list[dict[str, Any]] = [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "input_text", "text": "b"}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "c"},
                {"type": "refusal", "refusal": "d"},
            ],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", **call},
        {"type": "function_call_output", "call_id": "c1", "output": "x"},
        {"type": "mcp_call", "id": "mcp_1", "output": "y", "error": None, **call},
        {"type": "mcp_call", "id": "mcp_2", "output": None, "error": {"a": 1}, **call},
        {"type": "mcp_approval_request", "id": "mcpr_1", **call},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": False},
        {"type": "item_reference", "id": "msg_2"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "mcp_list_tools", "id": "l", "tools": []},
    ]
    assert read_request({"input": items}).pieces == (
        Said("system", "a"),
        Said("system", "b"),
        Said("assistant", "cd", "msg_1"),
        Called("c1", "f", "{}", "fc_1"),
        Answered("c1", "x"),
        Called("mcp_1", "f", "{}", "mcp_1", output="y"),
        Called("mcp_2", "f", "{}", "mcp_2", output='{"a":1}'),
        Referred("mcpr_1"),
        Decided("mcpr_1", approve=False),
        Referred("msg_2", must_be_found=True),
        Referred("rs_1"),
        Referred("l"),
    )


IMAGE = {"type": "input_image", "image_url": "https://x/y.png"}
SCHEMA = {"type": "json_schema", "name": "n", "schema": {}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{"role": "user", "content": "x"}, {"type": "computer_call"}]}, "input[1].type"),
        ({"input": [{"type": ["x"]}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": ["user"], "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [IMAGE]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": ["x"]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "text"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
            "input[0].call_id",
        ),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        (
            {"input": [{"type": "mcp_approval_response", "approval_request_id": "m"}]},
            "input[0].approve",
        ),
        (
            {
                "input": [
                    {
                        "type": "mcp_approval_response",
                        "approval_request_id": "m",
                        "approve": True,
                        "reason": 3,
                    }
                ]
            },
            "input[0].reason",
        ),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"model": 3}, "model"),
        ({"instructions": ["x"]}, "instructions"),
        ({"stream": "true"}, "stream"),
        ({"background": 1}, "background"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": ["a"]}, "metadata"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": ["f"]}, "tools[0].type"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0]"),
        ({"text": {"format": SCHEMA}}, "text.format"),
        ({"text": "x"}, "text.format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"top_p": 0.5}, "top_p"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"conversation": "c"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"anything": 1}, "anything"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request({"input": "hi"} | body)
    assert caught.value.param == param


def test_an_item_says_whose_it_is() -> None:
    assert owner_of("msg_ses_a.run_b-3") == (RunName("ses_a", "run_b"), 3)
    assert owner_of("call_my-own.run_b.2-0") == (RunName("my-own", "run_b", 2), 0)
    for stranger in (None, "", "msg_1", "msg_a.b", "msg_a.b-", "msg_a.b-x", "a.b-1", "msg_a-1"):
        assert owner_of(stranger) is None
    assert owner_of("msg_a.b-12345678") is None
