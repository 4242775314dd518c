"""Runs that are held by those who listen: the last one to go away before the end ends the run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from gateway.errors import GatewayError
from gateway.sessions.manager import RunPlace
from gateway.transports.services import Services

__all__ = ["begun", "holding"]

_LOGGER = logging.getLogger(__name__)


async def begun(
    services: Services, beginning: Coroutine[Any, Any, RunPlace], *, held: bool = True
) -> RunPlace:
    """Begin a run that is to be held, and return it.

    If the client goes away meanwhile, the run is cancelled as soon as it has begun.

    Args:
        services: The server's parts.
        beginning: What begins it.
        held: Whether it is to be held at all.

    Raises:
        GatewayError: What `beginning` raises.
    """
    if not held:
        return await beginning
    task = asyncio.create_task(beginning)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if task.exception() is None:
            await _leave(services, task.result())
        raise


@asynccontextmanager
async def holding(
    services: Services, place: RunPlace, has_ended: Callable[[], bool]
) -> AsyncIterator[None]:
    """Hold a run for the time of a block, on behalf of a client.

    A client whose connection breaks may be back on another one before the server knows. So a run is
    cancelled, with the reason `disconnect`, only when nobody else holds it. A server that stops
    cancels nothing: the run is taken over.

    Args:
        services: The server's parts.
        place: The run.
        has_ended: Whether the client has been told of the run's end, or that it waits for a human.
    """
    holders = services.streams.holders
    run = (place.session_id, place.run_id)
    holders[run] += 1
    try:
        yield
    finally:
        holders[run] -= 1
        if not holders[run]:
            del holders[run]
            if not (has_ended() or services.streams.draining):
                await _leave(services, place)


async def _leave(services: Services, place: RunPlace) -> None:
    """Cancel the run of a client that has gone. Nobody is left to be told if that fails."""
    try:
        await services.manager.leave(place.session_id, place.run_id)
    except GatewayError as error:
        _LOGGER.info(
            "the run of a client that has gone goes on",
            extra={"run_id": place.run_id, "code": error.code},
        )
