"""A reverse proxy in front of a server, which breaks one thing on its way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import orjson
from aiohttp import web

Where = Literal["sse", "client", "ndjson", "websocket", "page", "snapshot"]

_HOP = {"connection", "transfer-encoding", "keep-alive", "upgrade", "content-length"}


@dataclass
class Asked:
    """A request on its way to the server."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body) if self.body else None

    @json.setter
    def json(self, body: Any) -> None:
        self.body = orjson.dumps(body)


@dataclass
class Reply:
    """An answer, whole, on its way back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body) if self.body else None

    @json.setter
    def json(self, body: Any) -> None:
        self.body = orjson.dumps(body)


class Honest:
    """Breaks nothing. What breaks something overrides one of these."""

    rule = ""
    """What is broken."""

    compress = False
    """Whether a WebSocket agrees to per-message deflate."""

    def ask(self, asked: Asked) -> Reply | None:
        """Change a request; or answer it."""
        return None

    def answer(self, asked: Asked, reply: Reply) -> None:
        """Change an answer that is whole."""

    def head(self, asked: Asked, headers: dict[str, str]) -> None:
        """Change the headers of a stream."""

    def objects(self, where: Where, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Change an event, a control object or a snapshot, wherever it is."""
        return [data]

    def frame(self, where: Where, frame: bytes) -> bytes:
        """Change the bytes of a frame, after `objects`."""
        return frame

    async def pace(self, where: Where, data: dict[str, Any]) -> None:
        """Wait before an object."""

    def message(self, text: str) -> str | None:
        """Change what a client says on a WebSocket; None closes it."""
        return text

    async def left(self, proxy: Proxy, asked: Asked) -> None:
        """Do something when a client has left a stream."""


class Proxy:
    """One proxy; `url` is where it listens."""

    def __init__(self, upstream: str, breaks: Honest, http: aiohttp.ClientSession) -> None:
        self.upstream = upstream
        self.breaks = breaks
        self.http = http
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        own, theirs = self.url.partition("//")[2], self.upstream.partition("//")[2]
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in _HOP
        }
        for name in ("Host", "Origin"):
            if name in headers:
                headers[name] = headers[name].replace(own, theirs)
        asked = Asked(request.method, request.path_qs, headers, await request.read())
        reply = self.breaks.ask(asked)
        if reply is not None:
            return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request, asked)
        async with self.http.request(
            asked.method, self.upstream + asked.path, headers=asked.headers, data=asked.body or None
        ) as response:
            heads = {n: v for n, v in response.headers.items() if n.lower() not in _HOP}
            kind = response.content_type
            if kind in {"text/event-stream", "application/x-ndjson"}:
                return await self._stream(request, asked, response, heads)
            answer = Reply(response.status, heads, await response.read())
        self._whole(asked, answer)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    def _whole(self, asked: Asked, reply: Reply) -> None:
        if reply.status < 300 and reply.body.startswith(b'{"events"'):
            page = reply.json
            found = [self.breaks.objects("page", event) for event in page["events"]]
            page["events"] = [event for events in found for event in events]
            reply.json = page
        elif reply.status < 300 and reply.body.startswith(b'{"session_id"'):
            (reply.json,) = self.breaks.objects("snapshot", reply.json)
        self.breaks.answer(asked, reply)

    async def _stream(
        self,
        request: web.Request,
        asked: Asked,
        response: aiohttp.ClientResponse,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        lines = response.content_type == "application/x-ndjson"
        where: Where = "ndjson" if lines else "client" if "/clients/" in asked.path else "sse"
        self.breaks.head(asked, headers)
        out = web.StreamResponse(headers=headers)
        if headers.get("Content-Encoding") == "gzip":
            out.enable_compression(web.ContentCoding.gzip)
        out.force_close()
        await out.prepare(request)
        try:
            async for raw in _frames(response, b"\n" if lines else b"\n\n"):
                async for frame in self._broken(where, raw):
                    await out.write(frame)
            await out.write_eof()
        except ConnectionError:
            await self.breaks.left(self, asked)
        except asyncio.CancelledError:
            await self.breaks.left(self, asked)
            raise
        return out

    async def _broken(self, where: Where, raw: bytes) -> AsyncIterator[bytes]:
        if where in {"sse", "client"}:
            found = re.search(rb"^data: (.*)$", raw, re.MULTILINE)
            text = found[1] if found else b""
        else:
            found, text = None, raw.strip()
        if not text.startswith(b"{"):
            yield self.breaks.frame(where, raw)
            return
        data = orjson.loads(text)
        await self.breaks.pace(where, data)
        for made in self._objects(where, data):
            new = orjson.dumps(made)
            frame = raw.replace(text, new)
            if "seq" in made and made is not data and b"id: " in frame:
                frame = re.sub(rb"id: .*", b"id: " + made["cursor"].encode(), frame)
            yield self.breaks.frame(where, frame)

    def _objects(self, where: Where, data: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "snapshot" in data:
            (data["snapshot"],) = self.breaks.objects("snapshot", data["snapshot"])
        yield from self.breaks.objects(where, data)

    async def _socket(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        headers = {n: v for n, v in asked.headers.items() if not n.startswith("Sec-WebSocket")}
        try:
            there = await self.http.ws_connect(
                self.upstream + asked.path, headers=headers, max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status)
        here = web.WebSocketResponse(compress=self.breaks.compress, max_msg_size=0)
        try:
            await here.prepare(request)
            async with asyncio.TaskGroup() as tasks:
                back = tasks.create_task(self._back(there, here))
                await self._forth(here, there)
                back.cancel()
        finally:
            there._response.close()
        return here

    async def _forth(
        self, here: web.WebSocketResponse, there: aiohttp.ClientWebSocketResponse
    ) -> None:
        with suppress(ConnectionError):
            async for message in here:
                if message.type is aiohttp.WSMsgType.BINARY:
                    await there.send_bytes(message.data)
                elif (text := self.breaks.message(message.data)) is not None:
                    await there.send_str(text)
                else:
                    await here.close()

    async def _back(
        self, there: aiohttp.ClientWebSocketResponse, here: web.WebSocketResponse
    ) -> None:
        with suppress(ConnectionError):
            async for message in there:
                async for frame in self._broken("websocket", message.data.encode()):
                    await here.send_str(frame.decode())
            await here.close(code=there.close_code or 1000)


async def _frames(response: aiohttp.ClientResponse, end: bytes) -> AsyncIterator[bytes]:
    held = b""
    async for part in response.content.iter_any():
        *frames, held = (held + part).split(end)
        for frame in frames:
            yield frame + end


@asynccontextmanager
async def breaking(upstream: str, breaks: Honest) -> AsyncIterator[str]:
    """Run a proxy in front of a server; yield its address."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        read_bufsize=2**23,
    ) as http:
        proxy = Proxy(upstream, breaks, http)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        proxy.url = f"http://{host}:{port}"
        try:
            yield proxy.url
        finally:
            await runner.cleanup()
