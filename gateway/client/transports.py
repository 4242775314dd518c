"""The two ways to hear a session: a WebSocket, and server-sent events.

A transport is an async generator over one connection. It yields what it hears, the signs of life
included, and how the connection ended as its last item. It decides nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, Literal, NamedTuple

import aiohttp
import orjson

from gateway.client.endings import Answered, Broken, Closed, Ending, Nacked
from gateway.client.event_stream import EventStreamDecoder
from gateway.client.resume import Alive, Heard, RetryField, Stands, Up
from gateway.client.server import BREAKS, Server, answered

__all__ = ["TRANSPORTS", "Transport", "TransportName"]

TransportName = Literal["websocket", "sse"]

Connect = Callable[[Server, str, str | None], AsyncGenerator[Heard | Ending]]
"""Connects to a session, from a cursor on."""

_LEAVE_SECONDS = 0.5
"""What a server gets to answer the close of a WebSocket: nothing that matters comes any more."""

_PINGS_PER_HEARTBEAT = 2

_OK = 200


class Transport(NamedTuple):
    """A way to hear a session.

    Attributes:
        connect: Makes one connection.
        heartbeat: Seconds between signs of life, unless the server says otherwise (PROTOCOL.md,
            `sse.keepalive` and `ws.heartbeat`).
    """

    connect: Connect
    heartbeat: float


async def _sse(
    server: Server, session_id: str, after: str | None
) -> AsyncGenerator[Heard | Ending]:
    parameters = {} if after is None else {"after": after}
    try:
        async with server.http.get(
            f"{server.url}/v1/sessions/{session_id}/events",
            params=parameters,
            headers={"Accept": "text/event-stream"},
        ) as response:
            if response.status != _OK:
                yield await answered(response)
                return
            yield Up()
            decoder = EventStreamDecoder()
            while piece := await response.content.readany():
                yield Alive()
                for frame in decoder.feed(piece):
                    if frame.retry_ms is not None:
                        yield RetryField(frame.retry_ms / 1000)
                    if frame.data is not None:
                        yield orjson.loads(frame.data)
                    elif frame.id:
                        yield Stands(frame.id)
    except (*BREAKS, ValueError):  # or it is no event stream of ours
        pass
    yield Broken()


async def _websocket(
    server: Server, session_id: str, after: str | None
) -> AsyncGenerator[Heard | Ending]:
    try:
        socket = await server.http.ws_connect(
            f"{server.url}/v1/ws".replace("http", "ws", 1),
            autoping=False,  # what aiohttp answers by itself could not be taken for a sign of life
            max_msg_size=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=_LEAVE_SECONDS),
        )
    except aiohttp.WSServerHandshakeError as error:
        yield Answered(error.status, message=f"{server.url} refuses WebSockets ({error.status})")
        return
    except BREAKS:
        yield Broken()
        return
    try:
        async with aclosing(_talk(socket, session_id, after)) as talk:
            async for heard in talk:
                yield heard
    except (*BREAKS, ValueError):  # or it is not JSON
        yield Broken()
    finally:
        await socket.close()


async def _talk(
    socket: aiohttp.ClientWebSocketResponse, session_id: str, after: str | None
) -> AsyncGenerator[Heard | Ending]:
    subscription = f"sub_{secrets.token_hex(6)}"
    where = {} if after is None else {"after": after}
    await socket.send_json(
        {"type": "subscribe", "id": subscription, "session_id": session_id, **where}
    )
    heartbeat: float | None = None
    pinging: asyncio.Task[None] | None = None
    try:
        while not isinstance(message := await _receive(socket), Closed):
            match message:
                case {"type": "hello", "heartbeat_s": seconds}:
                    heartbeat = float(seconds)
                    pinging = pinging or asyncio.create_task(_ping(socket, heartbeat))
                case {"type": "ack", "id": identifier, "cursor": cursor}:
                    if identifier == subscription:
                        yield Up(heartbeat)
                        yield Stands(cursor)
                case {"type": "nack", "error": error}:
                    yield Nacked(error["code"], error["message"], bool(error.get("retryable")))
                case _:
                    yield message
        yield message
    finally:
        if pinging is not None:
            pinging.cancel()


async def _receive(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any] | Alive | Closed:
    message = await socket.receive()
    match message.type:
        case aiohttp.WSMsgType.TEXT:
            value: dict[str, Any] = orjson.loads(message.data)
            return value
        case aiohttp.WSMsgType.PING:
            await socket.pong(message.data)
            return Alive()
        case aiohttp.WSMsgType.PONG:
            return Alive()
        case _:
            return Closed(socket.close_code or aiohttp.WSCloseCode.ABNORMAL_CLOSURE)


async def _ping(socket: aiohttp.ClientWebSocketResponse, heartbeat: float) -> None:
    """Show that we are alive even while a loop body takes its time and nobody answers pings."""
    with suppress(aiohttp.ClientError, ConnectionError):
        while True:
            await asyncio.sleep(heartbeat / _PINGS_PER_HEARTBEAT)
            await socket.ping()


TRANSPORTS: dict[TransportName, Transport] = {
    "websocket": Transport(_websocket, 25.0),
    "sse": Transport(_sse, 15.0),
}
