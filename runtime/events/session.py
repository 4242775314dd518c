"""Events that the gateway makes: sessions, inputs, take-over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from runtime.events.base import EventBase, RunEvent
from runtime.messages import ClientTool, Frozen, Message

__all__ = [
    "ForkedFrom",
    "HistoryRolledBack",
    "InputAccepted",
    "InputDequeued",
    "InputQueued",
    "InputReordered",
    "InputSteered",
    "RunAttemptReleased",
    "RunAttemptStarted",
    "RunStopRequested",
    "SessionClosed",
    "SessionCreated",
]


class ForkedFrom(Frozen):
    """Where a session branched off from: another session, at a cursor of its log."""

    session_id: str
    cursor: str


class SessionCreated(EventBase):
    """The first event of each log.

    Attributes:
        forked_from: Whose conversation `history` is.
        history: What had been said before, elsewhere; whoever made the session brought it along.
    """

    type: Literal["session.created"] = "session.created"
    agent: str
    metadata: Mapping[str, Any] = Field(default_factory=dict)
    forked_from: ForkedFrom | None = None
    history: tuple[Message, ...] | None = None


class SessionClosed(EventBase):
    """The last event of a log."""

    type: Literal["session.closed"] = "session.closed"
    reason: str


class InputAccepted(RunEvent):
    """An input entered the log; `run_id` is the run that will answer it.

    Attributes:
        message: What the user said; or, with role `tool`, the result of a call that the history
            ends with.
        instructions: For this run, in addition to the agent's own.
        tools: The client's, for this run.
        cancel_after: Seconds without anybody who controls the session after which the run is
            cancelled; absent: it goes on.
    """

    type: Literal["input.accepted"] = "input.accepted"
    message: Message
    command_id: str
    policy: str
    agent: str | None = None
    options: Mapping[str, Any] | None = None
    timeout: float | None = None
    instructions: str | None = None
    tools: tuple[ClientTool, ...] | None = None
    cancel_after: float | None = None


class InputQueued(RunEvent):
    """A user message waits for the active run to end; `position` counts from 1.

    Attributes:
        policy: How it waits: `enqueue` for its turn, `steer` for the next step of the active run,
            and for its turn if no step takes it.
        rewind_to: When its turn comes, that message and all after it no longer count.
    """

    type: Literal["input.queued"] = "input.queued"
    command_id: str
    message: Message
    position: int
    agent: str | None = None
    options: Mapping[str, Any] | None = None
    timeout: float | None = None
    instructions: str | None = None
    tools: tuple[ClientTool, ...] | None = None
    rewind_to: str | None = None
    cancel_after: float | None = None
    policy: Literal["enqueue", "steer"] | None = None


class InputReordered(EventBase):
    """The queue has a new order: all runs that wait, the next one first."""

    type: Literal["input.reordered"] = "input.reordered"
    run_ids: tuple[str, ...]
    command_id: str


class InputDequeued(RunEvent):
    """A waiting message left the queue."""

    type: Literal["input.dequeued"] = "input.dequeued"
    command_id: str
    reason: Literal["started", "steered", "cancelled", "edited"]


class InputSteered(RunEvent):
    """A user message was handed to the active run, which sees it before its next model call.

    Attributes:
        command_id: The command that brought it; absent outside a session.
    """

    type: Literal["input.steered"] = "input.steered"
    message: Message
    command_id: str | None = None


class HistoryRolledBack(RunEvent):
    """These messages no longer count as part of the conversation."""

    type: Literal["history.rolled_back"] = "history.rolled_back"
    message_ids: tuple[str, ...]


class RunAttemptStarted(RunEvent):
    """A run was taken over: `supersedes` is the attempt whose unfinished step no longer counts."""

    type: Literal["run.attempt_started"] = "run.attempt_started"
    attempt: int
    supersedes: int
    from_step: int
    reason: Literal["lease_expired", "restart", "handed_over"]


class RunAttemptReleased(RunEvent):
    """A process that stops in order has let go of a run; the next one goes on with it at once."""

    type: Literal["run.attempt_released"] = "run.attempt_released"
    attempt: int
    reason: Literal["shutdown"] = "shutdown"


class RunStopRequested(RunEvent):
    """The run is to end after its current step; a command asked for it."""

    type: Literal["run.stop_requested"] = "run.stop_requested"
    command_id: str | None = None
