"""Stratus: `POST /chat`, and `GET /chat?message=` for an `EventSource`.

A run is for the one client that asked: if it goes away, the run is cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.codecs.framing import sse, sse_with_run
from gateway.codecs.sources.stratus import StratusCodec
from gateway.commands import explain
from gateway.errors import CommandMalformed
from gateway.frontends.refusals import refusing
from gateway.frontends.sources.comebacks import (
    Comeback,
    come_back,
    first_bytes,
    last_event_id,
    refuse_other_sites,
    turn_of,
)
from gateway.frontends.turns import Turn, take_turn
from gateway.http.bodies import json_body
from gateway.transports.projected import Look, stream_run
from gateway.transports.services import Services
from runtime.sse.words import HEADERS

__all__ = ["routes"]

BAD_REQUEST = 400
UNPROCESSABLE = 422


class _Asked(BaseModel):
    """What a client asks; fields that others have invented are none of our business."""

    model_config = ConfigDict(frozen=True)

    message: str
    session_id: str | None = Field(default=None, min_length=1)
    agent: str | None = None
    options: Mapping[str, Any] = Field(default_factory=dict)


def _refusal(status: int, code: str, message: str) -> web.Response:
    """Refuse in the words of the stream's own `error`; what cannot be read is a bad request."""
    return web.Response(
        status=BAD_REQUEST if status == UNPROCESSABLE else status,
        body=orjson.dumps({"message": message, "code": code}),
        content_type="application/json",
    )


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes."""

    @refusing(_refusal)
    async def post(request: web.Request) -> web.StreamResponse:
        asked = _read(await json_body(request))
        turn = _turn(asked, request.headers.get("Idempotency-Key"))
        with services.manager.attending(turn.session_id):
            place = await take_turn(services, turn)
            return await stream_run(request, services, place, Look(_codec(request), sse, HEADERS))

    @refusing(_refusal)
    async def get(request: web.Request) -> web.StreamResponse:
        refuse_other_sites(request)
        if (event_id := last_event_id(request)) is not None:
            comeback = await come_back(services, event_id, _codec(request))
            return web.Response(status=204) if comeback is None else await tell(request, comeback)
        asked = _read({name: request.query[name] for name in _QUERY & request.query.keys()})
        turn = _turn(asked, request.query.get("id"))
        with services.manager.attending(turn.session_id):
            place = await take_turn(services, turn)
            return await tell(request, Comeback(place, place.segments[-1]))

    async def tell(request: web.Request, comeback: Comeback) -> web.StreamResponse:
        first = first_bytes(comeback.place, comeback.after)
        look = Look(_codec(request), sse_with_run, HEADERS, first)
        return await stream_run(request, services, comeback.place, look, after=comeback.after)

    return [web.post("/chat", post), web.get("/chat", get, allow_head=False)]


_QUERY = {"message", "session_id", "agent"}


def _read(fields: Mapping[str, Any]) -> _Asked:
    try:
        asked = _Asked.model_validate(fields)
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error
    if not asked.message.strip():
        raise CommandMalformed("`message` is empty")
    return asked


def _turn(asked: _Asked, key: str | None) -> Turn:
    turn = turn_of(
        "stratus",
        session=asked.session_id,
        key=key,
        text=asked.message,
        agent=asked.agent,
        options=asked.options,
    )
    return replace(turn, cancels=True)


def _codec(request: web.Request) -> StratusCodec:
    return StratusCodec(deltas=request.query.get("deltas") == "1")
