"""An SQLite engine to look into."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from gateway.engines.sqlite import SqliteEngine


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fail any test in which gateway code blocks the event loop."""
    with blockbuster_ctx(["gateway"]):  # never nest two: they switch each other off
        yield


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[SqliteEngine]:
    engine = await SqliteEngine.open(tmp_path)
    yield engine
    await engine.aclose()
