"""All checks, in the order of PROTOCOL.md's sections."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.conformance.check import Check
from gateway.conformance.checks.approvals import CHECKS as APPROVALS
from gateway.conformance.checks.cancelling import CHECKS as CANCELLING
from gateway.conformance.checks.client_rules import CHECKS as CLIENT_RULES
from gateway.conformance.checks.clients import CHECKS as CLIENTS
from gateway.conformance.checks.commands import CHECKS as COMMANDS
from gateway.conformance.checks.drain import CHECKS as DRAIN
from gateway.conformance.checks.forks import CHECKS as FORKS
from gateway.conformance.checks.history import CHECKS as HISTORY
from gateway.conformance.checks.http import CHECKS as HTTP
from gateway.conformance.checks.leaving import CHECKS as LEAVING
from gateway.conformance.checks.log import CHECKS as LOG
from gateway.conformance.checks.queue import CHECKS as QUEUE
from gateway.conformance.checks.resume import CHECKS as RESUME
from gateway.conformance.checks.runs import CHECKS as RUNS
from gateway.conformance.checks.slow import CHECKS as SLOW
from gateway.conformance.checks.sse import CHECKS as SSE
from gateway.conformance.checks.websocket import CHECKS as WEBSOCKET

__all__ = ["CHECKS"]

CHECKS: Sequence[Check] = (
    *LOG,
    *RUNS,
    *HTTP,
    *COMMANDS,
    *CANCELLING,
    *LEAVING,
    *QUEUE,
    *APPROVALS,
    *HISTORY,
    *FORKS,
    *SSE,
    *CLIENTS,
    *WEBSOCKET,
    *RESUME,
    *CLIENT_RULES,
    *SLOW,
    *DRAIN,
)
