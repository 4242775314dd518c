"""A2A 1.0, JSON-RPC over HTTP: agent cards, and one endpoint for each agent.

The types are those of the SDK, which is the extra `a2a`. It is imported by the first request, aside
of the event loop: reading it takes a fifth of a second, and most servers never need it.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.transports.services import Services

if TYPE_CHECKING:
    from gateway.frontends.a2a.calls import Calls

__all__ = ["routes"]

_MISSING = "A2A needs the SDK of the protocol: pip install 'tidegate[a2a]'"


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes of A2A."""
    a2a = _A2a(services)
    card = "/.well-known/agent-card.json"
    return [
        web.get(card, a2a.card, allow_head=False),
        web.get("/a2a/{agent}" + card, a2a.card, allow_head=False),
        web.post("/a2a", a2a.call),
        web.post("/a2a/{agent}", a2a.call),
    ]


class _A2a:
    """Hands requests to what the SDK is needed for."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._calls: Calls | None = None

    async def card(self, request: web.Request) -> web.StreamResponse:
        return (await self._loaded()).card(request)

    async def call(self, request: web.Request) -> web.StreamResponse:
        return await (await self._loaded()).answer(request)

    async def _loaded(self) -> Calls:
        if self._calls is None:
            try:
                module = await asyncio.to_thread(
                    importlib.import_module, "gateway.frontends.a2a.calls"
                )
            except ModuleNotFoundError as error:
                raise web.HTTPNotImplemented(text=_MISSING) from error
            self._calls = module.Calls(self._services)
        assert self._calls is not None  # noqa: S101 - it was just made
        return self._calls
