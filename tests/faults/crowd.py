"""A crowd of clients and users over many sessions, and the one who makes their life hard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.faults.clients import PAUSES, Client, Transport, World
from tests.faults.commands import Caller
from tests.faults.history import History
from tests.faults.proxy import Faults, Proxy
from tests.support.server import Server

__all__ = ["Crowd", "Nemesis", "Size", "User"]

WORDS = "one two three four five six seven eight nine ten eleven twelve"
TRANSPORTS: Sequence[Transport] = ("sse", "websocket")
RARELY: Sequence[Transport] = ("ndjson", "pages")
THROUGH_PROXY = 0.25
"""Part of the clients that come through the proxy: each byte costs more there."""

CUT_AFTER = (500, 20_000)
"""Bytes after which the proxy cuts, where it does."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is.

    Attributes:
        clients: Clients in all, half of them on SSE, half on WebSocket.
        sessions: Sessions, each with a user who keeps it busy.
        kills: How often the server is killed.
        seconds_between: About how long it lives in between.
        word_ms: Milliseconds between two words of an answer.
        cuts_per_second: Cuts and switches by clients.
        pauses: Seconds that clients wait before they come back, the first time and at most: a
            thousand that knock without a pause take the time that a server needs to start.
    """

    clients: int
    sessions: int
    kills: int
    seconds_between: float
    word_ms: int
    cuts_per_second: float
    pauses: tuple[float, float] = PAUSES


class User:
    """Keeps one session busy: sends, cancels, approves, one thing after the other."""

    def __init__(self, caller: Caller, session_id: str, random: Random, word_ms: int) -> None:
        self.session_id = session_id
        self.runs = 0
        self.approved = 0
        self.cancelled = 0
        self._caller = caller
        self._random = random
        self._word_ms = word_ms
        self._approvals: dict[str, str] = {}
        self._over: set[str] = set()
        self._changed = asyncio.Event()

    def hear(self, event: dict[str, Any]) -> None:
        """Take note of what a client of the session was told."""
        kind = event["type"]
        if kind == "approval.requested":
            self._approvals[event["run_id"]] = event["approval_id"]
        elif kind in {"run.completed", "run.failed", "run.cancelled"}:
            self._over.add(event["run_id"])
        else:
            return
        self._changed.set()

    async def work(self, stop: asyncio.Event) -> None:
        """Begin run after run until told to stop; then see the last one end."""
        await self._caller.create(self.session_id, agent="echo")
        while not stop.is_set():
            await asyncio.sleep(self._random.uniform(0, self._word_ms / 500))
            await self._one_run()

    async def _one_run(self) -> None:
        what = self._random.choices(("talk", "cancel", "tools", "approve"), (6, 2, 1, 1))[0]
        text = {"tools": "weather in Oslo", "approve": "delete notes.txt"}.get(what, WORDS)
        agent = "tools" if what in {"tools", "approve"} else "echo"
        options: dict[str, Any] = {}
        if agent == "echo":
            options["options"] = {"interval_ms": self._word_ms}
        answer = await self._caller.call(self.session_id, "send", text=text, agent=agent, **options)
        run_id: str = answer["run_id"]
        self.runs += 1
        if what == "cancel":
            await asyncio.sleep(self._random.uniform(0, self._word_ms / 100))
            await self._caller.call(self.session_id, "cancel", run_id=run_id)
            self.cancelled += 1
        if what == "approve":
            await self._until(run_id, self._approvals)
            if run_id not in self._over:
                await self._approve(run_id)
        await self._until(run_id, self._over)

    async def _approve(self, run_id: str) -> None:
        decision = {"approval_id": self._approvals[run_id], "decision": "approve"}
        await self._caller.call(self.session_id, "continue", run_id=run_id, decisions=[decision])
        self.approved += 1

    async def _until(self, run_id: str, known: Any) -> None:
        while run_id not in known and run_id not in self._over:
            self._changed.clear()
            await self._changed.wait()


class Crowd:
    """The clients and the users of a server, some of them behind a proxy."""

    def __init__(self, world: World, proxy: Proxy, size: Size, *, prefix: str = "s") -> None:
        self.size = size
        self.proxy = proxy
        self._random = world.random
        names = [f"{prefix}{number}" for number in range(size.sessions)]
        self.users = [
            User(Caller(world, f"user-{name}"), name, world.random, size.word_ms) for name in names
        ]
        behind = replace(world, url=proxy.url)
        self.clients = [
            Client(
                behind if world.random.random() < THROUGH_PROXY else world,
                f"client-{number}",
                names[number % len(names)],
                TRANSPORTS[number // len(names) % 2 if number < len(names) * 2 else number % 2],
                listen=self.users[number].hear if number < len(names) else None,
            )
            for number in range(size.clients)
        ]
        proxy.choose = self._faults

    def _faults(self) -> Faults:
        """Return what happens to the next connection through the proxy."""
        if self._random.random() < 0.5:
            return Faults()
        return Faults(
            cut_to_client_after=self._random.randint(*CUT_AFTER),
            reset=self._random.random() < 0.5,
        )

    async def fidget(self) -> None:
        """Cut a client, or let it go on over another transport, again and again."""
        while True:
            await asyncio.sleep(self._random.uniform(0, 2 / self.size.cuts_per_second))
            client = self._random.choice(self.clients)
            chance = self._random.random()
            if chance < 0.5:
                client.cut()
            elif chance < 0.9:
                client.switch("websocket" if client.transport == "sse" else "sse")
            else:
                client.switch(self._random.choice(RARELY))


class Nemesis:
    """Kills the server again and again, and starts it."""

    def __init__(self, server: Server, history: History, random: Random, size: Size) -> None:
        self.kills = 0
        self.slowest_start = 0.0
        self._server = server
        self._server.start_limit = 60.0  # with a thousand clients at its door, on a busy machine
        self._history = history
        self._random = random
        self._size = size

    async def rage(self) -> None:
        """Do all the killing; the server is up again when this returns."""
        about = self._size.seconds_between
        for _ in range(self._size.kills):
            await asyncio.sleep(self._random.uniform(0.5 * about, 1.5 * about))
            self._history.fault("kill", pid=self._server.pid)
            await self._server.kill()
            killed = time.monotonic()
            await self._server.restart()
            self.slowest_start = max(self.slowest_start, time.monotonic() - killed)
            self._history.fault("restart", pid=self._server.pid)
            self.kills += 1
        await asyncio.sleep(about)
