"""The routes of all frontends."""

from __future__ import annotations

from aiohttp import web

from gateway.frontends import a2a, agui, vercel
from gateway.frontends.openai import chat_completions, models, responses
from gateway.frontends.sources import agentlang, agentmesh, chronos, sekuire, stratus
from gateway.transports.services import Services

__all__ = ["routes"]


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes of every protocol, the most general path last."""
    return [
        *chat_completions.routes(services),
        *models.routes(services),
        *responses.routes(services),
        *stratus.routes(services),
        *sekuire.routes(services),
        *chronos.routes(services),
        *agentmesh.routes(services),
        *a2a.routes(services),
        *vercel.routes(services),
        *agui.routes(services),
        *agentlang.routes(services),  # any path of two parts
    ]
