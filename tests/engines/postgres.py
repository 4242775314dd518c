"""What the tests of the Postgres engine's parts share: an empty database, and a look into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from gateway.engines.postgres.appender import Appender, Committed
from gateway.engines.postgres.connections import Connections
from gateway.errors import EngineClosed, EngineUnavailable
from gateway.log.engine import Appended, Write
from gateway.log.position import Position
from tests.support.logs import NEW

LIMIT = 30.0
"""Seconds in which whatever is waited for has to come, also on a busy machine."""


async def until(condition: Callable[[], Any], *, pause: float = 0.01) -> None:
    """Wait until a condition, which may be a coroutine's, holds."""
    async with asyncio.timeout(LIMIT):
        while True:
            holds = condition()
            if asyncio.iscoroutine(holds):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(pause)


class Store:
    """An appender on a database, and what is in it."""

    def __init__(
        self, connections: Connections, appender: Appender, look: asyncpg.Connection
    ) -> None:
        self.connections = connections
        self.appender = appender
        self.look = look
        self.committed: list[Committed] = []

    async def make(self, *session_ids: str) -> None:
        for session_id in session_ids:
            await self.append(Write(session_id, (), create=NEW))

    async def append(self, write: Write) -> Appended:
        """Append, however long the store is away."""
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    return await self.appender.append(write)
                except EngineClosed:
                    raise
                except EngineUnavailable:
                    await asyncio.sleep(0.01)

    def begin(self, *writes: Write) -> list[asyncio.Task[Appended]]:
        """Start writes of which nobody knows when they end."""
        return [asyncio.create_task(self.appender.append(write)) for write in writes]

    async def bodies(self, session_id: str = "s") -> list[bytes]:
        """Return a log as the database has it, after checking that it has no hole."""
        rows = await self.look.fetch(
            "SELECT seq, body FROM entry WHERE session ="
            " (SELECT number FROM session WHERE session_id = $1) ORDER BY seq",
            session_id,
        )
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        return [row["body"] for row in rows]

    async def tail(self, session_id: str = "s") -> Position:
        """Return the end of a log as the database has it."""
        row = await self.look.fetchrow(
            "SELECT epoch, tail_seq, tail_tag FROM session WHERE session_id = $1", session_id
        )
        assert row is not None
        return Position(*row)

    async def commits(self) -> int:
        """Return in how many transactions the entries were written."""
        count: int = await self.look.fetchval("SELECT count(DISTINCT xmin::text) FROM entry")
        return count

    async def waiting_for(self, event: str) -> list[int]:
        """Return the processes of the server that append and wait for something."""
        rows = await self.look.fetch(
            "SELECT pid FROM pg_stat_activity WHERE wait_event = $1 AND datname = current_database()"
            " AND application_name LIKE 'tidegate append%'",
            event,
        )
        return [row["pid"] for row in rows]

    @asynccontextmanager
    async def held(self, session_id: str) -> AsyncIterator[None]:
        """Keep a session's row locked: its lane comes to a standstill, and what is queued piles up."""
        holder: asyncpg.Connection = await asyncpg.connect(self.connections.url)
        try:
            async with holder.transaction():
                await holder.execute(
                    "SELECT FROM session WHERE session_id = $1 FOR UPDATE", session_id
                )
                yield
        finally:
            await holder.close()


@asynccontextmanager
async def store(
    url: str, *, through: str | None = None, writers: int = 2, patience: float = LIMIT
) -> AsyncIterator[Store]:
    """Open a store; `through` is the URL of a proxy before the database."""
    look: asyncpg.Connection = await asyncpg.connect(url)
    connections = await Connections.open(through or url, writers=writers)
    done: list[Committed] = []
    appender = Appender(connections, None, done.append, patience=patience)
    opened = Store(connections, appender, look)
    opened.committed = done
    try:
        yield opened
    finally:
        await appender.aclose()
        await connections.aclose()
        await look.close()
