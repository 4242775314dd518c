"""The streams that are open, so that a server that stops can end them all at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.errors import ShuttingDown

__all__ = ["OpenStreams", "first_error"]


class OpenStreams:
    """The open streams of one server. Watching costs a stream nothing while it runs.

    Attributes:
        holders: How many clients hold a run, by its session and its own id; see `holding`.
    """

    def __init__(self) -> None:
        self._deadlines: set[asyncio.Timeout] = set()
        self._draining = False
        self.holders: Counter[tuple[str, str]] = Counter()

    @property
    def draining(self) -> bool:
        """Whether the server is stopping."""
        return self._draining

    def check(self) -> None:
        """Refuse new work while the server is stopping.

        Raises:
            ShuttingDown: If it is.
        """
        if self._draining:
            raise ShuttingDown

    @asynccontextmanager
    async def until_drained(self) -> AsyncIterator[None]:
        """Run a block that is ended when the server stops.

        It is a time limit that is never set until then: so the end arrives as one exception,
        cannot be taken for a client that went away, and needs no task or timer of its own.

        Raises:
            ShuttingDown: In place of whatever the block was waiting for.
        """
        self.check()
        deadline = asyncio.timeout(None)
        try:
            async with deadline:
                self._deadlines.add(deadline)
                try:
                    yield
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            if deadline.expired():
                raise ShuttingDown from None
            raise

    def drain(self) -> None:
        """End all streams and let none begin. Safe to call twice."""
        self._draining = True
        now = asyncio.get_running_loop().time()
        for deadline in list(self._deadlines):
            self._deadlines.discard(deadline)
            deadline.reschedule(now)


@contextmanager
def first_error() -> Iterator[None]:
    """Raise the first error of a task group in place of the group.

    The tasks of one connection end together; what ended them is one fact.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group
