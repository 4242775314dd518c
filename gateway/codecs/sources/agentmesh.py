"""The wire of AgentMesh: each result of a graph is `{"Node", "Updates", "Output"}`. Pure.

| event                            | Node      | Updates                                | Output |
|----------------------------------|-----------|----------------------------------------|--------|
| `node.update`                    | node      | updates                                | null   |
| `message.delta`                  | node      | `{"type":"token","content":text}`      | null   |
| `custom`                         | node      | `{"event_type":name,"payload":…}`      | null   |
| `node.completed`                 | node      | updates                                | null   |
| `run.completed`                  | last node | null                                   | output |
| `run.interrupted`                | node      | `{"type":"interrupt",…}`               | null   |
| `run.failed`, `run.cancelled`    | `{"Node":…,"Error":message}`, as an event named `error`     |

The other events have no word. What an agent says that another one called as a tool is for that one
alone, and what a graph says by itself at its end is its output: neither is told as tokens. An agent
that runs alone is its own node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.codecs.codec import Frame
from gateway.log.entry import Entry
from runtime.events import (
    Custom,
    Event,
    MessageDelta,
    NodeCompleted,
    NodeUpdate,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from runtime.graph.stream_event import node_of
from runtime.journal import spoken_below

__all__ = ["NOTHING", "AgentMeshCodec", "Runs"]


@dataclass(frozen=True, slots=True)
class Runs:
    """What runs.

    Attributes:
        name: Of the agent or the graph.
        is_graph: Which of them.
    """

    name: str = ""
    is_graph: bool = False


def _result(node: str, updates: Any = None, output: Any = None) -> Frame:
    return Frame(orjson.dumps({"Node": node, "Updates": updates, "Output": output}))


def _error(node: str, message: str) -> Frame:
    return Frame(orjson.dumps({"Node": node, "Error": message}), "error")


NOTHING = _result("").data
"""A result that says nothing: readers of lines, each of which must be an object, skip it."""

_CANCELLED = {
    "cancel": "the run was cancelled",
    "timeout": "the run was not done in time",
    "disconnect": "the run was cancelled: its client was gone",
    "shutdown": "the run was cancelled: the server stopped",
    "superseded": "the run was cancelled: another one took its place",
}
_CUT = {"shutdown": "the server is stopping; the run goes on when it is back"}


@dataclass(frozen=True, slots=True)
class AgentMeshCodec:
    """Says a run as the results of a graph."""

    def begin(self) -> Runs:
        """Nothing runs yet."""
        return Runs()

    def encode(self, state: Runs, event: Event, entry: Entry) -> tuple[Runs, Sequence[Frame]]:
        """Say an event."""
        if isinstance(event, RunStarted) and len(event.path) <= 1:
            name = event.graph or event.agent or ""
            return Runs(name, is_graph=event.graph is not None), ()
        frame = _said(state, event, entry)
        return state, () if frame is None else (frame,)

    def cut(self, state: Runs, reason: str) -> Sequence[Frame]:
        """Say that the stream ends before its run."""
        return (_error("", _CUT.get(reason, f"the stream was cut: {reason}")),)


def _said(runs: Runs, event: Event, entry: Entry) -> Frame | None:
    own = "" if runs.is_graph else runs.name
    match event:
        case NodeUpdate() | NodeCompleted():
            return _result(node_of(event, event.node) or "", event.updates)
        case MessageDelta():
            return _token(runs, event)
        case Custom():
            told = {"event_type": event.name, "payload": event.payload}
            return _result(node_of(event) or own, told)
        case _:
            return _end(own, event, entry)


def _token(runs: Runs, event: MessageDelta) -> Frame | None:
    node = node_of(event)
    if spoken_below(event.path) or (runs.is_graph and node is None):
        return None
    return _result(node or runs.name, {"type": "token", "content": event.text})


def _end(own: str, event: Event, entry: Entry) -> Frame | None:
    """Say the end of a run, or its pause."""
    match event:
        case RunCompleted():
            output = event.output if event.final_output is None else event.final_output
            return _result(event.last_node or event.last_agent or own, None, output)
        case RunFailed():
            return _error(event.error.node or own, event.error.message)
        case RunCancelled():
            return _error(own, _CANCELLED[event.reason])
        case RunInterrupted():
            asked = {
                "type": "interrupt",
                "reason": event.reason,
                "approvals": event.pending,
                "session_id": entry.session_id,
                "run_id": event.run_id,
            }
            return _result(event.node or own, asked)
        case _:
            return None
