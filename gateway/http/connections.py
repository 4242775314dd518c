"""Connections before they carry a request, and those that never do.

aiohttp gives a connection an hour to say what it wants, reports each that talks nonsense as an error
of the server, and takes on as many as come. Here a connection has `idle_timeout_s` from its beginning,
or from its last answer, to a whole head (a head that comes byte by byte is no activity); nonsense is
answered like any other bad request; and when `max_connections` are open, the next is told to come back.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from typing import Any, Final, cast

from aiohttp import web

from gateway.config import Settings
from gateway.http.bodies import NO_HTTP
from gateway.http.problems import problem, retry_after

__all__ = ["Runner", "room_for_connections"]

_LOGGER = logging.getLogger(__name__)

FILES_BESIDE: Final = 256
"""Open files that are not connections: the store, models and their processes, tools."""

REFUSAL_SECONDS: Final = 2.0
"""How long a connection that is refused may take to ask, so that it can be told."""

PROBES: Final = 3
"""Questions of the kernel, in half a heartbeat, that a silent peer may leave unanswered."""


def room_for_connections(wanted: int) -> int:
    """Let the process open as many files as it may, and return how many connections fit.

    The limit that counts, the soft one, is often 1,024 for the sake of programs that use `select()`.

    Args:
        wanted: How many connections are wanted.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + FILES_BESIDE
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < needed:
        _LOGGER.warning(
            "this process may open too few files (ulimit -Hn) for all connections that it should take",
            extra={"files": most, "connections": wanted},
        )
    return max(1, min(wanted, most - FILES_BESIDE))


class Runner(web.AppRunner):
    """Runs an application on connections of our kind."""

    def __init__(self, app: web.Application, settings: Settings, **options: Any) -> None:
        """Make it.

        Args:
            app: The application.
            settings: The server's settings.
            options: aiohttp's own.
        """
        super().__init__(app, keepalive_timeout=settings.idle_timeout_s, **options)
        self._most = room_for_connections(settings.max_connections)
        self._heartbeat = settings.ws_heartbeat_s

    async def _make_server(self) -> web.Server:
        usual = await super()._make_server()
        return _Server(usual, self._most, self._heartbeat, **self._kwargs)


class _Server(web.Server):
    """Makes what speaks with a connection."""

    def __init__(self, usual: web.Server, most: int, heartbeat: float, **options: Any) -> None:
        super().__init__(usual.request_handler, request_factory=usual.request_factory, **options)
        self._most = most
        self._heartbeat = heartbeat

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        connection = transport.get_extra_info("socket")
        if connection is None or connection.family == socket.AF_UNIX:
            return
        # A peer that vanished says nothing, and nobody notices where nothing is written to it. With
        # this the kernel does, after the same time as on a WebSocket.
        for name, seconds in (
            ("TCP_KEEPIDLE", self._heartbeat),
            ("TCP_KEEPINTVL", self._heartbeat / 2 / PROBES),
            ("TCP_KEEPCNT", PROBES),
        ):
            if (option := getattr(socket, name, None)) is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, max(1, round(seconds)))

    def __call__(self) -> web.RequestHandler:
        if len(self._connections) >= self._most:
            return _Refusal(self._most)  # type: ignore[return-value] # a protocol is all that is needed
        return _Handler(self, loop=self._loop, **self._kwargs)


class _Handler(web.RequestHandler):
    """Speaks HTTP with one connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if not isinstance(exc, NO_HTTP):
            return super().handle_error(request, status, exc, message)
        answer = problem(
            status, "bad_request", "this is not a request of HTTP/1.1, or one too large"
        )
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **more: Any) -> None:
        # What a client says wrongly is its own affair: an error in the log is one of the server.
        if not isinstance(more.get("exc_info"), NO_HTTP):
            super().log_exception(*args, **more)


class _Refusal(asyncio.Protocol):
    """Tells one connection that the server is full, as soon as it asks: sooner, it might miss it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._end = asyncio.get_running_loop().call_later(REFUSAL_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        detail = f"this server has its {self._most} connections; come back later"
        body = problem(503, "server_full", detail).body
        assert isinstance(body, bytes)  # noqa: S101 - made of bytes
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
            f"Cache-Control: no-store\r\nRetry-After: {retry_after()}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
