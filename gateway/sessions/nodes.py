"""The fold of a graph's nodes: what each event makes of how a run's nodes stand. Pure."""

from __future__ import annotations

from gateway.sessions.snapshot import NodeView
from gateway.sessions.state import RunState
from runtime.events import (
    ApprovalRequested,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
)

__all__ = [
    "NodeEvent",
    "begun_at",
    "end_nodes",
    "hold_node",
    "inherit_nodes",
    "note_node",
    "pause_nodes",
    "unfinished",
]

INTERRUPTED = "interrupted"
"""The code with which a graph closes a node that asks in the middle of its work."""

NodeEvent = NodeStarted | NodeUpdate | NodeCompleted | NodeFailed


def _key(path: tuple[str, ...], node: str) -> str:
    return "/".join((*path, node))


def note_node(run: RunState, event: NodeEvent, said: int) -> None:
    """Take an event of a node into account; `said` counts the session's messages before it."""
    key = _key(event.path, event.node)
    if isinstance(event, NodeStarted):
        _start(run, key, event, said)
        return
    node = run.nodes.get(key)
    if node is None:
        return
    match event:
        case NodeUpdate():
            node.progress = event.updates
        case NodeCompleted():
            node.status = "completed"
            node.progress = None
            node.duration_ms = event.duration_ms
        case NodeFailed(error=error) if error.code == INTERRUPTED:
            node.progress = None
            node.status = "interrupted"
        case NodeFailed():
            node.progress = None
            node.error = event.error
            if not event.will_retry:
                node.status = "failed"


def _start(run: RunState, key: str, event: NodeStarted, said: int) -> None:
    """Put a node at the end; one that goes on in its superstep was there and keeps its place."""
    before = run.nodes.get(key)
    goes_on = before is not None and before.superstep in {None, event.superstep}
    times = 1 if before is None else before.times + (not goes_on)
    if not goes_on:
        run.nodes.pop(key, None)
        run.visits[key] = said
    run.nodes[key] = NodeView(
        node=event.node,
        path=event.path,
        status="running",
        superstep=event.superstep,
        times=times,
    )


def hold_node(run: RunState, event: ApprovalRequested) -> None:
    """Show that a node waits for a human; one that asks first was not started yet."""
    if event.node is None or event.call_id is not None:
        return
    key = _key(event.path, event.node)
    if event.path[-1:] == (event.node,) and (inside := "/".join(event.path)) in run.nodes:
        key = inside  # it asks from inside
    node = run.nodes.get(key)
    if node is None:
        run.nodes[key] = NodeView(node=event.node, path=event.path, status="interrupted")
    else:
        node.status = "interrupted"


def inherit_nodes(run: RunState, parent: RunState) -> None:
    """Show what a run need not do, because the run that it continues has done it."""
    if run.kind == "graph":
        done = {key: node for key, node in parent.nodes.items() if node.status == "completed"}
        run.nodes = {key: node.model_copy() for key, node in done.items()}


def pause_nodes(run: RunState) -> None:
    """Show that what works or waits in a run that is interrupted waits for a human."""
    for node in run.nodes.values():
        if node.status == "running":
            node.status = "interrupted"


def end_nodes(run: RunState) -> None:
    """Show that the run is over: what still waits will not be done."""
    for node in run.nodes.values():
        if node.status in {"running", "interrupted"}:
            node.status = "skipped"


def begun_at(run: RunState, event: NodeFailed) -> int:
    """Return how many messages the session had when a node began in its superstep."""
    return run.visits.get(_key(event.path, event.node), 0)


def unfinished(run: RunState, path: tuple[str, ...]) -> bool:
    """Tell whether what was said at a path was said by a node that is not done, or by none."""
    parts = [_key(path[:depth], path[depth]) for depth in range(1, len(path))]
    above = [run.nodes[part] for part in parts if part in run.nodes]
    return not above or any(node.status != "completed" for node in above)
