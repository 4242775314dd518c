"""The events that every superstep makes, built without a second look at what they hold.

A graph makes five events for each step of a chain, and checking values that come from this package
took a third of a step's time. The types are the type checker's affair here; tests compare each of
these events with the checked one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from runtime.events import (
    EdgeTaken,
    NodeCompleted,
    NodeStarted,
    SuperstepCompleted,
    SuperstepStarted,
)
from runtime.graph.definition import NodeKind

__all__ = [
    "edge_taken",
    "node_completed",
    "node_started",
    "superstep_completed",
    "superstep_started",
]

Path = tuple[str, ...]

# The descriptors of what a pydantic model consists of: half the time of `object.__setattr__`.
_new = object.__new__
_set_values = BaseModel.__dict__["__dict__"].__set__
_set_said = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__

_SUPERSTEP_STARTED = set(SuperstepStarted.model_fields)
_SUPERSTEP_COMPLETED = set(SuperstepCompleted.model_fields)
_NODE_STARTED = set(NodeStarted.model_fields)
_NODE_COMPLETED = set(NodeCompleted.model_fields)
_EDGE_TAKEN = set(EdgeTaken.model_fields)


def superstep_started(run_id: str, path: Path, index: int, nodes: Path) -> SuperstepStarted:
    """Return the checked event's twin."""
    event = _new(SuperstepStarted)
    _set_values(
        event,
        {
            "run_id": run_id,
            "path": path,
            "type": "superstep.started",
            "index": index,
            "nodes": nodes,
        },
    )
    _set_said(event, _SUPERSTEP_STARTED)
    _set_extra(event, None)
    _set_private(event, None)
    return event


def superstep_completed(run_id: str, path: Path, index: int, nodes: Path) -> SuperstepCompleted:
    """Return the checked event's twin."""
    event = _new(SuperstepCompleted)
    _set_values(
        event,
        {
            "run_id": run_id,
            "path": path,
            "type": "superstep.completed",
            "index": index,
            "nodes": nodes,
        },
    )
    _set_said(event, _SUPERSTEP_COMPLETED)
    _set_extra(event, None)
    _set_private(event, None)
    return event


def node_started(  # noqa: PLR0917 - by place, because names take time
    run_id: str,
    path: Path,
    node: str,
    kind: NodeKind,
    superstep: int,
    agent: str | None,
    state: Mapping[str, Any] | None,
) -> NodeStarted:
    """Return the checked event's twin."""
    event = _new(NodeStarted)
    _set_values(
        event,
        {
            "run_id": run_id,
            "path": path,
            "type": "node.started",
            "node": node,
            "kind": kind,
            "superstep": superstep,
            "agent": agent,
            "state": state,
        },
    )
    _set_said(event, _NODE_STARTED)
    _set_extra(event, None)
    _set_private(event, None)
    return event


def node_completed(  # noqa: PLR0917 - as above
    run_id: str,
    path: Path,
    node: str,
    kind: NodeKind,
    updates: Mapping[str, Any] | None,
    result: Any,
    targets: Path | None,
    state: Mapping[str, Any] | None,
    duration_ms: float,
) -> NodeCompleted:
    """Return the checked event's twin."""
    event = _new(NodeCompleted)
    _set_values(
        event,
        {
            "run_id": run_id,
            "path": path,
            "type": "node.completed",
            "node": node,
            "kind": kind,
            "updates": updates,
            "result": result,
            "targets": targets,
            "state": state,
            "duration_ms": duration_ms,
        },
    )
    _set_said(event, _NODE_COMPLETED)
    _set_extra(event, None)
    _set_private(event, None)
    return event


def edge_taken(run_id: str, path: Path, source: str, target: str) -> EdgeTaken:
    """Return the checked event's twin."""
    event = _new(EdgeTaken)
    _set_values(
        event,
        {
            "run_id": run_id,
            "path": path,
            "type": "edge.taken",
            "source": source,
            "target": target,
        },
    )
    _set_said(event, _EDGE_TAKEN)
    _set_extra(event, None)
    _set_private(event, None)
    return event
