"""Asking a server over HTTP: whom it offers, and for sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.remote.errors import RemoteRefused, RemoteUnreachable

__all__ = ["RemoteServer"]

CONNECT_SECONDS = 5.0
"""To reach the server; a machine that is there answers in far less."""

ANSWER_SECONDS = 30.0
"""For a whole answer: nothing that is asked here waits for a run."""


_ANSWER = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)


class RemoteServer:
    """A server at an address. Made on a running loop.

    Attributes:
        url: `http://host:port`, without a path's end.
        http: Its connections.
    """

    def __init__(self, url: str) -> None:
        """Prepare to ask the server at `url`.

        Raises:
            ValueError: If that is no `http` or `https` address.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address such as http://127.0.0.1:8080")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        )

    async def agents(self) -> list[dict[str, Any]]:
        """Return whom the server offers; the first is the default.

        Raises:
            RemoteUnreachable, RemoteRefused: If it cannot be asked.
        """
        agents: list[dict[str, Any]] = (await self._ask("GET", "/v1/agents"))["agents"]
        return agents

    async def join(self, session_id: str, agent: str | None) -> dict[str, Any]:
        """Return the snapshot of a session, which is made if it is not there.

        Args:
            session_id: The session.
            agent: Of a new one; None for the server's default.

        Raises:
            RemoteUnreachable, RemoteRefused: If it cannot be had.
        """
        try:
            return await self._ask("GET", f"/v1/sessions/{session_id}")
        except RemoteRefused as refused:
            if refused.code != "session_unknown":
                raise
        body = {"session_id": session_id} | ({"agent": agent} if agent is not None else {})
        return await self._ask("POST", "/v1/sessions", body)

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            async with self.http.request(
                method, f"{self.url}{path}", json=body, timeout=_ANSWER
            ) as response:
                answer = await _json(response)
                if answer is None:
                    raise RemoteRefused("no_tidegate", f"{self.url} is no Tidegate server")
                if not response.ok:
                    code = str(answer.get("code", response.status))
                    raise RemoteRefused(code, str(answer.get("detail", response.reason)))
                return answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RemoteUnreachable(f"no server answers at {self.url}") from error

    async def aclose(self) -> None:
        """Close its connections."""
        await self.http.close()


async def _json(response: aiohttp.ClientResponse) -> dict[str, Any] | None:
    """Return the object that was answered; None if it is none."""
    try:
        answer = await response.json(content_type=None)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
