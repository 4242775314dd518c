"""A caller that tries a command again, under its id, until it knows what became of it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Literal

import aiohttp

from tests.faults.clients import LOST, World

__all__ = ["Caller"]

ANSWER_SECONDS = 15.0
"""How long a caller waits for an answer before it asks again."""


class Caller:
    """Sends commands, over HTTP or each over a WebSocket of its own, and notes all of it."""

    def __init__(
        self, world: World, name: str, *, transport: Literal["http", "websocket"] = "http"
    ) -> None:
        """Make a caller.

        Args:
            world: Where it lives.
            name: The caller's, in the history and in the ids of its commands: no blanks.
            transport: How commands are sent.
        """
        self.name = name
        self.transport = transport
        self.lost = 0
        self._where = world.somewhere
        self._history = world.history
        self._http = world.http
        self._random = world.random
        self._pauses = world.pauses
        self._numbers = itertools.count(1)

    async def create(self, session_id: str, **fields: Any) -> dict[str, Any]:
        """Create a session; return its snapshot, or the problem."""
        body = {"session_id": session_id, **fields}
        return await self._persist("create", session_id, f"create {session_id}", body)

    async def call(
        self, session_id: str, kind: str, *, command_id: str | None = None, **fields: Any
    ) -> dict[str, Any]:
        """Send a command; return its `ack`, or the problem with its `code`."""
        command_id = command_id or f"{self.name}-{next(self._numbers)}"
        body = {"type": kind, "id": command_id, **fields}
        return await self._persist(kind, session_id, command_id, body)

    async def _persist(
        self, kind: str, session_id: str, command_id: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        about = {"id": command_id, "session_id": session_id}
        for attempt in itertools.count():
            self._note("invoke", kind, **about, body=body)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    status, answer = await self._ask(kind, session_id, body)
            except LOST as error:
                self._note("unknown", kind, **about, why=type(error).__name__)
            else:
                if status < 300:
                    self._note("ok", kind, **about, answer=answer)
                    return answer
                if status < 500:
                    self._note("fail", kind, **about, status=status, code=answer["code"])
                    return answer
                self._note("unknown", kind, **about, why=str(status))
            self.lost += 1
            first, longest = self._pauses
            await asyncio.sleep(self._random.uniform(0, min(longest, first * 2**attempt)))
        raise AssertionError("it never gives up")

    def _note(
        self, kind: Literal["invoke", "ok", "fail", "unknown"], name: str, **value: Any
    ) -> None:
        self._history.record(self.name, kind, name, **value)

    async def _ask(
        self, kind: str, session_id: str, body: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        """Send a body once, and return the status and what was answered."""
        if self.transport == "websocket" and kind != "create":
            return await self._ask_on_a_socket(session_id, body)
        path = f"{self._where()}/v1/sessions"
        path = path if kind == "create" else f"{path}/{session_id}/commands"
        async with self._http.post(path, json=body) as response:
            return response.status, await response.json(content_type=None)

    async def _ask_on_a_socket(
        self, session_id: str, body: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        socket = await self._http.ws_connect(f"{self._where()}/v1/ws")
        try:
            await socket.send_json({**body, "session_id": session_id})
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                answer = message.json()
                if answer["type"] == "ack":
                    return 202, answer
                if answer["type"] == "nack":
                    error = answer["error"]
                    return 503 if error["retryable"] else 409, error
            raise ConnectionResetError
        finally:
            socket._response.close()
