"""What a server says, as events and facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from runtime.events import (
    EVENT,
    ErrorInfo,
    Event,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
)
from runtime.messages import Usage
from runtime.run_stream import RunEnd

__all__ = ["end_told_by", "read_event"]

_ENVELOPE = frozenset({"v", "session_id", "seq", "cursor", "ts"})


def read_event(message: Mapping[str, Any]) -> Event | None:
    """Return the event of a message, or None if this client does not know its type.

    Fields that a newer server added are left out.
    """
    data = {key: value for key, value in message.items() if key not in _ENVELOPE}
    try:
        return EVENT.validate_python(data)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        if not all(problem["type"] == "extra_forbidden" for problem in problems):
            return None
    for problem in problems:
        _leave_out(data, problem["loc"][1:])
    try:
        return EVENT.validate_python(data)
    except ValidationError:
        return None


def _leave_out(data: Any, way: Sequence[str | int]) -> None:
    for part in way[:-1]:
        data = data[part]
    data.pop(way[-1], None)


def end_told_by(snapshot: Mapping[str, Any], run_id: str) -> RunEnd | None:
    """Return how a run ended according to a snapshot; None while it goes on, or waits its turn.

    Raises:
        LookupError: If the snapshot does not know the run.
    """
    run = snapshot.get("run") or {}
    if run.get("run_id") == run_id:
        return _end_of(run, snapshot)
    if any(item["run_id"] == run_id for item in snapshot.get("queue", ())):
        return None
    if any(message["run_id"] == run_id for message in snapshot.get("messages", ())):
        return _completed(snapshot, run_id)  # another one followed it
    raise LookupError(run_id)


def _end_of(run: Mapping[str, Any], snapshot: Mapping[str, Any]) -> RunEnd | None:
    run_id = str(run["run_id"])
    match run["status"]:
        case "completed":
            return _completed(snapshot, run_id)
        case "failed":
            told = run.get("error") or {"code": "internal_error", "message": "the run failed"}
            return RunFailed(run_id=run_id, error=ErrorInfo.model_validate(told))
        case "cancelled":
            return RunCancelled(run_id=run_id, reason="cancel")
        case "interrupted":
            pending = tuple(approval["approval_id"] for approval in snapshot.get("approvals", ()))
            return RunInterrupted(run_id=run_id, reason="approval", pending=pending)
        case _:
            return None


def _completed(snapshot: Mapping[str, Any], run_id: str) -> RunCompleted:
    texts = list(_answers(snapshot, run_id))
    return RunCompleted(
        run_id=run_id,
        output=texts[-1] if texts else "",
        usage=Usage.model_validate(snapshot.get("usage") or {}),
        message_count=len(snapshot.get("messages", ())),
        num_turns=len(texts),
    )


def _answers(snapshot: Mapping[str, Any], run_id: str) -> Iterator[str]:
    for message in snapshot.get("messages", ()):
        if message.get("run_id") == run_id and message.get("role") == "assistant":
            yield message["text"]
