"""Drawing a graph in the language of Mermaid. Pure."""

from __future__ import annotations

from runtime.graph.command import END
from runtime.graph.definition import Definition, NodeSpec

__all__ = ["mermaid"]


def mermaid(definition: Definition) -> str:
    """Return a flow chart: nodes that ask a human are hexagons, conditional edges are dotted."""
    ids = {name: f"n{place}" for place, name in enumerate(definition.nodes)} | {END: "finish"}
    lines = ["flowchart TD", "    start([start])"]
    lines += [f"    {ids[spec.name]}{_shape(spec)}" for spec in definition.nodes.values()]
    lines.append("    finish([end])")
    lines += [f"    start --> {ids[name]}" for name in definition.start]
    for spec in definition.nodes.values():
        for target in spec.declared:
            arrow = "-->" if target in spec.targets else "-.->"
            lines.append(f"    {ids[spec.name]} {arrow} {ids[target]}")
    return "\n".join(lines) + "\n"


def _shape(spec: NodeSpec) -> str:
    label = '"' + spec.name.replace('"', "#quot;") + '"'
    if spec.guard is not False:
        return "{{" + label + "}}"
    return f"[[{label}]]" if spec.agent or spec.nested else f"[{label}]"
