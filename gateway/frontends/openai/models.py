"""`GET /v1/models`: the agents and graphs, as OpenAI's clients list models."""

from __future__ import annotations

import time
from typing import Any

import orjson
from aiohttp import web

from gateway.errors import AgentNotFound
from gateway.frontends.openai.errors import answering_openai
from gateway.transports.services import Services

__all__ = ["routes"]


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes of the list and of its items; other servers' names may have slashes."""
    created = int(time.time())  # agents have no birthday: they are here since the server is

    def models() -> list[dict[str, Any]]:
        names = [agent["name"] for agent in services.manager.agents()]
        return [
            {"id": name, "object": "model", "created": created, "owned_by": "tidegate"}
            for name in names
        ]

    async def every(request: web.Request) -> web.StreamResponse:
        return _json({"object": "list", "data": models()})

    @answering_openai
    async def one(request: web.Request) -> web.StreamResponse:
        wanted = request.match_info["model"]
        for model in models():
            if model["id"] == wanted:
                return _json(model)
        raise AgentNotFound(f"the model {wanted!r} does not exist")

    return [
        web.get("/v1/models", every, allow_head=False),
        web.get("/v1/models/{model:.+}", one, allow_head=False),
    ]


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(
        body=orjson.dumps(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
