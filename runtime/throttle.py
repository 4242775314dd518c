"""Saying less than one could: writers that leave out or put together what comes too often.

The last update is always delivered: use them as `with` blocks, or call `flush`.

    with throttle(ctx.writer, every=1000) as say:
        for row in rows:
            say({"rows": row.number})
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from pydantic import Field

from runtime.messages import Frozen

__all__ = ["Batch", "Progress", "Throttle", "Write", "batch", "throttle"]

Write = Callable[[Mapping[str, Any]], None]
"""Reports updates: a stream writer, or anything like it."""

Clock = Callable[[], float]
"""Tells the time, in seconds."""


class Progress(Frozen):
    """How far something is, in the words that clients know how to show.

    Attributes:
        stage: What is being done.
        progress: How much of it is done, from 0 to 1.
        message: More about it, for people.
    """

    stage: str | None = None
    progress: float | None = Field(default=None, ge=0, le=1)
    message: str | None = None

    def updates(self) -> dict[str, Any]:
        """Return it as updates for a writer, without what is not known."""
        return self.model_dump(exclude_none=True)


class _Sparing(ABC):
    """What both have in common: a pace, and a last update that is not lost.

    They may be called from several threads.
    """

    def __init__(
        self, writer: Write | None, count: int | None, interval: float | None, clock: Clock
    ) -> None:
        if (count is None) == (interval is None):
            raise ValueError("give a number of updates or an interval in seconds, one of them")
        if (count is not None and count < 1) or (interval is not None and interval <= 0):
            raise ValueError("the number of updates and the interval must be positive")
        self._writer = writer
        self._count = count
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()

    def __enter__(self) -> Write:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    def __call__(self, updates: Mapping[str, Any]) -> None:
        """Take updates."""
        if self._writer is None:
            return
        with self._lock:
            ready = self._take(updates)
        if ready is not None:
            self._writer(ready)

    def flush(self) -> None:
        """Deliver what was held back."""
        with self._lock:
            rest = self._rest()
        if rest is not None and self._writer is not None:
            self._writer(rest)

    @abstractmethod
    def _take(self, updates: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Keep updates; return what is to be delivered now."""

    @abstractmethod
    def _rest(self) -> Mapping[str, Any] | None:
        """Return what was held back, and forget it."""


class Throttle(_Sparing):
    """Delivers some updates and leaves out those between them. Made by `throttle`."""

    def __init__(
        self, writer: Write | None, count: int | None, interval: float | None, clock: Clock
    ) -> None:
        super().__init__(writer, count, interval, clock)
        self._number = 0
        self._next: float | None = None
        self._held: Mapping[str, Any] | None = None

    def _take(self, updates: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if self._due():
            self._held = None
            return updates
        self._held = dict(updates)
        return None

    def _due(self) -> bool:
        if self._count is not None:
            self._number += 1
            return self._number % self._count == 1 or self._count == 1
        now = self._clock()
        if self._next is not None and now < self._next:
            return False
        self._next = now + (self._interval or 0.0)
        return True

    def _rest(self) -> Mapping[str, Any] | None:
        held, self._held = self._held, None
        return held


class Batch(_Sparing):
    """Delivers all updates, several in one. Made by `batch`."""

    def __init__(
        self,
        writer: Write | None,
        count: int | None,
        interval: float | None,
        clock: Clock,
        key: str,
    ) -> None:
        super().__init__(writer, count, interval, clock)
        self._key = key
        self._held: list[dict[str, Any]] = []
        self._begun = 0.0

    def _take(self, updates: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if not self._held:
            self._begun = self._clock()
        self._held.append(dict(updates))
        if self._count is not None:
            full = len(self._held) >= self._count
        else:
            full = self._clock() - self._begun >= (self._interval or 0.0)
        return self._rest() if full else None

    def _rest(self) -> Mapping[str, Any] | None:
        held, self._held = self._held, []
        return {self._key: held} if held else None


def throttle(
    writer: Write | None,
    *,
    every: int | None = None,
    interval: float | None = None,
    clock: Clock = time.monotonic,
) -> Throttle:
    """Return a writer that delivers the first update, then some, and the last.

    Args:
        writer: Takes what is delivered; None, as outside a run, takes nothing.
        every: Deliver one of so many.
        interval: Deliver one in so many seconds.
        clock: Tells the time, in seconds.

    Raises:
        ValueError: If not exactly one of both is given, or it is not positive.
    """
    return Throttle(writer, every, interval, clock)


def batch(
    writer: Write | None,
    *,
    size: int | None = None,
    interval: float | None = None,
    key: str = "batch",
    clock: Clock = time.monotonic,
) -> Batch:
    """Return a writer that delivers all updates, as lists under `key`.

    Args:
        writer: Takes the lists; None, as outside a run, takes nothing.
        size: Deliver so many at once.
        interval: Deliver what came in so many seconds, when the next one comes.
        key: Under which the list stands.
        clock: Tells the time, in seconds.

    Raises:
        ValueError: If not exactly one of `size` and `interval` is given, or it is not positive.
    """
    return Batch(writer, size, interval, clock, key)
