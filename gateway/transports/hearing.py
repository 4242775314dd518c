"""What comes in on a WebSocket, one message at a time, so that no client can take more than its share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from aiohttp import WSMessage, WSMsgType, web

from gateway.transports.outlet import Outlet

__all__ = ["hear"]


async def hear(socket: web.WebSocketResponse, outlet: Outlet) -> AsyncGenerator[WSMessage]:
    """Yield what the client says until it closes, and answer its pings.

    A ping is answered at the client's pace: answers to a flood of them would otherwise pile up for
    a client that reads none. After each message all others of the process have a turn, since a
    client that sends faster than it is heard would keep the loop to itself.

    Args:
        socket: The connection, upgraded; with `autoping` off.
        outlet: Its sending side.

    Raises:
        SlowClient: If it took no byte for the write time limit.
        ConnectionResetError: If it is gone.
    """
    async for message in socket:
        if message.type is WSMsgType.PING:
            await outlet.ready()
            await socket.pong(message.data)
        elif message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
            yield message
        await asyncio.sleep(0)
