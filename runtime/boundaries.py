"""What a run has opened and not yet closed, and the events that close it. Pure.

| opened by            | closed by                                                 |
|----------------------|-----------------------------------------------------------|
| `message.started`    | `message.completed` (with the text so far, `incomplete`)  |
| `reasoning.started`  | `reasoning.completed` (with the text so far)              |
| `tool_call.started`  | `tool_call.ready`                                         |
| `tool.started`       | `tool.completed`, `tool.failed`, `tool.unknown_outcome`   |
| `approval.requested` | `approval.resolved`                                       |
| `node.started`       | `node.completed`, `node.failed`                           |
| `superstep.started`  | `superstep.completed`                                     |
| `agent.started`      | `agent.completed`                                         |

The runtime uses it when a run fails or is cancelled; the gateway when a run was stopped from
outside or died with its process. Both therefore close in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Generic, TypeVar

from runtime.events import (
    AgentCompleted,
    AgentStarted,
    ApprovalRequested,
    ApprovalResolved,
    ErrorInfo,
    Event,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    SuperstepCompleted,
    SuperstepStarted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)

__all__ = ["Boundaries"]


_Opening = TypeVar("_Opening", MessageStarted, ReasoningStarted, ToolCallStarted)


@dataclass(slots=True)
class _Text(Generic[_Opening]):
    """Something that comes in pieces: what opened it, and the pieces so far."""

    opened: _Opening
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.parts)


_MESSAGE = ("messages", attrgetter("message_id"))
_REASONING = ("reasoning", attrgetter("message_id"))
_TOOL_CALL = ("tool_calls", attrgetter("call_id"))
_TOOL = ("tools", attrgetter("call_id"))
_APPROVAL = ("approvals", attrgetter("approval_id"))
_NODE = ("nodes", attrgetter("path", "node"))
_SUPERSTEP = ("supersteps", attrgetter("path", "index"))
_AGENT = ("agents", attrgetter("path", "agent"))

# Looked up by class, because every event of every run is looked up.
_OPENS: dict[type[Any], tuple[str, Callable[[Any], Any]]] = {
    MessageStarted: _MESSAGE,
    ReasoningStarted: _REASONING,
    ToolCallStarted: _TOOL_CALL,
    ToolStarted: _TOOL,
    ApprovalRequested: _APPROVAL,
    NodeStarted: _NODE,
    SuperstepStarted: _SUPERSTEP,
    AgentStarted: _AGENT,
}
_CLOSES: dict[type[Any], tuple[str, Callable[[Any], Any]]] = {
    MessageCompleted: _MESSAGE,
    ReasoningCompleted: _REASONING,
    ToolCallReady: _TOOL_CALL,
    ToolCompleted: _TOOL,
    ToolFailedEvent: _TOOL,
    ToolUnknownOutcome: _TOOL,
    ApprovalResolved: _APPROVAL,
    NodeCompleted: _NODE,
    NodeFailed: _NODE,
    SuperstepCompleted: _SUPERSTEP,
    AgentCompleted: _AGENT,
}
_IN_PIECES: set[type[Any]] = {MessageStarted, ReasoningStarted, ToolCallStarted}
_GOES_ON: dict[type[Any], tuple[str, Callable[[Any], Any], Callable[[Any], str]]] = {
    MessageDelta: (*_MESSAGE, attrgetter("text")),
    ReasoningDelta: (*_REASONING, attrgetter("text")),
    ToolCallDelta: (*_TOOL_CALL, attrgetter("arguments")),
}


class Boundaries:
    """A fold over the events of one run. `note` each event; `closing` gives what is missing."""

    def __init__(self) -> None:
        self.messages: dict[str, _Text[MessageStarted]] = {}
        self.reasoning: dict[str, _Text[ReasoningStarted]] = {}
        self.tool_calls: dict[str, _Text[ToolCallStarted]] = {}
        self.tools: dict[str, ToolStarted] = {}
        self.approvals: dict[str, ApprovalRequested] = {}
        self.nodes: dict[tuple[tuple[str, ...], str], NodeStarted] = {}
        self.supersteps: dict[tuple[tuple[str, ...], int], SuperstepStarted] = {}
        self.agents: dict[tuple[tuple[str, ...], str], AgentStarted] = {}

    def note(self, event: Event) -> None:
        """Take one event of the run into account."""
        kind: type[Any] = event.__class__
        if (opening := _OPENS.get(kind)) is not None:
            what, key = opening
            said: Any = event
            getattr(self, what)[key(event)] = _Text(said) if kind in _IN_PIECES else event
        elif (closing := _CLOSES.get(kind)) is not None:
            if not getattr(event, "will_retry", False):  # what is tried again stays open
                what, key = closing
                getattr(self, what).pop(key(event), None)
        elif (going_on := _GOES_ON.get(kind)) is not None:
            what, key, piece = going_on
            if (text := getattr(self, what).get(key(event))) is not None:
                text.parts.append(piece(event))

    def closing(self, error: ErrorInfo) -> list[Event]:
        """Return the events that close all that is open because the run ends for `error`.

        A partial message stays in the history, marked `incomplete`.
        """
        tools = [
            ToolFailedEvent(
                run_id=tool.run_id,
                path=tool.path,
                call_id=tool.call_id,
                name=tool.name,
                error=error,
            )
            for tool in self.tools.values()
        ]
        approvals = [
            ApprovalResolved(
                run_id=approval.run_id,
                path=approval.path,
                approval_id=approval.approval_id,
                decision="expired",
                message=error.message,
            )
            for approval in self.approvals.values()
        ]
        speech = self._closing_speech(superseded=False)
        return [*speech, *tools, *approvals, *self._closing_work(error)]

    def superseding(self, error: ErrorInfo) -> list[Event]:
        """Return the events that close what a dead attempt had open, for the next attempt.

        Half-said messages are marked `superseded`: they will be said anew. Tools that had started
        and approvals stay open: the next attempt, or a human, settles them.
        """
        return [*self._closing_speech(superseded=True), *self._closing_work(error)]

    def _closing_speech(self, *, superseded: bool) -> list[Event]:
        reasoning = [
            ReasoningCompleted(
                run_id=said.opened.run_id,
                path=said.opened.path,
                message_id=message_id,
                text=said.text,
            )
            for message_id, said in self.reasoning.items()
        ]
        calls = [
            ToolCallReady(
                run_id=call.opened.run_id,
                path=call.opened.path,
                call_id=call_id,
                name=call.opened.name,
                arguments=call.text,
            )
            for call_id, call in self.tool_calls.items()
        ]
        messages = [
            MessageCompleted(
                run_id=said.opened.run_id,
                path=said.opened.path,
                message_id=message_id,
                text=said.text,
                incomplete=True,
                superseded=superseded or None,
            )
            for message_id, said in self.messages.items()
        ]
        return [*reasoning, *calls, *messages]

    def _closing_work(self, error: ErrorInfo) -> list[Event]:
        nodes = [
            NodeFailed(
                run_id=node.run_id, path=node.path, node=node.node, kind=node.kind, error=error
            )
            for node in reversed(self.nodes.values())
        ]
        supersteps = [
            SuperstepCompleted(
                run_id=step.run_id, path=step.path, index=step.index, nodes=step.nodes
            )
            for step in reversed(self.supersteps.values())
        ]
        agents = [
            AgentCompleted(run_id=agent.run_id, path=agent.path, agent=agent.agent, step=agent.step)
            for agent in reversed(self.agents.values())
        ]
        return [*nodes, *supersteps, *agents]
