"""Commands: what is taken, and what is said about what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.commands import Cancel, Continue, Ping, Send, digest, parse_command, parse_create
from gateway.errors import CommandMalformed

SEND = {"type": "send", "id": "c1", "session_id": "s", "text": "hi"}


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
        ({**SEND, "type": "shout"}, "unknown `type`; known: send, cancel, continue, ping"),
        ({"id": "c1"}, "missing field `type`"),
        ({"type": "send", "id": "c1", "text": "x"}, "missing field `session_id`"),
        ({**SEND, "id": ""}, "id"),
        ({**SEND, "id": "x" * 129}, "id"),
        ({**SEND, "id": "two words"}, "id"),
        ({**SEND, "session_id": "../etc"}, "session_id"),
        ({**SEND, "text": "  "}, "the message is empty"),
        ({**SEND, "content": []}, "either `text` or `content`"),
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
    ],
)
def test_what_is_wrong_is_named(data: Any, said: str) -> None:
    with pytest.raises(CommandMalformed) as refused:
        parse_command(data)
    assert said in str(refused.value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_no_json_gets_past_as_anything_but_a_command_or_a_refusal(data: Any) -> None:
    with pytest.raises(CommandMalformed):
        parse_command(data)


def test_creating_refuses_unknown_fields_by_name() -> None:
    with pytest.raises(CommandMalformed, match="unknown field `colour`"):
        parse_create({"colour": "red"})


def test_a_fingerprint_depends_on_the_body_and_not_on_the_id() -> None:
    one, same = parse_command(SEND), parse_command({**SEND, "id": "c2"})
    other = parse_command({**SEND, "text": "ho"})
    assert digest(one) == digest(same) != digest(other)
