"""What is at work: nodes of graphs, agents below others, tools. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from ag_ui.core import (
    BaseEvent,
    StepFinishedEvent,
    StepStartedEvent,
    SubagentFinishedEvent,
    SubagentStartedEvent,
    ToolCallResultEvent,
)

from gateway.codecs.agui.graph_state import node_began, node_changed
from gateway.codecs.agui.speech import Told, owner_of, supersede
from gateway.codecs.agui.state import AguiState, Invocation, Step
from gateway.codecs.agui.wire import activity, ours
from runtime.events import (
    AgentCompleted,
    AgentStarted,
    ErrorInfo,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolUnknownOutcome,
)
from runtime.history import UNKNOWN_OUTCOME, failure_text, result_text

__all__ = [
    "begin_agent",
    "begin_node",
    "close_agents",
    "end_agent",
    "end_node",
    "fail_node",
    "open_step",
    "progress",
    "result",
    "result_id",
    "update_node",
]


def result_id(call_id: str) -> str:
    """Return the id of the message that says what came of a tool call."""
    return f"{call_id}-result"


# --- nodes -------------------------------------------------------------------------------------


def _is_own(path: tuple[str, ...]) -> bool:
    """Whether a node is one of the run's own graph, and its state the run's."""
    return len(path) <= 1


def open_step(state: AguiState, path: tuple[str, ...], node: str) -> Told:
    """Open a step; one that is open stays so."""
    if _step(state, path, node) is not None:
        return state, []
    name = "/".join((*path[1:], node))
    taken = {step.name for step in state.steps}
    while name in taken:
        name += "'"
    step = Step(path, node, name)
    return replace(state, steps=(*state.steps, step)), [StepStartedEvent(step_name=name)]


def _step(state: AguiState, path: tuple[str, ...], node: str) -> Step | None:
    return next((s for s in state.steps if s.path == path and s.node == node), None)


def begin_node(state: AguiState, event: NodeStarted) -> Told:
    """Open a node's step, and show the state that it begins with."""
    state, told = open_step(state, event.path, event.node)
    if event.state is not None and _is_own(event.path):
        state, shown = node_began(state, event.state)
        told += shown
    return state, told


def update_node(state: AguiState, event: NodeUpdate, run_id: str) -> Told:
    """Show how far a node is."""
    step = _step(state, event.path, event.node)
    if step is None:
        return state, []
    content = {"node": step.name, "updates": dict(event.updates)}
    owner = owner_of(state, event.path)
    activity_id = f"{run_id}-{step.name}"
    return activity(state, activity_id, "node_update", content, owner=owner, moves="updates")


def _close_step(state: AguiState, step: Step, **facts: Any) -> Told:
    open_steps = tuple(other for other in state.steps if other is not step)
    told = StepFinishedEvent(step_name=step.name, metadata=ours(**facts))
    return replace(state, steps=open_steps), [told]


def end_node(state: AguiState, event: NodeCompleted) -> Told:
    """Close a node's step, and show the state after it. What was said in it is final."""
    step = _step(state, event.path, event.node)
    if step is None:
        return state, []
    said = tuple(one for one in state.said if not _is_below(one.path, step))
    state, told = _close_step(
        replace(state, said=said), step, status="completed", durationMs=event.duration_ms
    )
    if event.state is not None and _is_own(event.path):
        state, shown = node_changed(state, event.state)
        told = shown + told
    return state, told


def fail_node(state: AguiState, event: NodeFailed, activity_id: str) -> Told:
    """Close a node's step; with one that is tried again, take back what it had said."""
    step = _step(state, event.path, event.node)
    if step is None:
        return state, []
    if not event.will_retry:
        return _close_step(state, step, status="failed", error=_shown(event.error))
    state, told = supersede(state, lambda said: _is_below(said.path, step))
    content = {"node": step.name, "error": _shown(event.error)}
    owner = owner_of(state, event.path)
    state, shown = activity(state, activity_id, "node_retry", content, owner=owner)
    return state, told + shown


def _is_below(path: tuple[str, ...], step: Step) -> bool:
    above = (*step.path, step.node)
    return path[: len(above)] == above


def _shown(error: ErrorInfo) -> dict[str, Any]:
    return {"code": error.code, "message": error.message}


# --- agents ------------------------------------------------------------------------------------


def begin_agent(state: AguiState, event: AgentStarted) -> Told:
    """Open an invocation of an agent. One that begins again is another invocation."""
    if any(one.path == event.path for one in state.invocations):
        return state, []
    plain = "/".join(event.path)
    times = sum(1 for id_ in state.invoked if id_ == plain or id_.startswith(f"{plain}#"))
    id_ = f"{plain}#{times + 1}" if times else plain
    told = SubagentStartedEvent(
        subagent_run_id=id_,
        name=event.agent,
        parent_subagent_run_id=owner_of(state, event.path),
        parent_tool_call_id=event.path[-1].rpartition(":")[0] or None if event.path else None,
    )
    state = replace(
        state,
        invocations=(*state.invocations, Invocation(event.path, id_)),
        invoked=(*state.invoked, id_),
    )
    return state, [told]


def end_agent(state: AguiState, event: AgentCompleted) -> Told:
    """Close an invocation."""
    one = next((one for one in state.invocations if one.path == event.path), None)
    if one is None:
        return state, []
    left = tuple(other for other in state.invocations if other is not one)
    told = SubagentFinishedEvent(subagent_run_id=one.subagent_run_id, result=event.output)
    return replace(state, invocations=left), [told]


def close_agents(state: AguiState) -> Told:
    """Close all invocations, the innermost first: the run pauses, and they with it."""
    told: list[BaseEvent] = []
    for one in sorted(state.invocations, key=lambda one: len(one.path), reverse=True):
        waits = [a.approval_id for a in state.approvals if a.path[: len(one.path)] == one.path]
        told.append(
            SubagentFinishedEvent.model_validate(
                {
                    "subagent_run_id": one.subagent_run_id,
                    "outcome": {"type": "suspended", "interruptIds": waits},
                }
            )
        )
    return replace(state, invocations=()), told


# --- tools -------------------------------------------------------------------------------------


def progress(state: AguiState, event: ToolProgress) -> Told:
    """Show how far a tool is."""
    content = {"toolCallId": event.call_id, "data": event.data}
    owner = owner_of(state, event.path)
    activity_id = f"{event.call_id}-progress"
    return activity(state, activity_id, "tool_progress", content, owner=owner, moves="data")


def result(
    state: AguiState,
    event: ToolCompleted | ToolFailedEvent | ToolUnknownOutcome,
    known: Collection[str],
) -> Told:
    """Show what came of a tool call, unless the client said so itself: `known`."""
    if event.call_id in known:
        return state, []
    error: ErrorInfo | None = None
    if isinstance(event, ToolCompleted):
        content = result_text(event.result)
    else:
        error = event.error if isinstance(event, ToolFailedEvent) else UNKNOWN_OUTCOME
        content = failure_text(error)
    told = ToolCallResultEvent(
        message_id=result_id(event.call_id),
        tool_call_id=event.call_id,
        content=content,
        role="tool",
        subagent_run_id=owner_of(state, event.path),
        metadata=ours(error=_shown(error) if error else None),
    )
    return state, [told]
