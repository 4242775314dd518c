"""Every engine in turn: one suite, one contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from gateway.engines.memory import MemoryEngine
from gateway.engines.sqlite import SqliteEngine
from gateway.log.engine import Engine
from tests.support.logs import SetClock


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


ENGINES: dict[str, Callable[[Path, SetClock], AbstractAsyncContextManager[Engine]]] = {
    "memory": memory,
    "sqlite": sqlite,
}


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fail any test in which gateway code blocks the event loop."""
    with blockbuster_ctx(["gateway"]):  # never nest two: they switch each other off
        yield


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=ENGINES)
async def engine(
    request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock
) -> AsyncIterator[Engine]:
    async with ENGINES[request.param](tmp_path, clock) as engine:
        yield engine
