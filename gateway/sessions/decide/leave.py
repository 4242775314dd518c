"""What ends because nobody who controls the session is there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gateway.commands import Cancel
from gateway.sessions.decide.cancel import cancel
from gateway.sessions.decide.decided import Decided
from gateway.sessions.decide.ends import after
from gateway.sessions.inputs import KindOf
from gateway.sessions.state import RunState, SessionState
from runtime.events import RUN_ENDS, Event, InputDequeued, RunInterrupted, RunResumed

__all__ = ["grace", "judged_after", "leave"]

_SPARING = (*RUN_ENDS, InputDequeued, RunInterrupted, RunResumed)
"""The events after which a session may have no run any more that ends by that."""


def grace(state: SessionState) -> float | None:
    """Return after how many seconds alone the first run ends; None if none ends by that."""
    return min((seconds for _, seconds in _judged(state)), default=None)


def judged_after(state: SessionState, events: Sequence[Event]) -> bool | None:
    """Return whether these events give a session its first run that ends by that, or end its last.

    None: they change nothing about it, as almost all do.
    """
    is_judged = grace(state) is not None
    if is_judged:
        may_change = any(isinstance(event, _SPARING) for event in events)
    else:
        may_change = any(getattr(event, "cancel_after", None) is not None for event in events)
    if not may_change or (grace(after(state, events)) is not None) == is_judged:
        return None
    return not is_judged


def leave(state: SessionState, has_lasted: Callable[[float], bool], kind_of: KindOf) -> Decided:
    """Cancel a run that has gone on alone for as long as it may; nothing if there is none.

    One at a time, and those that wait before the one that works: so none is started to be ended.

    Args:
        state: The session.
        has_lasted: Tells whether nobody is there, and was not for so many seconds.
        kind_of: Tells what the runnable of a name is.
    """
    for run, seconds in _judged(state):
        if has_lasted(seconds):
            command = Cancel(
                type="cancel",
                id=f"gone-{run.run_id}",
                session_id=state.session_id,
                run_id=run.run_id,
            )
            return cancel(state, command, kind_of, reason="disconnect")
    return Decided()


def _judged(state: SessionState) -> Iterator[tuple[RunState, float]]:
    """Yield the runs that end by that. One that waits for a human does no work, and is waited for."""
    runs = [state.queued_runs[item.run_id] for item in reversed(state.queue)]
    if state.current_run is not None and state.current_run.status == "running":
        runs.append(state.current_run)
    for run in runs:
        if run.cancel_after is not None:
            yield run, run.cancel_after
