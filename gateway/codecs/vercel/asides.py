"""What is beside the conversation, as data parts: nodes, agents that were called as tools, customs.

    part                      id                    data
    ────                      ──                    ────
    data-node                 the node's path       node, path, status, superstep?, updates?, error?, durationMs?
    data-subagent             the agent's path      agent, path, toolCallId?, status, output?
    data-subagent-delta       (transient)           path, messageId, delta
    data-subagent-message     the message           path, messageId, text, incomplete?
    data-subagent-tool        its path and call     path, toolCallId, toolName?, status, input?, output?, errorText?
    data-handoff              (each is kept)        source, target, denied?
    data-queue                (transient)           position
    data-superseded           (each is kept)        ids
    data-<name>               the payload's `id`    the payload of a custom event

A part with an id takes the place of the one before; what is transient is shown once and not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.codecs.codec import Frame
from gateway.codecs.vercel.chunks import data_part, read_input
from runtime.events import (
    AgentCompleted,
    AgentHandoff,
    AgentStarted,
    Custom,
    Event,
    InputQueued,
    MessageCompleted,
    MessageDelta,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.history import UNKNOWN_OUTCOME

__all__ = ["Outcome", "aside", "below", "superseded"]

INTERRUPTED = "interrupted"
"""The code with which a graph closes a node that asks in the middle of its work."""

NodeEvent = NodeStarted | NodeUpdate | NodeCompleted | NodeFailed
Outcome = ToolCompleted | ToolFailedEvent | ToolUnknownOutcome


def aside(event: Event) -> Sequence[Frame]:
    """Say what is never part of the conversation, whoever says it."""
    match event:
        case Custom():
            payload = event.payload
            key = payload.get("id") if isinstance(payload, Mapping) else None
            return (data_part(event.name, payload, key=key if isinstance(key, str) else None),)
        case NodeStarted() | NodeUpdate() | NodeCompleted() | NodeFailed():
            path = (*event.path, event.node)
            said = _given(node=event.node, path=path, **_node(event))
            return (data_part("node", said, key="/".join(path)),)
        case AgentHandoff():
            said = _given(source=event.source, target=event.target, denied=event.denied)
            return (data_part("handoff", said),)
        case InputQueued():
            return (data_part("queue", {"position": event.position}, transient=True),)
        case _:
            return ()


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _node(event: NodeEvent) -> dict[str, Any]:
    match event:
        case NodeStarted():
            return {"status": "running", "superstep": event.superstep}
        case NodeUpdate():
            return {"status": "running", "updates": event.updates}
        case NodeCompleted():
            return {"status": "completed", "durationMs": event.duration_ms}
        case NodeFailed(will_retry=True):
            return {"status": "running", "error": event.error.message}
        case NodeFailed() if event.error.code == INTERRUPTED:
            return {"status": "interrupted"}
        case NodeFailed():
            return {"status": "failed", "error": event.error.message}


def below(event: Event) -> Sequence[Frame]:
    """Say what an agent does that was called as a tool: shown, and no part of the conversation."""
    path = event.path
    place = "/".join(path)
    match event:
        case AgentStarted():
            said = _given(
                agent=event.agent, path=path, toolCallId=_called_by(path), status="running"
            )
            return (data_part("subagent", said, key=place),)
        case AgentCompleted():
            said = _given(
                agent=event.agent,
                path=path,
                toolCallId=_called_by(path),
                status="completed",
                output=event.output,
            )
            return (data_part("subagent", said, key=place),)
        case MessageDelta():
            piece = {"path": path, "messageId": event.message_id, "delta": event.text}
            return (data_part("subagent-delta", piece, transient=True),)
        case MessageCompleted():
            said = _given(
                path=path,
                messageId=event.message_id,
                text=event.text,
                incomplete=event.incomplete,
            )
            return (data_part("subagent-message", said, key=event.message_id),)
        case ToolStarted() | ToolCompleted() | ToolFailedEvent() | ToolUnknownOutcome():
            said = _given(path=path, toolCallId=event.call_id, toolName=event.name, **_tool(event))
            return (data_part("subagent-tool", said, key=f"{place}/{event.call_id}"),)
        case _:
            return ()


def _called_by(path: Sequence[str]) -> str | None:
    """Return the call that an agent answers, if it was called as a tool: `call_id:name`."""
    call_id, colon, _ = path[-1].partition(":")
    return call_id if colon else None


def _tool(event: ToolStarted | Outcome) -> dict[str, Any]:
    match event:
        case ToolStarted():
            return {"status": "running", "input": read_input(event.arguments).value}
        case ToolCompleted():
            return {"status": "completed", "output": event.result}
        case ToolFailedEvent():
            status = "running" if event.will_retry else "failed"
            return {"status": status, "errorText": event.error.message}
        case ToolUnknownOutcome():
            return {"status": "failed", "errorText": UNKNOWN_OUTCOME.message}


def superseded(ids: Sequence[str]) -> Frame:
    """Say that parts already sent do not count any more: they are said anew."""
    return data_part("superseded", {"ids": ids})
