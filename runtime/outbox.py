"""What is said from places that cannot wait, carried in order to whoever reports it.

Nodes, tools, hooks and threads speak through an outbox. Nothing runs while nobody speaks: the task
that reports is started by the first word and ends when all is said.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from heapq import heappop, heappush
from itertools import count

from runtime.errors import RunAborted
from runtime.events import Custom, Event, NodeUpdate, ToolProgress
from runtime.runnable import Emit

__all__ = ["LIMIT", "Outbox"]

LIMIT = 10_000
"""Events that may wait: a few MB. Beyond, what is said without waiting is merged."""


POLL = 0.5
"""Seconds after which a waiting thread looks whether the loop is still there to answer it."""


class Outbox:
    """An ordered way out for the events of one node, tool or agent.

    | said with     | from         | when `limit` events wait                       |
    |---------------|--------------|------------------------------------------------|
    | `put`         | the loop     | is merged into the newest one of its kind      |
    | `put`         | other thread | the thread waits until there is room           |
    | `send`        | a task       | the task waits; so it does until it is reported |

    What is not of a kind that can be merged is kept beyond the limit; all else is at most `limit`
    events and one more of each kind.

    Attributes:
        peak: The most events that ever waited.
    """

    def __init__(
        self,
        report: Emit,
        *,
        limit: int = LIMIT,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Make an outbox for the running loop.

        Args:
            report: Takes the events, one after the other.
            limit: How many may wait.
            on_failure: Told when `report` raised: whoever speaks may be stopped then. What is said
                later is dropped, and `send` and `flush` raise what `report` raised.
        """
        self.peak = 0
        self._report = report
        self._limit = limit
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Event] = deque()  # the first one is being reported
        self._said = 0  # events that ever waited; the last one has this number
        self._threads: deque[tuple[Event, ThreadFuture[None]]] = deque()
        self._senders: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap
        self._tickets = count()
        self._reporter: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._closed = False

    def put(self, event: Event) -> None:
        """Say something without waiting for it to be reported. From any thread; never fails.

        After `aclose`, and after a failure, it says nothing.
        """
        if self._silent:
            return
        if _running_loop() is self._loop:
            self._put(event)
            return
        taken: ThreadFuture[None] = ThreadFuture()
        try:
            self._loop.call_soon_threadsafe(self._take_from_thread, event, taken)
        except RuntimeError:  # the loop is closed
            return
        while not (taken.done() or self._loop.is_closed()):
            with contextlib.suppress(TimeoutError):
                taken.result(POLL)

    async def send(self, event: Event) -> None:
        """Say something and return once it is reported, after all that was said before.

        Raises:
            RunAborted: If the outbox is closed: nobody listens any more.
            BaseException: Whatever `report` raised.
        """
        self._check()
        if not self._waiting:
            await self._report_now(event)
            return
        while len(self._waiting) >= self._limit:
            await self._reported(self._said - len(self._waiting) + 1)
        if self._waiting:
            self._append(event)
            await self._reported(self._said)
        else:
            await self._report_now(event)

    async def flush(self) -> None:
        """Return once all that was put before is reported.

        Raises:
            RunAborted: If the outbox is closed.
            BaseException: Whatever `report` raised.
        """
        if self._waiting:
            await self._reported(self._said)
        self._check()

    async def aclose(self) -> None:
        """Take no more, and drop what waits. Call `flush` first to lose nothing."""
        self._closed = True
        self._drop()
        reporter = self._reporter
        if reporter is not None and not reporter.done():
            reporter.cancel()
            await asyncio.wait((reporter,))

    # --- on the loop ---------------------------------------------------------------------------

    @property
    def _silent(self) -> bool:
        return self._closed or self._failure is not None

    def _put(self, event: Event) -> None:
        if self._silent or (len(self._waiting) >= self._limit and self._merge(event)):
            return
        self._append(event)

    def _append(self, event: Event) -> None:
        self._waiting.append(event)
        self._said += 1
        self.peak = max(self.peak, len(self._waiting))
        if self._reporter is None or self._reporter.done():
            self._reporter = self._loop.create_task(self._report_all())
            self._reporter.add_done_callback(self._stopped)

    def _merge(self, event: Event) -> bool:
        """Merge an event into the newest waiting one of its kind; tell whether there was one."""
        for place in range(len(self._waiting) - 1, 0, -1):
            merged = _merged(self._waiting[place], event)
            if merged is not None:
                self._waiting[place] = merged
                return True
        return False

    def _take_from_thread(self, event: Event, taken: ThreadFuture[None]) -> None:
        if not self._silent and len(self._waiting) >= self._limit:
            self._threads.append((event, taken))
            return
        if not self._silent:
            self._append(event)
        taken.set_result(None)

    async def _reported(self, number: int) -> None:
        """Wait until the event with this number is reported.

        Raises:
            RunAborted: If the outbox is closed.
            BaseException: Whatever `report` raised.
        """
        self._check()
        waiter: asyncio.Future[None] = self._loop.create_future()
        heappush(self._senders, (number, next(self._tickets), waiter))
        await waiter
        self._check()

    async def _report_now(self, event: Event) -> None:
        try:
            await self._report(event)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(error)
            raise

    async def _report_all(self) -> None:
        try:
            while self._waiting:
                await self._report(self._waiting[0])
                if self._waiting:  # else it was closed meanwhile
                    self._waiting.popleft()
                self._go_on()
        except asyncio.CancelledError:
            self._fail(asyncio.CancelledError())
            raise
        except BaseException as error:  # noqa: BLE001 - told to whoever waits, and `on_failure`
            self._fail(error)

    def _go_on(self) -> None:
        """Let in who waits for room, and wake who waits for what is reported now."""
        while self._threads and len(self._waiting) < self._limit:
            event, taken = self._threads.popleft()
            self._append(event)
            taken.set_result(None)
        reported = self._said - len(self._waiting)
        while self._senders and self._senders[0][0] <= reported:
            _wake(heappop(self._senders)[2])

    def _stopped(self, reporter: asyncio.Task[None]) -> None:
        # One that is cancelled before its first step cannot say so itself.
        if reporter.cancelled() and reporter is self._reporter:
            self._fail(asyncio.CancelledError())

    def _fail(self, error: BaseException) -> None:
        if self._silent:
            return
        self._failure = error
        self._drop()
        if self._on_failure is not None:
            self._on_failure(error)

    def _drop(self) -> None:
        """Forget what waits, and wake all who wait."""
        self._waiting.clear()
        while self._threads:
            self._threads.popleft()[1].set_result(None)
        while self._senders:
            _wake(self._senders.pop()[2])

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise RunAborted("nobody listens any more")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _merged(waiting: Event, event: Event) -> Event | None:
    """Return the newer of two reports with what it does not say anew; None if they do not fit."""
    match waiting, event:
        case NodeUpdate(), NodeUpdate() if (waiting.node, waiting.path) == (event.node, event.path):
            return event.model_copy(update={"updates": {**waiting.updates, **event.updates}})
        case ToolProgress(), ToolProgress() if waiting.call_id == event.call_id:
            return event
        case Custom(), Custom() if (waiting.name, waiting.path) == (event.name, event.path):
            return event
        case _:
            return None
