"""One run as the stream of another protocol: what all frontends that answer with a stream share."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.codecs.codec import Codec, Projection
from gateway.codecs.framing import Style, line, sse
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.sessions.manager import RunPlace
from gateway.transports.following import check_readable, follow_run
from gateway.transports.ndjson import line_stream
from gateway.transports.outlet import Outlet, pieces
from gateway.transports.reading import Control
from gateway.transports.services import Services
from gateway.transports.sse import EventStream
from gateway.transports.stream import Wire, http_chunk, http_stream

__all__ = ["Look", "stream_run"]


@dataclass(frozen=True)
class Look:
    """What a protocol's stream looks like.

    Attributes:
        codec: Its words.
        style: How its messages become bytes.
        headers: What it says beside, or in place of, what all our streams say; None drops one.
        first: Sent at once, and with it the head: clients and proxies learn that the stream is on.
        keepalive: Sent in silence.
        keepalive_s: For how many seconds the stream may be silent, if the protocol's clients are
            less patient than the server's setting.
        skip: So many messages are left out at the start: the client has them.
        state: The codec's, where the stream does not begin at the beginning.
        wrap: Done to each framed message for this reader alone, who asked under an id of its own;
            what it is done to stays shared.
    """

    codec: Codec[Any]
    style: Style = sse
    headers: Mapping[str, str | None] | None = None
    first: bytes = b":\n\n"
    keepalive: bytes = b":\n\n"
    keepalive_s: float = math.inf
    skip: int = 0
    state: Any = None
    wrap: Callable[[bytes], bytes] | None = None


class _Reader:
    """Frames entries for one reader."""

    def __init__(self, look: Look) -> None:
        self._projection = Projection(look.codec, look.style, look.state)
        self._wrap = look.wrap
        self._skip = look.skip

    def frame(self, entry: Entry) -> bytes:
        messages = self._projection.feed(entry)
        if self._skip:
            skipped = min(self._skip, len(messages))
            self._skip -= skipped
            messages = messages[skipped:]
        if self._wrap is not None:
            messages = tuple(map(self._wrap, messages))
        return messages[0] if len(messages) == 1 else b"".join(messages)

    def chunk(self, entry: Entry) -> bytes:
        frame = self.frame(entry)
        return http_chunk(frame) if frame else b""  # an empty chunk would end the response

    def control(self, control: Control) -> bytes:
        message = self._projection.cut(control.message["reason"])
        return message if self._wrap is None else self._wrap(message)


async def stream_run(
    request: web.Request,
    services: Services,
    place: RunPlace,
    look: Look,
    *,
    after: Position | None = None,
) -> web.StreamResponse:
    """Answer with a run, from the beginning of its last segment (or `after`) to its end or next pause.

    Raises:
        ShuttingDown: If the server is stopping, before anything was sent.
        CursorInvalid, SessionGone: If the run cannot be read any more, before anything was sent.
    """
    start = place.segments[-1] if after is None else after
    reader = _Reader(look)
    await check_readable(services, place.session_id, start)
    return await _stream(request, services, place, look, reader=reader, start=start)


async def _stream(
    request: web.Request,
    services: Services,
    place: RunPlace,
    look: Look,
    *,
    reader: _Reader,
    start: Position,
) -> web.StreamResponse:
    wire = Wire(reader.frame, reader.chunk, reader.control, look.keepalive)
    response = _response(look)
    async with http_stream(request, response, services, wire, reusable=True) as outlet:
        await response.write(look.first)
        chunked = response.headers.get("Transfer-Encoding") == "chunked"
        frame = reader.chunk if chunked else reader.frame
        quiet = min(services.settings.keepalive_s, look.keepalive_s) / 2
        batches = follow_run(services, place, after=start, idle=quiet)
        delivering = _deliver(
            batches, response, outlet, frame=frame, keepalive=look.keepalive, quiet=quiet
        )
        await asyncio.create_task(delivering)
    return response


async def _deliver(
    batches: AsyncGenerator[Sequence[Entry]],
    response: web.StreamResponse,
    outlet: Outlet,
    *,
    frame: Callable[[Entry], bytes],
    keepalive: bytes,
    quiet: float,
) -> None:
    """Write what the protocol has to say; a keepalive when that was nothing for `quiet` seconds.

    In a task of its own, for the reason given at `gateway.transports.stream.deliver`.
    """
    loop = asyncio.get_running_loop()
    spoke_at = loop.time()
    async with aclosing(batches):
        async for batch in batches:
            frames = [data for entry in batch if (data := frame(entry))]
            for piece in pieces(frames) if frames else ():
                await outlet.ready()
                outlet.write(piece)
            now = loop.time()
            if frames:
                spoke_at = now
            elif now - spoke_at >= quiet:
                await outlet.ready()
                await response.write(keepalive)
                spoke_at = now


def _response(look: Look) -> web.StreamResponse:
    lines = look.style is line
    response = line_stream() if lines else EventStream(allow_all_methods=True)
    for name, value in (look.headers or {}).items():
        if value is None:
            response.headers.popall(name, None)
        else:
            response.headers[name] = value
    return response
