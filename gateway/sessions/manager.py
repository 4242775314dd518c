"""Sessions by id: the one door to them for every transport."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from gateway.codecs.native import timestamp
from gateway.commands import Ack, CreateSession, Fork, Ping, Pong, Role, SessionCommand, digest
from gateway.errors import AgentNotFound, RunUnknown, ShuttingDown
from gateway.log.engine import LEASE_SECONDS, Engine, NewSession, SessionRecord, Write
from gateway.log.outage import in_time
from gateway.log.position import Position
from gateway.log.serde import dump
from gateway.sessions.appends import title_of
from gateway.sessions.controllers import Controllers
from gateway.sessions.fork import fork
from gateway.sessions.ids import new_session_id
from gateway.sessions.leases import BEATS_PER_LEASE, Leases
from gateway.sessions.loading import load_session
from gateway.sessions.presence import Presence
from gateway.sessions.retention import Keep, Sweeper, needed_by_runs
from gateway.sessions.room import Room
from gateway.sessions.session import Session
from gateway.sessions.shown import Shown
from gateway.sessions.snapshot import RunStatus, Snapshot
from runtime.errors import AgentUnknown
from runtime.events import SessionCreated
from runtime.graph.command import END
from runtime.graph.compiled import CompiledGraph
from runtime.history import named
from runtime.registry import Registry
from runtime.runnable import Runnable

__all__ = ["RunPlace", "SessionManager"]

COMMAND_SECONDS = 10.0
"""How long a command waits for a store that does not answer, before its client is told to try again."""

LOADED_SESSIONS = 1024
"""Idle sessions beyond this many are dropped from memory; they are loaded again when needed."""


@dataclass(frozen=True, slots=True)
class RunPlace:
    """A run and its place in its session's log.

    Attributes:
        segments: Right before its input, and right before each time that it went on after a
            pause. What lies between is a segment of it.
    """

    session_id: str
    run_id: str
    agent: str
    status: RunStatus
    segments: tuple[Position, ...]


class SessionManager:
    """Creates, loads, commands and deletes sessions."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        *,
        delta_interval: float = 0.02,
        heartbeat: float | None = None,
        lease: float = LEASE_SECONDS,
        places: int | None = None,
        keep: Keep | None = None,
        command_timeout: float = COMMAND_SECONDS,
    ) -> None:
        """Make the manager.

        Args:
            engine: Where the logs are.
            registry: The agents that sessions may run.
            delta_interval: Seconds for which text deltas may wait to be merged.
            heartbeat: Seconds between two heartbeats for its runs; default: a quarter of a lease.
            lease: Seconds for which a run stays with a process that gives no sign; as the engine's.
            places: Runs that may be at work here at once; those that find none wait, here or for
                another process. 0: none ever is. None: no end of them.
            keep: How much of each session is kept; default: the usual.
            command_timeout: Seconds after which whoever waits for a command is told to try again.
        """
        self.engine = engine
        heartbeat = heartbeat or lease / BEATS_PER_LEASE
        self._registry = registry
        self._delta_interval = delta_interval
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._alive: WeakValueDictionary[str, Session] = WeakValueDictionary()
        self._loading: dict[str, asyncio.Task[Session]] = {}
        self._at_work: set[asyncio.Task[Ack]] = set()
        self._command_timeout = command_timeout
        self._controllers = Controllers(self._attended)
        self._presence = Presence(engine, self._controllers.sessions, interval=heartbeat)
        self._room = Room(places)
        self._leases = Leases(
            engine,
            self._sessions,
            load=self._session,
            room=self._room,
            interval=heartbeat,
            lease=lease,
        )
        self._sweeper = Sweeper(engine, keep or Keep(), needed=self._needed, forgotten=self._forget)
        self._closing = False

    async def start(self) -> None:
        """Take over the runs that nobody works on, and look for such runs from then on.

        One that cannot be taken over now keeps nobody from starting, and is tried again later.
        """
        self._presence.start()
        await self._leases.start()
        self._sweeper.start()

    async def hand_over(self, seconds: float) -> None:
        """Take no more commands, and let go of all runs at the end of a step. Safe to call twice.

        Args:
            seconds: What runs get to come to that end; then they are cut.
        """
        self._closing = True
        self._controllers.stop()
        self._presence.stop()
        if self._at_work:
            await asyncio.wait(self._at_work)
        await self._leases.hand_over(seconds)

    async def aclose(self) -> None:
        """Take no more commands, and drop what runs: others may go on with it. Safe to call twice."""
        self._closing = True
        self._controllers.stop()
        await self._presence.aclose()
        await self._leases.aclose()
        await self._sweeper.aclose()
        if self._at_work:
            await asyncio.wait(self._at_work)
        async with asyncio.TaskGroup() as group:
            for session in self._sessions.values():
                group.create_task(session.aclose())
        await self._leases.drop()

    def agents(self) -> list[dict[str, Any]]:
        """Return the registered agents as clients see them, the default first."""
        return [
            {
                "name": agent.name,
                "kind": agent.kind,
                "description": agent.description,
                "tools": [
                    {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": tool.parameters,
                    }
                    for tool in agent.tool_infos()
                ],
                **_shape(agent),
            }
            for agent in self._registry
        ]

    async def create(self, asked: CreateSession) -> tuple[Snapshot, bool]:
        """Make a session; the same id and body again gives the same one.

        Returns:
            Its snapshot, and whether it is new.

        Raises:
            AgentNotFound: If the agent is not registered.
            SessionConflict: If the id exists with another body.
            SessionGone: If it was deleted.
            EngineUnavailable: If the store failed, or did not answer in time.
            ShuttingDown: If the server is stopping.
        """
        self._check_open()
        try:
            agent = self._registry.get(asked.agent).name
        except AgentUnknown as error:
            raise AgentNotFound(str(error)) from error
        session_id = asked.session_id or new_session_id()
        history = named(asked.history)
        created = SessionCreated(agent=agent, metadata=asked.metadata, history=history or None)
        said = next((m.content for m in history if m.role == "user"), None)
        write = Write(
            session_id=session_id,
            bodies=[dump(created)],
            create=NewSession(agent, asked.metadata, digest(asked)),
            status="idle",
            title=None if said is None else title_of(said),
        )
        appended = await in_time(self._command_timeout, self.engine.append(write))
        return await self.snapshot(session_id), not appended.repeated

    async def sessions(self, *, limit: int, after: str | None) -> dict[str, Any]:
        """Return a page of the session list, newest first.

        Args:
            limit: How many at most.
            after: The `next` of the page before.
        """
        records = await self.engine.sessions(limit=limit + 1, after=after)
        page = records[:limit]
        return {
            "sessions": [_listed(record) for record in page],
            "next": page[-1].session_id if len(records) > limit else None,
        }

    async def snapshot(self, session_id: str) -> Snapshot:
        """Return a session as it is now.

        Raises:
            SessionUnknown, SessionGone: If there is none.
        """
        return await (await self._session(session_id)).snapshot()

    async def shown(self, session_id: str) -> Shown:
        """Return the same as `snapshot`, encoded once for all who come while it stays as it is.

        Raises:
            SessionUnknown, SessionGone: If there is none.
        """
        return await (await self._session(session_id)).shown()

    async def obey(self, command: SessionCommand | Ping) -> Ack | Pong:
        """Obey a command. If the caller is cancelled, the command is carried out all the same.

        Raises:
            GatewayError: If it is refused; it had no effect then.
        """
        if isinstance(command, Ping):
            return Pong(id=command.id)
        self._check_open()
        task = asyncio.get_running_loop().create_task(self._obey(command))
        self._at_work.add(task)
        task.add_done_callback(self._obeyed)
        return await in_time(self._command_timeout, asyncio.shield(task))

    async def _obey(self, command: SessionCommand) -> Ack:
        with self.attending(command.session_id):
            session = await self._session(command.session_id)
            if isinstance(command, Fork):
                return await fork(self.engine, session, command)
            return await session.obey(command)

    def _obeyed(self, task: asyncio.Task[Ack]) -> None:
        self._at_work.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone

    def attending(self, session_id: str, role: Role = "controller") -> AbstractContextManager[None]:
        """Count one who controls a session, if there is one, for the length of a block.

        When the last has gone, runs that were to be cancelled then have so much time left as they
        asked for. Whoever only observes keeps and ends nothing.
        """
        return self._controllers.present(session_id, role)

    def _attended(self, session_id: str) -> None:
        self._presence.changed(session_id)
        session = self._alive.get(session_id)
        if session is not None:
            session.absence.begin()

    async def run(self, session_id: str, run_id: str | None = None) -> RunPlace:
        """Return where in the log a run is, and how it stands; not behind what readers have seen.

        Args:
            session_id: Whose run.
            run_id: Which; without it, the active run or else the last one.

        Raises:
            SessionUnknown, SessionGone: If there is no such session.
            RunUnknown: If it has no such run, or none at all yet.
        """
        state = await (await self._session(session_id)).settled()
        wanted = run_id or state.current or state.last or ""
        run = state.runs.get(wanted) or state.queued_runs.get(wanted)
        if run is None:
            raise RunUnknown(wanted)
        segments = tuple(Position.parse(cursor) for cursor in run.segments)
        return RunPlace(session_id, run.run_id, run.agent, run.status, segments)

    async def close(self, session_id: str, reason: str) -> None:
        """Cancel what a session does; it can be read from then on, and nothing else.

        Raises:
            SessionUnknown, SessionGone: If there is none.
        """
        await (await self._session(session_id)).close(reason)

    async def delete(self, session_id: str) -> None:
        """Close a session and delete all about it.

        Raises:
            SessionUnknown, SessionGone: If there is none.
        """
        self._check_open()
        await in_time(self._command_timeout, self.close(session_id, "deleted"))
        await in_time(self._command_timeout, self.engine.delete(session_id))
        self._forget(session_id)

    # --- loading -------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closing:
            raise ShuttingDown

    async def _session(self, session_id: str) -> Session:
        """Return a session, loading it once however many ask."""
        # `_alive` also knows those dropped from `_sessions` that somebody still holds: there must
        # never be two writers of one session.
        session = self._alive.get(session_id)
        if session is not None:
            self._sessions[session_id] = session
            self._sessions.move_to_end(session_id)
            return session
        task = self._loading.get(session_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._load(session_id))
            self._loading[session_id] = task
            task.add_done_callback(lambda _: self._loading.pop(session_id, None))
        return await asyncio.shield(task)

    async def _load(self, session_id: str) -> Session:
        record, loaded = await load_session(self.engine, session_id)
        session = Session(
            self.engine,
            self._registry,
            loaded.state,
            record.claim,
            delta_interval=self._delta_interval,
            is_attended=lambda: session_id in self._controllers,
            keeper=loaded.keeper,
            room=self._room,
            on_gone=lambda: self._lost(session),
            elsewhere=self._presence.elsewhere(session_id),
        )
        self._sessions[session_id] = self._alive[session_id] = session
        self._drop_idle()
        return session

    async def _needed(self, session_id: str) -> int:
        return needed_by_runs(await (await self._session(session_id)).settled())

    def _forget(self, session_id: str) -> None:
        """Know nothing of a session any more: it was deleted, or goes on in another process."""
        self._sessions.pop(session_id, None)
        self._alive.pop(session_id, None)

    def _lost(self, session: Session) -> None:
        """Know nothing of a session that was deleted elsewhere; its id may be used again by now."""
        if self._alive.get(session.state.session_id) is session:
            self._forget(session.state.session_id)

    def _drop_idle(self) -> None:
        for session_id in list(self._sessions):
            if len(self._sessions) <= LOADED_SESSIONS:
                return
            if self._sessions[session_id].idle:
                del self._sessions[session_id]


def _shape(runnable: Runnable) -> dict[str, Any]:
    """Return what is known of a graph before it runs: where it starts, and the ways on."""
    if not isinstance(runnable, CompiledGraph):
        return {}
    definition = runnable.definition
    edges = {
        name: [target for target in node.declared if target != END]
        for name, node in definition.nodes.items()
    }
    return {"graph": {"start": list(definition.start), "edges": edges}}


def _listed(record: SessionRecord) -> dict[str, Any]:
    return {
        "session_id": record.session_id,
        "agent": record.agent,
        "status": record.status,
        "title": record.title,
        "created_at": timestamp(record.created_at),
        "metadata": record.metadata,
    }
