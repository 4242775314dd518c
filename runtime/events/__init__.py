"""What a session's log can say: a closed union of immutable facts. Pure data.

The runtime makes every event from `run.started` down and knows no session, no `seq`, no cursor and
no clock: whoever keeps the log adds those. `session.*`, `input.*`, `history.*`,
`run.attempt_*` and `run.stop_requested` are made by the gateway and stand here so that the
union is closed.

An event that opens something (`message.started`, `tool_call.started`, `node.started`, ...) is
always followed by the one that closes it; `runtime.boundaries` holds the table.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from runtime.events.base import ErrorInfo, EventBase
from runtime.events.control import (
    ApprovalRequested,
    ApprovalResolved,
    CheckpointSaved,
    Custom,
    GuardrailTripped,
)
from runtime.events.graph import (
    EdgeTaken,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    SuperstepCompleted,
    SuperstepStarted,
)
from runtime.events.model import (
    AgentCompleted,
    AgentHandoff,
    AgentStarted,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ModelFailed,
    ModelRetrying,
    ModelStarted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
)
from runtime.events.run import (
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStarted,
)
from runtime.events.session import (
    ForkedFrom,
    HistoryRolledBack,
    InputAccepted,
    InputDequeued,
    InputQueued,
    InputReordered,
    InputSteered,
    RunAttemptReleased,
    RunAttemptStarted,
    RunStopRequested,
    SessionClosed,
    SessionCreated,
)
from runtime.events.tool import (
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
    ToolUnknownOutcome,
)

__all__ = [
    "EVENT",
    "RUN_ENDS",
    "AgentCompleted",
    "AgentHandoff",
    "AgentStarted",
    "ApprovalRequested",
    "ApprovalResolved",
    "CheckpointSaved",
    "Custom",
    "EdgeTaken",
    "ErrorInfo",
    "Event",
    "EventBase",
    "ForkedFrom",
    "GuardrailTripped",
    "HistoryRolledBack",
    "InputAccepted",
    "InputDequeued",
    "InputQueued",
    "InputReordered",
    "InputSteered",
    "MessageCompleted",
    "MessageDelta",
    "MessageStarted",
    "ModelCompleted",
    "ModelFailed",
    "ModelRetrying",
    "ModelStarted",
    "NodeCompleted",
    "NodeFailed",
    "NodeStarted",
    "NodeUpdate",
    "ReasoningCompleted",
    "ReasoningDelta",
    "ReasoningStarted",
    "RunAttemptReleased",
    "RunAttemptStarted",
    "RunCancelled",
    "RunCompleted",
    "RunFailed",
    "RunInterrupted",
    "RunResumed",
    "RunStarted",
    "RunStopRequested",
    "SessionClosed",
    "SessionCreated",
    "SuperstepCompleted",
    "SuperstepStarted",
    "ToolCallDelta",
    "ToolCallReady",
    "ToolCallStarted",
    "ToolCompleted",
    "ToolFailedEvent",
    "ToolProgress",
    "ToolStarted",
    "ToolUnknownOutcome",
]

Event = Annotated[
    SessionCreated
    | SessionClosed
    | InputAccepted
    | InputQueued
    | InputDequeued
    | InputReordered
    | InputSteered
    | HistoryRolledBack
    | RunAttemptStarted
    | RunAttemptReleased
    | RunStopRequested
    | RunStarted
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunInterrupted
    | RunResumed
    | SuperstepStarted
    | SuperstepCompleted
    | NodeStarted
    | NodeUpdate
    | NodeCompleted
    | NodeFailed
    | EdgeTaken
    | AgentStarted
    | AgentCompleted
    | AgentHandoff
    | ModelStarted
    | ModelCompleted
    | ModelFailed
    | ModelRetrying
    | MessageStarted
    | MessageDelta
    | MessageCompleted
    | ReasoningStarted
    | ReasoningDelta
    | ReasoningCompleted
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallReady
    | ToolStarted
    | ToolProgress
    | ToolCompleted
    | ToolFailedEvent
    | ToolUnknownOutcome
    | ApprovalRequested
    | ApprovalResolved
    | GuardrailTripped
    | CheckpointSaved
    | Custom,
    Field(discriminator="type"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Validates any event from plain data."""

RUN_ENDS = (RunCompleted, RunFailed, RunCancelled)
"""Exactly one of these ends a run; `RunInterrupted` pauses it."""
