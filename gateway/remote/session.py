"""Following a session over WebSocket: across lost connections, without a hole and without a repeat.

A client keeps two things: the cursor of the last event that it handed over, and the commands that
were not answered yet. After every reconnect it subscribes from the one and sends the others again
under their ids, so that each has one effect.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from gateway.remote.errors import RemoteRefused, RemoteUnreachable
from gateway.remote.server import RemoteServer
from gateway.remote.wire import end_told_by, read_event
from runtime.events import Event
from runtime.run_stream import RunEnd

__all__ = ["GIVE_UP_SECONDS", "Back", "Lost", "RemoteSession", "Reset"]

GIVE_UP_SECONDS = 300.0
"""A server that does not come back for this long is not waited for any more: restarts and deploys
take seconds, and a script should end some time."""

HEARTBEAT_SECONDS = 20.0
"""A connection is asked for a sign of life this often; below the server's own 25 s."""

LONGEST_PAUSE_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.5
"""PROTOCOL.md, section 7: a random time up to min(30 s, 0.5 · 2ⁿ s)."""

_DO_NOT_RETRY = range(4400, 5000)
"""Close codes; PROTOCOL.md, ws.codes."""

_REFUSALS = frozenset({401, 403, 404, 410})
"""HTTP statuses of an upgrade that another try would not change."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection was lost; it is tried again."""


@dataclass(frozen=True, slots=True)
class Back:
    """There is a connection again."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The events since the cursor cannot be had; `snapshot` is what there is."""

    reason: str
    snapshot: Mapping[str, Any]


Followed = Event | Lost | Back | Reset
"""What following a run yields."""


class RemoteSession:
    """A session on a server, from a cursor on. One run is followed at a time.

    Attributes:
        session_id: The session.
        cursor: Of the last event that was handed over.
        run_id: The run that is followed, once it is known.
        command_id: The id of the last command.
    """

    def __init__(self, server: RemoteServer, session_id: str, cursor: str) -> None:
        self.session_id = session_id
        self.cursor = cursor
        self.run_id: str | None = None
        self._server = server
        self._seq: int | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._unanswered: dict[str, Mapping[str, Any]] = {}
        self._sent: set[str] = set()
        self.command_id = ""
        self._cancel_wanted = False
        self._sending: asyncio.Task[None] | None = None
        self._pauses = 0

    async def run(
        self, command: Mapping[str, Any] | None, *, run_id: str | None = None
    ) -> AsyncGenerator[Followed, None]:
        """Give a command, and follow the run that it is about until that ends or pauses.

        Args:
            command: A `send` or `continue`, without `id` and `session_id`; None only follows.
            run_id: The run, if it is known.

        Raises:
            RemoteRefused: If the server refused the command or the subscription, or has lost the
                run.
            RemoteUnreachable: If the server did not come back.
        """
        self.run_id = run_id
        self._cancel_wanted = False
        self._unanswered.clear()
        if command is not None:
            self.command_id = self._put(command)
        try:
            async with aclosing(self._messages()) as messages:
                async for message in messages:
                    if isinstance(message, Lost | Back):
                        yield message
                        continue
                    end = False
                    for followed in await self._take(message):
                        yield followed
                        end = end or isinstance(followed, RunEnd)
                    if end:
                        return
        finally:
            if self._sending is not None:
                self._sending.cancel()
                await asyncio.wait([self._sending])
                self._sending = None

    def cancel(self) -> None:
        """Ask for the run to end: at once, or as soon as it is known. Again is harmless."""
        if self._cancel_wanted:
            return
        self._cancel_wanted = True
        self._cancel_known_run()

    def _cancel_known_run(self) -> None:
        if self._cancel_wanted and self.run_id is not None:
            self._put({"type": "cancel", "run_id": self.run_id})
            self._sending = asyncio.get_running_loop().create_task(self._flush())

    # --- commands ------------------------------------------------------------------------------

    def _put(self, command: Mapping[str, Any]) -> str:
        """Keep a command until it is answered; return its id."""
        command_id = f"cmd_{secrets.token_hex(12)}"
        self._unanswered[command_id] = {
            **command,
            "id": command_id,
            "session_id": self.session_id,
        }
        return command_id

    async def _flush(self) -> None:
        """Send what this connection has not sent yet. A connection that breaks says so by itself."""
        for command_id, command in tuple(self._unanswered.items()):
            if self._socket is None or command_id in self._sent:
                continue
            self._sent.add(command_id)
            try:
                await self._socket.send_str(orjson.dumps(command).decode())
            except (aiohttp.ClientError, ConnectionError):
                return

    async def _answered(self, message: Mapping[str, Any]) -> None:
        command_id = str(message.get("id"))
        if message["type"] == "ack":
            self._unanswered.pop(command_id, None)
            if command_id == self.command_id:
                self._learn(message.get("run_id"))
            return
        error = message["error"]
        if command_id in self._unanswered and error.get("retryable"):
            self._sent.discard(command_id)
            await self._pause()
            await self._flush()
            return
        self._unanswered.pop(command_id, None)
        if command_id == self.command_id or command_id.startswith("sub_"):
            raise RemoteRefused(str(error["code"]), str(error["message"]))

    def _learn(self, run_id: str | None) -> None:
        if self.run_id is None and run_id is not None:
            self.run_id = run_id
            self._cancel_known_run()

    # --- what comes ----------------------------------------------------------------------------

    async def _take(self, message: Mapping[str, Any]) -> tuple[Followed, ...]:
        """Return what a message means for who follows."""
        kind = message.get("type")
        if "seq" in message:
            return self._take_event(message)
        if kind == "stream.reset":
            return self._take_reset(message)
        if kind in {"ack", "nack"}:
            await self._answered(message)
        elif kind == "stream.caught_up":
            self._pauses = 0
        elif kind == "stream.closing" and message.get("reason") in {"closed", "deleted"}:
            raise RemoteRefused("session_closed", f"session {self.session_id!r} was closed")
        return ()

    def _take_event(self, message: Mapping[str, Any]) -> tuple[Followed, ...]:
        seq = message["seq"]
        if self._seq is not None and seq <= self._seq:
            return ()
        self._seq, self.cursor, self._pauses = seq, message["cursor"], 0
        if message.get("command_id") == self.command_id:
            self._learn(message.get("run_id"))
        if self.run_id is None or message.get("run_id") != self.run_id:
            return ()
        event = read_event(message)
        return () if event is None else (event,)

    def _take_reset(self, message: Mapping[str, Any]) -> tuple[Followed, ...]:
        snapshot = message["snapshot"]
        self._seq, self.cursor, self._pauses = None, message["cursor"], 0
        reset = Reset(str(message["reason"]), snapshot)
        if self.run_id is None:  # the command was not answered; it is sent again
            return (reset,)
        try:
            end = end_told_by(snapshot, self.run_id)
        except LookupError:
            raise RemoteRefused(
                "run_lost", f"the server has lost this run ({reset.reason})"
            ) from None
        return (reset,) if end is None else (reset, end)

    # --- connections ---------------------------------------------------------------------------

    async def _messages(self) -> AsyncGenerator[Mapping[str, Any] | Lost | Back, None]:
        """Yield all that comes, over as many connections as it takes."""
        lost_at: float | None = None
        while True:
            try:
                async with aclosing(self._connection()) as messages:
                    async for message in messages:
                        if self._missed_one(message):
                            break
                        if lost_at is not None:
                            lost_at = None
                            yield Back()
                        yield message
            except aiohttp.WSServerHandshakeError as error:
                if error.status in _REFUSALS:
                    raise RemoteRefused(
                        str(error.status), f"{self._server.url} refuses WebSockets ({error.status})"
                    ) from error
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            if lost_at is None:
                lost_at = time.monotonic()
                yield Lost()
            elif time.monotonic() - lost_at > GIVE_UP_SECONDS:
                raise RemoteUnreachable(f"{self._server.url} does not come back")
            await self._pause()

    def _missed_one(self, message: Mapping[str, Any]) -> bool:
        """Tell whether an event is missing before this one; a new connection brings it."""
        return "seq" in message and self._seq is not None and message["seq"] > self._seq + 1

    async def _connection(self) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yield what comes over one connection; it ends when the connection does."""
        address = f"{self._server.url}/v1/ws".replace("http", "ws", 1)
        async with self._server.http.ws_connect(
            address, heartbeat=HEARTBEAT_SECONDS, max_msg_size=0
        ) as socket:
            self._socket = socket
            self._sent.clear()
            try:
                await socket.send_json(self._subscription())
                await self._flush()
                async for frame in socket:
                    if frame.type is aiohttp.WSMsgType.TEXT:
                        yield orjson.loads(frame.data)
            finally:
                self._socket = None
        if socket.close_code in _DO_NOT_RETRY:
            raise RemoteRefused(str(socket.close_code), "the server ended the connection")

    def _subscription(self) -> dict[str, Any]:
        return {
            "type": "subscribe",
            "session_id": self.session_id,
            "after": self.cursor,
            "id": f"sub_{secrets.token_hex(6)}",
        }

    async def _pause(self) -> None:
        """Wait a random time, longer each time in a row: so clients do not come back all at once."""
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self._pauses)
        self._pauses = min(self._pauses + 1, 10)
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
