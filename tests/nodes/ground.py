"""What tests about nodes stand on: clients and callers for them, and how all is read in the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Literal

import aiohttp
import asyncpg

from gateway.codecs.native import event_json
from gateway.log.entry import Entry
from gateway.log.position import Position
from tests.faults.clients import Client, Transport, World
from tests.faults.commands import Caller
from tests.faults.endings import following
from tests.faults.evidence import Stored
from tests.faults.invariants import FinalLog
from tests.faults.plugin import Judge
from tests.faults.wire import read_log
from tests.nodes.nodes import Node, Nodes

__all__ = ["Ground", "stored", "until"]

_numbers = itertools.count(1)

PATIENCE = 60.0
"""Seconds in which anything that has to happen does, on a busy machine."""


class Ground:
    """Nodes, and whoever goes to them.

    Attributes:
        nodes: The nodes.
        http: Connects to them.
        judge: Has the history of it all.
        random: The chance of this test.
        world: Where clients connect to any node, another one each time.
    """

    def __init__(
        self,
        nodes: Nodes,
        http: aiohttp.ClientSession,
        judge: Judge,
        random: Random,
        *,
        pauses: tuple[float, float] = (0.02, 0.5),
    ) -> None:
        """Make it.

        Args:
            nodes: The nodes.
            http: Connects to them.
            judge: Keeps the history.
            random: The chance of this test.
            pauses: Seconds: the first and the longest that clients wait before they come back.
        """
        self.nodes = nodes
        self.http = http
        self.judge = judge
        self.random = random
        self.world = nodes.world(judge.history, http, random, pauses)
        self._prefix = f"t{next(_numbers)}"

    def session(self, name: str = "s") -> str:
        """Return an id for a session of this test alone."""
        return f"{self._prefix}-{name}"

    def at(self, node: Node) -> World:
        """Return a world whose clients go to one node alone."""
        return replace(self.world, url=node.url, others=())

    def caller(
        self,
        name: str = "caller",
        at: Node | None = None,
        transport: Literal["http", "websocket"] = "http",
    ) -> Caller:
        """Return a caller that goes to one node, or to any."""
        world = self.world if at is None else self.at(at)
        return Caller(world, f"{self._prefix}-{name}", transport=transport)

    def client(
        self, name: str, session_id: str, at: Node | None = None, transport: Transport = "sse"
    ) -> Client:
        """Return a client that goes to one node, or to any."""
        return Client(self.world if at is None else self.at(at), name, session_id, transport)

    async def put_to_work(self, node: Node) -> str:
        """Begin a run at one node, which takes it seconds; return the session."""
        session_id = self.session(f"{node.name}-{next(_numbers)}")
        caller = self.caller(f"for-{session_id}", node)
        await caller.create(session_id, agent="echo")
        text, options = "one two three", {"interval_ms": 1000}
        await caller.call(session_id, "send", text=text, options=options)
        return session_id

    @asynccontextmanager
    async def watched(self, session_id: str, at: Node | None = None) -> AsyncIterator[Client]:
        """Let one client follow a session for the length of a block."""
        client = self.client(f"watcher of {session_id}", session_id, at)
        async with following([client]):
            yield client

    async def logs(self, *session_ids: str) -> list[FinalLog]:
        """Return the logs, once nothing happens any more: from all nodes the same.

        Raises:
            AssertionError: If a node tells another story.
        """
        await self.all_idle(session_ids)
        logs = []
        for session_id in session_ids:
            lines = [await read_log(self.http, node.url, session_id) for node in self.nodes]
            for node, told in zip(self.nodes, lines, strict=True):
                assert told == lines[0], f"{node.name} tells another story of {session_id}"
            logs.append(
                FinalLog(session_id, lines[0], await stored(self.nodes.database, session_id))
            )
        return logs

    async def all_idle(self, session_ids: Iterable[str], *, seconds: float = PATIENCE) -> None:
        """Wait until no session has anything to do, as its log says.

        Raises:
            TimeoutError: If one has after that time.
        """
        async with asyncio.timeout(seconds):
            for session_id in session_ids:
                await self._until_idle(session_id)

    async def _until_idle(self, session_id: str) -> None:
        url = f"{self.nodes[0].url}/v1/sessions/{session_id}"
        while True:
            async with self.http.get(url) as response:
                snapshot = await response.json()
            if response.status == 200 and snapshot["status"] != "running" and not snapshot["queue"]:
                return
            await asyncio.sleep(0.05)  # asking is the only way that needs no client

    async def finish(self, clients: Iterable[Client], logs: Iterable[FinalLog]) -> None:
        """See clients come to the end of their logs."""
        last = {log.session_id: log.last for log in logs}
        for client in clients:
            await _has_read(client, last[client.session_id])
            client.finished(client.session_id)


async def _has_read(client: Client, seq: int) -> None:
    await client.until(lambda: client.seq >= seq, seconds=PATIENCE)


async def stored(database: str, session_id: str) -> Stored:
    """Read a log straight from the database."""
    db = await asyncpg.connect(database)
    try:
        session = await db.fetchrow("SELECT * FROM session WHERE session_id = $1", session_id)
        assert session is not None, f"{session_id} is not in the database"
        rows = await db.fetch(
            "SELECT seq, tag, at, body FROM entry WHERE session = $1 AND seq > $2 ORDER BY seq",
            session["number"],
            session["start_seq"],
        )
    finally:
        await db.close()
    epoch = session["epoch"]
    lines = [
        event_json(Entry(session_id, Position(epoch, seq, tag), at, body))
        for seq, tag, at, body in rows
    ]
    start = Position(epoch, session["start_seq"], session["start_tag"])
    return Stored(lines, start, Position(epoch, session["tail_seq"], session["tail_tag"]))


async def until(holds: Callable[[], bool], what: str, *, seconds: float = PATIENCE) -> None:
    """Look again and again until something holds that nobody tells of.

    Raises:
        AssertionError: If it does not come true in time.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        if holds():
            return
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.02)
