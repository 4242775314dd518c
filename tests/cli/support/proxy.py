"""A stretch of network between a client and a server, which a test can cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["Proxy", "proxied"]


class Proxy:
    """Forwards bytes both ways, until it is told to cut.

    Attributes:
        port: Where clients connect.
        connections: How many came so far.
    """

    def __init__(self, server_port: int, cut_after: bytes | None) -> None:
        self.port = 0
        self.connections = 0
        self._server_port = server_port
        self._cut_after = cut_after
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, onward = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers |= {writer, onward}
        with suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(reader, onward))
                group.create_task(self._down(there, writer))
        for each in (writer, onward):
            self._writers.discard(each)
            each.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
            # Frames of a client are masked; their length tells a command from a subscription.
        writer.write_eof()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._cut_after is not None and self._cut_after in data:
                self._cut_after = None
                self.cut()
                return
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    def cut(self) -> None:
        """Break all connections, without a word."""
        for writer in tuple(self._writers):
            writer.transport.abort()


@asynccontextmanager
async def proxied(server_port: int, *, cut_after: bytes | None = None) -> AsyncIterator[Proxy]:
    """Run a proxy for the length of a block.

    Args:
        server_port: Where the server listens.
        cut_after: Cut once, when the server says this; the client does not get to see it.
    """
    proxy = Proxy(server_port, cut_after)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy
        proxy.cut()
