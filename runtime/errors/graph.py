"""What goes wrong with graphs, and with what is kept of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.errors.base import RuntimeFault

__all__ = [
    "ApprovalRejected",
    "CheckpointError",
    "CheckpointUnknown",
    "CheckpointUnwritable",
    "ConflictingWrites",
    "GraphBuildError",
    "GraphError",
    "NodeError",
    "NodeTimedOut",
    "RouteInvalid",
    "UpdateInvalid",
]


class GraphError(RuntimeFault):
    """Base of what goes wrong with graphs."""

    code = "graph_error"


class GraphBuildError(GraphError):
    """The graph's definition has these `problems`, all of them."""

    code = "graph_invalid"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class UpdateInvalid(GraphError):
    """A node wrote a key that is not declared, or a value that does not fit it."""

    code = "update_invalid"

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"key {key!r}: {problem}")
        self.key = key


class ConflictingWrites(GraphError):
    """Several nodes of one superstep set a key that keeps one value only."""

    code = "conflicting_writes"

    def __init__(self, key: str, nodes: Iterable[str]) -> None:
        self.key = key
        self.nodes = tuple(nodes)
        super().__init__(
            f"key {key!r} was set by {' and '.join(map(repr, self.nodes))} in one superstep; "
            "give it a reducer, or let one of them write it"
        )


class RouteInvalid(GraphError):
    """A node went to a node that it had not declared as a target."""

    code = "route_invalid"

    def __init__(self, node: str, target: str, declared: Iterable[str]) -> None:
        self.node = node
        self.target = target
        known = ", ".join(map(repr, declared)) or "none"
        super().__init__(f"node {node!r} went to {target!r}; its declared targets are: {known}")


class NodeError(GraphError):
    """A node raised. `node` names it, with the subgraphs it is in; `__cause__` is what it raised.

    What the cause says is part of the text only if it is a fault of the runtime: any other text is
    not known to be fit for clients.
    """

    code = "node_failed"

    def __init__(self, node: str, error: BaseException) -> None:
        said = str(error) if isinstance(error, RuntimeFault) else type(error).__name__
        super().__init__(f"node {node!r} failed: {said}")
        self.node = node


class NodeTimedOut(GraphError):
    """The node was not done within its `limit` in seconds."""

    code = "node_timeout"
    retryable = True

    def __init__(self, limit: float) -> None:
        super().__init__(f"it was not done within {limit:g} seconds")
        self.limit = limit


class ApprovalRejected(GraphError):
    """A human did not let `node` run, or nobody answered in time (`decision` is `expired`)."""

    code = "rejected"

    def __init__(self, node: str, message: str | None, decision: str = "rejected") -> None:
        why = "nobody approved it in time" if decision == "expired" else "a human rejected it"
        super().__init__(f"node {node!r} was not run: {why}" + (f": {message}" if message else ""))
        self.node = node
        self.decision = decision


class CheckpointError(RuntimeFault):
    """Base of what goes wrong with checkpoints."""

    code = "checkpoint_error"


class CheckpointUnknown(CheckpointError):
    """There is no such checkpoint, or the session has none from which it could go on."""

    code = "checkpoint_unknown"


class CheckpointUnwritable(CheckpointError):
    """The value of `key` cannot be written as JSON, so the state cannot be kept."""

    code = "checkpoint_unwritable"

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"the value of key {key!r} cannot be written: {problem}")
        self.key = key
