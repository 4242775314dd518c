"""Readers of one session over SSE, NDJSON and WebSocket. They hide nothing."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

from gateway.conformance.check import Broken
from gateway.conformance.events import Event, decoded, shown
from gateway.conformance.target import PATIENCE, Answer, Target

__all__ = [
    "NDJSON",
    "SSE",
    "TRANSPORTS",
    "Ended",
    "Frame",
    "Socket",
    "SseStream",
    "Stream",
    "Transport",
    "open_events",
    "open_socket",
    "open_sse",
]

Transport = Literal["sse", "ndjson", "websocket"]
TRANSPORTS: tuple[Transport, ...] = ("sse", "ndjson", "websocket")

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


class Ended(Exception):
    """The server ended the stream; `code` is a WebSocket's close code."""

    def __init__(self, request: str, code: int | None = None) -> None:
        super().__init__(f"the stream ended ({code})" if code else "the stream ended")
        self.request = request
        self.code = code


class Stream(ABC):
    """One reader. `request` is how it was asked for."""

    request: str

    @abstractmethod
    async def receive(self) -> Event:
        """Return the next object.

        Raises:
            Ended: If there is none.
        """

    async def next(self, what: str = "something", patience: float = PATIENCE) -> Event:
        """Return the next object.

        Args:
            what: How it is called in a report.
            patience: Seconds.

        Raises:
            Broken: If it does not come in time.
            Ended: If the server ends the stream first.
        """
        try:
            async with asyncio.timeout(patience):
                return await self.receive()
        except TimeoutError:
            raise Broken(
                f"{what} on the stream", f"nothing in {patience:g} s", self.request
            ) from None

    async def until(self, what: str, seq: int = 0, patience: float = PATIENCE) -> list[Event]:
        """Return all up to the first object of a type, or with a `seq`.

        Args:
            what: The type, or how it is called in a report.
            seq: The number to wait for, in place of the type.
            patience: Seconds between two objects.

        Raises:
            Broken: If it does not come, or the stream ends before.
        """
        found: list[Event] = []
        while not found or (found[-1].seq < seq if seq else found[-1].type != what):
            try:
                found.append(await self.next(what, patience))
            except Ended as ended:
                last = shown(found[-1].raw) if found else "nothing before"
                raise Broken(f"{what} on the stream", f"{ended}; {last}", self.request) from None
        return found

    async def events(self, what: str, seq: int = 0, patience: float = PATIENCE) -> list[Event]:
        """Return the events of the log among these."""
        found = await self.until(what, seq, patience)
        return [each for each in found if not each.is_control]

    async def rest(self, patience: float = PATIENCE) -> tuple[list[Event], int | None]:
        """Return all that comes until the server ends the stream, and the close code.

        Raises:
            Broken: If it does not end it.
        """
        found: list[Event] = []
        try:
            while True:
                found.append(await self.next("the end", patience))
        except Ended as ended:
            return found, ended.code


@dataclass(slots=True)
class Frame:
    """One frame of SSE: its bytes, and its fields by name; comments have no name."""

    raw: bytes
    fields: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """Return a field; several of one name are joined by line ends, as the standard says."""
        values = [value for key, value in self.fields if key == name]
        return "\n".join(values) if values else None


class SseStream(Stream):
    """Server-sent events. `frames` keeps all that came, `last_id` what a browser would keep."""

    def __init__(self, response: aiohttp.ClientResponse, request: str) -> None:
        """Take over a response."""
        self.response = response
        self.request = request
        self.frames: list[Frame] = []
        self.last_id = ""

    async def frame(self) -> Frame:
        """Return the next frame.

        Raises:
            Ended: If there is none.
        """
        frame = Frame(b"")
        while True:
            line = await _line(self.response, self.request)
            frame.raw += line
            text = line.decode(errors="replace").rstrip("\r\n")
            if not text:
                break
            name, _, value = text.partition(":")
            frame.fields.append((name, value.removeprefix(" ")))
        self.frames.append(frame)
        if (event_id := frame.get("id")) is not None:
            self.last_id = event_id
        return frame

    async def receive(self) -> Event:
        """Return the object of the next frame that has one."""
        while (data := (await self.frame()).get("data")) is None:
            pass
        return decoded(data.encode(), self.request)


class _Lines(Stream):
    """NDJSON."""

    def __init__(self, response: aiohttp.ClientResponse, request: str) -> None:
        self.response = response
        self.request = request

    async def receive(self) -> Event:
        while not (line := (await _line(self.response, self.request)).strip(b"\r\n")):
            pass
        return decoded(line, self.request)


class Socket(Stream):
    """A WebSocket; `hello` is how the server greeted."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, request: str) -> None:
        """Take over a connection."""
        self.socket = socket
        self.request = request
        self.hello: dict[str, Any] = {}

    async def receive(self) -> Event:
        """Return the next object."""
        message = await self.socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return decoded(str(message.data).encode(), self.request)
        if message.type is aiohttp.WSMsgType.BINARY:
            raise Broken("text frames", f"a binary one: {shown(message.data)}", self.request)
        raise Ended(self.request, self.socket.close_code)

    async def say(self, said: Mapping[str, Any] | str) -> None:
        """Send an object, or a text as it is."""
        text = said if isinstance(said, str) else json.dumps(said)
        self.request = f"GET /v1/ws, then {shown(text)}"
        await self.socket.send_str(text)

    async def answer(self, message_id: str | None) -> Event:
        """Return the `ack`, `nack` or `pong` to a message; what else comes is passed over.

        Raises:
            Broken: If none comes.
        """
        while True:
            try:
                heard = await self.next("an answer")
            except Ended as ended:
                raise Broken("an answer", ended, self.request) from None
            if heard.type in {"ack", "nack", "pong"} and heard.get("id") == message_id:
                return heard

    async def subscribe(self, session_id: str, after: str | None = None) -> Event:
        """Subscribe; return the answer."""
        place = {} if after is None else {"after": after}
        message_id = f"sub-{session_id}"
        said = {"type": "subscribe", "id": message_id, "session_id": session_id, **place}
        await self.say(said)
        return await self.answer(message_id)


async def _line(response: aiohttp.ClientResponse, request: str) -> bytes:
    try:
        line = await response.content.readline()
    except aiohttp.ClientError:
        raise Ended(request) from None
    if not line.endswith(b"\n"):
        raise Ended(request)
    return line


@asynccontextmanager
async def _response(
    target: Target, path: str, headers: Mapping[str, str], method: str = "GET", body: object = None
) -> AsyncIterator[tuple[aiohttp.ClientResponse, str]]:
    request = " ".join([method, path, *(f"{name}: {value}" for name, value in headers.items())])
    try:
        async with asyncio.timeout(PATIENCE):
            response = await target.http.request(
                method, target.url + path, headers=headers, json=body
            )
    except TimeoutError:
        raise Broken("the head of a stream", f"none in {PATIENCE:g} s", request) from None
    except aiohttp.ClientError as error:
        raise Broken("a stream", f"{type(error).__name__}: {error}", request) from None
    try:
        if response.status != 200:  # noqa: PLR2004 - HTTP's own number
            content = (await response.read())[:READ_REFUSAL]
            answer = Answer(request, response.status, response.headers, content)
            raise Broken("a stream", answer.shown, request)
        yield response, request
    finally:
        response.close()


READ_REFUSAL = 4096
"""Bytes of a refusal that are looked at."""


@asynccontextmanager
async def open_sse(
    target: Target, path: str, *, method: str = "GET", body: object = None, **headers: str
) -> AsyncIterator[SseStream]:
    """Read a path as server-sent events; `_` in the names of headers stands for `-`.

    Raises:
        Broken: If the server answers with something else.
    """
    said = {"Accept": SSE} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with _response(target, path, said, method, body) as (response, request):
        yield SseStream(response, request)


@asynccontextmanager
async def open_socket(target: Target) -> AsyncIterator[Socket]:
    """Open a WebSocket and hear its greeting.

    Raises:
        Broken: If there is none.
    """
    request = "GET /v1/ws, Upgrade: websocket"
    try:
        async with asyncio.timeout(PATIENCE):
            connection = await target.http.ws_connect(target.url + "/v1/ws", max_msg_size=0)
    except TimeoutError:
        raise Broken("an upgrade to a WebSocket", f"none in {PATIENCE:g} s", request) from None
    except aiohttp.ClientError as error:
        raise Broken("an upgrade to a WebSocket", error, request) from None
    try:
        socket = Socket(connection, request)
        hello = await socket.next("hello")
        if hello.type != "hello":
            raise Broken("`hello` as the first frame", shown(hello.raw), request)
        socket.hello = hello.data
        yield socket
    finally:
        await connection.close()


@asynccontextmanager
async def open_events(
    target: Target, transport: Transport, session_id: str, after: str | None = None
) -> AsyncIterator[Stream]:
    """Read one session over a transport.

    Raises:
        Broken: If the server does not let it.
    """
    query = "" if after is None else f"?after={after}"
    path = f"/v1/sessions/{session_id}/events{query}"
    if transport == "sse":
        async with open_sse(target, path) as stream:
            yield stream
    elif transport == "ndjson":
        async with _response(target, path, {"Accept": NDJSON}) as (response, request):
            yield _Lines(response, request)
    else:
        async with open_socket(target) as socket:
            answer = await socket.subscribe(session_id, after)
            if answer.type != "ack":
                raise Broken("an ack", shown(answer.raw), socket.request)
            yield socket
