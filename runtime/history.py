"""Making a conversation legal for a model. Pure.

A log may hold what no provider accepts: a stopped answer, two inputs in a row, a tool call that was
never answered. `legal` turns it into what every chat API takes, and loses no text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from runtime.events import ErrorInfo
from runtime.messages import Message

__all__ = ["UNKNOWN_OUTCOME", "failure_text", "legal", "pending_calls", "result_text"]

UNKNOWN_OUTCOME = ErrorInfo(
    code="unknown_outcome",
    message=(
        "the server stopped while this call was running, and it is not known whether it took "
        "effect; do not repeat it without checking"
    ),
)
"""What the model is told about a call of which nobody knows whether it took effect."""

NO_RESULT = "error: the call has no result; the run was stopped before it was made"
"""What a model is told about a call that nobody answered."""


def result_text(result: Any) -> str:
    """Return a tool's result as the model is told it: text as it is, anything else as JSON."""
    if isinstance(result, str):
        return result
    return orjson.dumps(result, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def failure_text(error: ErrorInfo) -> str:
    """Return a tool's failure as the model is told it."""
    return f"error: {error.message}"


def pending_calls(history: Sequence[Message]) -> tuple[str, ...]:
    """Return the ids of the calls in the last assistant message that have no answer after it."""
    answered: set[str] = set()
    for message in reversed(history):
        if message.role == "tool" and message.tool_call_id is not None:
            answered.add(message.tool_call_id)
            continue
        if message.role == "assistant":
            return tuple(call.id for call in message.tool_calls if call.id not in answered)
        break
    return ()


def legal(messages: Iterable[Message], *, keep_pending: bool = False) -> tuple[Message, ...]:
    """Return the conversation as a model may see it.

    - Every tool call is answered right after its message; one that nobody answered gets an error.
    - Neighbours of role user, or of role assistant without calls, become one message.
    - Assistant messages that say nothing and call nothing are left out.

    Args:
        messages: The conversation in order.
        keep_pending: Leave unanswered the calls of a last assistant message: they are still to
            be made.
    """
    source = tuple(messages)
    still_open = set(pending_calls(source)) if keep_pending else set()
    answers = {m.tool_call_id: m for m in source if m.role == "tool"}
    result: list[Message] = []
    for message in source:
        if message.role == "tool":
            continue
        if message.role == "assistant" and not message.content and not message.tool_calls:
            continue
        if result and _joins(result[-1], message):
            result[-1] = result[-1].model_copy(
                update={"content": f"{result[-1].content}\n\n{message.content}"}
            )
        else:
            result.append(message)
        for call in message.tool_calls:
            if call.id in answers:
                result.append(answers[call.id])
            elif call.id not in still_open:
                result.append(Message(role="tool", content=NO_RESULT, tool_call_id=call.id))
    return tuple(result)


def _joins(before: Message, after: Message) -> bool:
    """Tell whether two neighbours must become one message."""
    if before.role != after.role or before.role not in {"user", "assistant"}:
        return False
    return not before.tool_calls and not after.tool_calls
