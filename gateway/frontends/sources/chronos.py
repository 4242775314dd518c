"""Chronos: a client's sessions as `{"type", "data"}`, for a plain `EventSource`.

| route | does |
|---|---|
| `GET /events?client_id=…` | streams all sessions that the client is subscribed to |
| `GET /events/{client_id}` | the same |

Sessions are put on a client's stream, open or not, by
`PUT /v1/clients/{client_id}/subscriptions/{session_id}`.
"""

from __future__ import annotations

from dataclasses import replace

import orjson
from aiohttp import web

from gateway.codecs.sources.chronos import control_frame, frame, frame_named, named, unnamed
from gateway.frontends.heads import stream_head
from gateway.frontends.refusals import refusing
from gateway.frontends.sources.comebacks import last_event_id
from gateway.http.bodies import is_client_id
from gateway.transports.client_stream import ClientWire
from gateway.transports.clients import Clients
from gateway.transports.reading import Control
from gateway.transports.services import Services
from gateway.transports.stream import native_wire

__all__ = ["routes"]

_FIRST = b":\n\n"

_KEEPALIVE = b":\n"
"""A comment without a blank line: after one, some clients report an event without data."""


def _unnamed(control: Control) -> bytes:
    return unnamed(control_frame(orjson.loads(control.json)))


def _named(control: Control) -> bytes:
    return named(control_frame(orjson.loads(control.json)))


_PLAIN = ClientWire(
    native_wire(frame, _unnamed, _KEEPALIVE),
    first=lambda: _FIRST,
    each_has_id=True,
    tells_outages=False,
)
_NAMED = replace(_PLAIN, wire=native_wire(frame_named, _named, _KEEPALIVE))


def _refusal(status: int, code: str, message: str) -> web.Response:
    body = orjson.dumps({"error": message, "code": code})
    return web.Response(status=status, body=body, content_type="application/json")


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes."""
    clients = Clients(services)

    @refusing(_refusal)
    async def events(request: web.Request) -> web.StreamResponse:
        query = request.query
        client_id = request.match_info.get("client_id") or query.get("client_id")
        if client_id is None:
            return _refusal(400, "client_id_missing", "say who you are: /events?client_id=…")
        if not is_client_id(client_id):
            return _refusal(
                400, "client_id_malformed", "a client id has 1 to 64 of A-Z a-z 0-9 . _ -"
            )
        last = last_event_id(request)
        wire = _NAMED if query.get("named") == "1" else _PLAIN
        wire = replace(wire, headers=stream_head(request))
        return await clients.stream(request, client_id, last, wire)

    return [
        web.get("/events", events, allow_head=False),
        web.get("/events/{client_id}", events, allow_head=False),
    ]
