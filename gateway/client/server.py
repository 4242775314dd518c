"""Asking a server over HTTP: one question, one answer. Nothing here tries again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.client.endings import Answered, Broken, passes
from gateway.client.errors import Unreachable, refused

__all__ = ["BREAKS", "CONNECT_SECONDS", "Server", "answered"]

CONNECT_SECONDS = 5.0
"""To reach the server; a machine that is there answers in far less."""

ANSWER_SECONDS = 30.0
"""For a whole answer: nothing that is asked here waits for a run."""

BREAKS = (aiohttp.ClientError, TimeoutError, OSError)
"""What a connection that breaks raises."""

_SUCCESS = range(200, 300)


class Server:
    """A server at an address.

    Attributes:
        url: `http://host:port`, without a path's end.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        """Prepare to ask the server at `url`, with these headers on each request.

        Raises:
            ValueError: If that is no `http` or `https` address.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address such as http://127.0.0.1:8080")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._headers = dict(headers or {})
        self._http: aiohttp.ClientSession | None = None

    @property
    def http(self) -> aiohttp.ClientSession:
        """Its connections; made when they are first needed, since they belong to a running loop."""
        if self._http is None:
            self._http = aiohttp.ClientSession(
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                connector=aiohttp.TCPConnector(limit=0),  # each session that is followed has one
            )
        return self._http

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of an answer; None if it has no body.

        Raises:
            Unreachable: If no server answers.
            Refused: If it says no.
        """
        answer = await self.attempt(method, path, body)
        if isinstance(answer, Broken):
            raise Unreachable(f"no server answers at {self.url}")
        if isinstance(answer, Answered):
            code = answer.code or f"http_{answer.status}"
            raise refused(code, answer.message, retryable=passes(answer.status))
        return answer

    async def attempt(self, method: str, path: str, body: Any = None) -> Any | Answered | Broken:
        """Return the JSON of an answer that is a success, or what came in its place."""
        limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            async with self.http.request(
                method, f"{self.url}{path}", json=body, timeout=limit
            ) as response:
                if response.status not in _SUCCESS:
                    return await answered(response)
                if response.status == 204:  # noqa: PLR2004 - No Content
                    return None
                value = await _json(response)
                return value or Answered(502, "no_tidegate", f"{self.url} is no Tidegate server")
        except BREAKS:
            return Broken()

    async def aclose(self) -> None:
        """Close its connections. Safe to call twice."""
        if self._http is not None:
            await self._http.close()


async def answered(response: aiohttp.ClientResponse) -> Answered:
    """Return what an answer that is no success says."""
    problem = await _json(response)
    after = response.headers.get("Retry-After", "")
    return Answered(
        response.status,
        str(problem.get("code", "")),
        str(problem.get("detail") or response.reason or ""),
        float(after) if after.isdigit() else None,  # as a date it is not used by any server of ours
    )


async def _json(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the object that was answered; an empty one if it is none."""
    try:
        value = await response.json(content_type=None)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
