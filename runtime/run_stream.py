"""A run as an async iterator: the one way in which programs consume runs in their own process.

The run is a task of its own. It starts with the first `__anext__`, waits while its consumer is slow,
and is over, with all that it had started, when the iteration is: at its end, at an error, at a
`break`, at `aclose`, or when the consumer's task is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Generic, TypeVar

from runtime.cancel import CancelToken
from runtime.errors import RunAborted, RunFault, RuntimeFault, RunTimeout
from runtime.events import Event, RunCancelled, RunCompleted, RunFailed, RunInterrupted
from runtime.runnable import Runnable, RunRequest

__all__ = ["RunEnd", "RunStream"]

T = TypeVar("T")
RunEnd = RunCompleted | RunFailed | RunCancelled | RunInterrupted

BUFFER = 100
"""Items that a run may be ahead of its consumer."""


class RunStream(AsyncIterator[T], Generic[T]):
    """What a run reports, as `project` sees it. For one consumer.

    Used with `async for`, with `anext`, and as `async with` so that leaving the block ends the run.
    A `break` out of `async for` ends it too.

    Attributes:
        end: The run's last event, once it is known.
        started: Whether anybody has begun to consume.
        peak: The most items that ever waited.
    """

    def __init__(
        self,
        runnable: Runnable,
        request: RunRequest,
        project: Callable[[Event], T | None],
        *,
        cancel: CancelToken | None = None,
        buffer: int = BUFFER,
    ) -> None:
        """Prepare a run; nothing happens yet.

        Args:
            runnable: What to run.
            request: What it is asked; its `timeout` limits the run, in seconds.
            project: Makes the item to yield of an event; None for nothing. Called with every event
                in order, before the run goes on.
            cancel: Ends the run when it is aborted.
            buffer: How many items the run may be ahead.
        """
        self.end: RunEnd | None = None
        self.started = False
        self.peak = 0
        self._runnable = runnable
        self._request = request
        self._project = project
        self._cancel = cancel
        self._buffer = buffer
        self._items: deque[T] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] | None = None
        self._stopping = False
        self._over = asyncio.Event()
        self._error: BaseException | None = None
        self._raised = False

    @property
    def over(self) -> bool:
        """Whether the run has ended, or will never begin."""
        return self._over.is_set()

    def error(self) -> BaseException | None:
        """Return what ended the run other than by its completion, an interrupt, or a wanted stop."""
        return self._error

    async def wait(self) -> None:
        """Return when the run is over. It does not consume: somebody else must."""
        await self._over.wait()

    # --- iterating -----------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[T]:  # noqa: PYI034 - a fresh generator, see below
        # A generator of its own for each loop: Python closes it when the loop is left by `break`,
        # and that ends the run.
        return self._iterate()

    async def _iterate(self) -> AsyncGenerator[T, None]:
        try:
            while True:
                try:
                    item = await self.__anext__()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await self.aclose()

    async def __anext__(self) -> T:
        """Return the next item.

        Raises:
            StopAsyncIteration: At the end.
            RunAborted: Once, if the run was cancelled.
            RunTimeout: Once, if it was not done in time.
            Exception: Once, what made it fail.
        """
        if not self.started:
            self._start()
        while not self._items:
            if self.over:
                self._raise_once()
                raise StopAsyncIteration
            self._news.clear()
            try:
                await self._news.wait()
            except asyncio.CancelledError:
                await self._stop()
                raise
        item = self._items.popleft()
        self._room.set()
        return item

    def _raise_once(self) -> None:
        if self._error is not None and not self._raised:
            self._raised = True
            raise self._error

    async def aclose(self) -> None:
        """End the run, if it is not over, and wait until everything that it started is gone."""
        self._items.clear()
        await self._stop()

    async def __aenter__(self) -> RunStream[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- the run -------------------------------------------------------------------------------

    def _start(self) -> None:
        self.started = True
        if self.over:
            return
        if self._cancel is not None:
            if self._cancel.aborted:
                self._settle(RunAborted(self._cancel.reason))
                return
            self._unwatch = self._cancel.watch(self._abort)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def _abort(self) -> None:
        self._stopping = True
        self._room.set()
        if self._task is not None:
            self._task.cancel()

    async def _stop(self) -> None:
        """Cancel the run and wait for it, however often this task is cancelled meanwhile."""
        if self._task is None:
            if not self.over:
                self._settle(RunAborted())
            return
        if not self.over:
            self._abort()
        cancelled = False
        while not self._task.done():
            try:
                await asyncio.wait((self._task,))
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._runnable.execute(self._request, self._take)
        except BaseException as raised:  # noqa: BLE001 - it reaches the consumer
            error = raised
        self._settle(error or self._verdict())

    async def _take(self, event: Event) -> None:
        """Take an event of the run; wait while the consumer is too far behind."""
        if isinstance(event, RunEnd) and self.end is None:
            self.end = event
        item = self._project(event)
        if item is None:
            return
        self._items.append(item)
        self.peak = max(self.peak, len(self._items))
        self._news.set()
        while len(self._items) >= self._buffer and not self._stopping and self.end is None:
            self._room.clear()
            await self._room.wait()

    def _verdict(self) -> BaseException | None:
        """Return the error that the run's end means to its consumer."""
        end = self.end
        aborted = RunAborted(self._cancel.reason if self._cancel is not None else None)
        if isinstance(end, RunFailed):
            info = end.error
            return end.exception or RunFault(info.code, info.message, retryable=info.retryable)
        if isinstance(end, RunCancelled):
            if end.reason == "timeout":
                return RunTimeout("the run was not done in time")
            asked = self._cancel is not None and self._cancel.stopping
            return None if asked and not self._stopping else aborted  # after a step, as asked
        if end is None:
            return aborted if self._stopping else RuntimeFault("the run ended without saying how")
        return None

    def _settle(self, error: BaseException | None) -> None:
        self._error = error
        if self._unwatch is not None:
            self._unwatch()
        self._over.set()
        self._news.set()
