"""One connection over each transport: what comes, object by object, as the bytes that came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import aiohttp

__all__ = [
    "Closed",
    "Refused",
    "Wire",
    "frames",
    "lines_of_pages",
    "ndjson_lines",
    "objects_of_page",
    "read_log",
    "socket_lines",
    "sse_frames",
]

PAGE = 200
"""Events that are asked for with one page."""

POLL_SECONDS = 0.1
"""How long a client of pages waits once it has all."""


class Refused(Exception):
    """The server answered, and did not begin a stream."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


class Closed(Exception):
    """The server closed a WebSocket, with a code; 1006 if it went away without one."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}")


@dataclass(frozen=True, slots=True)
class Wire:
    """What a connection needs to know.

    Attributes:
        http: Connects.
        url: Of the server.
        session_id: Whose events.
        cursor: Returns the cursor of the last event that was applied.
        connected: Called once the server has said yes.
    """

    http: aiohttp.ClientSession
    url: str
    session_id: str
    cursor: Callable[[], str]
    connected: Callable[[], None]

    @property
    def events(self) -> str:
        """The address of the session's events."""
        return f"{self.url}/v1/sessions/{self.session_id}/events"


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise Refused(response.status, (await response.text())[:200])


async def frames(content: aiohttp.StreamReader) -> AsyncGenerator[dict[bytes, bytes]]:
    """Yield the fields of each whole frame of an event stream; comments are under an empty name."""
    fields: dict[bytes, bytes] = {}
    async for line in content:
        if not line.endswith(b"\n"):
            return  # the cut came in the middle of it
        if line == b"\n":
            yield fields
            fields = {}
            continue
        name, _, value = line[:-1].partition(b":")
        assert name not in fields, f"a field came twice in one frame: {line!r}"
        fields[name] = value.removeprefix(b" ")


async def sse_frames(wire: Wire) -> AsyncGenerator[bytes]:
    """Yield the data of each frame; the id of a frame has to be its event's cursor."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": wire.cursor()}
    async with wire.http.get(wire.events, headers=headers) as response:
        await _check(response)
        wire.connected()
        async for frame in frames(response.content):
            if b"data" in frame:
                yield frame[b"data"]
                name = frame.get(b"id")
                assert name is None or name.decode() == wire.cursor(), "an id of another event"


async def ndjson_lines(wire: Wire) -> AsyncGenerator[bytes]:
    """Yield each whole line that is not empty."""
    headers = {"Accept": "application/x-ndjson"}
    parameters = {"after": wire.cursor()}
    async with wire.http.get(wire.events, headers=headers, params=parameters) as response:
        await _check(response)
        wire.connected()
        async for line in response.content:
            if not line.endswith(b"\n"):
                return
            if line != b"\n":
                yield line[:-1]


async def socket_lines(wire: Wire) -> AsyncGenerator[bytes]:
    """Subscribe on a WebSocket of its own, and yield each frame after the answer to that.

    Raises:
        Closed: If the server closes it.
    """
    socket = await wire.http.ws_connect(
        f"{wire.url}/v1/ws",
        max_msg_size=0,
        timeout=aiohttp.ClientWSTimeout(ws_receive=wire.http.timeout.sock_read),
    )
    try:
        await socket.send_json(
            {"type": "subscribe", "session_id": wire.session_id, "after": wire.cursor(), "id": "s"}
        )
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            line: bytes = message.data.encode()
            if line.startswith(b'{"type":"nack"'):
                raise Refused(400, message.data[:200])
            if line.startswith(b'{"type":"ack"'):
                wire.connected()
            elif not line.startswith(b'{"type":"hello"'):
                yield line
        raise Closed(socket.close_code)
    finally:
        socket._response.close()  # without a goodbye, as a network does it


async def lines_of_pages(wire: Wire) -> AsyncGenerator[bytes]:
    """Ask for page after page, and yield each event."""
    headers = {"Accept": "application/json"}
    first = True
    while True:
        parameters = {"after": wire.cursor(), "limit": str(PAGE)}
        async with wire.http.get(wire.events, headers=headers, params=parameters) as response:
            await _check(response)
            if first:
                wire.connected()
            first = False
            body = await response.text()
        for line in objects_of_page(body):
            yield line
        if body.endswith('"caught_up":true}'):
            await asyncio.sleep(POLL_SECONDS)


def objects_of_page(body: str) -> list[bytes]:
    """Return the events of a page of JSON, each as the bytes that it has in the page."""
    decoder = json.JSONDecoder()
    start = '{"events":['
    assert body.startswith(start), body[:100]
    place, found = len(start), list[bytes]()
    while body[place] != "]":
        place += body[place] == ","
        _, end = decoder.raw_decode(body, place)
        found.append(body[place:end].encode())
        place = end
    return found


async def read_log(http: aiohttp.ClientSession, url: str, session_id: str) -> list[bytes]:
    """Return all that is kept of a log, read page by page, each event as its bytes."""
    path = f"{url}/v1/sessions/{session_id}/events"
    after, lines = "0", list[bytes]()
    while True:
        parameters = {"after": after, "limit": "1000"}
        headers = {"Accept": "application/json"}
        async with http.get(path, params=parameters, headers=headers) as response:
            body = await response.text()
            assert response.status == 200, body
        lines += objects_of_page(body)
        page = json.loads(body)
        after = page["cursor"]
        if page["caught_up"]:
            return lines
