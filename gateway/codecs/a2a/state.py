"""What the codec of A2A keeps in mind between two events. Pure data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.codecs.a2a.objects import Json, Scene, State
from runtime.events import ApprovalRequested

__all__ = ["A2aState", "Said", "Telling", "Told"]


@dataclass(frozen=True, slots=True)
class Said:
    """A message that counts, so far.

    Attributes:
        told: Whether the client has its artifact.
        whole: Its model call is done, so that a take-over does not say it anew.
        kept: The node that said it is done.
    """

    message_id: str
    path: tuple[str, ...]
    turn: int | None = None
    agent: str | None = None
    told: bool = False
    whole: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class A2aState:
    """What the codec has told of a run.

    Attributes:
        begun: The task was told.
        task: The state of the task.
        said: The messages that count.
        pending: The approvals that wait.
        settled: Those that were settled since the run was last at work.
        last: Id and text of the last whole message.
    """

    begun: bool = False
    task: State = "TASK_STATE_SUBMITTED"
    said: tuple[Said, ...] = ()
    pending: tuple[ApprovalRequested, ...] = ()
    settled: tuple[str, ...] = ()
    last: tuple[str, str] | None = None


Told = tuple[A2aState, list[Json]]
"""The state after an event, and the `StreamResponse` objects that tell it."""

Telling = Callable[[Scene, A2aState, Any], Told]
"""Tells one type of event."""
