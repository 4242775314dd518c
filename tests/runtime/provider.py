"""A provider on loopback that speaks the real wire, in whatever pieces a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from runtime.models.openai import OpenAIModel

KEY = "sk-very-secret"
CUT = object()
"""In place of bytes: the connection is cut."""


def chunk(
    delta: dict[str, Any] | None = None,
    *,
    finish: str | None = None,
    usage: dict[str, Any] | None = None,
) -> bytes:
    """Return one chunk as a server-sent event."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-2026",
        "choices": choices,
        "usage": usage,
    }
    return f"data: {json.dumps(body)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


@dataclass
class Provider:
    """What the next requests get, and what they were.

    Attributes:
        pieces: What the body is made of: bytes, each a write of its own; an event to wait for;
            `CUT`.
        status: The HTTP status.
        requests: The JSON of each request.
        later: Status, headers and pieces of the requests after the first.
        asked: Set when a request has come.
        gone: Set when a client has left before its answer was over.
    """

    url: str = ""
    pieces: Sequence[object] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    later: list[tuple[int, dict[str, str], Sequence[object]]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.authorizations.append(request.headers.get("Authorization"))
        status, headers, pieces = self.status, self.headers, self.pieces
        if self.later:
            self.status, self.headers, self.pieces = self.later.pop(0)
        kind = "text/event-stream" if status == 200 else "application/json"
        response = web.StreamResponse(status=status, headers={"Content-Type": kind, **headers})
        await response.prepare(request)
        self.asked.set()
        try:
            for piece in pieces:
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                elif isinstance(piece, bytes):
                    await response.write(piece)
                    await asyncio.sleep(0)  # a packet of its own
                elif request.transport is not None:
                    request.transport.abort()
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise
        return response

    async def model(self, **options: Any) -> OpenAIModel:
        """Return a model that talks to this provider, made as a running server must make it."""
        return await asyncio.to_thread(
            OpenAIModel, "gpt-x", base_url=f"{self.url}/v1", api_key=KEY, **options
        )


@asynccontextmanager
async def serving() -> AsyncIterator[Provider]:
    """Run a provider for as long as the block lasts."""
    provider = Provider()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", provider.answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield provider
    finally:
        await runner.cleanup()
