"""Section 7 of PROTOCOL.md, of what clients do: no server can break these."""

from __future__ import annotations

from gateway.conformance.check import Checks, NotObservable
from gateway.conformance.target import Target

CHECKS = Checks()

_BINDS_CLIENTS = (
    "it binds clients, not servers: tests/vectors has cases for clients in any language"
)


@CHECKS.of("client.resume")
async def clients_keep_what_they_applied(target: Target) -> None:
    """A client resumes from the last event that it applied."""
    raise NotObservable(_BINDS_CLIENTS)


@CHECKS.of("client.wait")
async def clients_wait_before_they_come_back(target: Target) -> None:
    """A client waits a random time before every reconnect."""
    raise NotObservable(_BINDS_CLIENTS)


@CHECKS.of("client.silence")
async def clients_leave_silent_connections(target: Target) -> None:
    """A client leaves a connection that is silent for 2.5 heartbeats."""
    raise NotObservable(_BINDS_CLIENTS)


@CHECKS.of("client.stop")
async def clients_know_when_to_stop(target: Target) -> None:
    """A client does not come back after a refusal that would come again."""
    raise NotObservable(_BINDS_CLIENTS)
