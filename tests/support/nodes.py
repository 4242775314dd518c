"""Several nodes on one store, in one process: each has its own line to the store, and breaks alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from gateway.commands import CreateSession
from gateway.engines.memory import MemoryEngine
from gateway.errors import EngineUnavailable, GatewayError
from gateway.log.engine import LEASE_SECONDS, Answer, Appended, Fence, Orphan, SessionRecord, Write
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.sessions.manager import SessionManager
from runtime.registry import Registry
from tests.support.puppet import Play, Puppet
from tests.support.sessions import Desk

__all__ = ["BEAT", "Line", "Node", "node", "until"]

BEAT = 0.02
"""Seconds between the heartbeats of nodes in tests."""

PATIENCE = 30.0
"""Seconds that a test waits for a fact, on a machine that does other things as well."""


async def until(fact: Callable[[], bool]) -> None:
    """Return when something is so."""
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110 - counted by parts that know no event
            await asyncio.sleep(BEAT / 4)


class Line(MemoryEngine):
    """One node's line to a store in memory.

    Attributes:
        away: Nothing gets through.
        beats: Whether heartbeats get through.
        deaf: There are no hints: whoever waits looks again after a moment.
        asleep: Whoever waits for the log is not woken.
        doubt: With which probability an append fails: before it was done, after it, or while it is
            still being done.
        looks: How often the session's record was looked up.
        held: Appends wait for this.
    """

    def __init__(self, store: MemoryEngine, *, deaf: bool = False) -> None:
        super().__init__()
        self.__dict__.update(store.__dict__)
        self.away = False
        self.beats = True
        self.deaf = deaf
        self.asleep = False
        self.doubt = 0.0
        self.dice = random.Random(1)  # noqa: S311 - the same each time
        self.looks = 0
        self._late: set[asyncio.Task[None]] = set()
        self.held: asyncio.Event | None = None

    def _check(self) -> None:
        if self.away:
            raise EngineUnavailable

    def cut(self) -> None:
        """Let nothing through any more: the node was killed."""
        self._closed = True

    async def append(self, write: Write) -> Appended:
        self._check()
        if self.held is not None:
            await self.held.wait()
            self._check()
        lot = self.dice.random()
        if lot < self.doubt / 3:
            raise EngineUnavailable
        if lot < self.doubt * 2 / 3:
            task = asyncio.get_running_loop().create_task(self._append_late(write))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            raise EngineUnavailable
        appended = await super().append(write)
        if lot < self.doubt:
            raise EngineUnavailable
        return appended

    async def _append_late(self, write: Write) -> None:
        for _ in range(self.dice.randrange(20)):
            await asyncio.sleep(0)
        with suppress(GatewayError):
            await super().append(write)

    async def read(self, session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
        self._check()
        return await super().read(session_id, after, limit=limit)

    async def session(self, session_id: str) -> SessionRecord:
        self._check()
        self.looks += 1
        return await super().session(session_id)

    async def answer(self, session_id: str, command_id: str) -> Answer | None:
        self._check()
        return await super().answer(session_id, command_id)

    async def wait(self, session_id: str, after: Position) -> None:
        if self.asleep:
            await asyncio.Event().wait()
        if self.deaf:
            await asyncio.sleep(BEAT)
        else:
            await super().wait(session_id, after)

    async def wait_orphans(self) -> None:
        if self.deaf:
            await asyncio.sleep(BEAT)
        else:
            await super().wait_orphans()

    async def heartbeat(
        self, claims: Mapping[str, Fence], *, lease: float = LEASE_SECONDS
    ) -> frozenset[str]:
        self._check()
        if not self.beats:
            raise EngineUnavailable
        return await super().heartbeat(claims, lease=lease)

    async def orphans(self, *, limit: int | None = None, reserve: float = 0.0) -> Sequence[Orphan]:
        self._check()
        return await super().orphans(limit=limit, reserve=reserve)


class Node(Desk):
    """A node, at the desk of one session. What is read of the log is read from the store itself.

    Attributes:
        store: What all nodes share.
        line: Its way to the store.
        puppet: What is at work there.
    """

    def __init__(
        self,
        store: MemoryEngine,
        line: Line,
        manager: SessionManager,
        puppet: Puppet,
        session_id: str,
    ) -> None:
        super().__init__(store, manager, session_id)
        self.store = store
        self.line = line
        self.puppet = puppet

    def at(self, session_id: str) -> Node:
        """Return the same node at the desk of another session."""
        return Node(self.store, self.line, self.manager, self.puppet, session_id)

    async def make(self) -> None:
        """Make the session."""
        await self.manager.create(CreateSession(session_id=self.session_id))

    def kill(self) -> None:
        """End the node without a word."""
        self.line.cut()


@asynccontextmanager
async def node(
    store: MemoryEngine,
    play: Play,
    *,
    session_id: str = "s",
    places: int | None = None,
    heartbeat: float = BEAT,
    lease: float = LEASE_SECONDS,
    delta_interval: float = 0.0,
    deaf: bool = False,
) -> AsyncIterator[Node]:
    """Run a node, with a session that it makes unless it is there."""
    line, puppet = Line(store, deaf=deaf), Puppet(play)
    manager = SessionManager(
        line,
        Registry(puppet),
        delta_interval=delta_interval,
        heartbeat=heartbeat,
        lease=lease,
        places=places,
    )
    await manager.start()
    await manager.create(CreateSession(session_id=session_id))
    try:
        yield Node(store, line, manager, puppet, session_id)
    finally:
        await manager.aclose()
