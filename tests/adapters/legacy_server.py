"""An MCP server of the older kind, by hand: it has sessions and pages, and speaks plain JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from runtime.mcp import HttpServer

__all__ = ["LegacyServer", "Listed", "serve"]

Listed = Mapping[str, Any]
METHOD_NOT_FOUND = -32601


class LegacyServer:
    """Serves `pages` of tools, each of which answers with its own name.

    Attributes:
        sessions: The sessions that it knows; a test may make it forget them.
        calls: The names of the tools that were called.
        headers: Of the last request.
    """

    def __init__(self, pages: Sequence[Sequence[Listed]]) -> None:
        self.pages = pages
        self.sessions: set[str] = set()
        self.opened = 0
        self.calls: list[str] = []
        self.headers: Mapping[str, str] = {}

    async def post(self, request: web.Request) -> web.Response:
        self.headers = request.headers
        message = await request.json()
        if "id" not in message:
            return web.Response(status=202)
        session = request.headers.get("Mcp-Session-Id")
        method, params = message["method"], message.get("params") or {}
        if session is not None and session not in self.sessions:
            return web.Response(status=404)
        headers: dict[str, str] = {}
        answer: dict[str, Any]
        if method == "initialize":
            self.opened += 1
            headers["Mcp-Session-Id"] = f"session-{self.opened}"
            self.sessions.add(headers["Mcp-Session-Id"])
            info = {"name": "legacy", "version": "1"}
            answer = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": info,
            }
        elif method == "tools/list":
            page = int(params.get("cursor", 0))
            answer = {"tools": list(self.pages[page])}
            if page + 1 < len(self.pages):
                answer["nextCursor"] = str(page + 1)
        elif method == "tools/call":
            self.calls.append(params["name"])
            answer = {"content": [{"type": "text", "text": params["name"]}]}
        else:
            error = {"code": METHOD_NOT_FOUND, "message": "unknown"}
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error})
        body = {"jsonrpc": "2.0", "id": message["id"], "result": answer}
        return web.json_response(body, headers=headers)

    async def refuse(self, _: web.Request) -> web.Response:
        return web.Response(status=405)


@asynccontextmanager
async def serve(server: LegacyServer, **headers: str) -> AsyncIterator[HttpServer]:
    app = web.Application()
    app.router.add_post("/mcp", server.post)
    app.router.add_get("/mcp", server.refuse)
    app.router.add_delete("/mcp", server.refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield HttpServer(f"http://127.0.0.1:{port}/mcp", headers=headers)
    finally:
        await runner.cleanup()
