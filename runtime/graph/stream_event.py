"""What a runner's readers see of a session: its events, in a small vocabulary. Pure.

| event                              | type              | node_id | state  | error   |
|------------------------------------|-------------------|---------|--------|---------|
| `node.started`                     | `node_start`      | node    | before |         |
| `node.completed`                   | `node_end`        | node    | after  |         |
| `edge.taken`                       | `edge_transition` | target  |        |         |
| `run.interrupted`                  | `interrupt`       | node    | yes    |         |
| `run.failed`, `run.cancelled`      | `error`           | node    |        | message |
| `run.completed`                    | `completed`       |         | yes    |         |

All others are shown only in modes that ask for them: custom events as `custom`, and the rest under
the names in `OTHER`, or their own. A node in a subgraph is `outer/inner`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import AwareDatetime, Field, SerializerFunctionWrapHandler, model_serializer

from runtime.broker import BrokerEvent
from runtime.events import (
    Custom,
    EdgeTaken,
    Event,
    NodeCompleted,
    NodeStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
)
from runtime.graph.store import Entry
from runtime.messages import Frozen
from runtime.plain import plain

__all__ = [
    "DEFAULT_MODES",
    "ENDS",
    "Mode",
    "StreamEvent",
    "broker_event",
    "node_of",
    "shown",
    "shows",
]

Mode = Literal["values", "updates", "custom", "messages", "debug"]
"""What a reader wants to see.

| mode       | shows                                                               |
|------------|---------------------------------------------------------------------|
| `updates`  | `node_start`, `node_end`, `edge_transition`                         |
| `values`   | `node_end`: the state after each node                               |
| `custom`   | `custom`                                                            |
| `messages` | what models and graphs say, token by token                          |
| `debug`    | everything                                                          |

Whatever the mode, the last event is shown: `interrupt`, `error` or `completed`.
"""

DEFAULT_MODES: tuple[Mode, ...] = ("updates",)

ENDS = frozenset({"interrupt", "error", "completed"})
"""After one of these, a reader's iteration is over."""

OTHER = {
    "tool.started": "tool_call",
    "tool.completed": "tool_result",
    "model.started": "model_call",
    "model.completed": "model_response",
    "checkpoint.saved": "checkpoint",
}

_SHOWN: dict[str, frozenset[str]] = {
    "updates": frozenset({"node_start", "node_end", "edge_transition"}),
    "values": frozenset({"node_end"}),
    "custom": frozenset({"custom"}),
    "messages": frozenset({"message.started", "message.delta", "message.completed"}),
}


class StreamEvent(Frozen):
    """One event of a session as readers see it. In its JSON, what is empty is left out.

    Attributes:
        type: What happened.
        node_id: Where.
        state: A snapshot of the state, where it is known.
        error: What went wrong, of an `error`.
        timestamp: When it happened.
        data: What a type without a row in the table above says besides.
        seq: Its number in the session's log; not part of the JSON.
        session_id: The session; not part of the JSON.
        run_id: The run; not part of the JSON.
        event: The event itself, as the runtime reported it; not part of the JSON.
    """

    type: str
    node_id: str | None = None
    state: Mapping[str, Any] | None = None
    error: str | None = None
    timestamp: AwareDatetime
    data: Any = None
    seq: int = Field(default=0, exclude=True)
    session_id: str = Field(default="", exclude=True)
    run_id: str | None = Field(default=None, exclude=True)
    event: Any = Field(default=None, exclude=True, repr=False)

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = rest(self)
        return {
            name: value
            for name, value in fields.items()
            if value or (name == "data" and value is not None)
        }


def shown(session_id: str, entry: Entry) -> StreamEvent:
    """Return an entry of a session's log as its readers see it."""
    event = entry.event
    kind, node, state, error, data = _parts(event)
    return StreamEvent(
        type=kind,
        node_id=node,
        state=state,
        error=error,
        timestamp=entry.at,
        data=data,
        seq=entry.seq,
        session_id=session_id,
        run_id=event.run_id,
        event=event,
    )


def node_of(event: Event, node: str | None = None) -> str | None:
    """Return the node that an event is about, with the nodes that it is inside of.

    Args:
        event: What happened.
        node: The node that it names itself, if it does.
    """
    # After the graph's own name, a path has nodes and what runs in them by turns.
    inside = [part for part in event.path[1::2] if ":" not in part]
    return "/".join([*inside, node] if node else inside) or None


_Parts = tuple[str, str | None, Any, str | None, Any]


def _parts(event: Event) -> _Parts:
    """Return type, node, state, error and data."""
    state = getattr(event, "state", None)
    parts: _Parts
    match event:
        case NodeStarted():
            parts = "node_start", node_of(event, event.node), _copy(state), None, None
        case NodeCompleted():
            parts = "node_end", node_of(event, event.node), _copy(state), None, None
        case EdgeTaken():
            parts = "edge_transition", node_of(event, event.target), None, None, None
        case RunInterrupted():
            parts = "interrupt", event.node, _copy(state), None, None
        case RunCompleted():
            parts = "completed", None, _copy(state), None, None
        case RunFailed():
            parts = "error", event.error.node, None, event.error.message, None
        case RunCancelled():
            late = event.reason == "timeout"
            said = "the run was not done in time" if late else "the run was cancelled"
            parts = "error", None, None, said, None
        case Custom():
            data = {"name": event.name, "payload": _copy(event.payload)}
            parts = "custom", node_of(event), None, None, data
        case _:
            node = node_of(event, getattr(event, "node", None))
            kind = OTHER.get(event.type, event.type)
            parts = kind, node, None, None, plain(event, "an event")
    return parts


def _copy(value: Any) -> Any:
    """Return a snapshot that nobody else can change."""
    return None if value is None else plain(value, "a state")


def shows(event: StreamEvent, modes: Collection[Mode]) -> bool:
    """Tell whether a reader with these modes sees an event."""
    if event.type in ENDS or "debug" in modes:
        return True
    return any(event.type in _SHOWN[mode] for mode in modes)


def broker_event(event: StreamEvent) -> BrokerEvent:
    """Return an event for listeners: a custom one under its own name, others as they are."""
    if event.type != "custom":
        return BrokerEvent(type=event.type, data=event.model_dump(mode="json"))
    name = str(event.data["name"])
    for mark in "\r\n\0":
        name = name.replace(mark, " ")
    return BrokerEvent(type=name, data=event.data["payload"])
