"""A whole server on a real port, put together as users get it, with agents that a test drives."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from gateway.app import running
from gateway.config import Settings
from gateway.log.engine import Engine
from gateway.sessions.manager import SessionManager
from runtime.events import Custom
from runtime.registry import Registry
from tests.support.host import Host
from tests.support.puppet import Part, Puppet

_numbers = itertools.count(1)


class Talk:
    """A session with one run that says what the test wants, when it wants it."""

    def __init__(self, site: Site, session_id: str, part: Part) -> None:
        self.site = site
        self.session_id = session_id
        self._part = part
        self.run_id = part.run_id

    async def tell(self, *payloads: Any) -> None:
        """Put an event in the log for each; they are committed when this returns."""
        for payload in payloads:
            await self._part.emit(Custom(name="told", payload=payload))

    async def end(self, output: str = "") -> None:
        """End the run, and wait until it is over."""
        await self._part.end(output)
        self.site.endings[self.run_id].set()

    async def head(self) -> tuple[str, str]:
        """Return the cursors of both ends of the log."""
        head = await self.site.engine.head(self.session_id)
        return str(head.start), str(head.tail)


class Site(Host):
    """A server whose runs do what the test says."""

    def __init__(self, url: str, manager: SessionManager, http: aiohttp.ClientSession) -> None:
        super().__init__(url, manager, http)
        self.endings: dict[str, asyncio.Event] = {}
        self.begun: asyncio.Event = asyncio.Event()
        self.parts: list[Part] = []

    @property
    def engine(self) -> Engine:
        return self.manager.engine

    async def play(self, part: Part) -> None:
        """Do nothing until the test ends the run."""
        ending = self.endings[part.run_id] = asyncio.Event()
        self.parts.append(part)
        self.begun.set()
        await ending.wait()

    async def create(self, session_id: str | None = None, **fields: Any) -> str:
        body = {"session_id": session_id or f"s{next(_numbers)}", **fields}
        async with self.http.post("/v1/sessions", json=body) as response:
            assert response.status in {200, 201}, await response.text()
            return str((await response.json())["session_id"])

    async def command(self, session_id: str, kind: str, **fields: Any) -> dict[str, Any]:
        body = {"type": kind, "id": f"c{next(_numbers)}", **fields}
        async with self.http.post(f"/v1/sessions/{session_id}/commands", json=body) as response:
            assert response.status == 202, await response.text()
            answer: dict[str, Any] = await response.json()
            return answer

    async def talk(self, session_id: str | None = None) -> Talk:
        """Make a session whose run has begun; its log has a few entries then."""
        session_id = await self.create(session_id)
        self.begun.clear()
        await self.command(session_id, "send", text="go")
        async with asyncio.timeout(30):
            await self.begun.wait()
        return Talk(self, session_id, self.parts[-1])


@asynccontextmanager
async def running_site(**settings: Any) -> AsyncIterator[Site]:
    """Run a server of its own on a free port; `settings` over those that suit tests."""
    defaults = {"engine": "memory", "port": 0, "delta_interval_ms": 0}
    chosen = Settings.model_validate(defaults | settings)
    stage: list[Site] = []

    async def play(part: Part) -> None:
        await stage[0].play(part)

    async with (
        running(chosen, Registry(Puppet(play))) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        site = Site(server.url, server.manager, http)
        stage.append(site)
        yield site
        await site.cut_all()
