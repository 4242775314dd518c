"""Real chats of the AI SDK, in a Node process, driven from a test; and a wire that can be cut."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.node import node_command

LIMIT = 20.0
"""Seconds that anything may take."""


class Shown(dict[str, Any]):
    """What a chat shows."""

    @property
    def last(self) -> dict[str, Any]:
        message: dict[str, Any] = self["messages"][-1]
        return message

    @property
    def ids(self) -> list[str]:
        return [message["id"] for message in self["messages"]]

    @property
    def text(self) -> str:
        return "|".join(part["text"] for part in self.last["parts"] if part["type"] == "text")

    def parts(self, kind: str) -> list[dict[str, Any]]:
        return [part for part in self.last["parts"] if part["type"] == kind]


class Chat:
    """One chat of one client."""

    def __init__(self, clients: Clients, name: str) -> None:
        self._clients = clients
        self.name = name

    async def do(self, verb: str, **given: Any) -> Shown:
        value = await self._clients.ask(verb, name=self.name, **given)
        return Shown(value or {})

    async def until(self, **given: Any) -> Shown:
        """Wait until it shows a text, has a status, has finished so many streams."""
        return await self.do("until", **given)

    async def settled(self) -> Shown:
        """Wait until all that was asked of it is over."""
        return await self.do("settled")


class Clients:
    """The Node process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    async def chat(self, version: int, url: str, chat_id: str, **given: Any) -> Chat:
        """Make a chat; `url` with `ws:` gives one over a WebSocket."""
        chat = Chat(self, f"chat{next(self._numbers)}")
        transport = "ws" if url.startswith("ws:") else "http"
        await chat.do("new", version=version, transport=transport, url=url, chatId=chat_id, **given)
        return chat

    async def ask(self, verb: str, **given: Any) -> Any:
        number = next(self._numbers)
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(
            json.dumps({"number": number, "verb": verb, **given}).encode() + b"\n"
        )
        async with asyncio.timeout(LIMIT):
            return await asked

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            asked = self._asked.pop(answer["number"])
            if "error" in answer:
                asked.set_exception(AssertionError(answer["error"]))
            else:
                asked.set_result(answer["value"])
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(AssertionError("the Node process has ended"))

    async def aclose(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # that is how it is told to end
        async with asyncio.timeout(LIMIT):
            await self._process.wait()
            await self._reader


@asynccontextmanager
async def running_clients() -> AsyncIterator[Clients]:
    """Run the clients' process until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *node_command("vercel.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    clients = Clients(process)
    try:
        yield clients
    finally:
        await clients.aclose()


class Wire:
    """A relay between clients and a server, whose connections can be cut."""

    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def cut(self) -> None:
        """Break all connections, as when a network is gone."""
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running_wire(address: tuple[str, int]) -> AsyncIterator[Wire]:
    """Run a relay to an address until the block ends."""
    wire = Wire()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*address)
        wire._writers |= {writer, back}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wire.pump(reader, back))
            tasks.create_task(wire.pump(there, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        await wire.cut()
