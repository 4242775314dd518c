"""What is said on one WebSocket: a task for each subscription and each command, one for reading."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from aiohttp import WSMessage, WSMsgType, web

from gateway.codecs.native import json_line, websocket_frame, websocket_text
from gateway.commands import Ack, Ping, SessionCommand
from gateway.errors import (
    CommandMalformed,
    EngineClosed,
    GatewayError,
    SlowClient,
    TooManySubscriptions,
)
from gateway.log.position import After, parse_after
from gateway.transports.hearing import hear
from gateway.transports.messages import (
    Auth,
    ClientMessage,
    Subscribe,
    Unsubscribe,
    nack,
    named,
    parse_message,
    read_json,
    refusal,
)
from gateway.transports.outlet import Outlet, pieces
from gateway.transports.reading import HEARTBEAT, Control, Reading, closing
from gateway.transports.services import Services
from gateway.transports.sharing import Share
from gateway.transports.stream import retry_ms

__all__ = ["Conversation"]

_LOGGER = logging.getLogger(__name__)

COMMANDS_AT_ONCE = 64
"""Commands of one socket that are obeyed at the same time; then reading pauses."""

_NO_AUTHENTICATION = {
    "code": "auth_not_enabled",
    "message": "this server asks nobody for a token",
    "retryable": False,
}
_FAILED = {"code": "internal_error", "message": "the server failed", "retryable": False}


def _json(control: Control) -> bytes:
    return control.json


class Conversation:
    """One WebSocket from `hello` to its end."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        outlet: Outlet,
        services: Services,
        tasks: asyncio.TaskGroup,
    ) -> None:
        """Make the conversation.

        Args:
            socket: The connection, upgraded.
            outlet: Its sending side.
            services: The server's parts.
            tasks: Where the conversation's tasks run.
        """
        self._socket = socket
        self._outlet = outlet
        self._services = services
        self._manager = services.manager
        self._settings = services.settings
        self._tasks = tasks
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._heartbeat_at = 0.0
        self._obeying: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(COMMANDS_AT_ONCE)

    async def hold(self) -> None:
        """Greet, then listen until the client closes.

        Raises:
            SlowClient: If it took no byte for the write time limit.
            ConnectionResetError: If it is gone.
        """
        await self._send(
            json_line(
                {
                    "type": "hello",
                    "v": 1,
                    "heartbeat_s": self._settings.ws_heartbeat_s,
                    "max_subscriptions": self._settings.max_subscriptions,
                }
            )
        )
        async with aclosing(hear(self._socket, self._outlet)) as messages:
            async for message in messages:
                await self._hear(message)
        for task in (*self._followers.values(), *self._obeying):
            task.cancel()

    async def _hear(self, message: WSMessage) -> None:
        data: object = None
        try:
            if message.type is not WSMsgType.TEXT:
                raise CommandMalformed("messages are text frames of JSON")
            data = read_json(message.data)
            await self._take(parse_message(data))
        except GatewayError as error:
            if isinstance(error, SlowClient):
                raise
            await self._send(nack(named(data), refusal(error)))

    async def _take(self, message: ClientMessage) -> None:
        match message:
            case Subscribe():
                self._subscribe(message, parse_after(message.after))
            case Unsubscribe():
                self._stop(message.session_id)
                if message.id is not None:
                    await self._acknowledge(message.id, message.session_id, "")
            case Auth():
                names = {} if message.id is None else {"id": message.id}
                await self._send(nack(names, _NO_AUTHENTICATION))
            case command:
                await self._free.acquire()
                task = self._tasks.create_task(self._obey(command))
                self._obeying.add(task)
                task.add_done_callback(self._obeyed)

    def _obeyed(self, task: asyncio.Task[None]) -> None:
        self._obeying.discard(task)
        self._free.release()

    async def _obey(self, command: SessionCommand | Ping) -> None:
        try:
            answer = (await self._manager.obey(command)).model_dump_json().encode()
        except GatewayError as error:
            answer = nack(named(command.model_dump(include={"id", "session_id"})), refusal(error))
        except Exception:
            _LOGGER.exception("a command failed", extra={"command_id": command.id})
            answer = nack(named(command.model_dump(include={"id", "session_id"})), _FAILED)
        await self._send(answer)

    def _subscribe(self, message: Subscribe, after: After) -> None:
        session_id = message.session_id
        limit = self._settings.max_subscriptions
        if session_id not in self._followers and len(self._followers) >= limit:
            raise TooManySubscriptions(limit)
        self._stop(session_id)
        task = self._tasks.create_task(self._follow(message, after))
        self._followers[session_id] = task
        task.add_done_callback(lambda done: self._ended(session_id, done))

    def _stop(self, session_id: str) -> None:
        """Stop following: after this, nothing of the session is sent any more."""
        follower = self._followers.pop(session_id, None)
        if follower is not None:
            follower.cancel()

    def _ended(self, session_id: str, task: asyncio.Task[None]) -> None:
        if self._followers.get(session_id) is task:
            del self._followers[session_id]

    async def _follow(self, message: Subscribe, after: After) -> None:
        with self._manager.attending(message.session_id, message.role):
            await self._read(message, after)

    async def _read(self, message: Subscribe, after: After) -> None:
        session_id = message.session_id
        try:
            reading = await Reading.open(self._services, session_id, after)
        except GatewayError as error:
            await self._send(nack(named(message.model_dump()), refusal(error)))
            return
        if message.id is not None:
            cursor = str(reading.tail if reading.start is None else reading.start)
            await self._acknowledge(message.id, session_id, cursor)
        try:
            await self._deliver(reading)
        except (EngineClosed, SlowClient):
            raise
        except GatewayError as error:
            _LOGGER.warning("a subscription ended", exc_info=error)
            again = retry_ms() if error.retryable else None
            await self._control(closing(error.code, session_id=session_id, retry_ms=again))

    async def _deliver(self, reading: Reading) -> None:
        """Write a session's steps: what is waiting in one write, framed once for all readers."""
        outlet = self._outlet
        share = Share(self._manager.engine, outlet, self._turn)
        try:
            async with aclosing(
                reading.steps(idle=self._settings.keepalive_s, share=share)
            ) as steps:
                async for step in steps:
                    if step is HEARTBEAT:
                        await self._heartbeat()
                    elif isinstance(step, Control):
                        await self._control(step)
                    elif step:
                        for piece in pieces([entry.encoded(websocket_frame) for entry in step]):
                            await outlet.ready()
                            outlet.write(piece)
                    share.give()
        finally:
            share.give()

    async def _acknowledge(self, message_id: str, session_id: str, cursor: str) -> None:
        ack = Ack(id=message_id, session_id=session_id, run_id=None, cursor=cursor)
        await self._send(ack.model_dump_json().encode())

    async def _control(self, control: Control) -> None:
        await self._outlet.ready()
        self._outlet.write(control.framed(_json, websocket_text))

    async def _heartbeat(self) -> None:
        """Say that the store is away, once for all sessions."""
        now = asyncio.get_running_loop().time()
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + self._settings.keepalive_s / 2
            await self._control(HEARTBEAT)

    async def _send(self, text: bytes) -> None:
        await self._outlet.ready()
        self._outlet.write(websocket_text(text))
