"""Waiting for a store that is away: again and again, at moments of one's own.

A store that is away may come back, and whoever only reads has nothing to lose by waiting. One that
was closed does not come back: `EngineClosed` is never waited for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.errors import EngineClosed, EngineUnavailable

__all__ = ["Outage", "in_time", "outlasting"]

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between two questions, at first and at most: a store that was restarted is noticed at once,
and a thousand readers ask one that stays away some seven hundred times a second."""

AWAY_SECONDS = 1.0
"""A store that is away is spoken of once it has been for so long: most are back before, after a
restart or a failover of the connection alone."""

SHORTEST_PAUSE = 0.01

_Answer = TypeVar("_Answer")


class Outage:
    """A time in which the store does not answer somebody who has to say something now and then.

    Attributes:
        speaks_at: When to say something in any case, by the clock that the caller goes by.
    """

    def __init__(self, now: float, *, speaks_at: float, idle: float) -> None:
        """Begin one.

        Args:
            now: The first failure.
            speaks_at: When something was to be said, had the store been silent.
            idle: Seconds between two such moments.
        """
        self.speaks_at = speaks_at
        self._idle = idle
        self._next = min(speaks_at, now + AWAY_SECONDS)
        self._failures = 0

    def failed(self, now: float) -> bool:
        """Count a failure; return whether it is time to say something."""
        self._failures += 1
        if now < self._next:
            return False
        if now >= self.speaks_at:
            self.speaks_at = now + self._idle
        self._next = self.speaks_at
        return True

    def pause(self, now: float) -> float:
        """Return for how many seconds to wait before asking again."""
        return max(SHORTEST_PAUSE, min(_pause_after(self._failures), self._next - now))


def _pause_after(failures: int) -> float:
    """Return how many seconds to wait after so many failures in a row; another number each time."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures, 16))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, keeps no secret


async def outlasting(ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Return what the store answers, once it does.

    Args:
        ask: Asks it; begun anew each time.

    Raises:
        EngineClosed: If the store was closed.
        GatewayError: What else the store answers with.
    """
    failures = 0
    while True:
        try:
            return await ask()
        except EngineClosed:
            raise
        except EngineUnavailable:
            failures += 1
            await asyncio.sleep(_pause_after(failures))


async def in_time(seconds: float, work: Awaitable[_Answer]) -> _Answer:
    """Wait for the store, but not for ever.

    Args:
        seconds: How long.
        work: What it does. It is cancelled then, and so is something that an append outlives, or a
            shield around what goes on by itself.

    Raises:
        EngineUnavailable: If it took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise EngineUnavailable("the store has not answered in time") from None
