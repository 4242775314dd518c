"""A store that is swept when a test says so, and sessions whose runs a test drives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.commands import CreateSession
from gateway.log.engine import Engine
from gateway.sessions.manager import SessionManager
from gateway.sessions.retention import Keep
from runtime.events import Custom
from runtime.registry import Registry
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk

NEVER = 10.0**6
FEW = Keep(events=40, age_ms=0, every=NEVER)


class Stage:
    """A puppet that says what it is told until it is told to end."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.endings: list[asyncio.Event] = []
        self.puppet = Puppet(self._play)
        self._begun = asyncio.Event()

    async def _play(self, part: Part) -> None:
        ending = asyncio.Event()
        self.parts.append(part)
        self.endings.append(ending)
        message_id = f"msg_{len(self.parts)}"
        await part.begin(message_id)
        self._begun.set()
        await ending.wait()
        await part.finish_step("done", message_id=message_id)
        await part.end("done")

    async def begin(self, at: Desk, text: str = "go") -> Part:
        self._begun.clear()
        await at.send(text)
        return await self.next()

    async def next(self) -> Part:
        async with asyncio.timeout(30):
            await self._begun.wait()
        return self.parts[-1]

    async def end(self, at: Desk) -> None:
        self._begun.clear()
        self.endings[-1].set()
        await at.until("run.completed", run_id=self.parts[-1].run_id)

    async def turn(self, at: Desk, told: int) -> None:
        part = await self.begin(at)
        for number in range(told):
            await part.emit(Custom(name="told", payload=number))
        await self.end(at)


@asynccontextmanager
async def kept_short(engine: Engine, stage: Stage, keep: Keep = FEW) -> AsyncIterator[Desk]:
    manager = SessionManager(engine, Registry(stage.puppet), delta_interval=0.0, keep=keep)
    await manager.start()
    await manager.create(CreateSession(session_id="s"))
    try:
        yield Desk(engine, manager, "s")
    finally:
        await manager.aclose()


async def sweep(at: Desk) -> None:
    await at.manager._sweeper.sweep()
