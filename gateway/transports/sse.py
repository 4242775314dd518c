"""Server-sent events: one session's log as `text/event-stream`.

aiohttp-sse makes the response: its headers, and 405 for other methods. What it would write by
itself, pings, is switched off: there is one writer for each connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

from gateway.codecs.native import sse_control, sse_frame, sse_frame_named
from gateway.commands import Role
from gateway.log.position import After, Position
from gateway.transports.outlet import Outlet
from gateway.transports.reading import Control, Reading, Step
from gateway.transports.services import Services
from gateway.transports.stream import Wire, deliver, http_stream, native_wire, retry_ms

__all__ = [
    "KEEPALIVE",
    "SSE",
    "EventStream",
    "control_frame",
    "id_frame",
    "session_stream",
    "stream_steps",
]

KEEPALIVE = b":\n\n"
"""A comment: clients ignore it, proxies see a connection in use."""


def id_frame(event_id: str) -> bytes:
    """Return a frame with an id and no data: it fires no event, and is remembered by the client."""
    return b"id: %b\n\n" % event_id.encode()


def control_frame(control: Control) -> bytes:
    """Frame a control object. It has no id; after a reset the new cursor follows by itself.

    A cut between the two makes the client come back with the old cursor, for the same reset.
    """
    frame = sse_control(control.json)
    if control.is_reset and control.position is not None:
        frame += id_frame(str(control.position))
    return frame


SSE = native_wire(sse_frame, control_frame, KEEPALIVE)
_SSE_NAMED = native_wire(sse_frame_named, control_frame, KEEPALIVE)


class EventStream(EventSourceResponse):
    """An `EventSourceResponse` with the headers of our protocol and without its own pings."""

    def __init__(self, *, allow_all_methods: bool = False) -> None:
        """Make the response; `allow_all_methods` is for streams that answer a POST."""
        super().__init__(sep="\n", send_timeout=None, allow_all_methods=allow_all_methods)
        self.headers["Content-Type"] = "text/event-stream; charset=utf-8"
        self.headers["Cache-Control"] = "no-store, no-transform"
        del self.headers["Connection"]  # aiohttp knows better

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Begin the response."""
        writer = await super().prepare(request)
        self.stop_streaming()  # ends the task that pings
        return writer


async def session_stream(
    request: web.Request,
    services: Services,
    session_id: str,
    after: After,
    *,
    named: bool,
    role: Role,
) -> web.StreamResponse:
    """Stream a session's log; 204 if it is closed and the client has all of it.

    Args:
        request: The request.
        services: The server's parts.
        session_id: Whose log.
        after: From where.
        named: Whether frames carry `event: <type>`.
        role: Whether the client controls the session or only watches.

    Raises:
        SessionUnknown, SessionGone: If there is no such session.
        ShuttingDown: If the server is stopping.
    """
    with services.manager.attending(session_id, role):
        reading = await Reading.open(services, session_id, after)
        if reading.ended:
            return web.Response(status=204)
        return await stream_steps(
            request,
            services,
            reading.steps(idle=services.settings.keepalive_s),
            start=reading.start,
            wire=_SSE_NAMED if named else SSE,
        )


async def stream_steps(
    request: web.Request,
    services: Services,
    steps: AsyncGenerator[Step],
    *,
    start: Position | None,
    wire: Wire = SSE,
) -> web.StreamResponse:
    """Answer with steps as server-sent events.

    The first bytes go out at once: aiohttp sends the head with the first of the body, and a client
    that is cut before the first event comes back to where it began.
    """
    response = EventStream(allow_all_methods=True)
    async with http_stream(request, response, services, wire) as outlet:
        await _prime(response, outlet, start)
        await deliver(steps, response, outlet, wire)
    return response


async def _prime(response: EventStream, outlet: Outlet, start: Position | None) -> None:
    await outlet.ready()
    first = b"retry: %d\n" % retry_ms()
    await response.write(first + (b"\n" if start is None else id_frame(str(start))))
