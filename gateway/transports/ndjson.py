"""NDJSON: one session's log as lines of JSON, and as single pages.

Events and control objects are one line each. A keepalive is an empty line: JSON allows no such
line, and readers that split at line ends skip it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import orjson
from aiohttp import web

from gateway.codecs.native import event_json, ndjson_line
from gateway.commands import Role
from gateway.log.position import FROM_START, ONLY_NEW, After
from gateway.transports.reading import Control, Reading, Step
from gateway.transports.services import Services
from gateway.transports.stream import deliver, http_stream, native_wire

__all__ = ["KEEPALIVE", "follow_lines", "line_stream", "page_of_events", "stream_lines"]

KEEPALIVE = b"\n"


def _control_line(control: Control) -> bytes:
    return control.json + b"\n"


_LINES = native_wire(ndjson_line, _control_line, KEEPALIVE)


async def follow_lines(
    request: web.Request, services: Services, session_id: str, after: After, *, role: Role
) -> web.StreamResponse:
    """Stream a session's log as NDJSON; 204 if it is closed and the client has all of it.

    `role` says whether the client controls the session or only watches.

    Raises:
        SessionUnknown, SessionGone: If there is no such session.
        ShuttingDown: If the server is stopping.
    """
    with services.manager.attending(session_id, role):
        reading = await Reading.open(services, session_id, after)
        if reading.ended:
            return web.Response(status=204)
        steps = reading.steps(idle=services.settings.keepalive_s)
        return await stream_lines(request, services, steps)


def line_stream() -> web.StreamResponse:
    """Return the response that lines are streamed in."""
    return web.StreamResponse(
        headers={
            "Content-Type": "application/x-ndjson",
            "Cache-Control": "no-store, no-transform",
            "X-Accel-Buffering": "no",
        }
    )


async def stream_lines(
    request: web.Request, services: Services, steps: AsyncGenerator[Step]
) -> web.StreamResponse:
    """Answer with steps as NDJSON. An empty line goes out at once, and with it the head."""
    response = line_stream()
    async with http_stream(request, response, services, _LINES) as outlet:
        await response.write(KEEPALIVE)
        await deliver(steps, response, outlet, _LINES)
    return response


async def page_of_events(
    services: Services, session_id: str, after: After, *, limit: int
) -> web.Response:
    """Answer with one page: `{events, cursor, caught_up}`, the events to the byte as in a stream.

    Args:
        services: The server's parts.
        session_id: Whose log.
        after: From where; None as `0`.
        limit: How many events at most. A page may have fewer though it is not the last.

    Raises:
        SessionUnknown, SessionGone: If there is no such session.
        CursorInvalid: If the cursor cannot be served.
    """
    engine = services.manager.engine
    head = await engine.head(session_id)
    if after is None or after == FROM_START:
        position = head.start
    elif after == ONLY_NEW:
        position = head.tail
    else:
        position = after
    entries = await engine.read(session_id, position, limit=limit)
    cursor = entries[-1].position if entries else position
    body = b'{"events":[%b],"cursor":%b,"caught_up":%b}' % (
        b",".join([entry.encoded(event_json) for entry in entries]),
        orjson.dumps(str(cursor)),
        orjson.dumps(cursor.seq >= head.tail.seq),
    )
    return web.Response(
        body=body, content_type="application/json", headers={"Cache-Control": "no-store"}
    )
