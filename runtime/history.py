"""Making a conversation legal for a model. Pure.

A log may hold what no provider accepts: a stopped answer, two inputs in a row, a tool call that was
never answered. `legal` turns it into what every chat API takes, and loses no text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson

from runtime.events import ErrorInfo
from runtime.messages import Message

__all__ = [
    "UNANSWERED",
    "UNKNOWN_OUTCOME",
    "check_imported",
    "failure_text",
    "legal",
    "named",
    "pending_calls",
    "result_text",
]

UNKNOWN_OUTCOME = ErrorInfo(
    code="unknown_outcome",
    message=(
        "the server stopped while this call was running, and it is not known whether it took "
        "effect; do not repeat it without checking"
    ),
)
"""What the model is told about a call of which nobody knows whether it took effect."""

UNANSWERED = ErrorInfo(code="no_result", message="the call has no result; nobody answered it")
"""What became of a call that was left when the conversation went on without it."""

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


def check_imported(messages: Sequence[Message]) -> None:
    """Return if a conversation that was had elsewhere can be gone on with.

    Raises:
        ValueError: If it cannot; the text names the first message that is wrong, counted from 1.
    """
    ids: set[str | None] = set()
    calls: dict[str | None, bool] = {}  # whether each was answered
    for place, message in enumerate(named(messages), start=1):
        if problem := _misplaced(message) or _unfitting(message, ids, calls):
            raise ValueError(f"message {place}: {problem}")
        ids.add(message.message_id)
        calls |= {call.id: False for call in message.tool_calls}
        if message.role == "tool":
            calls[message.tool_call_id] = True


def _misplaced(message: Message) -> str | None:
    """Say what a message has that does not go with its role."""
    if message.role == "system":
        return "a history has no system messages; give `instructions` with each `send`"
    if message.tool_calls and message.role != "assistant":
        return f"a message of role {message.role!r} makes no tool calls"
    if (message.tool_call_id is None) is (message.role == "tool"):
        return "`tool_call_id` goes with role `tool`, and only with it"
    return None


def _unfitting(
    message: Message, ids: Collection[str | None], calls: Mapping[str | None, bool]
) -> str | None:
    """Say what a message has that does not go with those before it."""
    made = [call.id for call in message.tool_calls]
    answers = message.tool_call_id
    if message.message_id in ids:
        return f"there is another message {message.message_id!r}"
    if twice := [call_id for call_id in made if call_id in calls or made.count(call_id) > 1]:
        return f"there is another tool call {twice[0]!r}"
    if answers is not None and answers not in calls:
        return f"it answers a tool call {answers!r}, which nobody made before it"
    if answers is not None and calls[answers]:
        return f"the tool call {answers!r} is answered already"
    return None


def named(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return the messages with an id for each: its own, or one made of its place."""
    return tuple(
        message
        if message.message_id is not None
        else message.model_copy(update={"message_id": f"msg_before_{place}"})
        for place, message in enumerate(messages, start=1)
    )


def _joins(before: Message, after: Message) -> bool:
    """Tell whether two neighbours must become one message."""
    if before.role != after.role or before.role not in {"user", "assistant"}:
        return False
    return not before.tool_calls and not after.tool_calls
