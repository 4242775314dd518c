"""AgentMesh: `POST /api/graph/stream` with the messages so far, answered by results.

    {"messages": [{"role": "user", "content": "…"}], "agent"?, "session_id"?, "options"?}

By `Accept` these are server-sent events, or lines of JSON for whoever reads the body by itself. A run
is for the one client that asked: if it goes away, the run is cancelled. Without an agent it is the
session's that answers, and in a new session the server's first graph. A new session begins with all
but the last of the messages; one that is there knows what was said, and takes the last one only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gateway.codecs.framing import line, sse
from gateway.codecs.sources.agentmesh import NOTHING, AgentMeshCodec
from gateway.commands import explain
from gateway.errors import CommandMalformed, SessionUnknown
from gateway.frontends.heads import stream_head
from gateway.frontends.refusals import refusing
from gateway.frontends.sources.comebacks import refuse_other_sites, turn_of
from gateway.frontends.turns import Turn, take_turn
from gateway.http.bodies import body_of, json_object
from gateway.sessions.manager import RunPlace
from gateway.transports.negotiate import EVENT_STREAM, NDJSON, choose
from gateway.transports.projected import Look, stream_run
from gateway.transports.services import Services
from runtime.messages import Message, ToolCall

__all__ = ["routes"]

_CODEC = AgentMeshCodec()
_ROLES = {"human": "user", "ai": "assistant"}
_UNPROCESSABLE = 422


def _role(value: object) -> object:
    return _ROLES.get(value, value) if isinstance(value, str) else value


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Annotated[str, BeforeValidator(_role), Field(pattern="^(system|user|assistant|tool)$")]
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: tuple[_Said, ...] = Field(min_length=1)
    agent: str | None = None
    session_id: str | None = Field(default=None, min_length=1)
    options: Mapping[str, Any] = Field(default_factory=dict)


def _refusal(status: int, code: str, message: str) -> web.Response:
    """Refuse as a result that failed; what cannot be read is a bad request."""
    return web.Response(
        status=400 if status == _UNPROCESSABLE else status,
        body=orjson.dumps({"Error": message, "code": code}),
        content_type="application/json",
    )


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes."""

    @refusing(_refusal)
    async def post(request: web.Request) -> web.StreamResponse:
        media_type = choose(request.headers.get("Accept"), (EVENT_STREAM, NDJSON))
        if media_type is None:
            offered = f"this can be had as {EVENT_STREAM} or {NDJSON}"
            return _refusal(406, "not_acceptable", offered)
        refuse_other_sites(request)
        # Whatever its type: a page's `fetch` calls a text of JSON `text/plain`.
        asked = _read(
            json_object(await body_of(request, limit=services.settings.max_history_bytes)),
            request.query.get("agent"),
        )
        if not _can_stream(request):
            return web.Response(status=500, text="Streaming not supported")
        turn = await _turn(services, asked, request.headers.get("Idempotency-Key"))
        with services.manager.attending(turn.session_id):
            place = await take_turn(services, turn)
            look = _look(media_type, {**stream_head(request, media_type), **_named(place)})
            return await stream_run(request, services, place, look)

    return [web.post("/api/graph/stream", post)]


def _named(place: RunPlace) -> dict[str, str]:
    return {"X-Tidegate-Session-Id": place.session_id, "X-Tidegate-Run-Id": place.run_id}


def _look(media_type: str, headers: Mapping[str, str | None]) -> Look:
    lines = media_type == NDJSON
    return Look(
        _CODEC,
        line if lines else sse,
        headers,
        first=b"" if lines else b":\n\n",
        keepalive=NOTHING + b"\n" if lines else b":\n\n",
    )


def _read(body: object, agent: str | None) -> _Asked:
    try:
        asked = _Asked.model_validate(body)
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error
    if asked.messages[-1].role != "user":
        raise CommandMalformed("the last of `messages` is not the user's")
    return asked if asked.agent or not agent else asked.model_copy(update={"agent": agent})


def _can_stream(request: web.Request) -> bool:
    """Whether what is written goes out at once; an adapter to another server may collect it."""
    return hasattr(request.transport, "set_write_buffer_limits")


async def _turn(services: Services, asked: _Asked, key: str | None) -> Turn:
    *before, last = asked.messages
    said = [message for message in before if message.role != "system"]
    rules = [message.content for message in before if message.role == "system"]
    turn = turn_of(
        "agentmesh",
        session=asked.session_id,
        key=key,
        text=last.content,
        agent=asked.agent,
        options=asked.options,
    )
    return replace(
        turn,
        agent=turn.agent or await _default_agent(services, turn.session_id),
        history=tuple(Message(**message.model_dump()) for message in said),
        instructions="\n\n".join(rules) or None,
        cancels=True,
    )


async def _default_agent(services: Services, session_id: str) -> str | None:
    """Return who answers in a session that is new: the first graph, if there is one."""
    try:
        await services.manager.engine.session(session_id)
    except SessionUnknown:
        graphs = (agent["name"] for agent in services.manager.agents() if agent["kind"] == "graph")
        return next(graphs, None)
    return None
