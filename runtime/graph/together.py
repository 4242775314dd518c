"""The nodes of a superstep, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from runtime.abandon import stop
from runtime.nested import Paused

__all__ = ["together"]


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
            await stop(tasks, "node")
    return raised
