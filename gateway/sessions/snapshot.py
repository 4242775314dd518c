"""A session as clients see it at one position: the shape of the snapshot. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from gateway.log.engine import SessionStatus
from runtime.events import ErrorInfo
from runtime.messages import Message, Usage

__all__ = [
    "ApprovalView",
    "MessageView",
    "NodeStatus",
    "NodeView",
    "OpenCall",
    "OpenText",
    "OpenView",
    "QueueView",
    "RunKind",
    "RunStatus",
    "RunView",
    "Snapshot",
    "ToolCallStatus",
    "ToolCallView",
]

RunStatus = Literal["queued", "running", "interrupted", "completed", "failed", "cancelled"]
RunKind = Literal["agent", "graph"]
NodeStatus = Literal["running", "interrupted", "completed", "failed", "skipped"]
ToolCallStatus = Literal["ready", "running", "completed", "failed", "unknown"]


class _View(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ToolCallView(_View):
    """A tool call of a finished model step, and what came of it."""

    call_id: str
    name: str
    arguments: str
    status: ToolCallStatus = "ready"
    result: Any = None
    error: ErrorInfo | None = None
    progress: Any = None


class MessageView(_View):
    """A message of the conversation.

    Attributes:
        run_id: The run that it belongs to; absent where it was said before, elsewhere.
        turn: Which model call of its run said it, from 1; absent for user messages.
        incomplete: It was stopped in the middle.
        superseded: It does not count: the step was cut off, and done anew.
        tool_calls: What the model asked for in this step.
        path: Who said it, where that is not the run's own agent: a node's agent, or one that was
            called as a tool.
    """

    message_id: str
    role: Literal["user", "assistant"]
    text: str
    run_id: str | None = None
    agent: str | None = None
    turn: int | None = None
    incomplete: bool | None = None
    superseded: bool | None = None
    tool_calls: list[ToolCallView] = []
    path: tuple[str, ...] | None = None


class NodeView(_View):
    """A node of a graph, the last time that it ran in this run.

    Attributes:
        path: The path of its graph; a graph within a graph has a longer one.
        status: `interrupted` waits for a human; `skipped` did so when the run ended.
        superstep: In which step; nodes of one step work side by side.
        times: In how many supersteps it has been.
        progress: Its latest `node.update`, while it is not done.
        duration_ms: How long it took, once it is done.
    """

    node: str
    path: tuple[str, ...]
    status: NodeStatus
    superstep: int | None = None
    times: int = 1
    progress: Mapping[str, Any] | None = None
    error: ErrorInfo | None = None
    duration_ms: float | None = None


class RunView(_View):
    """The active run, or the last one.

    Attributes:
        agent: The agent or the graph.
        stopping: It ends after its current step.
        nodes: For a graph, or an agent that has called one: the nodes that have begun, or wait
            for a human, in that order.
    """

    run_id: str
    status: RunStatus
    attempt: int
    agent: str
    error: ErrorInfo | None = None
    stopping: bool | None = None
    nodes: list[NodeView] | None = None


class QueueView(_View):
    """An input that waits; `position` counts from 1.

    Attributes:
        policy: `enqueue` waits for its turn, `steer` for the next step of the active run; once that
            has ended, it waits for its turn, too.
    """

    run_id: str
    command_id: str
    message: Message
    position: int
    policy: Literal["enqueue", "steer"] = "enqueue"


class OpenText(_View):
    """A text that is being streamed right now: all of it so far."""

    message_id: str
    run_id: str
    role: Literal["assistant"] = "assistant"
    text: str
    agent: str | None = None
    turn: int | None = None
    path: tuple[str, ...] | None = None


class OpenCall(_View):
    """A tool call whose arguments are being streamed right now."""

    call_id: str
    name: str
    arguments: str
    path: tuple[str, ...] | None = None


class OpenView(_View):
    """What is being streamed right now; `tools` are running ones, by `call_id`."""

    messages: list[OpenText] = []
    reasoning: list[OpenText] = []
    tool_calls: list[OpenCall] = []
    tools: list[str] = []
    nodes: list[str] = []


class ApprovalView(_View):
    """A question that waits for a human, about a tool call or a graph's node.

    Attributes:
        wants: `result` where a tool of the client's was called, and what came of it is waited for.
    """

    approval_id: str
    run_id: str
    path: tuple[str, ...] | None = None
    call_id: str | None = None
    node: str | None = None
    tool: str | None = None
    arguments: str | None = None
    reason: str | None = None
    expires_at: str | None = None
    wants: Literal["result"] | None = None


class Snapshot(_View):
    """A session at `cursor`: the fold of its log up to there."""

    session_id: str
    agent: str
    status: SessionStatus
    run: RunView | None
    queue: list[QueueView]
    messages: list[MessageView]
    open: OpenView
    approvals: list[ApprovalView]
    usage: Usage | None
    cursor: str
    created_at: str
    metadata: Mapping[str, Any]

    def json_line(self) -> bytes:
        """Return it as one line of JSON: what `as_json` holds, made many times faster."""
        line = self.model_dump_json(exclude_none=True).encode()
        absent = b"".join(
            b',"%b":null' % name.encode()
            for name in ("run", "usage")
            if getattr(self, name) is None
        )
        return line[:-1] + absent + b"}"

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON data, without what is absent."""
        return self.model_dump(mode="json", exclude_none=True) | {
            "run": self.run.model_dump(mode="json", exclude_none=True) if self.run else None,
            "usage": self.usage.model_dump(mode="json", exclude_none=True) if self.usage else None,
        }
