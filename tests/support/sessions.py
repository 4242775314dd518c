"""Short words for tests that drive a `SessionManager` without a transport."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from gateway.codecs.native import event_json
from gateway.commands import Ack, CreateSession, Pong, parse_command
from gateway.log.engine import Engine
from gateway.log.follow import follow
from gateway.sessions.leases import HEARTBEAT_SECONDS
from gateway.sessions.manager import SessionManager
from runtime.registry import Registry
from runtime.runnable import Runnable

PATIENCE = 30.0
"""Seconds that a test waits for an event, on a machine that does other things as well."""

_numbers = itertools.count(1)


class Desk:
    """One session and the manager that keeps it."""

    def __init__(self, engine: Engine, manager: SessionManager, session_id: str) -> None:
        self.engine = engine
        self.manager = manager
        self.session_id = session_id

    async def command(self, kind: str, **fields: Any) -> Ack:
        command = {"type": kind, "id": f"c{next(_numbers)}", "session_id": self.session_id}
        answer = await self.manager.obey(parse_command(command | fields))
        assert not isinstance(answer, Pong)
        return answer

    async def send(self, text: str, **fields: Any) -> Ack:
        return await self.command("send", text=text, **fields)

    async def events(self) -> list[dict[str, Any]]:
        """Return the whole log."""
        head = await self.engine.head(self.session_id)
        position, found = head.start, []
        while page := await self.engine.read(self.session_id, position, limit=1000):
            found += [orjson.loads(event_json(entry)) for entry in page]
            position = page[-1].position
        return found

    async def types(self) -> list[str]:
        return [event["type"] for event in await self.events()]

    async def until(self, kind: str, count: int = 1, run_id: str | None = None) -> dict[str, Any]:
        """Wait for the nth event of a type, counted from the log's start, and return it."""
        head = await self.engine.head(self.session_id)
        async with asyncio.timeout(PATIENCE):
            async for batch in follow(self.engine, self.session_id, head.start):
                for entry in batch:
                    event: dict[str, Any] = orjson.loads(event_json(entry))
                    if event["type"] == kind and run_id in {None, event.get("run_id")}:
                        count -= 1
                        if count == 0:
                            return event
        raise AssertionError(f"the log ended without {kind}")


@asynccontextmanager
async def desk(
    engine: Engine,
    *agents: Runnable,
    session_id: str = "s",
    delta_interval: float = 0.0,
    heartbeat: float = HEARTBEAT_SECONDS,
) -> AsyncIterator[Desk]:
    """Run a manager with one session; on an engine that has it already, take it up again."""
    manager = SessionManager(
        engine, Registry(*agents), delta_interval=delta_interval, heartbeat=heartbeat
    )
    await manager.start()
    await manager.create(CreateSession(session_id=session_id))
    try:
        yield Desk(engine, manager, session_id)
    finally:
        await manager.aclose()
