"""Running a tool's function: an async one on the loop, a sync one in a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from runtime.abandon import in_thread, stop
from runtime.errors import ToolFailed
from runtime.tools.context import ToolContext

__all__ = ["call"]


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
            work = in_thread(function, "tool")
    try:
        await context.attend(work)
    finally:
        if not isinstance(work, asyncio.Task):
            work.cancel()
        elif not work.done():
            await stop((work,), "tool")
        # After the tool has stopped: agents below it report their own ends while they are stopped.
        await context.scope.outbox.aclose()
    return _result(work)


def _result(work: asyncio.Future[Any]) -> Any:
    if work.cancelled():
        raise ToolFailed("the tool cancelled itself")
    return work.result()
