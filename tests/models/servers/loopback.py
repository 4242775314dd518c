"""A provider's server, started as servers are: it writes what a test wants, in the pieces it wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KEY = "sk-very-secret"
CUT = object()
"""In place of bytes: the connection is cut."""

Reply = tuple[int, Mapping[str, str], Sequence[object]]
"""Status, headers, and what the body is made of."""


@dataclass
class Loopback:
    """What the next requests get, and what they were.

    Attributes:
        url: Where it listens.
        pieces: What the body is made of: bytes, each a write of its own; an event to wait for;
            `CUT`.
        status: The HTTP status.
        headers: Further headers of the answer.
        later: The replies to the requests after the first.
        silent: Waited for before the headers are sent.
        requests: The JSON of each request.
        paths: Where they went.
        keys: The keys that they carried.
        connections: The client's port of each: the same one shows the same connection.
        asked: Set when a request has come.
        gone: Set when a client has left before its answer was over.
    """

    url: str = ""
    pieces: Sequence[object] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    later: list[Reply] = field(default_factory=list)
    silent: asyncio.Event | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.paths.append(request.path)
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.keys.append(request.headers.get("x-api-key") or given or None)
        assert request.transport is not None
        self.connections.append(request.transport.get_extra_info("peername")[1])
        status, headers, pieces = self.status, self.headers, self.pieces
        if self.later:
            self.status, self.headers, self.pieces = self.later.pop(0)
        kind = "text/event-stream" if status == 200 else "application/json"
        response = web.StreamResponse(status=status, headers={"Content-Type": kind, **headers})
        self.asked.set()
        try:
            if self.silent is not None:
                await self.silent.wait()
            await response.prepare(request)
            for piece in pieces:
                await self._write(request, response, piece)
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise
        return response

    async def _write(
        self, request: web.Request, response: web.StreamResponse, piece: object
    ) -> None:
        if isinstance(piece, asyncio.Event):
            await piece.wait()
        elif isinstance(piece, bytes):
            await response.write(piece)
            await asyncio.sleep(0)  # a packet of its own
        elif request.transport is not None:
            request.transport.abort()


@asynccontextmanager
async def serving() -> AsyncIterator[Loopback]:
    """Run a server for as long as the block lasts."""
    server = Loopback()
    application = web.Application(client_max_size=2**24)
    application.router.add_post("/{path:.*}", server.answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()
