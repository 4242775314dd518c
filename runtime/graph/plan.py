"""What runs next. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from runtime.errors import RouteInvalid
from runtime.graph.command import END
from runtime.graph.definition import NodeSpec
from runtime.graph.view import View

__all__ = ["Outcome", "approval_id", "chosen", "following", "transitions"]

Outcome = tuple[str, tuple[str, ...] | None]
"""A node that is done, and the targets that it chose; None for all that it may go to."""


def chosen(node: NodeSpec, asked: tuple[str, ...] | None, view: View) -> tuple[str, ...] | None:
    """Return the targets that a node chose: by its command, else by its branch.

    Args:
        node: The node.
        asked: The targets of its command.
        view: The state with the node's own writes, for its branch.

    Raises:
        RouteInvalid: If one of them was not declared.
        Exception: Whatever the branch raises.
    """
    if asked is not None:
        return _known(node, asked, node.declared)
    if node.branch is None:
        return None
    choice = node.branch.choose(view)
    names = (choice,) if isinstance(choice, str) else tuple(choice)
    return (*node.targets, *_known(node, names, node.branch.targets))


def _known(node: NodeSpec, targets: tuple[str, ...], declared: tuple[str, ...]) -> tuple[str, ...]:
    for target in targets:
        if target not in declared:
            raise RouteInvalid(node.name, target, declared)
    return targets


def transitions(
    nodes: Mapping[str, NodeSpec], outcomes: Sequence[Outcome]
) -> list[tuple[str, str]]:
    """Return which node leads to which, for nodes in the order of their declaration."""
    edges: list[tuple[str, str]] = []
    for name, targets in outcomes:
        if targets is None:
            edges += nodes[name].edges
        else:
            edges += [(name, target) for target in dict.fromkeys(targets) if target != END]
    return edges


def following(nodes: Mapping[str, NodeSpec], edges: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the nodes of the next superstep, each once, in the order of their declaration."""
    if len(edges) == 1:
        return (edges[0][1],)
    targets = {target for _, target in edges}
    return tuple(sorted(targets, key=lambda name: nodes[name].place))


def approval_id(run_id: str, path: Sequence[str], superstep: int, node: str, count: int) -> str:
    """Return the id of a question: the same whenever the run comes to this place again.

    Args:
        run_id: The run.
        path: The graph's path.
        superstep: The superstep, from 1.
        node: Who asks.
        count: 0 for the question before the node; from 1 for those that it asks itself.
    """
    place = "\n".join([run_id, *path, str(superstep), node, str(count)])
    return f"apr_{hashlib.sha256(place.encode()).hexdigest()[:24]}"
