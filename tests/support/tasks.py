"""A fixture for folders whose tests must leave no task behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

__all__ = ["no_task_left"]

SETTLE_SECONDS = 10
"""Connections that were just closed end within a turn or two of the loop: if it turns, that is."""


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    """Fail a test that leaves tasks running."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=SETTLE_SECONDS)
    assert not left
