"""A client that speaks bytes: for what well-behaved clients hide."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

PATIENCE = 30.0


class Raw:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, path: str, *, method: str = "GET", version: str = "1.1", **headers: str) -> None:
        lines = [f"{method} {path} HTTP/{version}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())

    async def until(self, words: bytes) -> bytes:
        """Return what comes up to and including some words."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(words)

    async def rest(self) -> bytes:
        """Return what comes until the server closes."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Return the status and headers of an answer, names in lower case."""
        text = (await self.until(b"\r\n\r\n")).decode()
        status, *lines = text.strip().split("\r\n")
        fields = (line.split(": ", 1) for line in lines)
        found = re.match(r"HTTP/1\.\d (\d+)", status)
        assert found is not None
        return int(found[1]), {name.lower(): value for name, value in fields}

    async def body(self) -> bytes:
        """Return the next chunk of a chunked body."""
        size = int(await self.until(b"\r\n"), 16)
        async with asyncio.timeout(PATIENCE):
            return (await self.reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def raw(address: tuple[str, int], *, receive_buffer: int | None = None) -> AsyncIterator[Raw]:
    """Connect; `receive_buffer` bounds what the kernel takes for a client that does not read."""
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, address)
    reader, writer = await asyncio.open_connection(sock=connection, limit=2**16)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def host_of(address: tuple[str, int]) -> Mapping[str, str]:
    """Return the `Host` header of a server."""
    return {"Host": f"{address[0]}:{address[1]}"}
