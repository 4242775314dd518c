"""A log in which something happens at chosen moments between a reader's calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from gateway.log.engine import Engine
from gateway.log.entry import Entry
from gateway.log.follow import follow
from gateway.log.position import Position
from tests.support.logs import add, bodies


class Interleaved:
    """Passes `read` and `wait` on, and appends before, during and after them as planned.

    Args:
        engine: The real engine.
        session_id: Whose log.
        plan: How many entries to append, one number for each moment, in order. The moment inside a
            `wait` is after it had so many turns of the loop.
    """

    def __init__(self, engine: Engine, session_id: str, plan: Sequence[int]) -> None:
        self._engine = engine
        self._session_id = session_id
        self._plan: Iterator[int] = iter(plan)
        self.appended: list[bytes] = []

    async def moment(self) -> None:
        for _ in range(next(self._plan, 0)):
            await self._append()

    async def _append(self) -> None:
        self.appended.append(b"%d" % len(self.appended))
        await add(self._engine, self.appended[-1], session_id=self._session_id)

    async def read(self, session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
        await self.moment()
        page = await self._engine.read(session_id, after, limit=limit)
        await self.moment()
        return page

    async def wait(self, session_id: str, after: Position) -> None:
        await self.moment()
        turns = next(self._plan, 0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._engine.wait(session_id, after))
            for _ in range(turns):
                await asyncio.sleep(0)
            await self._append()

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)


async def followed(engine: Engine, log: Interleaved, session_id: str, count: int) -> list[bytes]:
    """Follow until `count` entries came; a wake-up that is lost ends in `TimeoutError`.

    The limit is below the time after which waiters look again by themselves.
    """
    found: list[bytes] = []
    head = await engine.head(session_id)
    async with asyncio.timeout(2):
        async for batch in follow(log, session_id, head.start, limit=2):
            found += bodies(batch)
            if len(found) >= count:
                return found
    raise AssertionError("follow() ended")
