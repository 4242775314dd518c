"""How the writes of one superstep become the next state. Pure.

The order is that in which the nodes were declared, whichever of them was done first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.errors import ConflictingWrites, UpdateInvalid
from runtime.graph.command import Writes
from runtime.graph.keys import Key

__all__ = ["merged"]


def merged(values: Mapping[str, Any], steps: Sequence[tuple[str, Writes]]) -> Mapping[str, Any]:
    """Return the state after these nodes.

    Args:
        values: The state before, by key name.
        steps: Nodes and what they wrote, in the order of their declaration.

    Raises:
        ConflictingWrites: If several nodes set a key that keeps one value.
        UpdateInvalid: If a reducer fails.
    """
    state = dict(values)
    items: dict[str, list[Any]] = {}
    setters: dict[str, str] = {}
    for node, writes in steps:
        for key, value in writes.items():
            name = key.name
            if key.replaces:
                if setters.setdefault(name, node) is not node:
                    raise ConflictingWrites(name, [n for n, w in steps if key in w])
                state[name] = value
            elif key.reducer is not None:
                state[name] = _reduced(key, state.get(name, key.default), value)
            elif name in items:
                items[name].extend(value)
            else:
                items[name] = list(value)
    for name, more in items.items():
        state[name] = (*state.get(name, ()), *more)
    return state


def _reduced(key: Key[Any], value: Any, written: Any) -> Any:
    assert key.reducer is not None  # noqa: S101 - for the type checker
    try:
        return key.reducer(key.read(value), written)
    except Exception as error:
        raise UpdateInvalid(key.name, f"its reducer failed: {type(error).__name__}") from error
