"""`follow()`, the one loop that reads a log, whatever the transport; and what a log holds now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from gateway.errors import EngineClosed, EngineUnavailable
from gateway.log.bell import WAIT_LIMIT
from gateway.log.engine import Log
from gateway.log.entry import Entry
from gateway.log.outage import Outage
from gateway.log.position import Position

__all__ = ["Readable", "StoreAway", "follow", "kept"]

PAGE = 1000
"""Entries that `kept` reads at a time."""


class StoreAway(tuple[Entry, ...]):
    """An empty batch that also says: the store is away, and nobody knows whether there is more."""

    __slots__ = ()


class Readable(Protocol):
    """What can be followed: a log, or whatever reads one in its own way."""

    async def read(self, session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
        """Read as `Log.read` does."""

    async def wait(self, session_id: str, after: Position) -> None:
        """Wait as `Log.wait` does."""


async def kept(
    log: Log, session_id: str, after: Position, *, through: int | None = None
) -> AsyncGenerator[Entry]:
    """Yield what a log holds now after a position, in order; then return.

    Args:
        log: Where the log is.
        session_id: Whose log.
        after: Where to start.
        through: The `seq` of the last entry that is wanted; default: the tail.

    Raises:
        SessionUnknown: If there is no such session.
        SessionGone: If it was deleted.
        CursorInvalid: If the position is not in this log.
        EngineUnavailable: If the store failed.
    """
    while through is None or after.seq < through:
        page = await log.read(session_id, after, limit=PAGE)
        if not page:
            return
        for entry in page:
            if through is not None and entry.seq > through:
                return
            yield entry
        after = page[-1].position


async def follow(
    engine: Readable, session_id: str, after: Position, *, limit: int = 256, idle: float = 15.0
) -> AsyncGenerator[Sequence[Entry]]:
    """Yield batches of entries after a position: first what is kept, then what is appended.

    The reader sets the pace: nothing is queued for a slow one, the log is the queue. No entry can
    fall between `read` and `wait`: what is appended in between is past `after`, and `wait` looks at
    the tail itself. Each read starts at the last entry's own position, so that epoch and tag are
    checked again each time and a log that was replaced is noticed.

    A store that is away is waited for, however long: then it goes on exactly where it was. Meanwhile
    the empty batches go on too, as `StoreAway`, and there is one more of these soon after the store
    was found away.

    Args:
        engine: Where the log is.
        session_id: Whose log.
        after: Where to start.
        limit: The most entries in a batch.
        idle: An empty batch is yielded when nothing came for so many seconds: the moment for a
            keepalive.

    Raises:
        SessionUnknown: If there is no such session.
        SessionGone: If it was deleted, also while following.
        CursorInvalid: If the position is not in this log.
        EngineClosed: If the store was closed.
    """
    loop = asyncio.get_running_loop()
    quiet_from = loop.time()
    outage: Outage | None = None
    while True:
        try:
            batch = await engine.read(session_id, after, limit=limit)
        except EngineClosed:
            raise
        except EngineUnavailable:
            now = loop.time()
            outage = outage or Outage(now, speaks_at=quiet_from + idle, idle=idle)
            if outage.failed(now):
                yield StoreAway()
            await asyncio.sleep(outage.pause(loop.time()))
            continue
        if outage is not None:
            quiet_from, outage = outage.speaks_at - idle, None
        left = quiet_from + idle - loop.time()
        if batch or left <= 0:
            yield batch
            after = batch[-1].position if batch else after
            quiet_from = loop.time()
        elif left > WAIT_LIMIT:
            await engine.wait(session_id, after)  # returns in time by itself: no timer needed
        else:
            await _wait_at_most(left, engine, session_id, after)


async def _wait_at_most(seconds: float, engine: Readable, session_id: str, after: Position) -> None:
    """Wait with a timer: for the last stretch of a long silence only."""
    try:
        async with asyncio.timeout(seconds):
            await engine.wait(session_id, after)
    except TimeoutError:
        return
