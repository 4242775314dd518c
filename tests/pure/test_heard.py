"""What comes into a conversation from outside, as the state has it."""

from __future__ import annotations

from gateway.sessions.heard import hear, imported
from gateway.sessions.snapshot import MessageView, ToolCallView
from runtime.history import UNANSWERED
from runtime.messages import Message


def said(*call_ids: str, path: tuple[str, ...] | None = None) -> MessageView:
    calls = [ToolCallView(call_id=call_id, name="f", arguments="{}") for call_id in call_ids]
    return MessageView(
        message_id="m", role="assistant", text="", run_id="r", tool_calls=calls, path=path
    )


def result(call_id: str) -> Message:
    return Message(role="tool", content="x", tool_call_id=call_id, message_id="t")


def statuses(views: list[MessageView]) -> list[str]:
    return [call.status for view in views for call in view.tool_calls]


def test_a_result_is_that_of_the_newest_call_of_that_id_of_the_runs_own_agent() -> None:
    views = [said("c"), said("c"), said("c", path=("a", "c:b"))]
    hear(views, result("c"), "r2")
    assert statuses(views) == ["ready", "completed", "ready"]


def test_calls_beside_it_have_no_result_and_what_was_done_stays() -> None:
    views = [said("a", "b", "c")]
    views[0].tool_calls[0].status = "failed"
    hear(views, result("b"), "r2")
    assert statuses(views) == ["failed", "completed", "failed"]
    assert [call.error for call in views[0].tool_calls] == [None, None, UNANSWERED]


def test_a_result_that_nothing_wants_changes_nothing() -> None:
    views = [MessageView(message_id="u", role="user", text="hi", run_id="r")]
    hear(views, result("c"), "r2")
    assert [view.text for view in views] == ["hi"]
    empty: list[MessageView] = []
    hear(empty, result("c"), "r2")
    assert empty == []


def test_messages_without_an_id_are_named_by_their_place() -> None:
    history = [Message(role="user", content="a"), Message(role="user", content="b")]
    assert [view.message_id for view in imported(history)] == ["msg_before_1", "msg_before_2"]
    assert [view.run_id for view in imported(history)] == [None, None]
