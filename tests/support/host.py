"""What a test holds of a running server, whatever runs on it."""

from __future__ import annotations

import aiohttp

from gateway.sessions.manager import SessionManager
from tests.support.readers import READERS, Reader

__all__ = ["Host"]


class Host:
    """A running server, a client for it, and what that client has open."""

    def __init__(self, url: str, manager: SessionManager, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.manager = manager
        self.http = http
        self._readers: list[Reader] = []
        self.responses: list[aiohttp.ClientResponse] = []

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    async def read(self, transport: str, session_id: str, after: str | None = None) -> Reader:
        """Open a reader; it is cut when the server is taken down."""
        reader = READERS[transport](self.http, session_id)
        self._readers.append(reader)
        await reader.open(after)
        return reader

    async def cut_all(self) -> None:
        for reader in self._readers:
            await reader.cut()
        for response in self.responses:
            response.close()
