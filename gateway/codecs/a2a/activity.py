"""Telling what is done, and what is asked: updates of the status. Pure."""

from __future__ import annotations

from dataclasses import replace

from gateway.codecs.a2a.objects import Json, Scene, question, shallow
from gateway.codecs.a2a.speech import withdraw
from gateway.codecs.a2a.state import A2aState, Said, Told
from runtime.events import ApprovalRequested, ApprovalResolved, Event, NodeCompleted, NodeFailed

__all__ = ["activity", "node_completed", "node_failed", "requested", "resolved", "told_of"]


def activity(scene: Scene, state: A2aState, event: Event) -> Told:
    """Tell what happens without a change of the task's state."""
    return state, [scene.status(state.task, told_of(event))]


def told_of(event: Event) -> Json:
    """Return an event for our metadata: its type, and what it says."""
    fields = event.model_dump(
        mode="json", exclude_none=True, exclude={"type", "run_id", "state", "idempotency_key"}
    )
    return {"type": event.type, **{name: shallow(value) for name, value in fields.items()}}


def node_completed(scene: Scene, state: A2aState, event: NodeCompleted) -> Told:
    """Tell that a node is done: what it said stays."""
    said = tuple(
        replace(said, kept=True) if _is_within(said, event) else said for said in state.said
    )
    return activity(scene, replace(state, said=said), event)


def node_failed(scene: Scene, state: A2aState, event: NodeFailed) -> Told:
    """Tell that a node failed; if it is tried again, what it had said is taken back."""
    if not event.will_retry:
        return activity(scene, state, event)
    gone = [said for said in state.said if _is_within(said, event) and not said.kept]
    after, withdrawn = withdraw(scene, state, gone)
    after, told = activity(scene, after, event)
    return after, [*withdrawn, *told]


def requested(scene: Scene, state: A2aState, event: ApprovalRequested) -> Told:
    """Tell that something waits for a human, and remember what."""
    after = replace(state, pending=(*state.pending, event))
    return activity(scene, after, event)


def resolved(scene: Scene, state: A2aState, event: ApprovalResolved) -> Told:
    """Tell what a human decided, and what else the task waits for."""
    pending = tuple(asked for asked in state.pending if asked.approval_id != event.approval_id)
    after = replace(state, pending=pending, settled=(*state.settled, event.approval_id))
    message = None
    if state.task == "TASK_STATE_INPUT_REQUIRED" and pending:
        message = scene.message(f"{event.run_id}-{scene.entry.seq}", question(pending))
    return after, [scene.status(state.task, told_of(event), message)]


def _is_within(said: Said, event: NodeCompleted | NodeFailed) -> bool:
    below = (*event.path, event.node)
    return said.path[: len(below)] == below
