"""Clients that never give up, and that write down everything that they do and see.

A client keeps the cursor of the last event that it applied, comes back with it after every cut, over
the same transport or over another one, and waits a random time before each attempt. What it records
is the wire itself, before any judgement: the checker decides what was lost or came twice.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, get_args

import aiohttp
import orjson

from tests.faults.history import History
from tests.faults.wire import (
    Closed,
    Refused,
    Wire,
    frames,
    lines_of_pages,
    ndjson_lines,
    socket_lines,
    sse_frames,
)

__all__ = ["LOST", "TRANSPORTS", "Client", "ManyClient", "Transport", "World", "connecting"]

Transport = Literal["sse", "websocket", "ndjson", "pages"]
TRANSPORTS: Sequence[Transport] = get_args(Transport)

LOST = (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError, TimeoutError)
"""What a connection that breaks looks like."""

PAUSES = (0.02, 1.0)
"""Seconds: the first and the longest pause before coming back; short, so that tests are."""

WATCHDOG_SECONDS = 40.0
"""A client that hears nothing for so long, no keepalive either, believes the connection dead."""


@asynccontextmanager
async def connecting(
    *, watchdog: float = WATCHDOG_SECONDS, largest_event: int = 64 * 1024
) -> AsyncIterator[aiohttp.ClientSession]:
    """Connect any number of clients for the length of a block.

    Args:
        watchdog: Seconds of silence after which a client gives a connection up.
        largest_event: Bytes of the largest event that has to come through.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=watchdog)
    async with aiohttp.ClientSession(
        timeout=timeout,
        connector=aiohttp.TCPConnector(limit=0),
        read_bufsize=max(2**16, largest_event),
    ) as http:
        yield http


@dataclass(frozen=True, slots=True)
class World:
    """What the clients of a test have in common.

    Attributes:
        history: Where everything is noted.
        http: Connects; its connector must not limit connections.
        url: Of the server, or of a proxy before it.
        random: Chooses their pauses.
        pauses: Seconds: the first and the longest pause before coming back.
        others: More addresses of the same: each connection goes to one of all, by chance.
    """

    history: History
    http: aiohttp.ClientSession
    url: str
    random: Random
    pauses: tuple[float, float] = PAUSES
    others: Sequence[str] = ()

    def somewhere(self) -> str:
        """Return the address for the next connection."""
        return self.random.choice((self.url, *self.others)) if self.others else self.url


class _Follower(ABC):
    """What both kinds of clients share: coming back for ever."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.connections = 0
        self.events = 0
        self._where = world.somewhere
        self._history = world.history
        self._http = world.http
        self._random = world.random
        self._pauses = world.pauses
        self._changed = asyncio.Event()
        self._connection: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        failures = 0
        while True:
            events = self.events
            async with asyncio.TaskGroup() as tasks:
                self._connection = tasks.create_task(self._connect_once())
            failures = 0 if self.events > events else failures + 1
            first, longest = self._pauses
            await asyncio.sleep(self._random.uniform(0, min(longest, first * 2**failures)))

    def cut(self) -> None:
        """Drop the connection, as a network does it; the client comes back."""
        if self._connection is not None:
            self._connection.cancel()

    async def until(self, enough: Callable[[], bool], *, seconds: float = 30.0) -> None:
        """Return when something that depends on what was seen is true.

        Raises:
            TimeoutError: If it does not come true in time.
        """
        async with asyncio.timeout(seconds):
            while not enough():
                self._changed.clear()
                await self._changed.wait()

    def finished(self, session_id: str) -> None:
        """Say that this client has seen all that there is of a session, as far as it knows."""
        self._history.record(self.name, "info", "finished", session_id=session_id)

    async def _connect_once(self) -> None:
        self.connections += 1
        try:
            async with aclosing(self._receive()) as lines:
                async for line in lines:
                    self._take(line)
        except Refused as refused:
            self._note("fail", "connect", status=refused.status, code=refused.code)
        except LOST as error:
            self._note("info", "disconnect", why=type(error).__name__)
        except Closed as closed:
            self._note("info", "disconnect", why=str(closed))
        else:
            self._note("info", "disconnect", why="the server ended it")

    def _note(self, kind: Literal["invoke", "ok", "fail", "info"], name: str, **value: Any) -> None:
        self._history.record(self.name, kind, name, **value)

    @abstractmethod
    def _receive(self) -> AsyncGenerator[bytes]:
        """Connect, and yield each object of the stream."""

    def _take(self, line: bytes) -> None:
        message = orjson.loads(line)
        if "seq" in message:
            self._history.event(self.name, line)
            self._apply(message)
            self.events += 1
            self._changed.set()
        elif message["type"] == "stream.reset":
            self._note(
                "info",
                "reset",
                **{name: message[name] for name in ("session_id", "reason", "cursor", "snapshot")},
            )
            self._reset(message)
            self._changed.set()
        else:
            self._note("info", message["type"], **message)

    @abstractmethod
    def _apply(self, event: dict[str, Any]) -> None:
        """Take an event into the client's state, if it is the next one."""

    @abstractmethod
    def _reset(self, message: dict[str, Any]) -> None:
        """Start again from a snapshot."""


class Client(_Follower):
    """Follows one session over one transport at a time.

    Attributes:
        cursor: Of the last event that it applied; before, where it wants to start.
        seq: Of that event.
        ended: Runs that have ended, as far as it has seen, in order.
        resets: Why it was reset, each time.
        types: How many events of each type it applied.
    """

    def __init__(
        self,
        world: World,
        name: str,
        session_id: str,
        transport: Transport,
        *,
        after: str = "0",
        listen: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Make a client; `run` lets it begin.

        Args:
            world: Where it lives.
            name: The client's, in the history.
            session_id: What it follows.
            transport: How.
            after: Where it starts: a cursor, `0` or `$`.
            listen: Called with each event that it applies.
        """
        super().__init__(world, name)
        self.session_id = session_id
        self.transport: Transport = transport
        self.cursor = after
        self.seq = 0
        self.ended: list[str] = []
        self.resets: list[str] = []
        self.types: dict[str, int] = {}
        self._listen = listen

    def switch(self, transport: Transport) -> None:
        """Go on over another transport, from where this one stood."""
        self.transport = transport
        self.cut()

    async def until_type(self, kind: str, count: int = 1, *, seconds: float = 30.0) -> None:
        """Return when so many events of a type were applied."""
        await self.until(lambda: self.types.get(kind, 0) >= count, seconds=seconds)

    async def until_ended(self, count: int, *, seconds: float = 30.0) -> None:
        """Return when so many runs have ended."""
        await self.until(lambda: len(self.ended) >= count, seconds=seconds)

    async def _receive(self) -> AsyncGenerator[bytes]:
        where, after = self._where(), {self.session_id: self.cursor}
        self._note("invoke", "connect", transport=self.transport, after=after, at=where)
        wire = Wire(self._http, where, self.session_id, lambda: self.cursor, self._connected)
        reading = {
            "sse": sse_frames,
            "websocket": socket_lines,
            "ndjson": ndjson_lines,
            "pages": lines_of_pages,
        }[self.transport](wire)
        async with aclosing(reading) as lines:
            async for line in lines:
                yield line

    def _connected(self) -> None:
        self._note("ok", "connect", transport=self.transport)

    def _apply(self, event: dict[str, Any]) -> None:
        if self.seq and event["seq"] <= self.seq:
            return  # it came twice: noted, and left to the checker
        if self.seq and event["seq"] > self.seq + 1:
            raise ConnectionError("a gap")
        self.seq, self.cursor = event["seq"], event["cursor"]
        kind = event["type"]
        self.types[kind] = self.types.get(kind, 0) + 1
        if kind in {"run.completed", "run.failed", "run.cancelled"}:
            self.ended.append(event["run_id"])
        if self._listen is not None:
            self._listen(event)

    def _reset(self, message: dict[str, Any]) -> None:
        self.resets.append(message["reason"])
        self.cursor = message["cursor"]
        self.seq = int(self.cursor.split(".")[1])


class ManyClient(_Follower):
    """Follows many sessions on one stream; drops by `(session_id, seq)` what comes again.

    Attributes:
        seqs: The last event of each session that it applied.
        checkpoint: What it gives as `Last-Event-ID`.
    """

    def __init__(self, world: World, name: str, session_ids: Sequence[str]) -> None:
        """Make a client; see `Client`."""
        super().__init__(world, name)
        self.seqs = dict.fromkeys(session_ids, 0)
        self.checkpoint = ""

    async def subscribe(self) -> None:
        """Put the sessions on the client's stream, each from its beginning."""
        for session_id in self.seqs:
            path = f"{self._where()}/v1/clients/{self.name}/subscriptions/{session_id}"
            async with self._http.put(path, json={"after": "0"}) as response:
                response.raise_for_status()

    async def _receive(self) -> AsyncGenerator[bytes]:
        where, after = self._where(), dict.fromkeys(self.seqs, "0")
        self._note("invoke", "connect", transport="many", after=after, at=where)
        headers = {"Accept": "text/event-stream"}
        if self.checkpoint:
            headers["Last-Event-ID"] = self.checkpoint
        path = f"{where}/v1/clients/{self.name}/events"
        async with self._http.get(path, headers=headers) as response:
            if response.status != 200:
                raise Refused(response.status, await response.text())
            self._note("ok", "connect", transport="many")
            async for frame in frames(response.content):
                self.checkpoint = frame.get(b"id", self.checkpoint.encode()).decode()
                if b"data" in frame:
                    yield frame[b"data"]

    def _apply(self, event: dict[str, Any]) -> None:
        session_id, seq = event["session_id"], event["seq"]
        if seq == self.seqs[session_id] + 1:
            self.seqs[session_id] = seq
        elif seq > self.seqs[session_id]:
            raise ConnectionError("a gap")

    def _reset(self, message: dict[str, Any]) -> None:
        self.seqs[message["session_id"]] = int(message["cursor"].split(".")[1])
