"""Every test of the runtime leaves no task behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.runtime.support import PATIENCE


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    # Connections that were just closed end within a turn or two of the loop.
    if left:
        _, left = await asyncio.wait(left, timeout=PATIENCE / 10)
    assert not left
