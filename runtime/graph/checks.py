"""What can be wrong with a graph. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.graph.command import END
from runtime.graph.definition import NodeSpec

__all__ = ["problems_of"]


def problems_of(nodes: Mapping[str, NodeSpec], start: Sequence[str]) -> list[str]:
    """Return what is wrong with the nodes and the ways between them, in words."""
    problems = [problem for spec in nodes.values() for problem in _of_node(spec, nodes)]
    if not start:
        problems.append("there is no start: name the first node with start()")
    problems += [f"the start {name!r} is no node" for name in start if name not in nodes]
    if start and not problems:
        reached = _reached(nodes, start)
        problems += [f"node {name!r} cannot be reached" for name in nodes if name not in reached]
        if END not in reached:
            problems.append("END cannot be reached: the graph would never be done")
    return problems


def _of_node(spec: NodeSpec, nodes: Mapping[str, NodeSpec]) -> list[str]:
    name = spec.name
    problems = []
    if not name or name == END or ":" in name or "/" in name:
        problems.append(f"{name!r} is no name for a node: it may not be empty or hold ':' or '/'")
    if not spec.declared:
        problems.append(f"node {name!r} has no target; the last one goes to END")
    problems += [
        f"node {name!r} goes to {target!r}, which is no node"
        for target in spec.declared
        if target != END and target not in nodes
    ]
    if spec.timeout is not None and spec.timeout <= 0:
        problems.append(f"node {name!r}: its timeout must be positive")
    return problems


def _reached(nodes: Mapping[str, NodeSpec], start: Sequence[str]) -> set[str]:
    reached: set[str] = set()
    ahead = list(start)
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += nodes[name].declared if name in nodes else ()
    return reached
