"""The way in: a server at an address."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from gateway.client.server import Server
from gateway.client.session import Session
from gateway.client.transports import TransportName

__all__ = ["Client"]


class Client:
    """A Tidegate server, for programs that use asyncio; an async context manager.

        async with Client("http://127.0.0.1:8080") as client:
            session = await client.create(agent="echo")
            print(await session.ask("ahoy"))

    What is asked of it here is asked once. What a session is told is tried until it is answered.

    Attributes:
        url: The server, `http://host:port`.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> None:
        """Make a client; it connects when it is used.

        Args:
            url: `http://host:port`.
            headers: Sent with every request.
            patience: Seconds that a server may be away before `Unreachable` is raised; by default
                it is waited for.

        Raises:
            ValueError: If `url` is no address.
        """
        self._server = Server(url, headers)
        self._patience = patience
        self.url = self._server.url

    async def agents(self) -> list[dict[str, Any]]:
        """Return whom the server offers; the first is the default.

        Raises:
            Unreachable, Refused: If it cannot be asked, as in all that follow.
        """
        agents: list[dict[str, Any]] = (await self._server.ask("GET", "/v1/agents"))["agents"]
        return agents

    async def sessions(self) -> AsyncGenerator[dict[str, Any]]:
        """Yield what the server says of each session, newest first."""
        after: str | None = None
        while True:
            query = f"?{urlencode({'after': after})}" if after is not None else ""
            page = await self._server.ask("GET", f"/v1/sessions{query}")
            for each in page["sessions"]:
                yield each
            after = page["next"]
            if after is None:
                return

    async def create(
        self,
        session_id: str | None = None,
        *,
        agent: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        history: Sequence[Mapping[str, Any]] | None = None,
        transport: TransportName = "websocket",
    ) -> Session:
        """Return a session, made unless it is there: the same id and fields make one.

        Args:
            session_id: Its id; one is chosen here if none is given.
            agent: Who answers; default: the server's first.
            metadata: Of the caller's.
            history: What was said elsewhere (PROTOCOL.md, `history.imported`).
            transport: How its events come.

        Returns:
            The session, right after where it stands now.
        """
        fields = {"agent": agent, "metadata": metadata, "history": history}
        body = {name: value for name, value in fields.items() if value is not None}
        body["session_id"] = session_id or f"ses_{secrets.token_hex(16)}"
        snapshot = await self._server.ask("POST", "/v1/sessions", body)
        return self.session(snapshot["session_id"], after=snapshot["cursor"], transport=transport)

    def session(
        self,
        session_id: str,
        *,
        after: str | None = None,
        transport: TransportName = "websocket",
    ) -> Session:
        """Return a session that is there.

        Args:
            session_id: Its id.
            after: Where iterating begins: a cursor, `0` for the whole log, `$` for what comes next;
                by default with a `Reset` that brings the state.
            transport: How its events come. Another one may go on from the same cursor at any time.
        """
        return Session(
            self._server,
            session_id,
            after=after,
            transport=transport,
            patience=self._patience,
        )

    async def delete(self, session_id: str) -> None:
        """Cancel, close and delete a session."""
        await self._server.ask("DELETE", f"/v1/sessions/{session_id}")

    async def aclose(self) -> None:
        """Close the connections; the sessions stay. Safe to call twice."""
        await self._server.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
