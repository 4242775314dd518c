"""A TCP proxy that makes the network bad: it delays, cuts, throttles, stalls and goes silent."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

__all__ = ["Faults", "Proxy", "running_proxy"]

PIECE = 64 * 1024
SLOW_PIECE = 1024
"""What is read at a time of a connection with a limit. With a larger buffer the kernel would tell the
server only now and then that something was taken."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset: what is unsent is dropped."""


@dataclass(slots=True)
class Faults:
    """What happens to a connection. Each connection has its own copy, which may change meanwhile.

    Attributes:
        delay: Seconds that each piece is held before it is passed on.
        bytes_per_second: The most that passes to the client; None for no limit.
        cut_to_client_after: Cut once so many bytes went to the client; the rest never arrives.
        cut_to_server_after: Cut once so many bytes went to the server.
        reset: Whether a cut is a TCP reset; otherwise both sides see an orderly end.
        silent: Half-open: whatever either side sends is swallowed, and nobody is told of an end.
        stalled: Stop reading from the server, so that its buffers fill.
    """

    delay: float = 0.0
    bytes_per_second: float | None = None
    cut_to_client_after: int | None = None
    cut_to_server_after: int | None = None
    reset: bool = False
    silent: bool = False
    stalled: bool = False


class _Cut(Exception):
    """It is time to cut the connection."""


class _Ended(Exception):
    """One side ended the connection by itself."""


@dataclass(eq=False)
class Connection:
    """One connection through the proxy, with what passed it in each direction."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    faults: Faults
    to_client: int = 0
    to_server: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self, *, reset: bool = False) -> None:
        """End both sides at once."""
        for side in (self.client, self.server):
            connection: socket.socket | None = side.transport.get_extra_info("socket")
            if reset and connection is not None:
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            side.transport.abort()


class Proxy:
    """Passes connections to a server on the loopback.

    Attributes:
        faults: What happens to connections from now on, unless `choose` says something else.
        choose: Returns what happens to the next connection.
        refuse: Whether connections are closed as soon as they come.
        accepted: Connections so far.
        cuts: How many were cut on purpose.
        connections: Those that are open.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.faults = Faults()
        self.choose: Callable[[], Faults] = lambda: self.faults
        self.refuse = False
        self.accepted = 0
        self.cuts = 0
        self.connections: set[Connection] = set()
        self._to_client = 0
        self._to_server = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def to_client(self) -> int:
        """Bytes that went to clients, over all connections."""
        return self._to_client + sum(each.to_client for each in self.connections)

    @property
    def to_server(self) -> int:
        """Bytes that went to the server, over all connections."""
        return self._to_server + sum(each.to_server for each in self.connections)

    def cut_all(self, *, reset: bool = False) -> int:
        """Cut all open connections now; return how many."""
        for connection in self.connections:
            connection.cut(reset=reset)
        self.cuts += len(self.connections)
        return len(self.connections)

    def change_all(self, **faults: object) -> None:
        """Change what happens to the connections that are open, and to those to come."""
        self.faults = replace(self.faults, **faults)  # type: ignore[arg-type] # names of the fields
        for connection in self.connections:
            connection.faults = replace(connection.faults, **faults)  # type: ignore[arg-type] # as above
            connection.changed.set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, from its beginning to its end."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self.refuse:
                await self._pass_on(reader, writer)
        except OSError:
            return  # nobody listens behind the proxy, or one side went away
        finally:
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        faults = replace(self.choose())
        answers, upstream = await self._connect(slow=faults.bytes_per_second is not None)
        connection = Connection(writer, upstream, faults)
        self.accepted += 1
        self.connections.add(connection)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._to_the_server(reader, connection))
                tasks.create_task(self._to_the_client(answers, connection))
        except* _Cut:
            self.cuts += 1
            connection.cut(reset=connection.faults.reset)
        except* (_Ended, OSError):
            connection.cut()
        finally:
            self.connections.discard(connection)
            self._to_client += connection.to_client
            self._to_server += connection.to_server
            upstream.transport.abort()
            connection.ended.set()

    async def _connect(self, *, slow: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the server; where it is slow, with little room for what was not passed on yet."""
        upstream = socket.socket()
        upstream.setblocking(False)
        if slow:
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_PIECE)
        try:
            await asyncio.get_running_loop().sock_connect(upstream, ("127.0.0.1", self.target))
        except OSError:
            upstream.close()
            raise
        return await asyncio.open_connection(sock=upstream, limit=SLOW_PIECE if slow else PIECE)

    async def _to_the_server(self, source: asyncio.StreamReader, connection: Connection) -> None:
        while data := await source.read(PIECE):
            await asyncio.sleep(connection.faults.delay)
            if connection.faults.silent:
                continue
            limit = connection.faults.cut_to_server_after
            data = data if limit is None else data[: limit - connection.to_server]
            connection.to_server += len(data)
            await _write(connection.server, data)
            if limit is not None and connection.to_server >= limit:
                raise _Cut
        if not connection.faults.silent:
            raise _Ended

    async def _to_the_client(self, source: asyncio.StreamReader, connection: Connection) -> None:
        while True:
            while connection.faults.stalled:
                connection.changed.clear()
                await connection.changed.wait()
            data = await source.read(PIECE)
            faults = connection.faults
            if faults.silent:
                if not data:
                    return  # the client is not told
                continue
            if not data:
                raise _Ended
            await asyncio.sleep(faults.delay)
            limit = faults.cut_to_client_after
            data = data if limit is None else data[: limit - connection.to_client]
            await self._paced(connection, data)
            if limit is not None and connection.to_client >= limit:
                raise _Cut

    async def _paced(self, connection: Connection, data: bytes) -> None:
        """Write to the client, no faster than is allowed."""
        rate = connection.faults.bytes_per_second
        step = len(data) if rate is None else max(1, int(rate / 20))
        for start in range(0, len(data), step or 1):
            piece = data[start : start + step]
            connection.to_client += len(piece)
            await _write(connection.client, piece)
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)

    async def aclose(self) -> None:
        """Cut everything, and wait until nothing is left."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write, and wait until the kernel has it all: a cut after n bytes is after exactly n."""
    if writer.transport.is_closing():
        raise ConnectionResetError
    writer.transport.set_write_buffer_limits(0)
    writer.write(data)
    await writer.drain()


@asynccontextmanager
async def running_proxy(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy to a port of the loopback, on a free port, for the length of a block."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0, limit=PIECE, backlog=4096)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()
