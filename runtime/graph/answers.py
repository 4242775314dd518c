"""What comes into a run from outside: first values, answers, changes of its state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runtime.checkpoint import Checkpoint
from runtime.errors import ApprovalSettled, ApprovalUnknown
from runtime.events import ApprovalRequested, ApprovalResolved, Event
from runtime.graph.definition import Definition
from runtime.graph.keys import Key
from runtime.graph.merge import merged
from runtime.graph.replay import begun, given
from runtime.plain import plain
from runtime.report import new_id
from runtime.runnable import Decision, RunRequest

__all__ = ["check_answers", "decisions_of", "edited", "first_state", "pending", "resolutions"]


def first_state(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the values that a run begins with as plain JSON, by key name."""
    return {
        key.name if isinstance(key, Key) else str(key): plain(value, "a first value")
        for key, value in state.items()
    }


def pending(journal: Iterable[Event]) -> tuple[ApprovalRequested, ...]:
    """Return the questions of a run that have no answer, in the order in which they were asked."""
    waiting: dict[str, ApprovalRequested] = {}
    for event in journal:
        if isinstance(event, ApprovalRequested):
            waiting[event.approval_id] = event
        elif isinstance(event, ApprovalResolved):
            waiting.pop(event.approval_id, None)
    return tuple(waiting.values())


def check_answers(
    answers: Mapping[str, Decision], journal: Iterable[Event], log: Iterable[Event]
) -> None:
    """Refuse answers to what is not asked.

    Args:
        answers: What humans said, by approval.
        journal: What the run that waits has reported.
        log: All that the session has reported.

    Raises:
        ApprovalSettled: If an approval is not waited for any more.
        ApprovalUnknown: If it never was.
        ValueError: If it is answered with a result, which nobody asked for.
    """
    waiting = {asked.approval_id: asked for asked in pending(journal)}
    asked = {event.approval_id for event in log if isinstance(event, ApprovalRequested)}
    for approval_id, decision in answers.items():
        if approval_id not in asked:
            raise ApprovalUnknown(f"there is no approval {approval_id!r}")
        if approval_id not in waiting:
            raise ApprovalSettled(f"the approval {approval_id!r} is settled already")
        decision.check(waiting[approval_id])


def decisions_of(journal: Iterable[Event]) -> dict[str, Decision]:
    """Return what humans said: by `approval_id`, and to tool calls by `call_id` too."""
    calls: dict[str, str] = {}
    decisions: dict[str, Decision] = {}
    for event in journal:
        if isinstance(event, ApprovalRequested) and event.call_id is not None:
            calls[event.approval_id] = event.call_id
        elif isinstance(event, ApprovalResolved):
            decision = Decision(event.decision, event.message, event.arguments)
            decisions[event.approval_id] = decision
            if event.approval_id in calls:
                decisions[calls[event.approval_id]] = decision
    return decisions


def resolutions(
    run_id: str, path: tuple[str, ...], decisions: Mapping[str, Decision]
) -> tuple[ApprovalResolved, ...]:
    """Return the events that say what humans decided."""
    return tuple(
        ApprovalResolved(
            run_id=run_id,
            path=path,
            approval_id=approval_id,
            decision=decision.kind,
            message=decision.message,
            arguments=decision.arguments,
        )
        for approval_id, decision in decisions.items()
    )


def edited(
    definition: Definition, checkpoint: Checkpoint, update: Mapping[Any, Any], run_id: str
) -> Checkpoint:
    """Return the checkpoint that follows one when the state is updated.

    Args:
        definition: The graph.
        checkpoint: The place.
        update: Values by key or by name, merged as those of a node; for lists, items to append.
        run_id: The run that the new checkpoint is of.

    Raises:
        UpdateInvalid: If a key is not declared, or a value does not fit it.
    """
    place = begun(definition, RunRequest(run_id=run_id, history=(), checkpoint=checkpoint))
    values = merged(place.values, [("", given(update, definition.keys))])
    return Checkpoint(
        checkpoint_id=new_id(f"{checkpoint.superstep:06d}"),
        run_id=run_id,
        parent_id=checkpoint.checkpoint_id,
        superstep=checkpoint.superstep,
        state={name: definition.keys[name].store(value) for name, value in values.items()},
        next=checkpoint.next,
    )
