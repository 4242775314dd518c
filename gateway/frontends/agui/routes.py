"""AG-UI: `POST /agui/{agent}` runs, `…/connect` joins, `…/stop` stops.

A thread is a session, and the client's id of a run is the id of the command that begins it: the same
request again joins the run that it began. Runs outlive connections; stock clients do not come back
by themselves, and join when they are told to.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web

from gateway.codecs.agui import AguiCodec, AguiState, Names
from gateway.codecs.agui.graph_state import note
from gateway.codecs.framing import Style, sse, sse_with_id
from gateway.errors import AgentNotFound, CursorInvalid, RunUnknown, SessionUnknown
from gateway.frontends.agui.input import Place, command_id_of, is_modern, read, read_place
from gateway.frontends.agui.join import cancelled_before_it_began, join, nothing_yet
from gateway.frontends.agui.turns import begin
from gateway.frontends.names import session_id_for
from gateway.frontends.notes import Notes
from gateway.frontends.refusals import refusing
from gateway.frontends.turns import stop
from gateway.http.bodies import json_body
from gateway.log.follow import kept
from gateway.log.position import Position
from gateway.log.serde import load
from gateway.sessions.manager import RunPlace
from gateway.sessions.snapshot import Snapshot
from gateway.transports.projected import Look, stream_run
from gateway.transports.services import Services
from gateway.transports.sse import EventStream, id_frame

__all__ = ["routes"]

_STOP = ""
"""Noted of a run that is to stop, and has not been asked for yet; no run is called so."""

_JSON = "application/json"


def _refusal(status: int, code: str, message: str) -> web.Response:
    """Refuse; clients show status and body to whoever asked."""
    return _json({"code": code, "message": message}, status=status)


def _json(body: Mapping[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type=_JSON)


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes."""
    agui = _Agui(services)
    agent = "/agui/{agent}"
    return [
        web.post(agent, refusing(_refusal)(agui.run)),
        web.post(f"{agent}/connect", refusing(_refusal)(agui.connect)),
        web.post(f"{agent}/stop", refusing(_refusal)(agui.stop)),
        web.get(
            f"{agent}/threads/{{thread_id:.+}}",
            refusing(_refusal)(agui.watch),
            allow_head=False,
        ),
    ]


class _Agui:
    """Answers AG-UI requests."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # A stop may overtake the request for the run, or name the run as a client that joined calls
        # it; both may come to any node. The key is a session and a command id, and noted is our run.
        self._notes = Notes(services.manager.engine, "agui")

    # --- running -------------------------------------------------------------------------------

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Begin a run, or go on with one, and stream it."""
        agent = self._agent_of(request)
        asked = read(await self._body(request))
        names = _names(asked.place)
        key = _key(asked.place)
        if await self._is_stopped(key):
            return self._whole(cancelled_before_it_began(names))
        with self._services.manager.attending(session_id_for(asked.place.thread_id)):
            ours = await begin(self._services, agent, asked)
            if await self._is_stopped(key):
                await stop(self._services, ours.place.session_id, ours.place.run_id)
            if not ours.anew and ours.place.status != "queued":
                return await self._join(request, asked.place, sse)
            look = Look(AguiCodec(names, answered=frozenset(asked.results)), sse)
            return await stream_run(request, self._services, ours.place, look)

    async def _body(self, request: web.Request) -> dict[str, Any]:
        """Return what a request holds: clients send the whole conversation with each."""
        return await json_body(request, limit=self._services.settings.max_history_bytes)

    def _agent_of(self, request: web.Request) -> str:
        """Return the agent that the path names.

        Raises:
            AgentNotFound: If there is none of that name.
        """
        agent = request.match_info["agent"]
        known = [str(one["name"]) for one in self._services.manager.agents()]
        if agent not in known:
            raise AgentNotFound(f"there is no agent {agent!r}; there are: {', '.join(known)}")
        return agent

    # --- joining -------------------------------------------------------------------------------

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Show a conversation as it is, and what is said from now on."""
        self._agent_of(request)
        body = await self._body(request)
        return await self._join(request, read_place(body), sse)

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Do the same for a GET; an `EventSource` that has seen the end is told to stop by 204."""
        self._agent_of(request)
        thread_id = request.match_info["thread_id"]
        modern = is_modern(request.query.get("protocolVersion", "1.0"))
        place = Place(thread_id, None, modern)
        return await self._join(request, place, sse_with_id)

    async def _join(self, request: web.Request, place: Place, style: Style) -> web.StreamResponse:
        services = self._services
        services.streams.check()
        session_id = session_id_for(place.thread_id)
        try:
            snapshot = await services.manager.snapshot(session_id)
        except SessionUnknown:
            return self._whole(nothing_yet(_names(place)))
        cursor = Position.parse(snapshot.cursor)
        last_id = b"" if style is sse else id_frame(f"{session_id}/{cursor}")
        run = snapshot.run
        is_live = run is not None and snapshot.status == "running"
        if not is_live and last_id and _seen(request) == f"{session_id}/{cursor}":
            return web.Response(status=204)
        names = _names(place, run.run_id if run else None)
        joined = join(snapshot, names, await self._noted_state(snapshot))
        if joined.state is None or run is None:
            return self._whole(joined.text + last_id)
        if place.run_id is not None:
            await self._notes.put((session_id, command_id_of(place.run_id)), run.run_id)
        look = Look(AguiCodec(names), style, first=joined.text + last_id, state=joined.state)
        ours = RunPlace(session_id, run.run_id, run.agent, run.status, (cursor,))
        return await stream_run(request, services, ours, look, after=cursor)

    async def _noted_state(self, snapshot: Snapshot) -> AguiState:
        """Return what the log says of a graph's state, as far as the snapshot goes."""
        state = AguiState()
        if snapshot.run is None or snapshot.run.nodes is None:
            return state
        manager, cursor = self._services.manager, Position.parse(snapshot.cursor)
        try:
            place = await manager.run(snapshot.session_id, snapshot.run.run_id)
            entries = kept(
                manager.engine, snapshot.session_id, place.segments[0], through=cursor.seq
            )
            async for entry in entries:
                event = entry.encoded(load) if b'"state":' in entry.body else None
                if event is not None and event.run_id == place.run_id:
                    state = note(state, event)
        except (CursorInvalid, RunUnknown):
            return AguiState()  # the log does not go back so far
        return state

    def _whole(self, text: bytes) -> web.Response:
        """Return a stream that is over."""
        headers = EventStream(allow_all_methods=True).headers
        return web.Response(body=text, headers=headers)

    # --- stopping ------------------------------------------------------------------------------

    async def stop(self, request: web.Request) -> web.StreamResponse:
        """Stop a run, the current one by default; one that has not been asked for yet, too."""
        self._agent_of(request)
        place = read_place(await self._body(request))
        session_id = session_id_for(place.thread_id)
        run_id: str | None = None
        if place.run_id is not None:
            run_id = await self._run_to_stop(session_id, place.run_id)
            if run_id is None:
                return _json({"threadId": place.thread_id, "status": "noted"}, status=202)
        with suppress(SessionUnknown, RunUnknown):  # then nothing of that name runs, as was asked
            await stop(self._services, session_id, run_id)
        return _json({"threadId": place.thread_id, "status": "stopped"})

    async def _run_to_stop(self, session_id: str, name: str) -> str | None:
        """Return our run that a client calls so; None if there is none yet."""
        manager, key = self._services.manager, (session_id, command_id_of(name))
        joined = await self._notes.get(key)
        if joined:
            return joined
        # First this: the request may be on its way right now, and looks for it when it has begun.
        await self._notes.put(key, _STOP)
        answer = await manager.engine.answer(*key)
        run_id = None if answer is None else answer.run_id
        if run_id is None:
            with suppress(SessionUnknown, RunUnknown):
                run_id = (await manager.run(session_id, name)).run_id
        if run_id is not None:
            await self._notes.put(key, run_id)
        return run_id

    async def _is_stopped(self, key: tuple[str, str]) -> bool:
        return await self._notes.get(key) == _STOP


def _names(place: Place, run_id: str | None = None) -> Names:
    return Names(place.thread_id, place.run_id or run_id or place.thread_id, place.modern)


def _key(place: Place) -> tuple[str, str]:
    return session_id_for(place.thread_id), command_id_of(place.run_id or "")


def _seen(request: web.Request) -> str | None:
    return request.headers.get("Last-Event-ID")
