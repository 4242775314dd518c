"""What a running tool knows about its call, and how it reports progress."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from runtime.errors import ToolFailed

__all__ = ["Report", "ToolContext"]

Report = Callable[[Any], Awaitable[None]]
"""Takes one progress report; returns once it is in the log."""


class ToolContext:
    """One call of a tool. A tool that has a parameter of this type is given it.

    What the tool reports is carried to the task that runs the call and reported there: from an
    async tool, or from the thread of a sync one. Nothing is reported after the call is over.

    Attributes:
        call_id: The call's id.
        run_id: The run that the call belongs to.
        idempotency_key: The same for each attempt at this call, also after a crash.
        deadline: When the call is cut off, on the clock of `time.monotonic()`, in seconds; None
            if nothing limits it.
    """

    def __init__(
        self, *, call_id: str, run_id: str, idempotency_key: str, deadline: float | None = None
    ) -> None:
        self.call_id = call_id
        self.run_id = run_id
        self.idempotency_key = idempotency_key
        self.deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._waiting: deque[tuple[Any, Future[None]]] = deque()
        self._over = False

    @property
    def over(self) -> bool:
        """Whether nobody waits for the tool any more: the run was cancelled or the time is up."""
        return self._over

    async def progress(self, data: Any) -> None:
        """Report progress from an async tool. Returns once the report is in the log.

        Raises:
            ToolFailed: If the call is over.
        """
        taken: Future[None] = Future()
        self._put(data, taken)
        await asyncio.wrap_future(taken)

    def progress_from_thread(self, data: Any) -> None:
        """Report progress from a sync tool. Blocks until the report is in the log.

        Raises:
            ToolFailed: If the call is over; a good moment for the tool to stop.
        """
        taken: Future[None] = Future()
        try:
            self._loop.call_soon_threadsafe(self._put, data, taken)
            taken.result()
        except (CancelledError, RuntimeError) as error:  # RuntimeError: the loop is closed
            raise _over() from error

    def _put(self, data: Any, taken: Future[None]) -> None:
        if self._over:
            taken.set_exception(_over())
            return
        self._waiting.append((data, taken))
        self._news.set()

    async def attend(self, work: asyncio.Future[Any], report: Report) -> None:
        """Report what the tool says until `work` is done; then the call is over.

        Raises:
            BaseException: Whatever `report` raises.
        """
        work.add_done_callback(lambda _: self._news.set())
        try:
            while not work.done() or self._waiting:
                await self._news.wait()
                self._news.clear()
                while self._waiting:
                    data, taken = self._waiting[0]
                    await report(data)
                    self._waiting.popleft()
                    if not taken.cancelled():
                        taken.set_result(None)
        finally:
            self._over = True
            for _, taken in self._waiting:
                taken.cancel()


def _over() -> ToolFailed:
    return ToolFailed("the call is over: nobody waits for this tool any more")
