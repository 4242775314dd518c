"""Sekuire: `GET /chat/stream?message=`, and the same as a POST.

A run outlives its connection: whoever comes back with the last id goes on where the stream broke.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.codecs.framing import sse_with_run
from gateway.codecs.sources.sekuire import SekuireCodec
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

_SPELLINGS = {"maxTokens": "max_tokens", "stopSequences": "stop_sequences"}
_OPTIONS = {"temperature", *_SPELLINGS, *_SPELLINGS.values()}
_QUERY = {"message", "session_id", "agent"}


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    message: str
    session_id: str | None = Field(default=None, min_length=1)
    agent: str | None = None
    options: Mapping[str, Any] = Field(default_factory=dict)


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps({"error": message, "code": code}),
        content_type="application/json",
    )


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes."""

    async def answer(
        request: web.Request, fields: Mapping[str, Any], key: str | None
    ) -> web.StreamResponse:
        event_id = last_event_id(request)
        if event_id is None:
            place = await take_turn(services, _turn(fields, key))
            comeback: Comeback | None = Comeback(place, place.segments[-1])
        else:
            comeback = await come_back(services, event_id, SekuireCodec())
        if comeback is None:
            return web.Response(status=204)
        first = first_bytes(comeback.place, comeback.after)
        look = Look(SekuireCodec(), sse_with_run, HEADERS, first)
        return await stream_run(request, services, comeback.place, look, after=comeback.after)

    @refusing(_refusal)
    async def get(request: web.Request) -> web.StreamResponse:
        refuse_other_sites(request)
        return await answer(request, _asked_by_url(request), request.query.get("id"))

    @refusing(_refusal)
    async def post(request: web.Request) -> web.StreamResponse:
        fields = _asked_by_body(await json_body(request))
        return await answer(request, fields, request.headers.get("Idempotency-Key"))

    return [web.get("/chat/stream", get, allow_head=False), web.post("/chat/stream", post)]


def _asked_by_url(request: web.Request) -> dict[str, Any]:
    query = request.query
    fields: dict[str, Any] = {name: query[name] for name in _QUERY & query.keys()}
    options: dict[str, Any] = {}
    for name in _OPTIONS & query.keys():
        known = _SPELLINGS.get(name, name)
        options[known] = query.getall(name) if known == "stop_sequences" else _number(query[name])
    return fields | {"options": options}


def _number(text: str) -> int | float | str:
    """Return a number as it is written; what is none is left to be refused."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _asked_by_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a body, in which options may stand by themselves."""
    fields = {name: value for name, value in body.items() if name not in _OPTIONS}
    given = fields.get("options", {})
    if not isinstance(given, dict):
        raise CommandMalformed("`options` is an object")
    options = given | {name: body[name] for name in _OPTIONS & body.keys()}
    return fields | {
        "options": {_SPELLINGS.get(name, name): value for name, value in options.items()}
    }


def _turn(fields: Mapping[str, Any], key: str | None) -> Turn:
    try:
        asked = _Asked.model_validate(fields)
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error
    if not asked.message.strip():
        raise CommandMalformed("`message` is empty")
    return turn_of(
        "sekuire",
        session=asked.session_id,
        key=key,
        text=asked.message,
        agent=asked.agent,
        options=asked.options,
    )
