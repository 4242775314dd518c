"""What a session does about a command, or about its run: decisions, without doing them. Pure.

Each function looks at the state and returns what it `Decided`: the events to append, and what to start
or stop once they are committed. Ids are given by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from gateway.commands import ApprovalDecision, Cancel, Continue, Send
from gateway.errors import (
    ApprovalAlreadyResolved,
    ApprovalUnknown,
    CommandMalformed,
    RunActive,
    RunNotResumable,
    RunUnknown,
    SessionClosed,
)
from gateway.sessions.fold import apply
from gateway.sessions.inputs import (
    Input,
    KindOf,
    accepted_as,
    input_of,
    queued_as,
    started_as,
)
from gateway.sessions.state import RunState, SessionState
from runtime.events import (
    ApprovalResolved,
    ErrorInfo,
    Event,
    InputDequeued,
    RunAttemptStarted,
    RunCancelled,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStopRequested,
)
from runtime.events import SessionClosed as SessionClosedEvent
from runtime.failure import CANCELLED
from runtime.runnable import DecisionKind

__all__ = [
    "MAX_ATTEMPTS",
    "Decide",
    "Decided",
    "NewIds",
    "cancel",
    "close",
    "continue_run",
    "end",
    "fail",
    "pause",
    "send",
    "take_over",
]

MAX_ATTEMPTS = 3
"""A run that dies with its process this often is given up (delivery.md, b.7)."""

TAKEN_OVER = ErrorInfo(code="taken_over", message="the server stopped in the middle of this")


@dataclass(frozen=True, slots=True)
class NewIds:
    """Ids for what a decision makes."""

    run_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be done.

    Attributes:
        events: To append, in order.
        run_id: The run that the command was about.
        begins: The run that starts, or goes on, with this append.
        ends: The run that is over, or pauses, with this append.
        stops: The run that is to end after its current step.
    """

    events: tuple[Event, ...] = ()
    run_id: str | None = None
    begins: str | None = None
    ends: str | None = None
    stops: str | None = None


def _check_open(state: SessionState) -> None:
    if state.closed:
        raise SessionClosed(state.session_id)


def send(state: SessionState, command: Send, ids: NewIds, kind_of: KindOf) -> Decided:
    """Start a run for a new input, or put it into the queue.

    An input that goes back in the conversation ends a run that waits for a human.

    Raises:
        CommandMalformed: If the session has a message of that id already, or none to go back to,
            or no tool call that wants this result.
        RunActive: If a run is active and the policy is to be refused then.
        SessionClosed: If the session is closed.
    """
    _check_open(state)
    run = RunState(
        run_id=ids.run_id,
        agent=command.agent or state.agent,
        options=command.options,
        timeout=command.timeout,
        instructions=command.instructions,
        tools=command.tools,
        rewind_to=command.rewind_to,
    )
    message = input_of(state, command, ids.message_id)
    given = Input(run, message, command.id, command.policy)
    if state.current is None:
        events = accepted_as(state, given, kind_of)
        return Decided(events, run_id=run.run_id, begins=run.run_id)
    gives_way = command.rewind_to is not None and state.status == "interrupted"
    if command.policy == "reject" and (state.queue or not gives_way):
        raise RunActive(state.current)
    if not gives_way:
        return Decided((queued_as(given, len(state.queue) + 1),), run_id=run.run_id)
    cancelled = RunCancelled(run_id=state.current, reason="superseded", command_id=command.id)
    over = end(state, (*state.open.closing(CANCELLED), cancelled), state.current, kind_of)
    if over.begins is not None:  # others wait already, and come first
        events = (*over.events, queued_as(given, len(state.queue)))
        return replace(over, events=events, run_id=run.run_id)
    events = (*over.events, *accepted_as(state, given, kind_of))
    return replace(over, events=events, run_id=run.run_id, begins=run.run_id)


def next_input(state: SessionState, kind_of: KindOf, after: Sequence[Event]) -> Decided:
    """Start the first input of the queue, if there is one.

    Args:
        state: The session.
        kind_of: Tells what the runnable of a name is.
        after: Events that are appended before, and that the state does not have yet.
    """
    if not state.queue:
        return Decided()
    item = state.queue[0]
    run = state.queued_runs[item.run_id]
    if run.rewind_to is not None:  # what is said at the very end of a run is dropped, too
        state = state.model_copy(deep=True)
        for event in after:
            apply(state, event)
    dequeued = InputDequeued(run_id=item.run_id, command_id=item.command_id, reason="started")
    started = accepted_as(state, Input(run, item.message, item.command_id, "enqueue"), kind_of)
    return Decided((dequeued, *started), begins=item.run_id)


def end(state: SessionState, events: tuple[Event, ...], run_id: str, kind_of: KindOf) -> Decided:
    """Append what ends a run, and start the next input with the same stroke.

    A run that was asked to stop and did so names the command that asked.
    """
    last, run = events[-1], state.runs.get(run_id)
    if isinstance(last, RunCancelled) and last.command_id is None and run is not None:
        events = (*events[:-1], last.model_copy(update={"command_id": run.stopping}))
    following = next_input(state, kind_of, after=events)
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


def fail(state: SessionState, run: RunState, error: ErrorInfo, kind_of: KindOf) -> Decided:
    """End a run that cannot go on."""
    failed = RunFailed(run_id=run.run_id, error=error)
    return end(state, (*state.open.closing(error), failed), run.run_id, kind_of)


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
        partial = "".join(said.text for said in state.open.messages.values()) or None
        cancelled = RunCancelled(
            run_id=target, reason=reason, command_id=command.id, partial_output=partial
        )
        return end(state, (*state.open.closing(CANCELLED), cancelled), target, kind_of)
    queued = next((item for item in state.queue if item.run_id == target), None)
    if queued is not None:
        return Decided(
            (
                InputDequeued(run_id=target, command_id=queued.command_id, reason="cancelled"),
                RunCancelled(run_id=target, reason=reason, command_id=command.id),
            ),
            run_id=target,
        )
    if target == state.last or any(message.run_id == target for message in state.messages):
        return Decided(run_id=target)
    raise RunUnknown(target)


def _stop_after_step(run: RunState, command: Cancel) -> Decided:
    """Ask a run to end after its step. Asking twice is asking once."""
    if run.stopping is not None:
        return Decided(run_id=run.run_id)
    requested = RunStopRequested(run_id=run.run_id, command_id=command.id)
    return Decided((requested,), run_id=run.run_id, stops=run.run_id)


def continue_run(state: SessionState, command: Continue, ids: NewIds) -> Decided:
    """Settle approvals and resume; or go on after a cancelled or failed run.

    An approval may be settled while the run is still at work elsewhere: see `pause`.

    Raises:
        ApprovalUnknown, ApprovalAlreadyResolved: For a decision that settles nothing.
        CommandMalformed: For a decision where a result is wanted, or the other way round.
        RunActive: If a run is running, and nothing was decided.
        RunNotResumable: If there is nothing to go on with, or approvals are still open.
        RunUnknown: If the named run is neither the interrupted nor the last one.
        SessionClosed: If the session is closed.
    """
    _check_open(state)
    for decision in command.decisions:
        _check_decision(state, decision)
    run = state.current_run
    if run is not None and command.run_id not in {None, run.run_id}:
        raise RunUnknown(command.run_id or "")
    if run is not None and run.status == "interrupted":
        return _resume(state, command, run)
    if run is not None and command.decisions:
        return Decided(_resolved(command, run), run_id=run.run_id)
    if run is not None:
        raise RunActive(run.run_id)
    return _go_on(state, command, ids)


def _check_decision(state: SessionState, decision: ApprovalDecision) -> None:
    approval_id = decision.approval_id
    asked = state.approvals.get(approval_id)
    if asked is None:
        settled = state.resolved.get(approval_id)
        if settled is not None:
            raise ApprovalAlreadyResolved(approval_id, settled.decision, settled.by)
        raise ApprovalUnknown(approval_id)
    if asked.wants == "result" and decision.decision in {"approve", "edit"}:
        raise CommandMalformed(
            f"approval {approval_id!r} waits for what came of a call of the client's tool "
            f"{asked.tool!r}: decide `answer` with a `result`, or `reject`"
        )
    if asked.wants is None and decision.decision == "answer":
        raise CommandMalformed(
            f"approval {approval_id!r} waits for a decision, not for a result: "
            "`approve`, `reject` or `edit`"
        )


_DECIDED: Mapping[str, DecisionKind] = {
    "approve": "approved",
    "reject": "rejected",
    "edit": "edited",
    "answer": "answered",
}


def _resume(state: SessionState, command: Continue, run: RunState) -> Decided:
    settled = {decision.approval_id: decision for decision in command.decisions}
    still_open = [id_ for id_ in state.approvals if id_ not in settled]
    if not settled and still_open:
        raise RunNotResumable(f"the run waits for a decision on: {', '.join(still_open)}")
    events = _resolved(command, run)
    if still_open:
        return Decided(events, run_id=run.run_id)
    resumed = RunResumed(
        run_id=run.run_id,
        from_seq=state.seq,
        decisions=tuple(_shown(decision) for decision in settled.values()),
    )
    return Decided((*events, resumed), run_id=run.run_id, begins=run.run_id)


def _resolved(command: Continue, run: RunState) -> tuple[Event, ...]:
    decisions = {decision.approval_id: decision for decision in command.decisions}
    return tuple(
        ApprovalResolved(
            run_id=run.run_id,
            approval_id=decision.approval_id,
            decision=_DECIDED[decision.decision],
            by=command.id,
            message=decision.message,
            arguments=decision.arguments_text,
            result=decision.result,
        )
        for decision in decisions.values()
    )


def _shown(decision: ApprovalDecision) -> Mapping[str, Any]:
    # What `approval.resolved` has in full is not said twice.
    return decision.model_dump(mode="json", exclude_none=True, exclude={"result"})


def _go_on(state: SessionState, command: Continue, ids: NewIds) -> Decided:
    last = state.runs.get(state.last) if state.last else None
    if last is None:
        raise RunNotResumable("there is no run to continue")
    if command.run_id not in {None, last.run_id}:
        raise RunUnknown(command.run_id or "")
    if last.status not in {"cancelled", "failed"}:
        raise RunNotResumable(
            f"the last run is {last.status}; only a cancelled or failed one goes on"
        )
    event = started_as(
        ids.run_id, last.agent, last.kind, dict(last.options) or None, parent=last.run_id
    )
    return Decided((event,), run_id=ids.run_id, begins=ids.run_id)


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
        events += state.open.closing(CANCELLED)
        events.append(RunCancelled(run_id=state.current, reason="cancel", command_id=command_id))
    events.append(SessionClosedEvent(reason=reason))
    return Decided(tuple(events), ends=state.current)


Decide = Callable[[SessionState], Decided]
"""A decision that waits for its turn: made when the state is exactly up to date."""
