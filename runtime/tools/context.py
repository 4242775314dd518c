"""What a running tool knows about its call, and how it speaks."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from typing import Any

from runtime.errors import RunAborted, ToolFailed
from runtime.events import ToolProgress
from runtime.outbox import Outbox
from runtime.plain import plain
from runtime.runnable import Emit, RunRequest
from runtime.scope import Scope

__all__ = ["ToolContext"]


class ToolContext:
    """One call of a tool. A tool that has a parameter of this type is given it.

    Nothing is reported after the call is over. Whatever the tool calls finds the same scope by
    itself: `emit`, `write` and `get_stream_writer` work there too.

    Attributes:
        call_id: The call's id.
        run_id: The run that the call belongs to.
        idempotency_key: The same for each attempt at this call, also after a crash.
        deadline: When the call is cut off, on the clock of `time.monotonic()`, in seconds; None
            if nothing limits it.
        attempt: 1, and one more each time that the call is tried again.
        scope: Where in the run the tool stands.
    """

    def __init__(
        self,
        *,
        call_id: str,
        request: RunRequest,
        path: tuple[str, ...],
        report: Emit,
        idempotency_key: str,
        deadline: float | None = None,
        attempt: int = 1,
    ) -> None:
        """Prepare one attempt at a call, on the running loop.

        Args:
            call_id: The call's id.
            request: What the run was asked.
            path: From the root to the agent that makes the call.
            report: Takes what the tool says.
            idempotency_key: The same for each attempt.
            deadline: When the call is cut off.
            attempt: Which attempt this is, from 1.
        """
        self.call_id = call_id
        self.run_id = request.run_id
        self.idempotency_key = idempotency_key
        self.deadline = deadline
        self.attempt = attempt
        self.scope = Scope(
            request=request,
            path=path,
            outbox=Outbox(report, on_failure=self._break),
            call_id=call_id,
        )
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._relays: set[asyncio.Task[None] | None] = set()
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
        if self._over:
            raise _over()
        event = ToolProgress(
            run_id=self.run_id,
            path=self.scope.path,
            call_id=self.call_id,
            data=plain(data, f"tool call {self.call_id!r}"),
        )
        try:
            await self.scope.outbox.send(event)
        except RunAborted as error:
            raise _over() from error
        except Exception as error:
            # The log is gone, and with it the run. A tool could take an `Exception` for a failure
            # of its own and go on for ever.
            raise asyncio.CancelledError from error

    def progress_from_thread(self, data: Any) -> None:
        """Report progress from a sync tool. Blocks until the report is in the log.

        Raises:
            ToolFailed: If the call is over; a good moment for the tool to stop.
        """
        saying = self._relay(data)
        try:
            asyncio.run_coroutine_threadsafe(saying, self._loop).result()
        except CancelledError as error:
            raise _over() from error
        except RuntimeError as error:  # the loop is closed
            saying.close()
            raise _over() from error

    async def _relay(self, data: Any) -> None:
        task = asyncio.current_task()
        self._relays.add(task)
        try:
            await self.progress(data)
        finally:
            self._relays.discard(task)

    def _break(self, error: BaseException) -> None:
        if not self._broken.done():
            self._broken.set_result(None)

    async def attend(self, work: asyncio.Future[Any]) -> None:
        """Wait until `work` is done and what it said is reported; then the call is over.

        Raises:
            BaseException: At once, what made reporting fail.
        """
        try:
            await asyncio.wait((work, self._broken), return_when=asyncio.FIRST_COMPLETED)
            await self.scope.outbox.flush()
        finally:
            self._over = True
            for relay in self._relays:
                if relay is not None:
                    relay.cancel()


def _over() -> ToolFailed:
    return ToolFailed("the call is over: nobody waits for this tool any more")
