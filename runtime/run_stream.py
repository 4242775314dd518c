"""A run as an async iterator: the one way in which programs consume runs in their own process.

The run is a task of its own. It starts with the first `__anext__`, waits while its consumer is slow,
and is over, with all that it had started, when the iteration is: at its end, at an error, at
`aclose`, or when the consumer's task is cancelled. A `break` out of `async for` cannot wait: it ends
the run at once, and what the run had started is gone a moment later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar, cast

from runtime.cancel import CancelToken
from runtime.errors import RunAborted, RunFault, RuntimeFault, RunTimeout
from runtime.events import Event, RunCancelled, RunCompleted, RunFailed, RunInterrupted
from runtime.runnable import Emit, RunRequest

__all__ = ["Executes", "RunEnd", "RunStream"]

T = TypeVar("T")
RunEnd = RunCompleted | RunFailed | RunCancelled | RunInterrupted
_ENDS: frozenset[type[Any]] = frozenset({RunCompleted, RunFailed, RunCancelled, RunInterrupted})

BUFFER = 100
"""Items that a run may be ahead of its consumer."""

_inside: ContextVar[tuple[RunStream[Any], ...]] = ContextVar("tidegate_run_streams", default=())
"""The streams whose runs this code is part of; it cannot wait for them."""


class Executes(Protocol):
    """What a stream needs of a `Runnable`."""

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        """Do the run and report it; see `Runnable.execute`."""


class RunStream(AsyncIterator[T], Generic[T]):
    """What a run reports, as `project` sees it. For one consumer.

    Used with `async for`, with `anext`, and as `async with` so that leaving the block ends the run.
    A `break` out of `async for` ends it too.

    What the run has reported is handed over before its error is raised. A consumer that leaves
    before the end makes the run an aborted one, also where it was done already.

    Attributes:
        end: The run's last event, once it is known.
        started: Whether anybody has begun to consume.
        peak: The most items that ever waited.
    """

    def __init__(
        self,
        runnable: Executes,
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
                in order, before the run goes on. What it raises ends the run.
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
        self._consumer: asyncio.Task[Any] | None = None
        self._unwatch: Callable[[], None] | None = None
        self._stopping = False
        self._left = False
        self._unlimited = False
        self._last_shown = (
            False  # the last event has an item, so its consumer knows that it is last
        )
        self._finished = False  # the consumer was told that there is no more
        self._over = asyncio.Event()
        self._error: BaseException | None = None
        self._raised = False

    @property
    def over(self) -> bool:
        """Whether the run has ended, or will never begin."""
        return self._over.is_set()

    @property
    def leaving(self) -> bool:
        """Whether the run is over, or is being stopped."""
        return self.over or self._stopping

    def error(self) -> BaseException | None:
        """Return what ended the run other than by its completion, an interrupt, or a wanted stop."""
        return self._error

    async def wait(self) -> None:
        """Return when the run is over. It does not consume: somebody else must.

        The task that consumes may call it too: nobody reads on then, so the run no longer waits to
        be read, and its items are kept.

        Raises:
            RuntimeFault: If it is called from inside the run, which would wait for itself.
        """
        if self in _inside.get():
            raise RuntimeFault("a run cannot wait for its own end")
        consumer = self._consumer
        if consumer is asyncio.current_task():
            self._lift()
        elif consumer is not None:
            consumer.add_done_callback(self._lift)
        try:
            await self._over.wait()
        finally:
            if consumer is not None:
                consumer.remove_done_callback(self._lift)

    def _lift(self, _: object = None) -> None:
        self._unlimited = True
        self._room.set()

    # --- iterating -----------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[T]:  # noqa: PYI034 - one of its own for each loop
        return _Iteration(self)

    async def __anext__(self) -> T:
        """Return the next item.

        Raises:
            StopAsyncIteration: At the end.
            RunAborted: Once, if the run was cancelled.
            RunTimeout: Once, if it was not done in time.
            Exception: Once, what made it fail.
        """
        if not self.started:
            self._consumer = asyncio.current_task()
            self._start()
        while not self._items:
            if self.over:
                self._finished = True
                self._raise_once()
                raise StopAsyncIteration
            self._consumer = asyncio.current_task()
            self._news.clear()
            try:
                await self._news.wait()
            except asyncio.CancelledError:
                self.leave()
                await self._stop()
                raise
        item = self._items.popleft()
        self._finished = self._last_shown and not self._items
        self._room.set()
        return item

    def _raise_once(self) -> None:
        if self._error is not None and not self._raised:
            self._raised = True
            raise self._error

    def leave(self) -> None:
        """End the run, if its iteration is not over, without waiting for it. Only on the loop."""
        if self._finished:
            return
        self._left = True
        self._items.clear()
        if self._task is None or self._task.done():
            self._settle(self._error or self._aborted())
        else:
            self._abort()

    async def aclose(self) -> None:
        """End the run, if it is not over, and wait until everything that it started is gone.

        From inside the run it does not wait.
        """
        if self._finished and self.over:
            return
        self.leave()
        await self._stop()
        self._items.clear()

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
                self._settle(self._aborted())
                return
            self._unwatch = self._cancel.watch(self._abort)
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._done)

    def _abort(self) -> None:
        if self._stopping:
            return  # a second cancellation would disturb the cleaning up after the first
        self._stopping = True
        self._room.set()
        if self._task is not None:
            self._task.cancel()

    async def _stop(self) -> None:
        """Wait until the run is over, however often this task is cancelled meanwhile."""
        if self in _inside.get():
            return
        cancelled = False
        while not self.over:
            try:
                await self._over.wait()
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    async def _run(self) -> None:
        _inside.set((*_inside.get(), self))
        error: BaseException | None = None
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._runnable.execute(self._request, self._take)
        except BaseException as raised:  # noqa: BLE001 - it reaches the consumer
            error = raised
        self._error = error

    def _done(self, _: object) -> None:
        # Not at the end of the task: one that is cancelled before its first step has none.
        self._settle(self._error or self._verdict())

    async def _take(self, event: Event) -> None:
        """Take an event of the run; wait while the consumer is too far behind."""
        item = self._project(event)
        if event.__class__ in _ENDS and self.end is None:
            self.end = cast("RunEnd", event)
            self._last_shown = item is not None
        if item is not None:
            await self.put(item)

    async def put(self, item: T) -> None:
        """Yield something that no event has made; wait while the consumer is too far behind.

        For the run itself, in the place of events that only its consumer would see.
        """
        self._items.append(item)
        waiting = len(self._items)
        self.peak = max(self.peak, waiting)
        if waiting == 1:
            self._news.set()
        while len(self._items) >= self._buffer and not self._free():
            self._room.clear()
            await self._room.wait()

    def _free(self) -> bool:
        """Tell whether the run need not wait for its consumer."""
        return self._stopping or self._unlimited or self.end is not None

    def _verdict(self) -> BaseException | None:
        """Return the error that the run's end means to its consumer."""
        end = self.end
        if isinstance(end, RunFailed):
            info = end.error
            return end.exception or RunFault(info.code, info.message, retryable=info.retryable)
        if isinstance(end, RunCancelled):
            if end.reason == "timeout":
                return RunTimeout("the run was not done in time")
            token = self._cancel
            wanted = token is not None and token.stopping and not token.aborted
            return None if wanted else self._aborted()
        if self._left or (end is None and self._stopping):
            return self._aborted()
        return RuntimeFault("the run ended without saying how") if end is None else None

    def _aborted(self) -> RunAborted:
        return RunAborted(self._cancel.reason if self._cancel is not None else None)

    def _settle(self, error: BaseException | None) -> None:
        self._error = error
        if self._unwatch is not None:
            self._unwatch()
        self._over.set()
        self._news.set()


class _Iteration(AsyncIterator[T], Generic[T]):
    """One `async for` over a stream. When the loop is left, Python drops this, and the run ends."""

    def __init__(self, stream: RunStream[T]) -> None:
        self._stream = stream
        self._loop: asyncio.AbstractEventLoop | None = None

    def __anext__(self) -> Awaitable[T]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._stream.__anext__()

    def __del__(self) -> None:
        # Maybe in another thread, where the garbage collector happened to run.
        if (loop := self._loop) is None:
            return
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is loop:
            self._stream.leave()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the run gone with it
            loop.call_soon_threadsafe(self._stream.leave)
