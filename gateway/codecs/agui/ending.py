"""How a run begins, ends or pauses, in AG-UI's words. Pure.

Version 1.0 of the protocol has an outcome for runs that were cancelled, and names the calls of the
client's own tools that a run has left open. Clients before it reject both, and read a run that was
cancelled as one that is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ag_ui.core import (
    BaseEvent,
    Interrupt,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    TokenUsage,
)

from gateway.codecs.agui.wire import ours
from runtime.events import ApprovalRequested, RunCancelled, RunCompleted, RunFailed
from runtime.messages import Usage

__all__ = ["Names", "Spent", "interrupt_of"]

PROTOCOL_VERSION = "1.0"

Spent = Iterable[tuple[str | None, Usage]]
"""What model calls took, by the name of the model."""

_FAULTS: Mapping[str, str] = {
    "timeout": "the run was not done in time",
    "shutdown": "the server stopped",
}
"""The reasons of a cancel that nobody asked for: a client is to show them."""

_MESSAGE = {"type": "string", "description": "For the agent."}
_APPROVED = {"type": "boolean"}
_TOOL_ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "approved": _APPROVED,
        "editedArgs": {"type": "object", "description": "In place of the call's own."},
        "message": _MESSAGE,
    },
    "required": ["approved"],
}
_NODE_ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "approved": _APPROVED,
        "value": {"description": "What the node goes on with."},
        "message": _MESSAGE,
    },
    "required": ["approved"],
}


def interrupt_of(asked: ApprovalRequested, owner: str | None = None) -> Interrupt:
    """Return a question as an interrupt; `owner` is the subagent that asks."""
    is_call = asked.call_id is not None
    default = f"Call {asked.tool}?" if asked.tool else "Go on?"
    return Interrupt(
        id=asked.approval_id,
        reason="tool_call" if is_call else "confirmation",
        message=asked.reason or default,
        tool_call_id=asked.call_id,
        response_schema=_TOOL_ANSWER if is_call else _NODE_ANSWER,
        expires_at=asked.expires_at,
        subagent_run_id=owner,
        metadata=ours(tool=asked.tool, node=asked.node, arguments=asked.arguments),
    )


def _tokens(spent: Spent) -> list[TokenUsage] | None:
    entries = [
        TokenUsage(
            model=model,
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cached_input_tokens=usage.cache_read_tokens,
        )
        for model, usage in spent
    ]
    return entries or None


@dataclass(frozen=True, slots=True)
class Names:
    """What a client calls the run, and which protocol it speaks.

    Attributes:
        thread_id: The conversation.
        run_id: The run.
        modern: Whether the client speaks version 1.0 or later.
    """

    thread_id: str
    run_id: str
    modern: bool = False

    def started(self) -> BaseEvent:
        """Return the first event."""
        version = PROTOCOL_VERSION if self.modern else None
        return RunStartedEvent(
            thread_id=self.thread_id, run_id=self.run_id, protocol_version=version
        )

    def _finished(self, **fields: Any) -> BaseEvent:
        return RunFinishedEvent(thread_id=self.thread_id, run_id=self.run_id, **fields)

    def finished(self, pending: Sequence[str] = (), **fields: Any) -> BaseEvent:
        """Return the end of a run that is over, or waits for what came of these tool calls."""
        if self.modern:
            left = list(pending) or None
            fields["outcome"] = RunFinishedSuccessOutcome(pending_tool_call_ids=left)
        return self._finished(**fields)

    def completed(self, event: RunCompleted, spent: Spent) -> BaseEvent:
        """Return the end of a run that reached it."""
        final = event.final_output
        facts = ours(finishReason=event.finish_reason, costUsd=event.cost_usd)
        return self.finished(
            result=event.output if final is None else final, usage=_tokens(spent), metadata=facts
        )

    def cancelled(self, reason: str, spent: Spent = ()) -> BaseEvent:
        """Return the end of a run that was stopped."""
        fields: dict[str, Any] = {
            "usage": _tokens(spent),
            "metadata": ours(status="cancelled", reason=reason),
        }
        if self.modern:
            fields["outcome"] = RunFinishedCancelledOutcome()
        return self._finished(**fields)

    def stopped(self, event: RunCancelled, spent: Spent) -> BaseEvent:
        """Return the end of a run that was cancelled: an error if nobody wanted it."""
        fault = _FAULTS.get(event.reason)
        if fault is None:
            return self.cancelled(event.reason, spent)
        return RunErrorEvent(message=fault, code=event.reason, usage=_tokens(spent))

    def failed(self, event: RunFailed, spent: Spent) -> BaseEvent:
        """Return the end of a run that failed."""
        return RunErrorEvent(
            message=event.error.message, code=event.error.code, usage=_tokens(spent)
        )

    def paused(
        self, interrupts: Sequence[Interrupt], calls: Sequence[str], spent: Spent
    ) -> BaseEvent:
        """Return the end of a run that waits.

        Args:
            interrupts: For these answers.
            calls: For what came of these calls of the client's own tools. A client runs them by
                itself once the run is over, so they are no interrupts.
            spent: Tokens.
        """
        if not interrupts:
            return self.finished(calls, usage=_tokens(spent))
        return self._finished(
            outcome=RunFinishedInterruptOutcome(interrupts=list(interrupts)), usage=_tokens(spent)
        )
