"""A bounded, ordered log in memory, and cursors on it.

There is no queue per reader: a reader is a place in the log. So whoever appends never waits for
whoever reads, and a reader that is too slow finds out exactly what it missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

__all__ = ["KEEP", "Cursor", "Feed", "Gap"]

T = TypeVar("T")

KEEP = 10_000
"""Items that a feed keeps: a few MB of events."""

PAGE = 256
"""Items that a cursor takes at a time. Between two pages it lets others run."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What a reader was too slow for: all items from `first` to `last`, both included."""

    first: int
    last: int


class Feed(Generic[T]):
    """The newest `keep` of all items that were appended, each with its number from 1 up.

    All methods may be called from any thread.
    """

    def __init__(self, keep: int = KEEP) -> None:
        """Make an empty feed.

        Raises:
            ValueError: If it is to keep nothing.
        """
        if keep < 1:
            raise ValueError("a feed keeps at least one item")
        self._items: deque[T] = deque(maxlen=keep)
        self._tail = 0
        self._closed = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._lock = threading.Lock()

    @property
    def tail(self) -> int:
        """The number of the last item; 0 before the first."""
        return self._tail

    @property
    def closed(self) -> bool:
        """Whether nothing more comes."""
        return self._closed

    def append(self, item: T) -> int:
        """Append an item and return its number. Never waits, and no reader can make it fail.

        A closed feed takes nothing, and returns the number of its last item.
        """
        with self._lock:
            if self._closed:
                return self._tail
            self._items.append(item)
            self._tail += 1
            tail = self._tail
        self._ring()
        return tail

    def follow(self, after: int = 0) -> Cursor[T]:
        """Return a cursor that gives all items after a number: those kept, then those to come."""
        return Cursor(self, after)

    def close(self) -> None:
        """End all readers, after what is there. Safe to call twice."""
        with self._lock:
            self._closed = True
        self._ring()

    # --- for cursors ---------------------------------------------------------------------------

    def _page(self, after: int) -> tuple[int, list[T]]:
        """Return some items after a number, and the number of the first of them."""
        with self._lock:
            first = max(after, self._tail - len(self._items)) + 1
            start = first - (self._tail - len(self._items)) - 1
            return first, list(islice(self._items, start, start + PAGE))

    def _news(self, after: int) -> asyncio.Future[None] | None:
        """Return a future that is done when something happened; None if something has."""
        with self._lock:
            if self._tail > after or self._closed:
                return None
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            return waiter

    def _leave(self, waiter: asyncio.Future[None]) -> None:
        with self._lock:
            self._waiting.discard(waiter)

    def _ring(self) -> None:
        """Wake all who wait. They look for themselves what there is."""
        with self._lock:
            if not self._waiting:
                return
            waiting, self._waiting = self._waiting, set()
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for waiter in waiting:
            loop = waiter.get_loop()
            if loop is here:
                _wake(waiter)
                continue
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_wake, waiter)


class Cursor(AsyncIterator[tuple[int, T] | Gap], Generic[T]):
    """A reader's place in a feed. It costs the feed nothing, and may be forgotten at any time.

    For one consumer; any number of cursors may be on one feed.

    Attributes:
        after: The number of the last item that it gave, or knows to be lost.
    """

    def __init__(self, feed: Feed[T], after: int) -> None:
        self.after = after
        self._feed = feed
        self._until: int | None = None
        self._page: deque[T] = deque()
        self._ended: asyncio.Future[None] | None = None

    def end(self) -> None:
        """End the reading after what is in the feed by now. From the loop; safe to call twice."""
        if self._until is None:
            self._until = self._feed.tail
        if self._ended is not None:
            _wake(self._ended)

    async def __anext__(self) -> tuple[int, T] | Gap:
        """Return the next item with its number, or the gap before it.

        Raises:
            StopAsyncIteration: At the end of a feed that was closed, or where `end` was called.
        """
        while True:
            if self._until is not None and self.after >= self._until:
                raise StopAsyncIteration
            if self._page:
                self.after += 1
                return self.after, self._page.popleft()
            closed = self._feed.closed  # asked first: what came before the end is still given
            if (gap := self._turn_page()) is not None:
                return gap
            if len(self._page) == PAGE:
                await asyncio.sleep(0)
            if not self._page:
                if closed:
                    raise StopAsyncIteration
                await self._wait()

    def _turn_page(self) -> Gap | None:
        first, items = self._feed._page(self.after)  # noqa: SLF001 - a feed and its cursors are one
        self._page.extend(items)
        if first <= self.after + 1:
            return None
        lost = first - 1 if self._until is None else min(first - 1, self._until)
        gap = Gap(self.after + 1, lost)
        self.after = first - 1
        return gap

    async def _wait(self) -> None:
        waiter = self._feed._news(self.after)  # noqa: SLF001 - a feed and its cursors are one
        if waiter is None:
            return
        self._ended = waiter
        try:
            await waiter
        finally:
            self._ended = None
            self._feed._leave(waiter)  # noqa: SLF001 - a feed and its cursors are one


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
