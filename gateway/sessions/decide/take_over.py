"""Going on with a run whose process has died. Pure."""

from __future__ import annotations

from gateway.sessions.decide.decided import Decided
from gateway.sessions.decide.ends import fail
from gateway.sessions.inputs import KindOf
from gateway.sessions.state import RunState, SessionState
from runtime.events import ErrorInfo, RunAttemptStarted

__all__ = ["MAX_ATTEMPTS", "take_over"]

MAX_ATTEMPTS = 3
"""A run that dies with its process this often is given up (delivery.md, b.7)."""

TAKEN_OVER = ErrorInfo(code="taken_over", message="the server stopped in the middle of this")


def take_over(state: SessionState, run: RunState, kind_of: KindOf) -> Decided:
    """Go on with a run whose process died, or give it up after `MAX_ATTEMPTS`."""
    if run.attempt >= MAX_ATTEMPTS:
        error = ErrorInfo(
            code="attempts_exhausted", message=f"the server stopped {run.attempt} times in this run"
        )
        return fail(state, run, error, kind_of)
    taken = RunAttemptStarted(
        run_id=run.run_id,
        attempt=run.attempt + 1,
        supersedes=run.attempt,
        from_step=run.turns,
        reason="restart",
    )
    return Decided(
        (*state.open.superseding(TAKEN_OVER), taken), run_id=run.run_id, begins=run.run_id
    )
