"""What an agent and its model report."""

from __future__ import annotations

from typing import Literal

from runtime.events.base import ErrorInfo, RunEvent
from runtime.messages import ToolCall, Usage

__all__ = [
    "AgentCompleted",
    "AgentHandoff",
    "AgentStarted",
    "MessageCompleted",
    "MessageDelta",
    "MessageStarted",
    "ModelCompleted",
    "ModelFailed",
    "ModelRetrying",
    "ModelStarted",
    "ReasoningCompleted",
    "ReasoningDelta",
    "ReasoningStarted",
]


class AgentStarted(RunEvent):
    """An agent inside a graph, or below another agent, begins to work."""

    type: Literal["agent.started"] = "agent.started"
    agent: str
    step: str | None = None


class AgentCompleted(RunEvent):
    """That agent is done."""

    type: Literal["agent.completed"] = "agent.completed"
    agent: str
    step: str | None = None
    output: str | None = None


class AgentHandoff(RunEvent):
    """One agent hands the conversation to another, or was `denied` to."""

    type: Literal["agent.handoff"] = "agent.handoff"
    source: str
    target: str
    denied: bool | None = None


class ModelStarted(RunEvent):
    """A model call begins; `turn` counts the model calls of a run from 1."""

    type: Literal["model.started"] = "model.started"
    turn: int
    model: str
    message_count: int


class ModelCompleted(RunEvent):
    """A model call is done: what it said is final, and a crash after this does not repeat it."""

    type: Literal["model.completed"] = "model.completed"
    message_id: str | None = None
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    finish_reason: str | None = None
    model: str | None = None
    response_id: str | None = None
    turn: int


class ModelFailed(RunEvent):
    """A model call failed; with `will_retry` it is made again."""

    type: Literal["model.failed"] = "model.failed"
    error: ErrorInfo
    will_retry: bool


class ModelRetrying(RunEvent):
    """The model call is made again after `delay_ms`; `attempt` is the one that comes, from 2."""

    type: Literal["model.retrying"] = "model.retrying"
    attempt: int
    delay_ms: float
    error: ErrorInfo


class MessageStarted(RunEvent):
    """The model begins to say something."""

    type: Literal["message.started"] = "message.started"
    message_id: str
    role: Literal["assistant"] = "assistant"
    agent: str | None = None
    turn: int | None = None


class MessageDelta(RunEvent):
    """The next piece of a message. The pieces, joined, are the message."""

    type: Literal["message.delta"] = "message.delta"
    message_id: str
    text: str


class MessageCompleted(RunEvent):
    """A message is whole, or `incomplete` (it was stopped), or `superseded` (said anew)."""

    type: Literal["message.completed"] = "message.completed"
    message_id: str
    text: str
    incomplete: bool | None = None
    superseded: bool | None = None


class ReasoningStarted(RunEvent):
    """The model begins to show its reasoning."""

    type: Literal["reasoning.started"] = "reasoning.started"
    message_id: str


class ReasoningDelta(RunEvent):
    """The next piece of the reasoning."""

    type: Literal["reasoning.delta"] = "reasoning.delta"
    message_id: str
    text: str


class ReasoningCompleted(RunEvent):
    """The reasoning is whole, or was stopped; `text` is all of it."""

    type: Literal["reasoning.completed"] = "reasoning.completed"
    message_id: str
    text: str
