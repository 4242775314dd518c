"""Every engine in turn: one suite, one contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.engines.postgres.engine import PostgresEngine
from gateway.engines.sqlite import SqliteEngine
from gateway.log import bell
from gateway.log.engine import Engine
from tests.support.logs import SetClock
from tests.support.postgres import empty_database


@asynccontextmanager
async def memory(directory: Path, clock: SetClock) -> AsyncIterator[Engine]:
    engine = MemoryEngine(clock=clock)
    yield engine
    await engine.aclose()


@asynccontextmanager
async def sqlite(directory: Path, clock: SetClock) -> AsyncIterator[Engine]:
    engine = await SqliteEngine.open(directory, clock=clock)
    yield engine
    await engine.aclose()


@asynccontextmanager
async def postgres(directory: Path, clock: SetClock) -> AsyncIterator[Engine]:
    engine = await PostgresEngine.open(await empty_database(), clock=clock)
    yield engine
    await engine.aclose()


ENGINES: dict[str, Callable[[Path, SetClock], AbstractAsyncContextManager[Engine]]] = {
    "memory": memory,
    "sqlite": sqlite,
    "postgres": postgres,
}


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def no_ticker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody who waits be woken because time passes: what wakes them is what happened."""
    monkeypatch.setattr(bell, "WAIT_LIMIT", 3600.0)


@pytest.fixture(params=ENGINES)
async def engine(
    request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock
) -> AsyncIterator[Engine]:
    async with ENGINES[request.param](tmp_path, clock) as engine:
        yield engine
