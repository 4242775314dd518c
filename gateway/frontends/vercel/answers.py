"""What the parts of a message decide of what is asked. Pure."""

from __future__ import annotations

import orjson

from gateway.codecs.vercel import Answers
from gateway.commands import ApprovalDecision
from gateway.sessions.snapshot import ApprovalView

__all__ = ["decisions_of"]


def decisions_of(answers: Answers, pending: list[ApprovalView]) -> tuple[ApprovalDecision, ...]:
    """Return what a message decides of what is asked."""
    decisions = (_decision(answers, asked) for asked in pending)
    return tuple(decision for decision in decisions if decision is not None)


def _decision(answers: Answers, asked: ApprovalView) -> ApprovalDecision | None:
    approval_id = asked.approval_id
    call_id = asked.call_id or approval_id
    if asked.wants == "result":
        if call_id in answers.outputs:
            return ApprovalDecision(
                approval_id=approval_id, decision="answer", result=answers.outputs[call_id]
            )
        if call_id in answers.failures:
            return ApprovalDecision(
                approval_id=approval_id, decision="reject", message=answers.failures[call_id]
            )
        return None
    if approval_id in answers.approvals:
        approved, reason = answers.approvals[approval_id]
        return ApprovalDecision(
            approval_id=approval_id,
            decision="approve" if approved else "reject",
            message=reason,
        )
    if asked.call_id is None and call_id in answers.outputs:  # a value for a node to go on with
        value = orjson.dumps(answers.outputs[call_id]).decode()
        return ApprovalDecision(approval_id=approval_id, decision="edit", arguments=value)
    return None
