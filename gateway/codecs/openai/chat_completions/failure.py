"""Why there is no answer, in HTTP's words and in those of OpenAI's clients. Pure."""

from __future__ import annotations

from typing import NamedTuple

from gateway.codecs.waiting import waits_for_human
from runtime.events import ErrorInfo, RunCancelled, RunCompleted, RunFailed, RunInterrupted

__all__ = ["End", "Failure", "failure_of"]

End = RunCompleted | RunFailed | RunCancelled | RunInterrupted

APPROVAL_REQUIRED = 403
CANCELLED = 410
"""Neither is a status after which clients try again by themselves: that would be another run."""

_REFUSED = {"guardrail_tripped": 400, "options_invalid": 400, "tools_refused": 400}
"""Failures that the request itself is the reason for."""

_CANCELLED = {
    "timeout": "the run was not done in time",
    "disconnect": "the client that the run was for has gone",
    "shutdown": "the run was ended because the server stops",
}


class Failure(NamedTuple):
    """Why there is no answer.

    Attributes:
        status: The HTTP status of a response that has not begun.
        code: A word for programs.
        message: A sentence for people.
        retry_after: When the model's provider would answer again, in seconds, if it said so.
    """

    status: int
    code: str
    message: str
    retry_after: float | None = None


def failure_of(event: End, session_id: str) -> Failure:
    """Return why a run that ended in this way gave no answer."""
    match event:
        case RunFailed(error=error):
            return Failure(_status(error), error.code, error.message, error.retry_after)
        case RunCancelled(reason="timeout"):
            return Failure(CANCELLED, "run_timeout", _CANCELLED["timeout"])
        case RunCancelled():
            why = _CANCELLED.get(event.reason, "the run was cancelled")
            return Failure(CANCELLED, "run_cancelled", why)
        case _:
            return Failure(APPROVAL_REQUIRED, "approval_required", waits_for_human(session_id))


def _status(error: ErrorInfo) -> int:
    if error.status_code == 429:  # noqa: PLR2004 - the model's provider has had too much
        return 429
    return _REFUSED.get(error.code, 500)
