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

from dataclasses import dataclass, field
from typing import Generic, TypeVar

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

    def note(self, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915 - one table, read as one
        """Take one event of the run into account."""
        match event:
            case MessageStarted():
                self.messages[event.message_id] = _Text(event)
            case MessageDelta():
                if message := self.messages.get(event.message_id):
                    message.parts.append(event.text)
            case MessageCompleted():
                self.messages.pop(event.message_id, None)
            case ReasoningStarted():
                self.reasoning[event.message_id] = _Text(event)
            case ReasoningDelta():
                if thought := self.reasoning.get(event.message_id):
                    thought.parts.append(event.text)
            case ReasoningCompleted():
                self.reasoning.pop(event.message_id, None)
            case ToolCallStarted():
                self.tool_calls[event.call_id] = _Text(event)
            case ToolCallDelta():
                if call := self.tool_calls.get(event.call_id):
                    call.parts.append(event.arguments)
            case ToolCallReady():
                self.tool_calls.pop(event.call_id, None)
            case ToolStarted():
                self.tools[event.call_id] = event
            case ToolFailedEvent():
                if not event.will_retry:
                    self.tools.pop(event.call_id, None)
            case ToolCompleted() | ToolUnknownOutcome():
                self.tools.pop(event.call_id, None)
            case ApprovalRequested():
                self.approvals[event.approval_id] = event
            case ApprovalResolved():
                self.approvals.pop(event.approval_id, None)
            case NodeStarted():
                self.nodes[event.path, event.node] = event
            case NodeCompleted():
                self.nodes.pop((event.path, event.node), None)
            case NodeFailed():
                if not event.will_retry:
                    self.nodes.pop((event.path, event.node), None)
            case SuperstepStarted():
                self.supersteps[event.path, event.index] = event
            case SuperstepCompleted():
                self.supersteps.pop((event.path, event.index), None)
            case AgentStarted():
                self.agents[event.path, event.agent] = event
            case AgentCompleted():
                self.agents.pop((event.path, event.agent), None)
            case _:
                pass

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
