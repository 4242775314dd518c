"""Long HTTP responses: how one begins, is written to, and ends, whatever its frames look like."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from aiohttp import HttpVersion11, web

from gateway.errors import GatewayError, ShuttingDown, SlowClient
from gateway.log.entry import Entry
from gateway.transports.outlet import Outlet, pieces
from gateway.transports.reading import Control, Step, closing
from gateway.transports.services import Services

__all__ = [
    "DRAIN_PATIENCE",
    "Wire",
    "deliver",
    "http_chunk",
    "http_stream",
    "native_wire",
    "outlet_of",
    "retry_ms",
]

_LOGGER = logging.getLogger(__name__)

DRAIN_PATIENCE = 1.0
"""Seconds without progress that a server that stops grants a client to take its last bytes."""

_SHARES = 4
"""What is held for one slow client: a full buffer, a piece on top, a page of the log at hand, spare."""

_RETRY_MS = (1000, 4000)
"""When to come back, in milliseconds: spread, so that the clients of a server do not come at once."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How a transport frames things.

    Attributes:
        entry: Frames an event, once for all readers; empty if it has nothing to say.
        chunk: The same as a chunk of HTTP/1.1, so that this too is made once for all readers.
        control: Frames a control object.
        keepalive: Sent in silence, ignored by clients.
    """

    entry: Callable[[Entry], bytes]
    chunk: Callable[[Entry], bytes]
    control: Callable[[Control], bytes]
    keepalive: bytes


def http_chunk(payload: bytes) -> bytes:
    """Return a chunk of HTTP/1.1's chunked transfer coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def native_wire(
    frame: Callable[[Entry], bytes], control: Callable[[Control], bytes], keepalive: bytes
) -> Wire:
    """Return a wire whose frame of an entry depends on nothing but the entry."""

    def chunk(entry: Entry) -> bytes:
        return http_chunk(entry.encoded(frame))

    return Wire(
        lambda entry: entry.encoded(frame),
        lambda entry: entry.encoded(chunk),
        control,
        keepalive,
    )


def retry_ms() -> int:
    """Return when a client should come back, in milliseconds: another time for each."""
    return random.randint(*_RETRY_MS)  # noqa: S311 - spreads load, keeps no secret


def outlet_of(request: web.Request, services: Services) -> Outlet:
    """Return the outlet of the request's connection.

    Raises:
        ConnectionResetError: If the client is gone already.
    """
    if request.transport is None:
        raise ConnectionResetError("the client is gone")
    return Outlet(
        request.transport,
        limit=services.settings.write_buffer_bytes // _SHARES,
        write_timeout=services.settings.write_timeout_s,
    )


@asynccontextmanager
async def http_stream(
    request: web.Request,
    response: web.StreamResponse,
    services: Services,
    wire: Wire,
    *,
    reusable: bool = False,
) -> AsyncIterator[Outlet]:
    """Run a block that streams a response, and end the response in the right way.

    The end of the block ends the response. When the server stops, or the store was closed, the client
    is told so with `stream.closing`. A client that takes nothing is cut.

    Args:
        request: The request.
        response: What answers it.
        services: The server's parts.
        wire: How things are framed.
        reusable: Whether the connection may serve another request after this one.

    Raises:
        ShuttingDown: If the server is stopping, before anything was sent.
        ServerFull: If it has as many streams as it takes, before anything was sent.
        ConnectionResetError: If the client is gone before anything was sent.
    """
    services.streams.check()
    with services.admission.stream(services.settings.max_streams):
        async with _streamed(request, response, services, wire, reusable=reusable) as outlet:
            yield outlet


@asynccontextmanager
async def _streamed(
    request: web.Request,
    response: web.StreamResponse,
    services: Services,
    wire: Wire,
    *,
    reusable: bool,
) -> AsyncIterator[Outlet]:
    """Do what `http_stream` says, for a stream that was admitted."""
    outlet = outlet_of(request, services)
    if not reusable:
        response.force_close()
    if request.version < HttpVersion11:
        # Proxies such as nginx speak it, and it knows no chunks: the end of the connection is that of
        # the response. aiohttp would leave it open for a client that asks for keep-alive.
        response.force_close()
        response.headers["Connection"] = "close"
    await response.prepare(request)
    patience: float | None = None
    try:
        try:
            async with services.streams.until_drained():
                yield outlet
        except SlowClient:
            raise
        except GatewayError as error:
            patience = DRAIN_PATIENCE
            reason = "shutdown" if isinstance(error, ShuttingDown) else error.code
            await response.write(wire.control(closing(reason, retry_ms=retry_ms())))
        await outlet.flush(patience=patience)
        await response.write_eof()
        outlet.release()
    except SlowClient:
        _LOGGER.info("a client was cut because it took no bytes", extra={"path": request.path})
        outlet.abort()
    except ConnectionError:
        return  # the client is gone: nobody is left to be told
    except Exception:
        _LOGGER.exception("a stream failed", extra={"path": request.path})
        outlet.abort()


async def deliver(
    steps: AsyncGenerator[Step], response: web.StreamResponse, outlet: Outlet, wire: Wire
) -> None:
    """Write all steps, one write for what is waiting, at the pace of the client.

    Done in a task of its own: an event that wakes a reader passes through every `await` above it,
    and the request's own are many.

    Raises:
        SlowClient: If the client took no byte for the write time limit.
        ConnectionResetError: If it is gone.
    """
    await asyncio.create_task(_deliver(steps, response, outlet, wire))


async def _deliver(
    steps: AsyncGenerator[Step], response: web.StreamResponse, outlet: Outlet, wire: Wire
) -> None:
    chunked = response.headers.get("Transfer-Encoding") == "chunked"
    frame = wire.chunk if chunked else wire.entry
    async with aclosing(steps):
        async for step in steps:
            if isinstance(step, Control):
                await outlet.ready()
                outlet.write(step.framed(wire.control, http_chunk if chunked else None))
            elif step:
                for piece in pieces([frame(entry) for entry in step]):
                    await outlet.ready()
                    outlet.write(piece)
            else:
                await outlet.ready()
                await response.write(wire.keepalive)
