"""Tool calls as the model writes them, and tools as they run."""

from __future__ import annotations

from typing import Any, Literal

from runtime.events.base import ErrorInfo, RunEvent

__all__ = [
    "ToolCallDelta",
    "ToolCallReady",
    "ToolCallStarted",
    "ToolCompleted",
    "ToolFailedEvent",
    "ToolProgress",
    "ToolStarted",
    "ToolUnknownOutcome",
]


class ToolCallStarted(RunEvent):
    """The model begins to write a tool call; `index` is its place among the calls of one answer."""

    type: Literal["tool_call.started"] = "tool_call.started"
    call_id: str
    name: str
    message_id: str | None = None
    index: int | None = None


class ToolCallDelta(RunEvent):
    """The next piece of the arguments, as the model writes them."""

    type: Literal["tool_call.delta"] = "tool_call.delta"
    call_id: str
    arguments: str


class ToolCallReady(RunEvent):
    """The arguments are complete; nothing was executed yet."""

    type: Literal["tool_call.ready"] = "tool_call.ready"
    call_id: str
    name: str
    arguments: str


class ToolStarted(RunEvent):
    """Committed before the side effect, so that a crash leaves a trace of it."""

    type: Literal["tool.started"] = "tool.started"
    call_id: str
    name: str
    arguments: str
    idempotency_key: str


class ToolProgress(RunEvent):
    """A running tool reports how far it is; `data` is any JSON value."""

    type: Literal["tool.progress"] = "tool.progress"
    call_id: str
    data: Any = None


class ToolCompleted(RunEvent):
    """A tool is done and `result` goes to the model; `duration_ms` is the time that it took."""

    type: Literal["tool.completed"] = "tool.completed"
    call_id: str
    name: str
    result: Any = None
    duration_ms: float


class ToolFailedEvent(RunEvent):
    """A tool failed, was rejected, or cannot be called as asked; the model is told why."""

    type: Literal["tool.failed"] = "tool.failed"
    call_id: str
    name: str
    error: ErrorInfo
    will_retry: bool = False


class ToolUnknownOutcome(RunEvent):
    """The tool started before a crash; nobody knows whether its effect happened."""

    type: Literal["tool.unknown_outcome"] = "tool.unknown_outcome"
    call_id: str
    name: str
