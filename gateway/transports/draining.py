"""The streams that are open, so that a server that stops can end them in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.errors import ShuttingDown

__all__ = ["OpenStreams", "first_error"]


class OpenStreams:
    """The open streams of one server. Watching costs a stream nothing while it runs.

    Attributes:
        count: How many are open.
    """

    def __init__(self) -> None:
        self._deadlines: set[asyncio.Timeout] = set()
        self._none = asyncio.Event()
        self._none.set()
        self.count = 0
        self._ready = True
        self._draining = False

    def check_ready(self) -> None:
        """Tell a load balancer whether to send clients here.

        Raises:
            ShuttingDown: If not.
        """
        if not self._ready:
            raise ShuttingDown

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
                self.count += 1
                self._none.clear()
                try:
                    yield
                finally:
                    self._deadlines.discard(deadline)
                    self.count -= 1
                    if not self.count:
                        self._none.set()
        except TimeoutError:
            if deadline.expired():
                raise ShuttingDown from None
            raise

    def unready(self) -> None:
        """Want no more clients; those who come all the same are served as ever."""
        self._ready = False

    def refuse(self) -> None:
        """Let no stream begin; those that are open go on."""
        self._ready = False
        self._draining = True

    def drain(self, *, within: float = 0.0) -> None:
        """Let no stream begin, and end those that are open. Safe to call twice.

        Args:
            within: Seconds, each stream at another moment of them.
        """
        self.refuse()
        now = asyncio.get_running_loop().time()
        for deadline in list(self._deadlines):
            self._deadlines.discard(deadline)
            deadline.reschedule(now + random.uniform(0, within))  # noqa: S311 - spreads load

    async def ended(self) -> None:
        """Return when no stream is open; what was written may still be on its way."""
        await self._none.wait()


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
