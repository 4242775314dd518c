"""Several whole servers in one process, on one store that a test takes away and gives back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from gateway.app import build_app
from gateway.config import Settings
from gateway.engines.memory import MemoryEngine
from gateway.errors import EngineUnavailable
from gateway.http.connections import Runner
from gateway.log.engine import Appended, Engine, Write
from gateway.log.position import Position
from gateway.sessions.leases import HEARTBEAT_SECONDS
from gateway.sessions.manager import SessionManager
from gateway.transports.draining import OpenStreams
from runtime.registry import Registry
from runtime.runnable import Runnable
from tests.support.host import Host

__all__ = ["Hintless", "Node", "Unsteady", "sharing"]


PATIENCE = aiohttp.ClientTimeout(total=30)
"""For whole answers and streams: a test that waits for what never comes fails."""


class Unsteady(MemoryEngine):
    """A store that several servers share, and that is away, or answers no append, when a test says so."""

    def __init__(self) -> None:
        super().__init__(shared=True)
        self.is_away = False
        self.failures = 0
        self.answers = asyncio.Event()
        self.answers.set()

    def _check_open(self) -> None:
        super()._check_open()
        if self.is_away:
            self.failures += 1
            raise EngineUnavailable

    async def append(self, write: Write) -> Appended:
        appended = await super().append(write)
        await self.answers.wait()
        return appended

    def wake(self) -> None:
        """Wake all who wait, as a store does that goes away."""
        self._bell.ring_all()
        self._clients_bell.ring_all()

    async def failed(self, times: int) -> None:
        """Return when so many questions more have failed."""
        enough = self.failures + times
        async with asyncio.timeout(30):
            while self.failures < enough:  # noqa: ASYNC110 - asked by parts that know no event
                await asyncio.sleep(0.01)


class Hintless(Unsteady):
    """A store whose every hint is lost: who waits has to look again by itself."""

    SECONDS = 0.2

    async def wait(self, session_id: str, after: Position) -> None:
        await asyncio.sleep(self.SECONDS)

    async def wait_orphans(self) -> None:
        await asyncio.sleep(self.SECONDS)

    async def wait_subscriptions(self, client_id: str, known: Mapping[str, str]) -> None:
        await asyncio.sleep(self.SECONDS)


class Node(Host):
    """One server of several."""

    async def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any]:
        """Return the status and the JSON of an answer, None where it has no body."""
        async with self.http.request(method, path, json=body, headers=headers) as response:
            whole = await response.read()
            return response.status, await response.json(content_type=None) if whole else None

    async def create(self, session_id: str = "s", **fields: Any) -> None:
        status, answer = await self.ask(
            "POST", "/v1/sessions", {"session_id": session_id, **fields}
        )
        assert status in {200, 201}, answer

    async def command(self, session_id: str, command_id: str, **fields: Any) -> dict[str, Any]:
        body = {"id": command_id, **fields}
        status, answer = await self.ask("POST", f"/v1/sessions/{session_id}/commands", body)
        assert status == 202, answer
        found: dict[str, Any] = answer
        return found


@asynccontextmanager
async def sharing(
    engine: Engine,
    *fleets: tuple[Runnable, ...],
    heartbeat: float = HEARTBEAT_SECONDS,
    **settings: Any,
) -> AsyncIterator[list[Node]]:
    """Run a server on the same store for each of these groups of agents."""
    chosen = Settings.model_validate({"port": 0, "delta_interval_ms": 0} | settings)
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(_node(engine, agents, heartbeat, chosen))
            for agents in fleets
        ]
        yield nodes


@asynccontextmanager
async def _node(
    engine: Engine, agents: tuple[Runnable, ...], heartbeat: float, settings: Settings
) -> AsyncIterator[Node]:
    manager = SessionManager(
        engine,
        Registry(*agents),
        delta_interval=0,
        heartbeat=heartbeat,
        command_timeout=settings.command_timeout_s,
    )
    streams = OpenStreams()
    runner = Runner(
        build_app(manager, settings, streams=streams),
        settings,
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    await manager.start()
    site = await _listen(runner)
    async with aiohttp.ClientSession(site, timeout=PATIENCE) as http:
        node = Node(site, manager, http)
        try:
            yield node
        finally:
            await node.cut_all()
            streams.drain()
            await manager.aclose()
            await runner.cleanup()


async def _listen(runner: Runner) -> str:
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"
