"""Appends to all sessions, a few connections wide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.engines.postgres.calls import Committed
from gateway.engines.postgres.connections import Connections
from gateway.engines.postgres.lane import Lane
from gateway.engines.stamps import Clock
from gateway.errors import EngineClosed
from gateway.log.engine import LEASE_SECONDS, Appended, Write

__all__ = ["Appender", "Committed"]

PATIENCE_SECONDS = 10.0
"""How long a write waits for a database that is away before its caller is told."""


class Appender:
    """Does all writes of this process; those that come together share a commit.

    Args:
        connections: Where its connections come from; `connections.writers` of them.
        clock: Tells the time in place of the database's clock; for tests.
        committed: Called after each commit with what it did, in the order of commits of a session.
        lease: Seconds that a claim holds that an append gives.
        patience: Seconds after which a write that could not be sent is given up. One that was sent
            is waited for without end: only the database knows what became of it.
    """

    def __init__(
        self,
        connections: Connections,
        clock: Clock | None,
        committed: Callable[[Committed], None],
        *,
        lease: float = LEASE_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._patience = patience
        self._is_closing = False
        self._lanes = [
            Lane(
                connections,
                f"append {n}",
                clock=clock,
                lease=lease,
                patience=patience,
                committed=committed,
            )
            for n in range(connections.writers)
        ]

    async def append(self, write: Write) -> Appended:
        """Do a write, as `gateway.log.engine.Log.append` says.

        Raises:
            EngineClosed: After `aclose`.
        """
        if self._is_closing:
            raise EngineClosed
        lane = self._lanes[hash(write.session_id) % len(self._lanes)]
        return await lane.put(write)

    async def aclose(self) -> None:
        """Finish what was accepted, as far as the database answers within `patience` seconds."""
        self._is_closing = True
        async with asyncio.TaskGroup() as closing:
            for lane in self._lanes:
                closing.create_task(lane.aclose(self._patience))
