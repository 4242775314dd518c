"""Chats of the AI SDK over one WebSocket, as `WebSocketChatTransport` speaks.

Each `send` and `resume` is a stream of its own, told apart by its `requestId`. `abort` is a stop, not
the end of a stream alone: a client that only goes away closes the connection, and may come back.

The client gives up the whole connection for a frame that it does not expect, so there are no frames
of ours beside those that answer; a frame of the client's that cannot be answered ends the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.codecs.codec import Projection
from gateway.codecs.framing import bare
from gateway.codecs.native import websocket_text
from gateway.codecs.vercel import DONE, read_chat, still_waiting
from gateway.commands import explain
from gateway.errors import CommandMalformed, GatewayError, SlowClient, TooManySubscriptions
from gateway.frontends.vercel.chats import Chats
from gateway.frontends.vercel.streams import Stream
from gateway.log.entry import Entry
from gateway.transports.following import follow_run
from gateway.transports.hearing import hear
from gateway.transports.messages import read_json
from gateway.transports.outlet import Outlet, pieces
from gateway.transports.services import Services

__all__ = ["ChatSocket"]

_LOGGER = logging.getLogger(__name__)

FAILED = "the server failed"
TYPES = ("send", "resume", "abort")


class _Frame(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    request_id: str = Field(alias="requestId", min_length=1, max_length=256)


class _Send(_Frame):
    type: Literal["send"]
    id: str
    trigger: str = "submit-message"
    message_id: str | None = Field(default=None, alias="messageId")
    messages: tuple[Mapping[str, Any], ...] = ()
    body: Mapping[str, Any] = Field(default_factory=dict)


class _Resume(_Frame):
    type: Literal["resume"]
    id: str
    last_sequence: int | None = Field(default=None, alias="lastSequence", ge=-1)


class _Abort(_Frame):
    type: Literal["abort"]


_FRAME: TypeAdapter[_Send | _Resume | _Abort] = TypeAdapter(
    Annotated[_Send | _Resume | _Abort, Field(discriminator="type")]
)


class _Open:
    """A request whose stream is open."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.stream: Stream | None = None
        self.task: asyncio.Task[None] | None = None


class ChatSocket:
    """One WebSocket."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        outlet: Outlet,
        services: Services,
        chats: Chats,
        tasks: asyncio.TaskGroup,
    ) -> None:
        """Make it.

        Args:
            socket: The connection, upgraded.
            outlet: Its sending side.
            services: The server's parts.
            chats: Does what is asked.
            tasks: Where the streams run.
        """
        self._socket = socket
        self._outlet = outlet
        self._services = services
        self._chats = chats
        self._tasks = tasks
        self._open: dict[str, _Open] = {}

    async def hold(self) -> None:
        """Listen until the client closes.

        Raises:
            SlowClient: If it took no byte for the write time limit.
            CommandMalformed: If it sent what cannot be answered.
            ConnectionResetError: If it is gone.
        """
        async with aclosing(hear(self._socket, self._outlet)) as messages:
            async for message in messages:
                await self._hear(message)
        for request in self._open.values():
            if request.task is not None:
                request.task.cancel()

    async def _hear(self, message: WSMessage) -> None:
        if message.type is not WSMsgType.TEXT:
            raise _Unanswerable("frames are texts of JSON")
        try:
            data = read_json(message.data)
        except CommandMalformed as error:
            raise _Unanswerable(str(error)) from error
        if not isinstance(data, dict) or not isinstance(request_id := data.get("requestId"), str):
            raise _Unanswerable("the frame has no `requestId`")
        try:
            if data.get("type") not in TYPES:
                raise CommandMalformed(f"unknown `type`; known: {', '.join(TYPES)}")
            self._take(_FRAME.validate_python(data))
        except ValidationError as error:
            await self._fail(request_id, explain(error))
        except GatewayError as error:
            await self._fail(request_id, str(error))

    def _take(self, frame: _Send | _Resume | _Abort) -> None:
        request_id = frame.request_id
        if isinstance(frame, _Abort):
            if (request := self._open.get(request_id)) is not None:
                self._tasks.create_task(self._abort(request))
            return
        if request_id in self._open:
            raise CommandMalformed(f"`requestId`: {request_id!r} is in use")
        if len(self._open) >= self._services.settings.max_subscriptions:
            raise TooManySubscriptions(self._services.settings.max_subscriptions)
        request = self._open[request_id] = _Open()
        request.task = self._tasks.create_task(self._serve(frame, request))
        request.task.add_done_callback(lambda _: self._open.pop(request_id, None))

    async def _abort(self, request: _Open) -> None:
        """Stop what a request began, also where that is only just beginning."""
        await request.begun.wait()
        if request.task is not None:
            request.task.cancel()  # the client has given the stream up
        if request.stream is not None:
            try:
                await self._chats.stop_stream(request.stream)
            except GatewayError as error:
                _LOGGER.info("a chat could not be stopped", extra={"code": error.code})

    async def _serve(self, frame: _Send | _Resume, request: _Open) -> None:
        try:
            try:
                request.stream = await self._begin(frame)
            finally:
                request.begun.set()
            await self._answer(frame, request.stream)
        except SlowClient:
            raise
        except GatewayError as error:
            await self._fail(frame.request_id, str(error))
        except ConnectionError:
            raise
        except Exception:
            _LOGGER.exception("a chat's stream failed")
            await self._fail(frame.request_id, FAILED)

    async def _begin(self, frame: _Send | _Resume) -> Stream | None:
        if isinstance(frame, _Send):
            fixed = {
                "id": frame.id,
                "messages": frame.messages,
                "trigger": frame.trigger,
                "messageId": frame.message_id,
            }
            return await self._chats.begin(read_chat({**frame.body, **fixed}))
        # What has ended can be had again, as this transport's protocol has it.
        stream = await self._chats.resume(frame.id, finished=True)
        if stream is None or frame.last_sequence is None:
            return stream
        return await self._chats.since_pause(stream)

    async def _answer(self, frame: _Send | _Resume, stream: Stream | None) -> None:
        request_id = frame.request_id
        if stream is None:
            await self._send({"type": "no-active", "requestId": request_id})
            return
        last = None
        if isinstance(frame, _Resume):
            last = frame.last_sequence
            await self._send({"type": "start", "requestId": request_id})
        telling = _Telling(request_id, stream, after=-1 if last is None else last)
        if stream.waits:
            await self._write(telling.waiting())
        else:
            batches = follow_run(self._services, stream.place, after=stream.place.segments[0])
            async with aclosing(batches):
                async for batch in batches:
                    await self._write([part for entry in batch for part in telling.frames(entry)])
        await self._send({"type": "end", "requestId": request_id})

    async def _fail(self, request_id: str, text: str) -> None:
        await self._send({"type": "error", "requestId": request_id, "errorText": text})

    async def _send(self, frame: Mapping[str, Any]) -> None:
        await self._write([websocket_text(orjson.dumps(frame))])

    async def _write(self, frames: list[bytes]) -> None:
        for piece in pieces(frames) if frames else ():
            await self._outlet.ready()
            self._outlet.write(piece)


class _Unanswerable(CommandMalformed):
    """A frame that no request can be told about."""

    close_code = WSCloseCode.POLICY_VIOLATION


class _Telling:
    """Numbers the chunks of one stream."""

    def __init__(self, request_id: str, stream: Stream, *, after: int) -> None:
        self._name = orjson.dumps(request_id)
        self._projection = Projection(stream.codec, bare)
        self._run_id = stream.place.run_id
        self._after = after
        self._sequence = 0

    def frames(self, entry: Entry) -> list[bytes]:
        """Return the frames of an entry, those left out that the client has."""
        return self._numbered(self._projection.feed(entry))

    def waiting(self) -> list[bytes]:
        """Return the frames for a client that has not answered all that the run waits for."""
        return self._numbered([frame.data for frame in still_waiting(self._run_id)])

    def _numbered(self, messages: Sequence[bytes]) -> list[bytes]:
        frames: list[bytes] = []
        for message in messages:
            if message == DONE.data:
                continue
            if self._sequence > self._after:
                told = b'{"type":"chunk","requestId":%b,"sequence":%d,"chunk":%b}'
                frames.append(websocket_text(told % (self._name, self._sequence, message)))
            self._sequence += 1
        return frames
