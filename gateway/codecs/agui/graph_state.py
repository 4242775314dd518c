"""A graph's state, as snapshots and as JSON Patch (RFC 6902). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
from ag_ui.core import BaseEvent, StateDeltaEvent, StateSnapshotEvent
from jsonpatch import make_patch

from gateway.codecs.agui.state import AguiState
from runtime.events import Event, NodeCompleted, NodeStarted, RunCompleted, RunInterrupted

__all__ = ["node_began", "node_changed", "note", "show"]


def show(state: AguiState, graph: Mapping[str, Any]) -> tuple[AguiState, list[BaseEvent]]:
    """Tell the client the whole state of a graph, by the shorter of snapshot and patch."""
    return _show(state, orjson.dumps(graph))


def _show(state: AguiState, whole: bytes) -> tuple[AguiState, list[BaseEvent]]:
    if state.graph is None:
        return replace(state, graph=whole), [StateSnapshotEvent(snapshot=orjson.loads(whole))]
    if whole == state.graph:
        return state, []
    patch = make_patch(orjson.loads(state.graph), orjson.loads(whole)).patch
    state = replace(state, graph=whole)
    if not patch:  # the same in another order
        return state, []
    if len(orjson.dumps(patch)) > len(whole):
        return state, [StateSnapshotEvent(snapshot=orjson.loads(whole))]
    return state, [StateDeltaEvent.model_validate({"delta": patch})]


def node_began(state: AguiState, graph: Mapping[str, Any]) -> tuple[AguiState, list[BaseEvent]]:
    """Take the state that a superstep begins with: all that was committed before."""
    return show(replace(state, base=orjson.dumps(graph)), graph)


def node_changed(state: AguiState, graph: Mapping[str, Any]) -> tuple[AguiState, list[BaseEvent]]:
    """Take the state after one node alone: nodes beside it may have changed other keys of it."""
    base: dict[str, Any] = orjson.loads(state.base or b"{}")
    shown: dict[str, Any] = orjson.loads(state.graph or b"{}")
    for key, value in graph.items():
        if key not in base or _differs(base[key], value):
            shown[key] = _beside(base.get(key), value, shown.get(key))
    return _show(state, orjson.dumps(shown))


def _differs(before: Any, after: Any) -> bool:
    """Tell whether two values are not the same, where 1 is neither 1.0 nor true."""
    return orjson.dumps(before) != orjson.dumps(after)


def _beside(before: Any, after: Any, shown: Any) -> Any:
    """Return a key's value after a node that others work beside: what they appended stays."""
    if not (isinstance(before, list) and isinstance(after, list) and isinstance(shown, list)):
        return after
    if _differs(before, after[: len(before)]) or _differs(before, shown[: len(before)]):
        return after
    return shown + after[len(before) :]


def note(state: AguiState, event: Event) -> AguiState:
    """Take what an event says about the state of the run's own graph, and tell nobody."""
    match event:
        case NodeStarted(state=graph) if graph is not None and len(event.path) <= 1:
            return node_began(state, graph)[0]
        case NodeCompleted(state=graph) if graph is not None and len(event.path) <= 1:
            return node_changed(state, graph)[0]
        case RunCompleted(state=graph) | RunInterrupted(state=graph) if graph is not None:
            return show(state, graph)[0]
        case _:
            return state
