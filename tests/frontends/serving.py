"""A whole server with chosen agents, as users' servers are started, and a client that hides nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from gateway.app import running
from gateway.config import Settings
from gateway.log.follow import follow
from gateway.log.serde import load
from gateway.sessions.manager import SessionManager
from runtime.agent import Agent
from runtime.events import Event
from runtime.models.base import Delta, ModelRequest, Text
from runtime.registry import Registry
from runtime.runnable import Runnable
from tests.support.puppet import Part, Puppet
from tests.support.raw import Raw, host_of, raw

__all__ = ["Answer", "Endless", "Place", "Staged", "ask", "begin", "serving", "without_ids"]

PATIENCE = 30.0


class Place:
    """A running server."""

    def __init__(
        self, url: str, manager: SessionManager, registry: Registry, http: aiohttp.ClientSession
    ) -> None:
        self.url = url
        self.manager = manager
        self.registry = registry
        self.http = http

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    async def sessions(self) -> list[str]:
        found = (await self.manager.sessions(limit=100, after=None))["sessions"]
        return [session["session_id"] for session in found]

    async def log(self, session_id: str) -> list[Event]:
        """Return all events of a session."""
        head = await self.manager.engine.head(session_id)
        entries = await self.manager.engine.read(session_id, head.start, limit=1000)
        return [event for entry in entries if (event := load(entry)) is not None]

    async def until(self, session_id: str, kind: str) -> Event:
        """Wait for the first event of a type."""
        head = await self.manager.engine.head(session_id)
        async with asyncio.timeout(PATIENCE):
            async for batch in follow(self.manager.engine, session_id, head.start):
                for entry in batch:
                    event = load(entry)
                    if event is not None and event.type == kind:
                        return event
        raise AssertionError(f"no {kind}")


@asynccontextmanager
async def serving(*runnables: Runnable, **settings: Any) -> AsyncIterator[Place]:
    """Run a server of these agents on a free port; `settings` over those that suit tests."""
    defaults = {"engine": "memory", "port": 0, "delta_interval_ms": 0}
    registry = Registry(*runnables)
    async with (
        running(Settings.model_validate(defaults | settings), registry) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        yield Place(server.url, server.manager, registry, http)


class Answer:
    """A response, read over a socket of its own."""

    def __init__(self, client: Raw, status: int, headers: dict[str, str]) -> None:
        self.client = client
        self.status = status
        self.headers = headers
        self.seen = b""

    async def until(self, words: bytes) -> bytes:
        """Return the body up to and including the chunk that has these words."""
        while words not in self.seen:
            chunk = await self.client.body()
            assert chunk, f"the body ended: {self.seen!r}"
            self.seen += chunk
        return self.seen

    async def whole(self) -> bytes:
        """Return the whole body."""
        if "content-length" in self.headers:
            async with asyncio.timeout(PATIENCE):
                return await self.client.reader.readexactly(int(self.headers["content-length"]))
        if self.headers.get("transfer-encoding") != "chunked":
            return b""
        while chunk := await self.client.body():
            self.seen += chunk
        return self.seen

    async def json(self) -> Any:
        return orjson.loads(await self.whole())


async def begin(
    client: Raw,
    place: Place,
    path: str,
    body: object = None,
    *,
    method: str | None = None,
    **headers: str,
) -> Answer:
    """Ask over a connection; a body makes it a POST of JSON, bytes are sent as they are."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    if body is not None:
        headers = {"Content_Type": "application/json", **headers}
        headers["Content_Length"] = str(len(content))
    chosen = method or ("GET" if body is None else "POST")
    client.ask(path, method=chosen, **host_of(place.address), **headers)
    if body is not None:
        client.writer.write(content)
    status, found = await client.head()
    return Answer(client, status, found)


async def ask(
    place: Place, path: str, body: object = None, *, method: str | None = None, **headers: str
) -> tuple[Answer, bytes]:
    """Ask, and return the answer with its whole body."""
    async with raw(place.address) as client:
        answer = await begin(client, place, path, body, method=method, **headers)
        return answer, await answer.whole()


_ID = re.compile(rb"^id: (\S+)\n", re.MULTILINE)


def without_ids(body: bytes) -> tuple[bytes, list[str]]:
    """Return a stream after its first frame, without ids; and the ids, the first frame's too."""
    first, _, rest = body.partition(b"\n\n")
    assert re.fullmatch(rb"retry: [1-4]\d{3}\nid: \S+", first), first
    return _ID.sub(b"", rest), [found.decode() for found in _ID.findall(body)]


class Staged:
    """An agent that says these pieces, each when it is let."""

    def __init__(self, *pieces: str, name: str = "assistant") -> None:
        self._pieces = pieces
        self.gates = [asyncio.Event() for _ in pieces]
        self.puppet = Puppet(self._play, name)

    @property
    def runs(self) -> int:
        return len(self.puppet.played)

    def let(self, *which: int) -> None:
        for number in which:
            self.gates[number].set()

    async def _play(self, part: Part) -> None:
        await part.begin()
        for piece, gate in zip(self._pieces, self.gates, strict=True):
            await gate.wait()
            await part.say(piece)
        await part.finish_step("".join(self._pieces))
        await part.end("".join(self._pieces))


class Endless:
    """A model that says its pieces and then nothing, until it is stopped."""

    name = "endless"

    def __init__(self, pieces: Iterable[str] = ("Hel",)) -> None:
        self._pieces = tuple(pieces)
        self.called = asyncio.Event()
        self.stopped = asyncio.Event()
        self.calls = 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        self.calls += 1
        self.called.set()
        try:
            for piece in self._pieces:
                yield Text(piece)
            await asyncio.Event().wait()
        finally:
            self.stopped.set()

    async def aclose(self) -> None:
        pass

    def agent(self, name: str = "assistant") -> Agent:
        return Agent(name, self)
