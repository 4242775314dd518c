"""What is said from places that cannot wait, carried in order to whoever reports it.

Nodes, tools, hooks and threads speak through an outbox. Nothing runs while nobody speaks: the task
that reports is started by the first word and ends when all is said.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import Future as ThreadFuture

from runtime.errors import RunAborted
from runtime.events import Custom, Event, NodeUpdate, ToolProgress
from runtime.runnable import Emit

__all__ = ["LIMIT", "Outbox"]

LIMIT = 10_000
"""Events that may wait: a few MB. Beyond, what is said without waiting is merged."""


class Outbox:
    """An ordered way out for the events of one node, tool or agent.

    | said with     | from         | when `limit` events wait                       |
    |---------------|--------------|------------------------------------------------|
    | `put`         | the loop     | is merged into the newest one of its kind      |
    | `put`         | other thread | the thread waits until there is room           |
    | `send`        | a task       | the task waits; so it does until it is reported |

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
        self._waiting: deque[Event] = deque()
        self._reporter: asyncio.Task[None] | None = None
        self._turn = asyncio.Event()  # something was reported
        self._failure: BaseException | None = None
        self._closed = False

    def put(self, event: Event) -> None:
        """Say something without waiting for it to be reported. From any thread; never fails.

        After `aclose`, and after a failure, it says nothing.
        """
        if _running_loop() is self._loop:
            self._put(event)
            return
        taken: ThreadFuture[None] = ThreadFuture()
        try:
            self._loop.call_soon_threadsafe(self._take_from_thread, event, taken)
            taken.result()
        except (CancelledError, RuntimeError):  # RuntimeError: the loop is closed
            return

    async def send(self, event: Event) -> None:
        """Say something and return once it is reported, after all that was said before.

        Raises:
            RunAborted: If the outbox is closed: nobody listens any more.
            BaseException: Whatever `report` raised.
        """
        self._check()
        if not self._waiting and self._reporter is None:
            await self._report(event)
            return
        while len(self._waiting) >= self._limit:
            await self._next_turn()
        self._append(event)
        await self.flush()

    async def flush(self) -> None:
        """Return once all that was said is reported.

        Raises:
            BaseException: Whatever `report` raised.
        """
        while self._reporter is not None and self._failure is None:
            await asyncio.wait((self._reporter,))
        self._check()

    async def aclose(self) -> None:
        """Take no more, and drop what waits. Call `flush` first to lose nothing."""
        self._closed = True
        self._waiting.clear()
        self._turn.set()
        if self._reporter is not None:
            self._reporter.cancel()
            await asyncio.wait((self._reporter,))

    # --- on the loop ---------------------------------------------------------------------------

    def _put(self, event: Event) -> None:
        if self._closed or self._failure is not None:
            return
        if len(self._waiting) >= self._limit and self._merge(event):
            return
        self._append(event)

    def _append(self, event: Event) -> None:
        self._waiting.append(event)
        self.peak = max(self.peak, len(self._waiting))
        if self._reporter is None:
            self._reporter = self._loop.create_task(self._report_all())

    def _merge(self, event: Event) -> bool:
        """Merge an event into the newest waiting one of its kind; tell whether there was one."""
        for place in range(len(self._waiting) - 1, 0, -1):  # the first one is being reported
            merged = _merged(self._waiting[place], event)
            if merged is not None:
                self._waiting[place] = merged
                return True
        return False

    def _take_from_thread(self, event: Event, taken: ThreadFuture[None]) -> None:
        if len(self._waiting) < self._limit or self._closed or self._failure is not None:
            self._put(event)
            taken.set_result(None)
            return
        waiter = self._loop.create_task(self._next_turn())
        waiter.add_done_callback(lambda _: self._take_from_thread(event, taken))

    async def _next_turn(self) -> None:
        self._turn.clear()
        if not self._closed and self._failure is None:
            await self._turn.wait()

    async def _report_all(self) -> None:
        try:
            while self._waiting:
                await self._report(self._waiting[0])
                self._waiting.popleft()
                self._turn.set()
        except asyncio.CancelledError:
            if not self._closed:
                self._fail(asyncio.CancelledError())
            raise
        except BaseException as error:  # noqa: BLE001 - told to whoever waits, and `on_failure`
            self._fail(error)
        finally:
            self._reporter = None

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._waiting.clear()
        self._turn.set()
        if self._on_failure is not None:
            self._on_failure(error)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise RunAborted("nobody listens any more")


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
