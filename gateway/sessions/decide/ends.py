"""How a run ends or pauses, and what comes after it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from gateway.sessions.decide.decided import Decided
from gateway.sessions.fold import apply
from gateway.sessions.inputs import Input, KindOf, accepted_as
from gateway.sessions.state import RunState, SessionState
from runtime.events import (
    RUN_ENDS,
    ErrorInfo,
    Event,
    InputDequeued,
    RunCancelled,
    RunFailed,
    RunInterrupted,
    RunResumed,
)
from runtime.events import SessionClosed as SessionClosedEvent
from runtime.failure import CANCELLED

__all__ = ["after", "close", "cut_off", "end", "fail", "next_input", "pause", "say"]


def after(state: SessionState, events: Sequence[Event]) -> SessionState:
    """Return the state as it will be after these events; the given one stays as it is."""
    then = state.model_copy(deep=True)
    for event in events:
        apply(then, event)
    return then


def next_input(state: SessionState, kind_of: KindOf, events: Sequence[Event]) -> Decided:
    """Start the first input of the queue, if there is one.

    Args:
        state: The session.
        kind_of: Tells what the runnable of a name is.
        events: Those that are appended before, and that the state does not have yet.
    """
    if not state.queue:
        return Decided()
    item = state.queue[0]
    run = state.queued_runs[item.run_id]
    if run.rewind_to is not None:  # what is said at the very end of a run is dropped, too
        state = after(state, events)
    dequeued = InputDequeued(run_id=item.run_id, command_id=item.command_id, reason="started")
    started = accepted_as(state, Input(run, item.message, item.command_id, "enqueue"), kind_of)
    return Decided((dequeued, *started), begins=item.run_id)


def cut_off(
    state: SessionState,
    run_id: str,
    reason: Literal["cancel", "disconnect", "superseded"],
    command_id: str | None,
) -> tuple[Event, ...]:
    """Return what ends the current run in the middle of whatever it does; its text so far stays."""
    partial = "".join(said.text for said in state.open.messages.values()) or None
    cancelled = RunCancelled(
        run_id=run_id, reason=reason, command_id=command_id, partial_output=partial
    )
    return (*state.open.closing(CANCELLED), cancelled)


def end(state: SessionState, events: tuple[Event, ...], run_id: str, kind_of: KindOf) -> Decided:
    """Append what ends a run, and start the next input with the same stroke.

    A run that was asked to stop and did so names the command that asked.
    """
    last, run = events[-1], state.runs.get(run_id)
    if isinstance(last, RunCancelled) and last.command_id is None and run is not None:
        events = (*events[:-1], last.model_copy(update={"command_id": run.stopping}))
    following = next_input(state, kind_of, events)
    return Decided(events + following.events, run_id=run_id, begins=following.begins, ends=run_id)


def pause(state: SessionState, interrupted: RunInterrupted) -> Decided:
    """Let a run wait for a human; if all that it asks was settled meanwhile, it goes on at once.

    Then it did not pause, and no client is told that it did.
    """
    run = state.runs[interrupted.run_id]
    pending = interrupted.pending
    answered = any(id_ in run.settled_early for id_ in pending)
    if not answered or any(id_ in state.approvals for id_ in pending):
        return Decided((interrupted,), run_id=run.run_id, ends=run.run_id)
    resumed = RunResumed(run_id=run.run_id, from_seq=state.seq)
    return Decided((resumed,), run_id=run.run_id, begins=run.run_id, ends=run.run_id)


def say(state: SessionState, run_id: str, events: tuple[Event, ...], kind_of: KindOf) -> Decided:
    """Append what a run says; only the last may end or pause it. Its end starts the next input."""
    last = events[-1]
    if isinstance(last, RunInterrupted):
        paused = pause(state, last)
        return replace(paused, events=(*events[:-1], *paused.events))
    if isinstance(last, RUN_ENDS):
        return end(state, events, run_id, kind_of)
    return Decided(events, run_id=run_id)


def fail(state: SessionState, run: RunState, error: ErrorInfo, kind_of: KindOf) -> Decided:
    """End a run that cannot go on."""
    failed = RunFailed(run_id=run.run_id, error=error)
    return end(state, (*state.open.closing(error), failed), run.run_id, kind_of)


def close(state: SessionState, reason: str, command_id: str | None = None) -> Decided:
    """Cancel everything and take no more."""
    if state.closed:
        return Decided()
    events: list[Event] = []
    for item in state.queue:
        events += (
            InputDequeued(run_id=item.run_id, command_id=item.command_id, reason="cancelled"),
            RunCancelled(run_id=item.run_id, reason="cancel", command_id=command_id),
        )
    if state.current is not None:
        events += cut_off(state, state.current, "cancel", command_id)
    events.append(SessionClosedEvent(reason=reason))
    return Decided(tuple(events), ends=state.current)
