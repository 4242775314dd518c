"""What comes into a conversation from outside, in the state: inputs, and what was said elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.sessions.snapshot import MessageView, ToolCallView
from runtime.history import UNANSWERED, named
from runtime.messages import Message

__all__ = ["hear", "imported"]


def imported(history: Iterable[Message]) -> list[MessageView]:
    """Return what was said before, elsewhere, as the state has it."""
    views: list[MessageView] = []
    for message in named(history):
        _hear(views, message, None)
    return views


def hear(views: list[MessageView], message: Message, run_id: str) -> None:
    """Add a run's input to the conversation.

    Where it answers a call, nobody will answer the other calls of that message any more.
    """
    answered = _hear(views, message, run_id)
    for call in answered.tool_calls if answered is not None else ():
        if call.status == "ready":
            call.status, call.error = "failed", UNANSWERED


def _hear(views: list[MessageView], message: Message, run_id: str | None) -> MessageView | None:
    """Take the next message; return the one whose call it answers, if it answers one."""
    if message.role == "tool":
        return _answered(views, message)
    views.append(
        MessageView(
            message_id=message.message_id or "",
            role=message.role if message.role == "assistant" else "user",
            text=message.content,
            run_id=run_id,
            tool_calls=[
                ToolCallView(call_id=call.id, name=call.name, arguments=call.arguments)
                for call in message.tool_calls
            ],
        )
    )
    return None


def _answered(views: Sequence[MessageView], message: Message) -> MessageView | None:
    """Give a result to the latest call of that id that the conversation's own agent made."""
    for view in reversed(views):
        for call in view.tool_calls if view.path is None else ():
            if call.call_id == message.tool_call_id:
                call.status, call.result = "completed", message.content
                return view
    return None
