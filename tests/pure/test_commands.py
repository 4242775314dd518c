"""Commands: what is taken, and what is said about what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from gateway.commands import (
    Cancel,
    Continue,
    Ping,
    Send,
    digest,
    explain,
    parse_command,
    parse_create,
)
from gateway.errors import CommandMalformed

SEND = {"type": "send", "id": "c1", "session_id": "s", "text": "hi"}


def _decision(**fields: Any) -> dict[str, Any]:
    decision = {"approval_id": "a", **fields}
    return {"type": "continue", "id": "c", "session_id": "s", "decisions": [decision]}


def test_each_command_is_read() -> None:
    assert isinstance(parse_command(SEND), Send)
    assert isinstance(parse_command({"type": "cancel", "id": "c", "session_id": "s"}), Cancel)
    assert isinstance(parse_command({"type": "continue", "id": "c", "session_id": "s"}), Continue)
    assert isinstance(parse_command({"type": "ping", "id": "c"}), Ping)


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    command = parse_command({**SEND, "text": None, "content": parts})
    assert isinstance(command, Send)
    assert command.message_text == "ab"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({**SEND, "volume": 11}, "unknown field `volume`"),
        (
            {**SEND, "type": "shout"},
            "unknown `type`; known: send, cancel, continue, edit_queue, fork, ping",
        ),
        ({"id": "c1"}, "missing field `type`"),
        ({"type": "send", "id": "c1", "text": "x"}, "missing field `session_id`"),
        ({**SEND, "id": ""}, "id"),
        ({**SEND, "id": "x" * 129}, "id"),
        ({**SEND, "id": "two words"}, "id"),
        ({**SEND, "session_id": "../etc"}, "session_id"),
        ({**SEND, "text": "  "}, "the message is empty"),
        ({**SEND, "content": []}, "one of `text`, `content` and `result`"),
        ({**SEND, "policy": "shout"}, "policy"),
        ({**SEND, "timeout": 0}, "timeout"),
        ([], "valid dictionary"),
        (None, "valid dictionary"),
        (
            {
                "type": "continue",
                "id": "c",
                "session_id": "s",
                "decisions": [{"approval_id": "a", "decision": "edit"}],
            },
            "`arguments` goes with `edit`",
        ),
        (_decision(decision="answer"), "`result` goes with `answer`, and only with it"),
        (_decision(decision="approve", result=None), "`result` goes with `answer`"),
        (_decision(decision="answer", result=1, arguments="{}"), "`arguments` goes with `edit`"),
        ({**SEND, "result": {"call_id": "c", "content": "x"}}, "give one of `text`"),
        ({**SEND, "text": None, "result": {"call_id": "c"}}, "missing field `content`"),
        ({**SEND, "message_id": "two words"}, "message_id"),
        ({**SEND, "tools": [{"name": "x" * 65}]}, "tools.0.name"),
        ({**SEND, "tools": [{"name": "x", "strict": True}]}, "unknown field `strict`"),
        ({**SEND, "on_disconnect": {}}, "missing field `cancel_after`"),
        ({**SEND, "on_disconnect": {"cancel_after": 1, "x": 1}}, "unknown field `x`"),
        ({**SEND, "type": "edit_queue", "drop": "x"}, "`edit_queue.drop`: it is a list"),
    ],
)
def test_what_is_wrong_is_named(data: Any, said: str) -> None:
    with pytest.raises(CommandMalformed) as refused:
        parse_command(data)
    assert said in str(refused.value)


@pytest.mark.parametrize("wish", ["stop", None, {"cancel_after": -1}, {}])
def test_what_is_wrong_with_on_disconnect_is_said_once_and_in_words_of_the_protocol(
    wish: object,
) -> None:
    with pytest.raises(CommandMalformed) as refused:
        parse_command({**SEND, "on_disconnect": wish})
    said = str(refused.value)
    assert ";" not in said
    assert "CancelAfter" not in said
    assert "cancel_after" in said


def test_what_is_wrong_with_a_message_is_said_in_no_words_of_ours() -> None:
    """Clients of other protocols never said `send`."""
    with pytest.raises(CommandMalformed) as refused:
        parse_command({**SEND, "text": "  "})
    assert str(refused.value) == "the message is empty"


def test_an_item_that_is_wrong_does_not_make_its_list_too_short() -> None:
    class Asked(BaseModel):
        messages: tuple[int, ...] = Field(min_length=1)

    def told(messages: list[object]) -> str:
        with pytest.raises(ValidationError) as refused:
            Asked.model_validate({"messages": messages})
        return explain(refused.value)

    assert told(["x"]).count("`messages") == 1
    assert told(["x"]).startswith("`messages.0`: ")
    assert told([]) == "`messages`: there must be at least 1"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_no_json_gets_past_as_anything_but_a_command_or_a_refusal(data: Any) -> None:
    with pytest.raises(CommandMalformed):
        parse_command(data)


USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "name": "f", "arguments": "{}"}
CALLS = {"role": "assistant", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "x", "tool_call_id": "c1"}


@pytest.mark.parametrize(
    "history",
    [
        [],
        [USER],
        [CALLS],
        [USER, CALLS, RESULT],
        [CALLS, USER, RESULT],
        [{"role": "assistant", "content": "hello"}, USER, USER],
        [USER, {**USER, "message_id": "msg_before_1x"}],
    ],
)
def test_a_history_that_can_be_gone_on_with_is_taken(history: list[Any]) -> None:
    assert len(parse_create({"history": history}).history) == len(history)


@pytest.mark.rule("history.imported")
@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([{"role": "system", "content": "x"}], "message 1: a history has no system messages"),
        ([{**USER, "tool_calls": [CALL]}], "message 1: a message of role 'user' makes no tool"),
        ([CALLS, {**RESULT, "tool_calls": [CALL]}], "message 2: a message of role 'tool' makes"),
        ([USER, {"role": "tool", "content": "x"}], "message 2: `tool_call_id` goes with role"),
        ([CALLS, {**USER, "tool_call_id": "c1"}], "message 2: `tool_call_id` goes with role"),
        ([RESULT], "message 1: it answers a tool call 'c1', which nobody made before it"),
        ([RESULT, CALLS], "message 1: it answers a tool call 'c1'"),
        ([CALLS, RESULT, RESULT], "message 3: the tool call 'c1' is answered already"),
        ([CALLS, CALLS], "message 2: there is another tool call 'c1'"),
        ([{**CALLS, "tool_calls": [CALL, CALL]}], "message 1: there is another tool call 'c1'"),
        ([{**USER, "message_id": "m"}] * 2, "message 2: there is another message 'm'"),
        ([{**USER, "message_id": "msg_before_2"}, USER], "message 2: there is another message"),
        ([{"role": "robot"}], "history.0.role"),
    ],
)
def test_what_is_wrong_with_a_history_is_named(history: list[Any], said: str) -> None:
    with pytest.raises(CommandMalformed) as refused:
        parse_create({"history": history})
    assert said in str(refused.value)


def test_creating_refuses_unknown_fields_by_name() -> None:
    with pytest.raises(CommandMalformed, match="unknown field `colour`"):
        parse_create({"colour": "red"})


def test_a_fingerprint_depends_on_the_body_and_not_on_the_id() -> None:
    one, same = parse_command(SEND), parse_command({**SEND, "id": "c2"})
    other = parse_command({**SEND, "text": "ho"})
    assert digest(one) == digest(same) != digest(other)
