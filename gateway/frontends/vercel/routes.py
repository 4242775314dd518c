"""Vercel's AI SDK: `useChat` over HTTP, as `DefaultChatTransport` speaks, and over a WebSocket.

    POST   /api/chat               take a turn; answered by the stream of the assistant message
    GET    /api/chat/{id}/stream   the message that is being made, from its beginning; 204: none is
    DELETE /api/chat/{id}/stream   stop it
    POST   /api/chat/{id}/stop     the same
    GET    /api/chat/ws            the WebSocket; `GET /api/chat` as well

Closing a request stops nothing: the client may come back. Only a stop stops.
"""

from __future__ import annotations

import orjson
from aiohttp import web

from gateway.codecs.framing import sse
from gateway.codecs.vercel import read_chat, read_stop, still_waiting
from gateway.frontends.heads import stream_head
from gateway.frontends.refusals import refusing
from gateway.frontends.vercel.chats import Chats
from gateway.frontends.vercel.socket import ChatSocket
from gateway.frontends.vercel.streams import Stream
from gateway.http.bodies import json_body
from gateway.transports.projected import Look, stream_run
from gateway.transports.services import Services
from gateway.transports.websocket import hold_socket

__all__ = ["routes"]

HEADERS = {
    "x-vercel-ai-ui-message-stream": "v1",
    "X-Accel-Buffering": "no",
}
"""What the AI SDK's own servers set, beside what each stream has."""


def _refusal(status: int, code: str, message: str) -> web.Response:
    """Refuse with a sentence: the SDK shows the body as the error's message."""
    return web.Response(status=status, text=message, headers={"Cache-Control": "no-store"})


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes."""
    chats = Chats(services)

    async def answer(request: web.Request, stream: Stream) -> web.StreamResponse:
        headers = stream_head(request) | HEADERS
        if stream.waits:
            frames = still_waiting(stream.place.run_id)
            body = b"".join(sse(frame, None) for frame in frames)
            return web.Response(body=body, headers=headers)
        look = Look(stream.codec, sse, headers)
        return await stream_run(
            request, services, stream.place, look, after=stream.place.segments[0]
        )

    @refusing(_refusal)
    async def post(request: web.Request) -> web.StreamResponse:
        asked = read_chat(await json_body(request, limit=services.settings.max_history_bytes))
        return await answer(
            request, await chats.begin(asked, request.headers.get("Idempotency-Key"))
        )

    @refusing(_refusal)
    async def get(request: web.Request) -> web.StreamResponse:
        services.streams.check()
        finished = request.query.get("finished") == "1"
        stream = await chats.resume(request.match_info["chat_id"], finished=finished)
        if stream is None:
            return web.Response(status=204, headers={"Cache-Control": "no-store"})
        return await answer(request, stream)

    @refusing(_refusal)
    async def stop(request: web.Request) -> web.StreamResponse:
        asked = read_stop(await json_body(request, optional=True))
        await chats.stop(request.match_info["chat_id"], asked.run_id)
        return web.Response(
            body=orjson.dumps({"success": True}),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    async def socket(request: web.Request) -> web.StreamResponse:
        return await hold_socket(
            request,
            services,
            lambda upgraded, outlet, tasks: ChatSocket(
                upgraded, outlet, services, chats, tasks
            ).hold(),
            limit=services.settings.max_history_bytes,
        )

    return [
        web.post("/api/chat", post),
        web.get("/api/chat", socket, allow_head=False),
        web.get("/api/chat/ws", socket, allow_head=False),
        web.get("/api/chat/{chat_id}/stream", get, allow_head=False),
        web.delete("/api/chat/{chat_id}/stream", stop),
        web.post("/api/chat/{chat_id}/stop", stop),
    ]
