"""How a run starts, ends, pauses and goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import PrivateAttr

from runtime.events.base import ErrorInfo, RunEvent
from runtime.messages import Usage

__all__ = [
    "RunCancelled",
    "RunCompleted",
    "RunFailed",
    "RunInterrupted",
    "RunResumed",
    "RunStarted",
]


class RunStarted(RunEvent):
    """A run begins: of an `agent` or of a `graph`.

    Attributes:
        cancel_after: As in `input.accepted`, of a run that has no input of its own.
    """

    type: Literal["run.started"] = "run.started"
    agent: str | None = None
    graph: str | None = None
    attempt: int = 1
    parent_run_id: str | None = None
    options: Mapping[str, Any] | None = None
    cancel_after: float | None = None


class RunCompleted(RunEvent):
    """The run reached its end. `usage` is the sum over its model calls."""

    type: Literal["run.completed"] = "run.completed"
    output: str
    final_output: Any = None
    state: Mapping[str, Any] | None = None
    usage: Usage
    finish_reason: str | None = None
    last_agent: str | None = None
    last_node: str | None = None
    message_count: int
    num_turns: int
    cost_usd: float | None = None
    _parsed: Any = PrivateAttr(default=None)

    @property
    def parsed(self) -> Any:
        """The answer as an object of the agent's `output_type`, in the process that ran it.

        It is never written anywhere; `final_output` is its JSON.
        """
        return self._parsed

    def parsed_as(self, value: Any) -> RunCompleted:
        """Return the same event, knowing the object."""
        event = self.model_copy()
        event._parsed = value  # noqa: SLF001 - its own
        return event


class RunFailed(RunEvent):
    """The run ended with a failure; what it had said and done stays in the history."""

    type: Literal["run.failed"] = "run.failed"
    error: ErrorInfo
    _exception: BaseException | None = PrivateAttr(default=None)

    @property
    def exception(self) -> BaseException | None:
        """What was raised, in the process where it was; it is never written anywhere."""
        return self._exception

    def caused_by(self, exception: BaseException) -> RunFailed:
        """Return the same event, knowing what was raised."""
        event = self.model_copy()
        event._exception = exception  # noqa: SLF001 - its own
        return event


class RunCancelled(RunEvent):
    """The run was ended before it was done; `partial_output` is the text that was cut short."""

    type: Literal["run.cancelled"] = "run.cancelled"
    reason: Literal["cancel", "timeout", "disconnect", "shutdown", "superseded"]
    command_id: str | None = None
    partial_output: str | None = None


class RunInterrupted(RunEvent):
    """The run waits for a human; `pending` names the approvals that hold it."""

    type: Literal["run.interrupted"] = "run.interrupted"
    reason: str
    node: str | None = None
    state: Mapping[str, Any] | None = None
    pending: tuple[str, ...] = ()
    checkpoint_id: str | None = None


class RunResumed(RunEvent):
    """An interrupted run goes on, from what the log held at `from_seq`.

    Without a `run.interrupted` before it, all that the run was about to wait for was settled.

    Attributes:
        cancel_after: As in `input.accepted`, from now on.
    """

    type: Literal["run.resumed"] = "run.resumed"
    from_seq: int
    checkpoint_id: str | None = None
    decisions: tuple[Mapping[str, Any], ...] = ()
    cancel_after: float | None = None
