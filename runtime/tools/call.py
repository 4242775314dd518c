"""Running a tool's function: an async one on the loop, a sync one in a thread of its own.

A sync function cannot be stopped, so its thread is left behind when the call is cancelled, and what
it returns then is dropped. Each call has its own daemon thread: one that hangs keeps neither other
tools nor the process from going on, as it would in a pool.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

from runtime.errors import ToolFailed
from runtime.tools.context import ToolContext

__all__ = ["CLEAN_UP_SECONDS", "call"]

CLEAN_UP_SECONDS = 0.05
"""How long a cancelled async tool may clean up before the run ends without it: half of the 100 ms in
which a cancelled run has to be over."""

_logger = logging.getLogger(__name__)
_left_behind: set[asyncio.Task[Any]] = set()


async def call(function: Callable[[], Any], context: ToolContext) -> Any:
    """Call a function in the scope of `context` and return its result.

    Raises:
        ToolFailed: If the tool says so, or cancels itself.
        BaseException: Whatever the function raises, or what made reporting fail.
        asyncio.CancelledError: If the calling task is cancelled.
    """
    with context.scope.active():  # a task and a thread take the scope over when they are started
        if inspect.iscoroutinefunction(function):
            work: asyncio.Future[Any] = asyncio.create_task(function())
        else:
            work = _in_thread(function)
    try:
        await context.attend(work)
    finally:
        if isinstance(work, asyncio.Task):
            await _stop(work)
        else:
            work.cancel()
        # After the tool has stopped: agents below it report their own ends while they are stopped.
        await context.scope.outbox.aclose()
    return _result(work)


def _result(work: asyncio.Future[Any]) -> Any:
    if work.cancelled():
        raise ToolFailed("the tool cancelled itself")
    return work.result()


async def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task that is not done and give it a moment to clean up."""
    if task.done():
        return
    task.cancel()
    _left_behind.add(task)
    task.add_done_callback(_forget)
    await asyncio.wait((task,), timeout=CLEAN_UP_SECONDS)
    if not task.done():
        _logger.warning("a cancelled tool did not stop within %s s", CLEAN_UP_SECONDS)


def _forget(task: asyncio.Task[Any]) -> None:
    _left_behind.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.warning("a cancelled tool failed while it cleaned up", exc_info=error)


def _in_thread(function: Callable[[], Any]) -> asyncio.Future[Any]:
    """Start a function in a daemon thread and return the future of its result."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    variables = contextvars.copy_context()

    def settle(result: Any, error: Exception | None) -> None:
        if future.done():
            return  # nobody waits any more
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result: Any = None
        failure: Exception | None = None
        try:
            result = variables.run(function)
        except Exception as error:  # noqa: BLE001 - handed over to the caller
            failure = error
            if isinstance(error, StopIteration):  # no future takes one
                failure = RuntimeError("the tool raised StopIteration")
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a tool must not stop the server
            failure = RuntimeError(f"the tool raised {type(error).__name__}")
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _logger.debug("a tool outlived its loop")

    threading.Thread(target=work, name="tidegate-tool", daemon=True).start()
    return future
