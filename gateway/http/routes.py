"""The table of routes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from gateway.commands import parse_command, parse_create
from gateway.errors import CommandMalformed, EngineUnavailable
from gateway.http.bodies import (
    client_id_of,
    command_body,
    json_body,
    number_of,
    role_of,
    session_id_of,
)
from gateway.http.page import page_file
from gateway.http.problems import problem
from gateway.log.outage import in_time
from gateway.log.position import parse_after
from gateway.transports.clients import Clients
from gateway.transports.ndjson import follow_lines, page_of_events
from gateway.transports.negotiate import EVENT_STREAM, JSON, NDJSON, after_of, choose
from gateway.transports.run_result import answer_message
from gateway.transports.services import Services
from gateway.transports.sse import session_stream
from gateway.transports.websocket import websocket

__all__ = ["Routes"]

SESSIONS_PER_PAGE = 50
MOST_SESSIONS = 500
EVENTS_PER_PAGE = 100
MOST_EVENTS = 1000

PROBE_SECONDS = 0.5
"""What the store gets to answer `/readyz`: those who ask wait for a second, as a rule."""


def _json(body: object, *, status: int = 200) -> web.Response:
    return _line(orjson.dumps(body), status=status)


def _line(body: bytes, *, status: int) -> web.Response:
    return web.Response(
        status=status,
        body=body,
        content_type=JSON,
        headers={"Cache-Control": "no-store"},
    )


def _choose(request: web.Request, *offered: str) -> str:
    chosen = choose(request.headers.get("Accept"), offered)
    if chosen is None:
        raise web.HTTPNotAcceptable(text=f"this can be had as {', '.join(offered)}")
    return chosen


class Routes:
    """Answers requests. Each method is one route; what is wrong is raised, and becomes a problem."""

    def __init__(self, services: Services, page: Mapping[str, Path]) -> None:
        """Make them.

        Args:
            services: The server's parts.
            page: The files of the page by their path in URLs.
        """
        self._services = services
        self._manager = services.manager
        self._clients = Clients(services)
        self._page_files = page

    def table(self) -> list[web.RouteDef]:
        """Return all routes."""
        session = "/v1/sessions/{session_id}"
        client = "/v1/clients/{client_id}"
        subscription = client + "/subscriptions/{session_id}"
        return [
            _get("/v1/agents", self._agents),
            _get("/v1/sessions", self._list),
            web.post("/v1/sessions", self._create),
            _get(session, self._snapshot),
            web.delete(session, self._delete),
            web.post(f"{session}/commands", self._command),
            web.post(f"{session}/messages", self._message),
            _get(f"{session}/events", self._events),
            _get(client, self._client),
            _get(f"{client}/events", self._client_events),
            web.put(subscription, self._subscribe),
            web.delete(subscription, self._unsubscribe),
            _get("/v1/ws", self._websocket),
            *self._probes(),
            *(web.get(path, self._page) for path in self._page_files),
        ]

    def of_worker(self) -> list[web.RouteDef]:
        """Return the routes of a server that serves no clients."""
        return [*self._probes(), web.route("*", "/{path:.*}", _of_others)]

    def _probes(self) -> list[web.RouteDef]:
        return [_get("/healthz", self._health), _get("/readyz", self._ready)]

    async def _agents(self, request: web.Request) -> web.StreamResponse:
        return _json({"agents": self._manager.agents()})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        limit = number_of(request, "limit", default=SESSIONS_PER_PAGE, most=MOST_SESSIONS)
        return _json(await self._manager.sessions(limit=limit, after=request.query.get("after")))

    async def _create(self, request: web.Request) -> web.StreamResponse:
        snapshot, is_new = await self._manager.create(parse_create(await json_body(request)))
        return await self._shown(snapshot.session_id, status=201 if is_new else 200)

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        return await self._shown(session_id_of(request))

    async def _shown(self, session_id: str, *, status: int = 200) -> web.Response:
        return _line((await self._manager.shown(session_id)).json, status=status)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        await self._manager.delete(session_id_of(request))
        return web.Response(status=204)

    async def _command(self, request: web.Request) -> web.StreamResponse:
        answer = await self._manager.obey(parse_command(await command_body(request)))
        return _json(answer.model_dump(mode="json"), status=202)

    async def _message(self, request: web.Request) -> web.StreamResponse:
        media_type = _choose(request, JSON, EVENT_STREAM, NDJSON)
        body = await command_body(request, make_id=True)
        if body.setdefault("type", "send") != "send":
            raise CommandMalformed("`type` is `send` here, or absent")
        command = parse_command(body)
        assert command.type == "send"  # noqa: S101 - the body says so
        return await answer_message(request, self._services, command, media_type)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        session_id = session_id_of(request)
        media_type = _choose(request, EVENT_STREAM, NDJSON, JSON)
        after = after_of(request.headers.get("Last-Event-ID"), request.query.get("after"))
        if media_type == JSON:
            limit = number_of(request, "limit", default=EVENTS_PER_PAGE, most=MOST_EVENTS)
            return await page_of_events(self._services, session_id, after, limit=limit)
        role = role_of(request)
        if media_type == NDJSON:
            return await follow_lines(request, self._services, session_id, after, role=role)
        named = request.query.get("named") == "1"
        return await session_stream(
            request, self._services, session_id, after, named=named, role=role
        )

    async def _client(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._clients.describe(client_id_of(request)))

    async def _client_events(self, request: web.Request) -> web.StreamResponse:
        _choose(request, EVENT_STREAM)
        client_id = client_id_of(request)
        last = request.headers.get("Last-Event-ID") or request.query.get("after")
        return await self._clients.stream(request, client_id, last, role=role_of(request))

    async def _subscribe(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await json_body(request, optional=True)
        after = body.pop("after", None)
        if body:
            raise CommandMalformed(f"unknown field `{next(iter(body))}`")
        if not isinstance(after, str | None):
            raise CommandMalformed("`after`: must be a string")
        await self._clients.subscribe(
            client_id_of(request), session_id_of(request), parse_after(after)
        )
        return web.Response(status=204)

    async def _unsubscribe(self, request: web.Request) -> web.StreamResponse:
        await self._clients.unsubscribe(client_id_of(request), session_id_of(request))
        return web.Response(status=204)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        return await websocket(request, self._services)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return _json({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        """Say whether clients may be sent here; beside that, whether the store is away.

        A store that is away is away for all nodes. Were they not ready then, a load balancer would
        have none left, and cut all streams, which wait for the store, to send their clients nowhere.
        """
        self._services.streams.check_ready()
        try:
            await in_time(PROBE_SECONDS, self._manager.engine.answer("readyz", "readyz"))
        except EngineUnavailable:
            return _json({"status": "ready", "store": "away"})
        return _json({"status": "ready"})

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return page_file(self._page_files[request.path])


async def _of_others(request: web.Request) -> web.StreamResponse:
    """Say that a client has come to a worker."""
    detail = "this server is a worker: it does runs, and answers /healthz and /readyz alone"
    return problem(404, "route_unknown", detail)


def _get(path: str, answering: Any) -> web.RouteDef:
    """Return a route for GET alone: a stream has no HEAD."""
    return web.get(path, answering, allow_head=False)
