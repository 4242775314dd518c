"""How a run passes from one process to the next. Pure."""

from __future__ import annotations

from typing import Literal

from gateway.sessions.decide.decided import Decided
from gateway.sessions.decide.ends import fail
from gateway.sessions.inputs import KindOf
from gateway.sessions.state import RunState, SessionState
from runtime.events import ErrorInfo, RunAttemptReleased, RunAttemptStarted

__all__ = ["MAX_ATTEMPTS", "hand_over", "take_over"]

MAX_ATTEMPTS = 3
"""A run that dies with its process this often is given up: it may be what kills the process."""

TAKEN_OVER = ErrorInfo(code="taken_over", message="the server stopped in the middle of this")


def hand_over(state: SessionState) -> Decided:
    """Let go of the run that is at work; what it has open is closed, and will be done anew."""
    run = state.current_run
    if run is None or run.status != "running":
        return Decided()
    released = RunAttemptReleased(run_id=run.run_id, attempt=run.attempt)
    return Decided(
        (*state.open.superseding(TAKEN_OVER), released), run_id=run.run_id, releases=run.run_id
    )


def take_over(
    state: SessionState,
    run: RunState,
    kind_of: KindOf,
    reason: Literal["handed_over", "restart", "lease_expired"],
) -> Decided:
    """Go on with a run on which nobody works, or give it up after `MAX_ATTEMPTS` that died.

    A run that was begun for whoever has room, and on which nobody ever worked, is only claimed: its
    first attempt begins now.
    """
    if reason == "handed_over" and run.released != run.attempt:
        return Decided(run_id=run.run_id, begins=run.run_id, waited=True)
    died = run.attempt - run.handed_over
    if died >= MAX_ATTEMPTS:
        error = ErrorInfo(
            code="attempts_exhausted", message=f"the server stopped {died} times in this run"
        )
        return fail(state, run, error, kind_of)
    taken = RunAttemptStarted(
        run_id=run.run_id,
        attempt=run.attempt + 1,
        supersedes=run.attempt,
        from_step=run.turns,
        reason=reason,
    )
    return Decided(
        (*state.open.superseding(TAKEN_OVER), taken),
        run_id=run.run_id,
        begins=run.run_id,
        waited=True,
    )
