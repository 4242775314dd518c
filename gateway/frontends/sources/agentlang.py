"""Agentlang: `POST /{module}/{event}`, a plain answer, or all on the way to it if the client asks.

The module `agents` has every registered agent and graph by its name; an agent named `support.triage`
is the event `triage` of the module `support`. What is asked with `Accept: text/event-stream` changes
nothing for those who do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.codecs.sources.agentlang import AgentlangCodec, Outcome, outcome
from gateway.commands import explain
from gateway.errors import AgentNotFound, CommandMalformed
from gateway.frontends.refusals import refusing
from gateway.frontends.sources.comebacks import turn_of
from gateway.frontends.turns import Turn, take_turn
from gateway.http.bodies import json_body
from gateway.log.serde import load
from gateway.sessions.manager import RunPlace
from gateway.transports.following import follow_run
from gateway.transports.negotiate import EVENT_STREAM, JSON, names
from gateway.transports.projected import Look, stream_run
from gateway.transports.services import Services
from runtime.sse.words import CONNECTED, HEADERS, KEEPALIVE

__all__ = ["routes"]

MODULE = "agents"
"""The module in which every agent is an event."""

BAD_REQUEST = 400
UNPROCESSABLE = 422

_TEXTS = ("message", "input")
_OURS = {"session_id", "options"}


class _Ours(BaseModel):
    """What is for the gateway and not for the agent."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    session_id: str | None = Field(default=None, min_length=1)
    options: Mapping[str, Any] = Field(default_factory=dict)


def _refusal(status: int, code: str, message: str) -> web.Response:
    """Refuse in the words of a plain answer that failed."""
    status = BAD_REQUEST if status == UNPROCESSABLE else status
    return _plain(Outcome(status, orjson.dumps({"error": message, "statusCode": status})))


def _plain(end: Outcome) -> web.Response:
    return web.Response(status=end.status, body=end.body, content_type=JSON)


def routes(services: Services) -> list[web.RouteDef]:
    """Return the route; it matches any path of two parts, so it comes after all others."""

    @refusing(_refusal)
    async def take(request: web.Request) -> web.StreamResponse:
        agent = await _agent(request, services)
        cancels = _cancels(request)
        turn = _turn(await json_body(request), agent, request.headers.get("Idempotency-Key"))
        with services.manager.attending(turn.session_id):
            place = await take_turn(services, replace(turn, cancels=cancels))
            if not names(request.headers.get("Accept"), EVENT_STREAM):
                return _plain(await _wait(services, place))
            codec = AgentlangCodec(everything=request.query.get("events") == "all")
            look = Look(codec, headers=HEADERS, first=CONNECTED, keepalive=KEEPALIVE)
            return await stream_run(request, services, place, look)

    return [web.route("*", "/{module}/{event}", take)]


async def _agent(request: web.Request, services: Services) -> str:
    """Return the agent that the path names.

    All else is answered as if this route were not there: it takes every path of two parts, also those
    that others answer with other methods.

    Raises:
        web.HTTPMethodNotAllowed, web.HTTPNotFound: As the other routes would.
        AgentNotFound: If the module is `agents` and there is none of that name.
    """
    allowed = await _methods_of_others(request)
    if allowed:
        raise web.HTTPMethodNotAllowed(request.method, sorted(allowed))
    module, event = request.match_info["module"], request.match_info["event"]
    known = {str(agent["name"]) for agent in services.manager.agents()}
    wanted = [event, f"{MODULE}.{event}"] if module == MODULE else [f"{module}.{event}"]
    agent = next((name for name in wanted if name in known), None)
    if agent is not None and request.method != "POST":
        raise web.HTTPMethodNotAllowed(request.method, ["POST"])
    if agent is not None:
        return agent
    if module == MODULE and request.method == "POST":
        raise AgentNotFound(f"there is no agent {event!r}; known: {', '.join(sorted(known))}")
    raise web.HTTPNotFound


async def _methods_of_others(request: web.Request) -> set[str]:
    """Return the methods with which other routes answer this path."""
    mine = request.match_info.route.resource
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        if resource is not mine:
            _, methods = await resource.resolve(request)
            allowed |= methods
    return allowed


def _cancels(request: web.Request) -> bool:
    """Whether the run is to end if the client goes away.

    Raises:
        CommandMalformed: If it says something else than `cancel` or `continue`.
    """
    wish = request.query.get("on_disconnect", "continue")
    if wish not in {"cancel", "continue"}:
        raise CommandMalformed("`on_disconnect` is `cancel` or `continue`")
    return wish == "cancel"


def _turn(body: Mapping[str, Any], agent: str, key: str | None) -> Turn:
    try:
        ours = _Ours.model_validate(body)
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error
    return turn_of(
        "agentlang",
        session=ours.session_id,
        key=key,
        text=_text(body),
        agent=agent,
        options=ours.options,
    )


def _text(body: Mapping[str, Any]) -> str:
    """Return what the agent is told: the one text that the body holds, or else all of it as JSON.

    Raises:
        CommandMalformed: If it holds nothing.
    """
    event = {name: value for name, value in body.items() if name not in _OURS}
    if not event:
        raise CommandMalformed("the body is empty; give a `message`, an `input`, or other fields")
    (name, value), *more = event.items()
    if more or name not in _TEXTS or not isinstance(value, str):
        return orjson.dumps(event).decode()
    if not value.strip():
        raise CommandMalformed(f"`{name}` is empty")
    return value


async def _wait(services: Services, place: RunPlace) -> Outcome:
    """Return how the run ends."""
    end: Outcome | None = None
    async with (
        services.streams.until_drained(),
        aclosing(follow_run(services, place)) as batches,
    ):
        async for batch in batches:
            for entry in batch:
                if (event := load(entry)) is not None:
                    end = outcome(event, entry.session_id)
    assert end is not None  # noqa: S101 - a run is followed up to its end
    return end
