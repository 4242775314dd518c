"""What a graph run reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from runtime.events.base import ErrorInfo, RunEvent

__all__ = [
    "EdgeTaken",
    "NodeCompleted",
    "NodeFailed",
    "NodeStarted",
    "NodeUpdate",
    "SuperstepCompleted",
    "SuperstepStarted",
]


NodeKind = Literal["node", "flow_step"]


class SuperstepStarted(RunEvent):
    """The graph runs these nodes at the same time; `index` counts the steps of a run from 1."""

    type: Literal["superstep.started"] = "superstep.started"
    index: int
    nodes: tuple[str, ...]


class SuperstepCompleted(RunEvent):
    """All nodes of the step are done, or the run has ended."""

    type: Literal["superstep.completed"] = "superstep.completed"
    index: int
    nodes: tuple[str, ...]


class NodeStarted(RunEvent):
    """A node of a graph begins to work."""

    type: Literal["node.started"] = "node.started"
    node: str
    kind: NodeKind = "node"
    superstep: int | None = None
    agent: str | None = None
    state: Mapping[str, Any] | None = None


class NodeUpdate(RunEvent):
    """A node reports changes of the state while it works."""

    type: Literal["node.update"] = "node.update"
    node: str
    updates: Mapping[str, Any]


class NodeCompleted(RunEvent):
    """A node is done; `duration_ms` is the time that it took.

    `targets` names the nodes that it chose to go to; without them, it goes to all it may go to.
    """

    type: Literal["node.completed"] = "node.completed"
    node: str
    kind: NodeKind = "node"
    updates: Mapping[str, Any] | None = None
    result: Any = None
    targets: tuple[str, ...] | None = None
    state: Mapping[str, Any] | None = None
    duration_ms: float


class NodeFailed(RunEvent):
    """A node failed. With `will_retry` it stays open, because it is run again."""

    type: Literal["node.failed"] = "node.failed"
    node: str
    kind: NodeKind = "node"
    error: ErrorInfo
    will_retry: bool = False


class EdgeTaken(RunEvent):
    """The graph goes from one node to the next; no `source` means from its start."""

    type: Literal["edge.taken"] = "edge.taken"
    source: str | None = None
    target: str
