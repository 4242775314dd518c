"""One way to read a session by SSE, NDJSON or WebSocket: small clients that hide nothing."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

PATIENCE = 30.0


class StreamEnded(Exception):
    """The server ended the stream; `status` is the answer's, or the close code."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"the stream ended: {status}")
        self.status = status


class Refused(Exception):
    """The server did not begin a stream."""

    def __init__(self, code: str, problem: dict[str, Any]) -> None:
        super().__init__(code)
        self.code = code
        self.problem = problem


@dataclass(frozen=True)
class Message:
    """One object of the stream: its bytes as they came, and what they say."""

    raw: bytes
    data: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.data["type"])

    @property
    def is_event(self) -> bool:
        return "seq" in self.data

    def __getitem__(self, name: str) -> Any:
        return self.data[name]


class Reader(ABC):
    """Reads one session from one position."""

    def __init__(self, http: aiohttp.ClientSession, session_id: str) -> None:
        self._http = http
        self.session_id = session_id
        self.cursor: str | None = None
        """Where a new reader would go on."""

    @abstractmethod
    async def open(self, after: str | None) -> None:
        """Begin to read.

        Raises:
            Refused: If the server says no.
        """

    @abstractmethod
    async def _receive(self) -> bytes:
        """Return the bytes of the next object, or raise `StreamEnded`."""

    @abstractmethod
    async def cut(self) -> None:
        """Drop the connection without a word."""

    async def next(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            raw = await self._receive()
        message = Message(raw, orjson.loads(raw))
        if "cursor" in message.data:
            self.cursor = message["cursor"]
        return message

    async def take(self, count: int) -> list[Message]:
        return [await self.next() for _ in range(count)]

    async def until(self, kind: str) -> list[Message]:
        """Return all up to the first message of a type, that one included."""
        found = [await self.next()]
        while found[-1].type != kind:
            found.append(await self.next())
        return found

    async def events(self, count: int) -> list[Message]:
        """Return the next events, without the control objects between them."""
        found: list[Message] = []
        while len(found) < count:
            message = await self.next()
            if message.is_event:
                found.append(message)
        return found

    async def end(self) -> tuple[list[Message], int | None]:
        """Return all that comes until the server ends the stream, and with which status."""
        found = []
        try:
            while True:
                found.append(await self.next())
        except StreamEnded as ended:
            return found, ended.status


class _HttpReader(Reader):
    accept = ""
    response: aiohttp.ClientResponse | None = None

    async def open(self, after: str | None) -> None:
        self.response = await self._http.get(
            f"/v1/sessions/{self.session_id}/events",
            params={} if after is None else {"after": after},
            headers={"Accept": self.accept},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        if self.response.status >= 400:
            problem = await self.response.json(content_type=None)
            raise Refused(problem["code"], problem)

    async def line(self) -> bytes:
        """Return the next line, without its end."""
        assert self.response is not None
        line = await self.response.content.readline()
        if not line.endswith(b"\n"):
            raise StreamEnded(self.response.status)
        return line[:-1]

    async def cut(self) -> None:
        if self.response is not None:
            self.response.close()


class SseReader(_HttpReader):
    """Parses frames as the standard says; `frames` has each as its fields."""

    accept = "text/event-stream"

    def __init__(self, http: aiohttp.ClientSession, session_id: str) -> None:
        super().__init__(http, session_id)
        self.frames: list[dict[str, bytes]] = []
        self.last_event_id = ""

    async def frame(self) -> dict[str, bytes]:
        """Return the next frame: its fields by name, comments under the empty name."""
        fields: dict[str, bytes] = {}
        while line := await self.line():
            name, _, value = line.partition(b":")
            assert name.decode() not in fields, "each field comes once in a frame"
            fields[name.decode()] = value.removeprefix(b" ")
        if "id" in fields:
            self.last_event_id = fields["id"].decode()
        self.frames.append(fields)
        return fields

    async def _receive(self) -> bytes:
        while "data" not in (frame := await self.frame()):
            pass
        return frame["data"]


class NdjsonReader(_HttpReader):
    """Splits at line ends."""

    accept = "application/x-ndjson"

    async def _receive(self) -> bytes:
        while not (line := await self.line()):
            pass
        return line


class WebSocketReader(Reader):
    """Subscribes to one session on a socket of its own."""

    socket: aiohttp.ClientWebSocketResponse

    async def open(self, after: str | None) -> None:
        self.socket = await self._http.ws_connect("/v1/ws", max_msg_size=0)
        hello = await self.socket.receive_json()
        assert hello["type"] == "hello"
        position = {} if after is None else {"after": after}
        await self.socket.send_json(
            {"type": "subscribe", "id": "sub", "session_id": self.session_id, **position}
        )
        answer = await self.socket.receive_json()
        if answer["type"] == "nack":
            raise Refused(answer["error"]["code"], answer["error"])
        assert answer["type"] == "ack"

    async def _receive(self) -> bytes:
        message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise StreamEnded(self.socket.close_code)
        return str(message.data).encode()

    async def cut(self) -> None:
        self.socket._response.close()  # without a goodbye, as a network does it


READERS: dict[str, type[Reader]] = {
    "sse": SseReader,
    "ndjson": NdjsonReader,
    "websocket": WebSocketReader,
}
