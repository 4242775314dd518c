"""Many sessions on one connection: how they share it, so that a client that is slow costs no more.

Each session has a reader of its own, and each would read a page of its log and then wait until the
client takes bytes again: five hundred sessions, five hundred pages for one client that has stopped
reading. So a reader may read only in its turn, and keeps the turn until what it read is written. Turns
go round in order. Where nothing is backed up nobody waits, for nothing suspends between a read at the
tail of a log and the write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.log.engine import Log
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.transports.outlet import Outlet

__all__ = ["Share"]


class Share:
    """One session's share of a connection: the log, as its reader may read it."""

    def __init__(self, log: Log, outlet: Outlet, turn: asyncio.Lock) -> None:
        """Make it.

        Args:
            log: Where the session's log is.
            outlet: The connection's sending side.
            turn: The connection's; whoever holds it may read.
        """
        self._log = log
        self._outlet = outlet
        self._turn = turn
        self._mine = False

    async def take(self) -> None:
        """Return when it is this reader's turn, and the client takes bytes. `give` must follow.

        Raises:
            SlowClient: If the client took no byte for the write time limit.
        """
        if not self._mine:
            await self._turn.acquire()
            self._mine = True
        await self._outlet.ready()

    def give(self) -> None:
        """Let the next reader have its turn: what was read is written. Safe to call twice."""
        if self._mine:
            self._mine = False
            self._turn.release()

    async def read(self, session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
        """Read as the log does, in turn; the turn is kept if there is something to write.

        Raises:
            SlowClient: If the client took no byte for the write time limit.
            GatewayError: What the log raises.
        """
        await self.take()
        entries: Sequence[Entry] = ()
        try:
            entries = await self._log.read(session_id, after, limit=limit)
        finally:
            if not entries:  # also where the store is away: others on this connection have a turn
                self.give()
        return entries

    async def wait(self, session_id: str, after: Position) -> None:
        """Wait as the log does."""
        await self._log.wait(session_id, after)
