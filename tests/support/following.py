"""Two engines on one database, one that writes and one whose readers follow; and what is done to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from gateway.engines.postgres import looks
from gateway.engines.postgres.engine import PostgresEngine
from gateway.engines.postgres.heads import Answers, Questions, ask
from gateway.engines.postgres.hints import News
from gateway.log import bell
from gateway.log.entry import Entry
from gateway.log.follow import follow
from gateway.log.position import Position
from tests.support.logs import start
from tests.support.postgres import empty_database, shared

__all__ = [
    "NEVER",
    "PATIENCE",
    "Pair",
    "Reader",
    "answered",
    "count_looks",
    "meddle",
    "pair",
    "sql",
    "until",
]

NEVER = 3600.0
"""Seconds: longer than any test."""

PATIENCE = 30.0
"""Seconds that a test waits for a fact, on a machine that does other things as well."""


class Pair:
    """Two processes, as it were: what `here` is told nobody tells `there` but the store.

    Attributes:
        here: Where things are written.
        there: Where readers follow.
        url: The database.
    """

    def __init__(self, here: PostgresEngine, there: PostgresEngine, url: str) -> None:
        self.here = here
        self.there = there
        self.url = url


@asynccontextmanager
async def pair(
    monkeypatch: pytest.MonkeyPatch, *, poll: float = NEVER, direct: str | None = None
) -> AsyncIterator[Pair]:
    """Open both; nothing but hints and polls ever wakes a reader.

    Args:
        monkeypatch: Takes away the ticker that wakes all readers every 5 s.
        poll: Of both, in seconds.
        direct: Where `there` gets its hints from.
    """
    monkeypatch.setattr(bell, "WAIT_LIMIT", NEVER)
    url = await empty_database()
    here = await PostgresEngine.open(url, poll=poll)
    there = await PostgresEngine.open(url, poll=poll, direct=direct)
    try:
        for engine in (here, there):
            await until(lambda engine=engine: engine._following._hints._up)  # type: ignore[misc] # mypy does not see the default
        yield Pair(here, there, url)
    finally:
        await here.aclose()
        await there.aclose()


async def until(fact: Callable[[], bool]) -> None:
    """Return when something is so."""
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110 - of parts that know no event
            await asyncio.sleep(0.005)


async def sql(statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Do something to the database behind everybody's back."""
    db = await asyncpg.connect(shared().url("tests", socket=True))
    try:
        return await db.fetch(statement, *arguments)
    finally:
        await db.close()


def answered(engine: PostgresEngine) -> bool:
    """Say whether nobody asks for a look that has not been done."""
    asking = engine._following._looks._asking
    return not asking and not asking._taken


def meddle(engine: PostgresEngine, heard: Callable[[Callable[[News], None], News], None]) -> None:
    """Have something else done with the hints that an engine hears."""
    hints = engine._following._hints
    hear = hints._heard
    hints._heard = lambda news: heard(hear, news)


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Questions, Answers]]:
    """Return a list of all that is asked of the store from now on, to keep rings at what it has."""
    asked: list[tuple[Questions, Answers]] = []

    async def counted(db: asyncpg.pool.PoolConnectionProxy, questions: Questions) -> Answers:
        answers = await ask(db, questions)
        asked.append((questions, answers))
        return answers

    monkeypatch.setattr(looks, "ask", counted)
    return asked


class Reader:
    """Somebody who follows a log.

    Attributes:
        entries: What it was given so far.
        ended: Why it ended, if it did.
    """

    def __init__(self, engine: PostgresEngine, session_id: str = "s") -> None:
        self._engine = engine
        self._session_id = session_id
        self.entries: list[Entry] = []
        self.ended: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def seqs(self) -> list[int]:
        return [entry.seq for entry in self.entries]

    async def _read(self, after: Position) -> None:
        try:
            async for batch in follow(self._engine, self._session_id, after):
                self.entries += batch
        except Exception as error:  # noqa: BLE001 - the test looks which it is
            self.ended = error

    async def begin(self, after: Position | None = None) -> None:
        """Begin, and return once it waits for what is not there yet."""
        if after is None:
            after = await start(self._engine, self._session_id)
        self._task = asyncio.create_task(self._read(after))
        await self.waits()

    async def waits(self) -> None:
        """Return once it has read everything that its process knows of, and waits."""
        following = self._engine._following
        await until(
            lambda: self._session_id in following._sessions.awaited() and answered(self._engine)
        )

    async def has(self, count: int) -> None:
        """Return once it was given so many entries, which are the log from its beginning."""
        await until(lambda: len(self.entries) >= count or self.ended is not None)
        assert self.ended is None
        assert self.seqs == list(range(self.seqs[0], self.seqs[0] + count))

    async def end(self) -> Exception:
        """Return why it ended."""
        await until(lambda: self.ended is not None)
        assert self.ended is not None
        return self.ended

    async def leave(self) -> None:
        """Stop reading."""
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
