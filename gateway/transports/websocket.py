"""The WebSocket: any number of sessions on one connection, and commands.

This file opens and closes the connection; what is said on it is in `conversation`, or in whatever
else talks on a WebSocket.

    ends because                     close code
    ────────────                     ──────────
    the client closed                the client's
    the server stops                 1012   come back with your cursors
    the store was closed             1013   the same, later
    the server is full               1013   the same, later
    the client takes no bytes        4008   the same; cut if even that cannot be sent
    a message over the size limit    1009
    text that is not UTF-8           1007
    no pong                          (cut)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import WSCloseCode, web

from gateway.errors import GatewayError, ServerFull, SlowClient
from gateway.transports.conversation import Conversation
from gateway.transports.draining import first_error
from gateway.transports.outlet import Outlet
from gateway.transports.services import Services
from gateway.transports.stream import outlet_of

__all__ = ["Talk", "hold_socket", "websocket"]

_LOGGER = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0
"""How long a client may take to answer a close frame before the connection is cut."""

_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455, section 5.5)."""


Talk = Callable[[web.WebSocketResponse, Outlet, asyncio.TaskGroup], Awaitable[None]]
"""What is said on a connection until the client closes it; its tasks end with the connection."""


async def websocket(request: web.Request, services: Services) -> web.StreamResponse:
    """Serve one WebSocket until it ends.

    Raises:
        ShuttingDown: If the server is stopping, before the upgrade.
    """

    def talk(
        socket: web.WebSocketResponse, outlet: Outlet, tasks: asyncio.TaskGroup
    ) -> Awaitable[None]:
        return Conversation(socket, outlet, services, tasks).hold()

    return await hold_socket(request, services, talk)


async def hold_socket(
    request: web.Request, services: Services, talk: Talk, *, limit: int | None = None
) -> web.StreamResponse:
    """Open a WebSocket, let `talk` happen on it, and close it in the way that tells why.

    Args:
        request: The request to upgrade.
        services: The server's parts.
        talk: What happens on it.
        limit: Bytes that a frame of the client may have; default: what a command may have.

    Raises:
        ShuttingDown: If the server is stopping, before the upgrade.
    """
    services.streams.check()
    settings = services.settings
    socket = web.WebSocketResponse(
        heartbeat=settings.ws_heartbeat_s,
        compress=False,
        # aiohttp refuses what reaches this.
        max_msg_size=(settings.max_body_bytes if limit is None else limit) + 1,
        timeout=CLOSE_SECONDS,
        autoping=False,  # pings are answered at the client's pace: see `hearing`
    )
    if not socket.can_prepare(request).ok:
        raise web.HTTPBadRequest(text="this is a WebSocket: connect to it with an upgrade")
    await socket.prepare(request)
    try:
        outlet = outlet_of(request, services)
        try:
            with services.admission.stream(settings.max_streams):
                error = await _converse(socket, outlet, services, talk)
        except ServerFull as full:  # a browser cannot see the status of a refused upgrade
            error = full
        await _close(socket, outlet, error)
    except ConnectionError:
        _LOGGER.debug("a client went away")
    return socket


async def _converse(
    socket: web.WebSocketResponse, outlet: Outlet, services: Services, talk: Talk
) -> GatewayError | None:
    """Talk until one side ends it; return why, if it was not the client."""
    try:
        async with services.streams.until_drained():
            with first_error():
                async with asyncio.TaskGroup() as tasks:
                    await talk(socket, outlet, tasks)
    except GatewayError as error:
        return error
    except ConnectionError:
        raise
    except Exception:
        _LOGGER.exception("a WebSocket failed")
        return GatewayError("the server failed")
    return None


async def _close(socket: web.WebSocketResponse, outlet: Outlet, error: GatewayError | None) -> None:
    """Say why, and do not wait long to be heard: a client that is stuck never answers."""
    code = WSCloseCode.OK if error is None else error.close_code
    reason = "" if error is None else str(error)
    if isinstance(error, SlowClient):
        _LOGGER.info("a client was cut because it took no bytes")
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await socket.close(code=code, message=reason.encode()[:_REASON_BYTES], drain=False)
    except TimeoutError:
        outlet.abort()
    if outlet.pending:
        outlet.abort()
