"""Section 8 of PROTOCOL.md: clients that read slowly or not at all."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from gateway.conformance.check import Broken, Checks, NotObservable, must, must_equal
from gateway.conformance.streams import NDJSON, SSE, Transport, open_events
from gateway.conformance.target import PATIENCE, Target

CHECKS = Checks()

CUT_SECONDS = 12.0
"""10 s without progress, and what a timer and a kernel take."""

BIG = 200_000
"""Bytes of one text; a run has it some five times in its log."""

RUNS = 8
"""So many make a log of 8 MB: more than the buffers of both kernels hold for one connection."""

RECEIVE_BUFFER = 4096
BODY_SECONDS = 35.0
"""30 s, and what a timer takes."""

NORMAL = range(1000, 1002)
"""Close codes that say that all is well, or that the server goes away as it likes."""


@asynccontextmanager
async def _stuck(
    target: Target, transport: Transport, session_id: str
) -> AsyncIterator[asyncio.StreamReader]:
    """Ask for a whole log with a small buffer; what is not read waits at the server."""
    parts = urlsplit(target.url)
    connection = socket.socket(socket.AF_INET6 if ":" in target.address[0] else socket.AF_INET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, target.address)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    name = parts.hostname if secure else None
    reader, writer = await asyncio.open_connection(
        sock=connection, ssl=secure, server_hostname=name, limit=RECEIVE_BUFFER
    )
    try:
        said = [f"Host: {parts.netloc}"]
        path = f"{parts.path}/v1/sessions/{session_id}/events?after=0"
        if transport == "websocket":
            path = f"{parts.path}/v1/ws"
            key = base64.b64encode(bytes(16)).decode()
            said += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
            said += [f"Sec-WebSocket-Key: {key}"]
        else:
            said += [f"Accept: {SSE if transport == 'sse' else NDJSON}"]
        writer.write("\r\n".join([f"GET {path} HTTP/1.1", *said, "", ""]).encode())
        if transport == "websocket":
            text = json.dumps({"type": "subscribe", "session_id": session_id, "after": "0"})
            writer.write(struct.pack("!BB", 0x81, 0x80 | len(text)) + bytes(4) + text.encode())
        yield reader
    finally:
        writer.transport.abort()


async def _long_log(target: Target) -> str:
    """Return a session whose log is longer than what any buffer holds."""
    session_id = await target.session("echo")
    for _ in range(RUNS):
        await target.say(session_id, "x" * BIG, options={"interval_ms": 0})
    return session_id


async def _left(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """Read what is left; return its end, and whether the connection was ended."""
    last = b""
    try:
        async with asyncio.timeout(PATIENCE):
            while part := await reader.read(2**20):
                last = (last + part)[-256:]
    except ConnectionError:
        return last, True
    except TimeoutError:
        return last, False
    return last, True


async def _must_be_cut(target: Target, transport: Transport, session_id: str) -> bytes:
    """Read nothing for as long as the server may wait; return the last bytes that it sent."""
    async with _stuck(target, transport, session_id) as reader:
        await asyncio.sleep(CUT_SECONDS)
        last, ended = await _left(reader)
        request = f"a log of 8 MB over {transport}, of which nothing is read for {CUT_SECONDS:g} s"
        if not ended:
            raise Broken("the connection ended after 10 s", "all of the log, later", request)
        return last


@CHECKS.of("slow.cut", needs=("echo",), slow=True, limit=60.0)
async def who_takes_nothing_is_cut(target: Target) -> None:
    """A connection whose peer takes no bytes is ended within 12 s, and can be resumed."""
    session_id = await target.once(_long_log)
    async with asyncio.TaskGroup() as tasks:
        for transport in ("sse", "ndjson"):
            tasks.create_task(_must_be_cut(target, transport, session_id))
    async with open_events(target, "ndjson", session_id, "0") as stream:
        events = await stream.events("stream.caught_up")
    must_equal(events[-1].type, "run.completed", "the log's last event, when it comes back")


@CHECKS.of("ws.codes", needs=("echo",), slow=True, limit=60.0)
async def a_slow_socket_is_closed_with_4008(target: Target) -> None:
    """A socket whose peer takes no bytes is closed with 4008, or cut if that cannot be sent."""
    session_id = await target.once(_long_log)
    last = await _must_be_cut(target, "websocket", session_id)
    if last[-256:].find(b"\x88") >= 0:
        place = last.rindex(b"\x88")
        frame = last[place:]
        if len(frame) >= 4 and frame[1] == len(frame) - 2:  # noqa: PLR2004 - a whole close frame
            code = int.from_bytes(frame[2:4], "big")
            must_equal(code, 4008, "the close code", "GET /v1/ws, then nothing is read")


@CHECKS.of("slow.isolated", needs=("echo",))
async def others_do_not_notice(target: Target) -> None:
    """While one client reads nothing, others and the run are as fast as without it."""
    session_id = await target.session("echo")
    async with (
        _stuck(target, "sse", session_id),
        open_events(target, "sse", session_id, "$") as stream,
    ):
        await stream.until("stream.caught_up")
        for _ in range(3):
            began = time.monotonic()
            ack = await target.send(session_id, "x" * BIG, options={"interval_ms": 0})
            events = await stream.events("run.completed")
            seconds = time.monotonic() - began
            must_equal(events[-1].get("run_id"), ack["run_id"], "the run that ends")
            must(seconds < PATIENCE, "the run's end in no time", f"{seconds:.1f} s", stream.request)


@CHECKS.of("slow.isolated")
async def it_costs_little_memory(target: Target) -> None:
    """A client that reads nothing costs at most 256 KiB of the server's memory."""
    raise NotObservable("the memory of a server cannot be seen from outside")


@CHECKS.of("http.slow", slow=True, limit=60.0)
async def a_body_that_does_not_come_is_not_waited_for(target: Target) -> None:
    """A request whose body does not come gets 408 `request_timeout` within some 30 s."""
    parts = urlsplit(target.url)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    name = parts.hostname if secure else None
    reader, writer = await asyncio.open_connection(
        *target.address, ssl=secure, server_hostname=name
    )
    request = "POST /v1/sessions with a body that does not come"
    try:
        head = [f"POST {parts.path}/v1/sessions HTTP/1.1", f"Host: {parts.netloc}"]
        head += ["Content-Type: application/json", "Content-Length: 100", "", ""]
        writer.write("\r\n".join(head).encode())
        try:
            async with asyncio.timeout(BODY_SECONDS):
                answer = await reader.read(2**16)
        except TimeoutError:
            raise Broken("an answer after 30 s", "silence", request) from None
    finally:
        writer.transport.abort()
    must(answer.startswith(b"HTTP/1.1 408 "), "408", answer[:40], request)
    must(b"request_timeout" in answer, "the code `request_timeout`", answer[-120:], request)


@CHECKS.of("server.full")
async def a_full_server_says_so(target: Target) -> None:
    """A server that takes no more connections or streams says so, and when to come back."""
    raise NotObservable("filling a server would harm those who use it")
