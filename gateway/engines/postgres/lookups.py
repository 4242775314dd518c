"""Looks sessions up, all that are asked for in one moment with one query.

When a node goes away, thousands of clients come back to the others at once, and each asks first for
its session's record or head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from gateway.engines.postgres.rows import Found
from gateway.errors import EngineClosed, EngineUnavailable

__all__ = ["Lookups"]

BATCH = 1000
"""Sessions in one query: 10 ms or so."""


class Lookups:
    """Joins questions into queries, of which one is under way at a time.

    Nobody is given what was read before the question: who comes during a query waits for the next.

    Args:
        ask: Looks sessions up.
    """

    def __init__(self, ask: Callable[[Collection[str]], Awaitable[Mapping[str, Found]]]) -> None:
        self._ask = ask
        self._asked: dict[str, asyncio.Future[Found]] = {}
        self._working: asyncio.Task[None] | None = None

    async def find(self, session_id: str) -> Found:
        """Return what there is under an id.

        Raises:
            EngineUnavailable: If the store failed, or was closed.
        """
        answer = self._asked.get(session_id)
        if answer is None:
            loop = asyncio.get_running_loop()
            answer = self._asked[session_id] = loop.create_future()
            if self._working is None:
                self._working = loop.create_task(self._work())
        return await asyncio.shield(answer)  # others may wait for the same

    async def _work(self) -> None:
        try:
            while self._asked:
                batch = {name: self._asked.pop(name) for name in list(self._asked)[:BATCH]}
                await self._answer(batch)
        finally:
            self._working = None

    async def _answer(self, batch: Mapping[str, asyncio.Future[Found]]) -> None:
        try:
            found = await self._ask(batch.keys())
        except EngineUnavailable as error:
            for answer in batch.values():
                told = EngineClosed() if isinstance(error, EngineClosed) else EngineUnavailable()
                answer.set_exception(told)
        except BaseException:
            for answer in batch.values():
                answer.cancel()
            raise
        else:
            for name, answer in batch.items():
                answer.set_result(found[name])

    async def aclose(self) -> None:
        """Wait until all that were asked are answered."""
        if self._working is not None:
            await asyncio.wait([self._working])
