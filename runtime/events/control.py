"""Approvals, guardrails, checkpoints, and what has no type of its own."""

from __future__ import annotations

from typing import Any, Literal

from runtime.events.base import EventBase, RunEvent

__all__ = [
    "ApprovalRequested",
    "ApprovalResolved",
    "CheckpointSaved",
    "Custom",
    "GuardrailTripped",
]


class ApprovalRequested(RunEvent):
    """The run wants a human's word before it does this; `arguments` is JSON text.

    Attributes:
        wants: `result` where a tool of the client's was called: the answer is what came of it.
    """

    type: Literal["approval.requested"] = "approval.requested"
    approval_id: str
    call_id: str | None = None
    node: str | None = None
    tool: str | None = None
    arguments: str | None = None
    reason: str | None = None
    expires_at: str | None = None
    wants: Literal["result"] | None = None


class ApprovalResolved(RunEvent):
    """A human answered, or nobody will: `expired`. `edited` carries the new `arguments`.

    `answered` carries the `result` of a tool of the client's.
    """

    type: Literal["approval.resolved"] = "approval.resolved"
    approval_id: str
    decision: Literal["approved", "rejected", "edited", "expired", "answered"]
    by: str | None = None
    message: str | None = None
    arguments: str | None = None
    result: Any = None


class GuardrailTripped(RunEvent):
    """A check on an input, an output or a tool call said no."""

    type: Literal["guardrail.tripped"] = "guardrail.tripped"
    name: str
    stage: Literal["input", "output", "tool_input", "tool_output"]
    info: Any = None


class CheckpointSaved(RunEvent):
    """A run can go on from here. `at_seq` is the seq up to which the state was kept, if in a log."""

    type: Literal["checkpoint.saved"] = "checkpoint.saved"
    checkpoint_id: str
    node: str | None = None
    superstep: int | None = None
    at_seq: int | None = None


class Custom(EventBase):
    """Whatever a developer wants to tell the clients; `payload` is any JSON value."""

    type: Literal["custom"] = "custom"
    name: str
    payload: Any = None
