"""What all events carry, and how a failure is told."""

from __future__ import annotations

from runtime.messages import Frozen

__all__ = [
    "ErrorInfo",
    "EventBase",
    "RunEvent",
]


class ErrorInfo(Frozen):
    """A failure in words that a client may see: never a stack trace, never a secret."""

    code: str
    message: str
    status_code: int | None = None
    retryable: bool = False
    retry_after: float | None = None
    node: str | None = None
    cause: tuple[str, ...] = ()


class EventBase(Frozen):
    """What all events carry.

    Attributes:
        run_id: The run that the event belongs to; absent outside a run.
        path: From the root agent or graph to the emitter, e.g. `("orchestrator", "researcher")`.
    """

    run_id: str | None = None
    path: tuple[str, ...] = ()


class RunEvent(EventBase):
    """An event of a run."""

    run_id: str
