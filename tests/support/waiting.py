"""Proof that something waits."""

from __future__ import annotations

import asyncio
from typing import Any


async def proven_blocked(*waiting: asyncio.Future[Any]) -> None:
    """Fail unless all of them still wait after the loop had time to run them."""
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done, f"these do not wait: {done}"
