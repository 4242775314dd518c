"""Reading what chats of the AI SDK send."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.codecs.vercel import Answers, message_id_for, read_chat, read_history, read_stop
from gateway.codecs.vercel.ui_messages import UiMessage
from gateway.errors import CommandMalformed
from runtime.history import check_imported


def message(role: str, *parts: Any, id_: str = "m") -> dict[str, Any]:
    given = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"id": id_, "role": role, "parts": given}


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "c", "messages": list(messages), "trigger": "submit-message", **more}


def tool(call_id: str, state: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool-add", "toolCallId": call_id, "state": state, **more}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "missing field `id`"),
        (chat(), "`messages`: there is none"),
        (chat(id=""), "`id`"),
        (chat(message("user", "x"), trigger="other"), "`trigger`"),
        (chat(message("user", "x"), tools=[{"name": "no blanks"}]), "tools.0.name"),
        (chat(message("user", "x"), messageId=7), "messageId"),
        (chat({"role": "user", "parts": "x"}), "messages.0.parts"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], words: str) -> None:
    with pytest.raises(CommandMalformed) as refused:
        read_chat(body)
    assert words in str(refused.value)


def test_fields_of_others_are_passed_over_and_one_message_will_do() -> None:
    asked = read_chat({"id": "c", "message": message("user", "x"), "model": "gpt"})
    assert asked.said[asked.newest].text() == "x"
    assert (asked.answered, asked.goes_back, asked.instructions) == (None, False, None)


def test_what_is_asked_is_in_the_last_message_or_in_the_one_that_is_named() -> None:
    user, assistant = message("user", "x", id_="u"), message("assistant", "y", id_="a")
    assert read_chat(chat(user)).answered is None
    answered = read_chat(chat(user, assistant)).answered
    assert answered is not None
    assert answered.id == "a"
    later = chat(user, assistant, message("user", "z", id_="v"))
    assert read_chat(later).answered is None
    named = read_chat(later | {"messageId": "a"}).answered
    assert named is not None
    edited = read_chat(chat(user, messageId="u"))
    assert (edited.answered, edited.goes_back) == (None, True)
    again = read_chat(chat(user, assistant, trigger="regenerate-message"))
    assert (again.answered, again.goes_back, again.newest) == (None, True, 0)
    with pytest.raises(CommandMalformed):
        _ = read_chat(chat(assistant, trigger="regenerate-message")).newest


def test_system_messages_are_instructions() -> None:
    said = (message("system", "Be kind."), message("system", "Be brief."), message("user", "x"))
    assert read_chat(chat(*said)).instructions == "Be kind.\n\nBe brief."
    assert read_history(read_chat(chat(*said)).said[:2]) == ()


def test_a_file_is_refused_by_its_name() -> None:
    file = {"type": "file", "mediaType": "image/png", "url": "data:,"}
    said = UiMessage.model_validate(message("user", "look", file))
    with pytest.raises(CommandMalformed, match=r"only text; take 'image/png' out"):
        said.input_text()
    assert (
        UiMessage.model_validate(message("user", "a", {"type": "data-x"}, "b")).input_text()
        == "a\nb"
    )


def test_answers_are_in_the_parts() -> None:
    parts = (
        tool("c1", "approval-responded", approval={"id": "p1", "approved": True, "reason": "ok"}),
        tool("c2", "approval-responded", approval={"id": "p2", "approved": False}),
        tool("c3", "output-available", output={"n": 1}),
        tool("c4", "output-error", errorText="dark"),
        tool("c5", "output-error"),
        tool("c6", "approval-requested", approval={"id": "p6"}),
        tool("c7", "input-available"),
        {"type": "dynamic-tool", "toolName": "t", "toolCallId": "c8", "state": "output-available"},
        {"type": "tools"},
        {"type": 7},
    )
    answers = Answers.of(UiMessage.model_validate(message("assistant", *parts)))
    assert answers.approvals == {"p1": (True, "ok"), "p2": (False, None)}
    assert answers.outputs == {"c3": {"n": 1}, "c8": None}
    assert answers.failures == {"c4": "dark", "c5": "the client's tool failed"}
    with pytest.raises(CommandMalformed, match="toolCallId"):
        Answers.of(UiMessage.model_validate(message("assistant", {"type": "tool-add"})))


def test_ids_of_messages_that_a_session_cannot_keep_are_hashed() -> None:
    assert message_id_for("u1") == "u1"
    odd = message_id_for("é 1")
    assert odd.startswith("ui_")
    assert odd != message_id_for("é 2")
    assert message_id_for("x" * 129).startswith("ui_")


def test_a_history_is_told_step_by_step_and_can_be_gone_on_with() -> None:
    file = {"type": "file", "mediaType": "image/png", "filename": "x.png"}
    said = (
        message("user", "Look.", file, id_="u1"),
        message(
            "assistant",
            {"type": "step-start"},
            "I add.",
            tool("c1", "output-available", input={"a": 1}, output={"n": 1}),
            tool("c2", "output-available", output="half", preliminary=True),
            tool("c3", "input-available"),
            {"type": "step-start"},
            tool("c1", "output-error", errorText="broken"),
            "After a call.",
            {"type": "step-start"},
            tool("c4", "output-denied", approval={"id": "p", "approved": False, "reason": "no"}),
            tool("c5", "output-denied"),
            id_="a1",
        ),
        message("assistant", id_="a2"),
        message("user", "  ", id_="u2"),
        message("user", "Again.", id_="u1"),
    )
    history = read_history(UiMessage.model_validate(one) for one in said)
    check_imported(history)
    told = [
        (m.role, m.content, [(c.id, c.name, c.arguments) for c in m.tool_calls] or m.tool_call_id)
        for m in history
    ]
    assert told == [
        ("user", "Look.\n[a file: x.png]", None),
        ("assistant", "I add.", [("c1", "add", '{"a":1}')]),
        ("tool", '{"n":1}', "c1"),
        ("assistant", "", [("c1~2", "add", "{}")]),
        ("tool", "error: broken", "c1~2"),
        ("assistant", "After a call.", None),
        ("assistant", "", [("c4", "add", "{}"), ("c5", "add", "{}")]),
        ("tool", "error: a human rejected this call: no", "c4"),
        ("tool", "error: a human rejected this call", "c5"),
        ("user", "Again.", None),
    ]
    assert [m.message_id for m in history if m.role == "user"] == ["u1", None]


def test_a_stop_may_name_what_it_stops() -> None:
    assert read_stop({}).run_id is None
    assert read_stop({"activeStreamId": "run_1"}).run_id == "run_1"
    assert read_stop({"assistantMessage": message("assistant", id_="run_2")}).run_id == "run_2"
    with pytest.raises(CommandMalformed):
        read_stop({"activeStreamId": 7})
