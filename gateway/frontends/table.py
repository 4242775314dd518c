"""The routes of all frontends."""

from __future__ import annotations

from aiohttp import web

from gateway.transports.services import Services

__all__ = ["routes"]


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes of every protocol, the most general path last."""
    return []
