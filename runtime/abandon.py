"""Running other people's code so that it can be left behind: tasks and threads that do not stop.

A run that is cancelled has to be over within 100 ms, whatever its nodes and tools do. An async
function is cancelled and given a moment to clean up. A sync one cannot be stopped: its thread goes
on, and what it returns is dropped. Each has a daemon thread of its own, so that one that hangs keeps
neither others nor the process from going on, as it would in a pool.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

__all__ = ["CLEAN_UP_SECONDS", "finish", "in_thread", "stop", "undisturbed"]

CLEAN_UP_SECONDS = 0.05
"""How long a cancelled task may clean up before the run ends without it: half of the 100 ms within
which a cancelled run is over."""

_logger = logging.getLogger(__name__)
_left_behind: set[asyncio.Task[Any]] = set()


async def stop(tasks: Sequence[asyncio.Task[Any]], what: str) -> None:
    """Cancel tasks that are not done, and give them a moment to clean up.

    Args:
        tasks: What to stop.
        what: What they are, for the log: "tool", "node".

    Raises:
        asyncio.CancelledError: Afterwards, if this task is cancelled meanwhile.
    """

    def forget(task: asyncio.Task[Any]) -> None:
        _left_behind.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.warning("a cancelled %s failed while it cleaned up", what, exc_info=error)

    running = [task for task in tasks if not task.done()]
    for task in running:
        _left_behind.add(task)
        task.add_done_callback(forget)
        task.cancel()
    loop = asyncio.get_running_loop()
    until = loop.time() + CLEAN_UP_SECONDS
    cancelled = False
    while running and (left := until - loop.time()) > 0:
        try:
            _, rest = await asyncio.wait(running, timeout=left)
        except asyncio.CancelledError:
            cancelled = True
        else:
            running = list(rest)
    if running:
        _logger.warning("a cancelled %s did not stop within %s s", what, CLEAN_UP_SECONDS)
    if cancelled:
        raise asyncio.CancelledError


async def finish(task: asyncio.Task[Any]) -> None:
    """Wait for a task, however often this one is cancelled meanwhile. What it raised stays in it.

    Raises:
        asyncio.CancelledError: Afterwards, if this task was cancelled meanwhile.
    """
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


async def undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Do something to its end, also when this task is cancelled meanwhile.

    Raises:
        asyncio.CancelledError: Afterwards, if this task was cancelled meanwhile.
        BaseException: Whatever the work raises; that comes first.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        await finish(task)
    finally:
        task.result()


def in_thread(function: Callable[[], Any], what: str) -> asyncio.Future[Any]:
    """Start a function in a thread, with the context of the caller, and return its future.

    Args:
        function: What to call.
        what: What it is, for error texts: "tool", "node".
    """
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
        except StopIteration:  # no future takes one
            failure = RuntimeError(f"the {what} raised StopIteration")
        except Exception as error:  # noqa: BLE001 - handed over to the caller
            failure = error
        except BaseException as error:  # noqa: BLE001 - sys.exit() in it must not stop the server
            failure = RuntimeError(f"the {what} raised {type(error).__name__}")
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _logger.debug("a %s outlived its loop", what)

    threading.Thread(target=work, name=f"tidegate-{what}", daemon=True).start()
    return future
