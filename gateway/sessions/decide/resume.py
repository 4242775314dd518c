"""Going on with a run: after its questions were settled, after it ended early. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.commands import ApprovalDecision, Continue
from gateway.errors import (
    ApprovalAlreadyResolved,
    ApprovalUnknown,
    CommandMalformed,
    RunActive,
    RunNotResumable,
    RunUnknown,
)
from gateway.sessions.decide.decided import Decided, NewIds, check_open
from gateway.sessions.inputs import started_as
from gateway.sessions.state import RunState, SessionState
from runtime.events import ApprovalResolved, Event, RunResumed
from runtime.runnable import DecisionKind

__all__ = ["continue_run"]


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
    check_open(state)
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
        cancel_after=command.cancel_after,
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
    event = event.model_copy(update={"cancel_after": command.cancel_after})
    return Decided((event,), run_id=ids.run_id, begins=ids.run_id)
