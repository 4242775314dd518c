"""A broker's events over HTTP, for a plain `EventSource`: the handler for servers of one's own.

Each event is a frame without a name, so that `onmessage` sees every type, and its id is where it
stands: `epoch.seq`. `epoch` is another one for each life of the broker. So a client that comes back
gets exactly what it missed, or is told with one `stream.gap` that this cannot be.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from aiohttp_sse import EventSourceResponse

__all__ = ["Handler", "Said", "Source", "Subscribed", "handler"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LOOK_SECONDS = 0.25
"""How often to look who has gone: by default, aiohttp does not tell a handler that only listens."""

_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_EVENT_ID = re.compile(r"(?:([0-9a-f]+)\.)?(0|[1-9][0-9]{0,15})", re.ASCII)

_RESTARTED = '{"type":"stream.gap","data":{"first":null,"last":null}}'
"""What a client had seen was said by another process: what it missed has no numbers here."""


class Said(Protocol):
    """An event."""

    @property
    def type(self) -> str:
        """What happened, without CR, LF and NUL."""

    @property
    def text(self) -> str:
        """Its JSON, in one line."""


class Subscribed(Protocol):
    """A client's events, for `async for`."""

    @property
    def seq(self) -> int:
        """The number of the last event that was given."""

    def __aiter__(self) -> AsyncIterator[Said]:
        """Return what gives the events."""

    def close(self) -> None:
        """End it, after what was said so far. Safe to call twice."""


class Source(Protocol):
    """Where events come from."""

    @property
    def epoch(self) -> str:
        """Which life of the source this is, in hexadecimal digits."""

    @property
    def tail(self) -> int:
        """The number of the last event."""

    @property
    def closed(self) -> bool:
        """Whether nothing more comes."""

    def subscribe(self, client_id: str, *, after: int | None = None) -> Subscribed:
        """Return what comes after the event of this number, or from now on."""


def handler(
    source: Source, client_id: str | None, *, keepalive: float, send_timeout: float
) -> Handler:
    """Return a handler that streams a source's events to whoever asks.

    Args:
        source: The events.
        client_id: Who listens; else the request says it, in its path or query.
        keepalive: Seconds between comments.
        send_timeout: Seconds after which a client that takes nothing is cut off.
    """
    leavers = _Leavers()

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            raise web.HTTPMethodNotAllowed("HEAD", ("GET",))
        client = client_id or request.match_info.get("client_id") or request.query.get("client_id")
        if client is None:
            return _refusal("say who you are: ?client_id=…")
        if client_id is None and _CLIENT_ID.fullmatch(client) is None:
            return _refusal("a client id has 1 to 64 of A-Z a-z 0-9 . _ -")
        start = _start(source, request)
        if source.closed and start.after >= source.tail:
            return web.Response(status=204)  # which stops an EventSource
        if request.transport is None:
            return web.Response()  # the client has gone: nobody reads this
        response = EventSourceResponse(
            sep="\n", allow_all_methods=True, send_timeout=send_timeout, ping_interval=keepalive
        )
        subscription = source.subscribe(client, after=start.after)
        with (
            contextlib.closing(subscription),
            leavers.watching(request, subscription.close),
            # The client has gone, or was cut because it took nothing: nobody is to be told.
            contextlib.suppress(ConnectionResetError, TimeoutError),
        ):
            await _stream(request, response, source.epoch, start, subscription)
        return response

    return serve


async def _stream(
    request: web.Request,
    response: EventSourceResponse,
    epoch: str,
    start: _Start,
    subscription: Subscribed,
) -> None:
    named = request.query.get("named") == "1"
    await response.prepare(request)
    async with response:
        # Sent alone, an id is remembered too: who is cut before the first event comes back to here.
        await response.write(b"id: %b.%d\n\n" % (epoch.encode(), start.after))
        if start.restarted:
            name = "stream.gap" if named else None
            await response.send(_RESTARTED, id=f"{epoch}.{start.after}", event=name)
        async for said in subscription:
            name = said.type if named else None
            await response.send(said.text, id=f"{epoch}.{subscription.seq}", event=name)


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a reader begins: after which event, and whether it has read another life's."""

    after: int
    restarted: bool = False


def _start(source: Source, request: web.Request) -> _Start:
    last = request.headers.get("Last-Event-ID") or request.query.get("last_event_id")
    if not last:
        return _Start(source.tail)
    match = _EVENT_ID.fullmatch(last)
    if match is None or match[1] not in {None, source.epoch} or int(match[2]) > source.tail:
        return _Start(0, restarted=True)
    return _Start(int(match[2]))


def _refusal(message: str) -> web.Response:
    return web.json_response({"error": message}, status=400)


@dataclass(eq=False, slots=True)
class _Open:
    """A stream that is open, and what to do when its client has gone."""

    request: web.Request
    gone: Callable[[], None]


class _Leavers:
    """Notices clients that go, with one timer for all streams, and none while there are none."""

    def __init__(self) -> None:
        self._open: set[_Open] = set()
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def watching(self, request: web.Request, gone: Callable[[], None]) -> Iterator[None]:
        """Call `gone` if the client goes within a block."""
        stream = _Open(request, gone)
        self._open.add(stream)
        if self._timer is None:
            self._wait()
        try:
            yield
        finally:
            self._open.discard(stream)
            if not self._open and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        for stream in self._open:
            transport = stream.request.transport
            if transport is None or transport.is_closing():
                stream.gone()
        self._wait()
