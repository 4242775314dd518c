"""Where an MCP server is, and how to reach it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

try:
    from mcp import StdioServerParameters, stdio_client
    from mcp.client._transport import TransportStreams
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client
except ImportError as error:
    raise ImportError("tools over MCP need the extra `mcp`: pip install 'tidegate[mcp]'") from error

__all__ = ["HttpServer", "McpServer", "StdioServer", "TransportStreams"]


class McpServer(Protocol):
    """A server that can be connected to."""

    @property
    def label(self) -> str:
        """How people and models are told of it; no secrets."""

    def transport(self) -> AbstractAsyncContextManager[TransportStreams]:
        """Return a fresh connection, not yet opened; leaving it closes the connection."""


@dataclass(frozen=True, slots=True)
class StdioServer:
    """A program that speaks MCP on its standard input and output; it runs as a child process.

    What it writes to its standard error goes to ours.

    Attributes:
        command: The program.
        args: Its arguments.
        env: Environment variables, beside the few that every child gets (`PATH`, `HOME` and the
            like). Not shown in any text.
        cwd: Its working directory; by default, ours.
    """

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] | None = field(default=None, repr=False)
    cwd: str | os.PathLike[str] | None = None

    @property
    def label(self) -> str:
        """The program's name."""
        return Path(self.command).name

    def transport(self) -> AbstractAsyncContextManager[TransportStreams]:
        """Return a fresh connection; opening it starts the program."""
        return stdio_client(
            StdioServerParameters(
                command=self.command,
                args=list(self.args),
                env=None if self.env is None else dict(self.env),
                cwd=None if self.cwd is None else os.fspath(self.cwd),
            )
        )


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server that speaks MCP over streamable HTTP.

    Attributes:
        url: Its endpoint, such as `https://example.com/mcp`.
        headers: Sent with each request, for example an authorization. Not shown in any text.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """Host and port, without anything secret that an address may hold."""
        parts = urlsplit(self.url)
        host = parts.hostname or "?"
        return host if parts.port is None else f"{host}:{parts.port}"

    def transport(self) -> AbstractAsyncContextManager[TransportStreams]:
        """Return a fresh connection."""
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[TransportStreams]:
        headers = None if self.headers is None else dict(self.headers)
        # In a thread, because it reads certificates from the disk.
        client = await asyncio.to_thread(create_mcp_http_client, headers)
        async with client, streamable_http_client(self.url, http_client=client) as streams:
            yield streams
