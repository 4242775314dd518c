"""Ending a run before its time. Pure."""

from __future__ import annotations

from typing import Literal

from gateway.commands import Cancel
from gateway.errors import RunUnknown
from gateway.sessions.decide.decided import Decided
from gateway.sessions.decide.ends import cut_off, end
from gateway.sessions.inputs import KindOf
from gateway.sessions.state import RunState, SessionState
from runtime.events import InputDequeued, RunCancelled, RunStopRequested

__all__ = ["cancel"]


def cancel(
    state: SessionState,
    command: Cancel,
    kind_of: KindOf,
    reason: Literal["cancel", "disconnect"] = "cancel",
) -> Decided:
    """End the current run, or the named one: now, or after its current step.

    A run that waits, in the queue or for a human, does no step and is over at once in both modes.
    Cancelling what is over already, or nothing at all, has no effect and is no error: whoever
    pressed stop wanted silence, and has it.

    Raises:
        RunUnknown: If the session never had the named run.
    """
    target = command.run_id or state.current
    if target is None:
        return Decided(run_id=state.last)
    if target == state.current:
        run = state.runs[target]
        if command.mode == "after_step" and run.status == "running":
            return _stop_after_step(run, command)
        return end(state, cut_off(state, target, reason, command.id), target, kind_of)
    queued = next((item for item in state.queue if item.run_id == target), None)
    if queued is not None:
        return Decided(
            (
                InputDequeued(run_id=target, command_id=queued.command_id, reason="cancelled"),
                RunCancelled(run_id=target, reason=reason, command_id=command.id),
            ),
            run_id=target,
        )
    if state.had_run(target):
        return Decided(run_id=target)
    raise RunUnknown(target)


def _stop_after_step(run: RunState, command: Cancel) -> Decided:
    """Ask a run to end after its step. Asking twice is asking once."""
    if run.stopping is not None:
        return Decided(run_id=run.run_id)
    requested = RunStopRequested(run_id=run.run_id, command_id=command.id)
    return Decided((requested,), run_id=run.run_id, stops=run.run_id)
