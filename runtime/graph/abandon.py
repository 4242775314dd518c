"""Running things side by side, and stopping tasks that may not want to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from runtime.nested import Paused

__all__ = ["CLEAN_UP_SECONDS", "finish", "stop", "together"]

CLEAN_UP_SECONDS = 0.05
"""How long a cancelled node may clean up before the run ends without it: half of the 100 ms within
which a cancelled run is over."""

_logger = logging.getLogger(__name__)
_left_behind: set[asyncio.Task[Any]] = set()


async def together(
    work: Sequence[Coroutine[Any, Any, None]], on_failure: Callable[[], None]
) -> list[BaseException | None]:
    """Do all of it at the same time, and return what each raised.

    When one fails, the others are stopped; when one waits for a human, they go on.

    Args:
        work: What to do.
        on_failure: Called before others are stopped.

    Raises:
        asyncio.CancelledError: If the task is cancelled; all are stopped then.
    """
    loop = asyncio.get_running_loop()
    raised: list[BaseException | None] = [None] * len(work)
    left = len(work)
    over: asyncio.Future[None] = loop.create_future()

    async def one(place: int, part: Coroutine[Any, Any, None]) -> None:
        nonlocal left
        try:
            await part
        except BaseException as error:
            raised[place] = error
            if not isinstance(error, Paused | asyncio.CancelledError) and not over.done():
                over.set_result(None)
            if not isinstance(error, Paused | Exception):
                raise
        finally:
            left -= 1
            if not left and not over.done():
                over.set_result(None)

    tasks = [loop.create_task(one(place, part)) for place, part in enumerate(work)]
    try:
        await over
    finally:
        if left:
            on_failure()
            await stop(tasks)
    return raised


async def stop(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks that are not done, and give them a moment to clean up.

    Raises:
        asyncio.CancelledError: Afterwards, if this task is cancelled meanwhile.
    """
    running = [task for task in tasks if not task.done()]
    for task in tasks:
        _left_behind.add(task)
        task.add_done_callback(_forget)  # also of one that is done: it looks at what it raised
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
        _logger.warning("a cancelled node did not stop within %s s", CLEAN_UP_SECONDS)
    if cancelled:
        raise asyncio.CancelledError


async def finish(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait for tasks, however often this one is cancelled meanwhile.

    Raises:
        asyncio.CancelledError: Afterwards, if this task was cancelled meanwhile.
    """
    cancelled = False
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def _forget(task: asyncio.Task[Any]) -> None:
    _left_behind.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.debug("a cancelled node failed while it cleaned up", exc_info=error)
