"""What one event costs the server for each of its readers, beside the usual way of doing it.

Three server processes, one after the other, each with the same number of readers and the same
events at the same pace:

    sse         Tidegate: an agent's text deltas through the session's writer, the log, and out by SSE
    websocket   the same by WebSocket
    baseline    aiohttp-sse as its documentation shows it: a queue and a task for each client, which
                calls `send()`; no log, no session: events are made and handed out

This process is the load: plain sockets that count events and parse nothing. All servers run on
uvloop. The figure is CPU time of the server process (user and system, from the moment before the
first event to the moment when the last reader has the last one) by the number of deliveries; it is
complete or the run fails.

To repeat: `python bench/fanout.py --readers 500 --rate 50 --seconds 5 --rounds 3`, on a machine that
does little else. The figure of a case is the median of its rounds; all of them are printed.

Tidegate's readers of one session rest between rounds when they are many (`gateway.transports.crowd`):
for that an event waits for others, here up to the time that is printed. The baseline writes each at
once. A few readers do not rest, and then the two differ by little: the system call is what costs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import resource
import secrets
import selectors
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median
from typing import Any, Literal

import orjson
import psutil
import uvloop
from aiohttp import web
from aiohttp_sse import sse_response
from pydantic import Field

from gateway.app import BACKLOG, running
from gateway.config import Settings
from gateway.transports.crowd import Crowd
from runtime.events import MessageCompleted, MessageDelta, MessageStarted, RunCompleted, RunStarted
from runtime.messages import Usage
from runtime.registry import Registry
from runtime.runnable import Emit, RunOptions, RunRequest, ToolInfo

__all__ = ["main"]

CASES = ("baseline", "sse", "websocket")
SESSION = "fanout"
MARKER = b'"message.delta"'
TEXT = "a few words, as a model says them "
GRACE_SECONDS = 30.0
LOOK_SECONDS = 0.005
"""The load looks at its sockets this often and sleeps in between. If it slept on the sockets, each
write would also wake it, on the server's CPU: a cost that clients on other machines do not cause."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is measured: how many readers, events each second, for how many seconds."""

    readers: int
    rate: float
    seconds: float

    @property
    def events(self) -> int:
        return int(self.rate * self.seconds)


async def paced(load: Load, step: Callable[[int], Awaitable[None]]) -> None:
    """Call `step` for each event when its time has come, without drifting."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for number in range(load.events):
        await asyncio.sleep(begun + number / load.rate - loop.time())
        await step(number)


# --- the servers -----------------------------------------------------------------------------------


class TickerOptions(RunOptions):
    """How much the ticker says."""

    rate: float = Field(gt=0)
    seconds: float = Field(gt=0)


class Ticker:
    """A runnable that says the same words again and again, at a pace."""

    name = "ticker"
    description = "Says the same again and again."
    options_type = TickerOptions

    @property
    def kind(self) -> Literal["agent", "graph"]:
        return "agent"

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        return ()

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        options, run_id = request.options, request.run_id
        assert isinstance(options, TickerOptions)
        message_id = "msg_ticker"

        async def say(number: int) -> None:
            await emit(MessageDelta(run_id=run_id, message_id=message_id, text=TEXT))

        await emit(RunStarted(run_id=run_id, agent=self.name))
        await emit(MessageStarted(run_id=run_id, message_id=message_id, turn=1))
        await paced(Load(0, options.rate, options.seconds), say)
        await emit(MessageCompleted(run_id=run_id, message_id=message_id, text=TEXT))
        await emit(
            RunCompleted(run_id=run_id, output=TEXT, usage=Usage(), message_count=1, num_turns=1)
        )

    async def aclose(self) -> None:
        """Nothing to let go of."""


async def serve_tidegate() -> None:
    settings = Settings(port=0, engine="memory", delta_interval_ms=0)
    async with running(settings, Registry(Ticker())) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


async def serve_baseline() -> None:
    queues: set[asyncio.Queue[tuple[str, str]]] = set()  # noqa: TID251 - what is compared with
    tasks: set[asyncio.Task[None]] = set()

    async def events(request: web.Request) -> web.StreamResponse:
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()  # noqa: TID251 - as above
        async with sse_response(request) as response:
            await response.send("{}")
            queues.add(queue)
            try:
                while True:
                    event_id, data = await queue.get()
                    await response.send(data, id=event_id)
            finally:
                queues.discard(queue)

    async def start(request: web.Request) -> web.Response:
        asked = await request.json()
        load = Load(0, asked["rate"], asked["seconds"])
        task = asyncio.create_task(paced(load, tell))
        tasks.add(task)
        return web.Response(status=202)

    async def tell(number: int) -> None:
        event = {
            "v": 1,
            "type": "message.delta",
            "session_id": SESSION,
            "seq": number,
            "cursor": f"0123abcd.{number}.0123abcd",
            "ts": "2026-01-01T00:00:00.000Z",
            "run_id": "run_0123456789abcdef01234567",
            "path": ["ticker"],
            "message_id": "msg_ticker",
            "text": TEXT,
        }
        data = orjson.dumps(event).decode()
        for queue in queues:
            queue.put_nowait((str(event["cursor"]), data))

    app = web.Application()
    app.add_routes([web.get("/events", events), web.post("/start", start)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


# --- the load --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reader:
    """One client: a socket, how many markers came, and the end of what came last."""

    connection: socket.socket
    count: int = 0
    tail: bytes = field(default=b"", repr=False)

    def take(self, marker: bytes) -> int:
        """Read what is there and return how many markers it completes.

        Raises:
            ConnectionError: If the server ended the stream.
        """
        data = self.connection.recv(1 << 20)
        if not data:
            raise ConnectionError("the server ended a stream")
        data = self.tail + data
        self.tail = data[-(len(marker) - 1) :]
        return data.count(marker)


def request_of(case: str, address: str) -> bytes:
    """Return what a reader sends first."""
    path = {
        "baseline": "/events",
        "sse": f"/v1/sessions/{SESSION}/events?after=$",
        "websocket": "/v1/ws",
    }[case]
    headers = [f"GET {path} HTTP/1.1", f"Host: {address}", "Accept: text/event-stream"]
    if case == "websocket":
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        headers += ["Upgrade: websocket", "Connection: Upgrade"]
        headers += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    return "\r\n".join([*headers, "", ""]).encode()


def subscription(session_id: str = SESSION, after: str = "$") -> bytes:
    """Return the masked frame that subscribes (with a mask of zeros, which changes nothing)."""
    text = json.dumps({"type": "subscribe", "session_id": session_id, "after": after}).encode()
    return struct.pack("!BB", 0x81, 0x80 | len(text)) + bytes(4) + text


def connect(case: str, address: str, readers: int) -> list[Reader]:
    """Open all streams, each until it is live."""
    host, port = address.split(":")
    opened = []
    for _ in range(readers):
        connection = socket.create_connection((host, int(port)))
        connection.settimeout(GRACE_SECONDS)
        connection.sendall(request_of(case, address))
        if case == "websocket":
            until(connection, b'"hello"')
            connection.sendall(subscription())
        until(connection, b"data: {}" if case == "baseline" else b'"stream.caught_up"')
        connection.setblocking(False)
        opened.append(Reader(connection))
    return opened


def until(connection: socket.socket, words: bytes) -> None:
    """Read until some words came."""
    seen = b""
    while words not in seen:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError(seen.decode(errors="replace"))
        seen += data


def receive(readers: list[Reader], events: int, limit: float) -> None:
    """Count until every reader has every event, and not one more.

    Raises:
        RuntimeError: If that does not come to be within `limit` seconds.
    """
    selector = selectors.DefaultSelector()
    for reader in readers:
        selector.register(reader.connection, selectors.EVENT_READ, reader)
    missing = events * len(readers)
    deadline = time.monotonic() + limit
    while missing > 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{missing} deliveries are missing")
        time.sleep(LOOK_SECONDS)
        for key, _ in selector.select(1.0):
            got = key.data.take(MARKER)
            key.data.count += got
            missing -= got
    if any(reader.count != events for reader in readers):
        raise RuntimeError("an event came twice")


def post(url: str, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as response:  # noqa: S310
        response.read()


@contextmanager
def server(case: str) -> Iterator[tuple[psutil.Process, str]]:
    """Run a server in a process of its own; give the process and the address."""
    command = [sys.executable, __file__, "--serve", case]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
    try:
        assert process.stdout is not None
        yield psutil.Process(process.pid), process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def measure(case: str, load: Load) -> float:
    """Run one case and return microseconds of server CPU for each delivery."""
    with server(case) as (process, url):
        pace = {"rate": load.rate, "seconds": load.seconds}
        if case != "baseline":
            post(f"{url}/v1/sessions", {"session_id": SESSION, "agent": "ticker"})
        readers = connect(case, url.removeprefix("http://"), load.readers)
        before = process.cpu_times()
        if case == "baseline":
            post(f"{url}/start", pace)
        else:
            command = {"type": "send", "id": "c1", "text": "go", "options": pace}
            post(f"{url}/v1/sessions/{SESSION}/commands", command)
        receive(readers, load.events, load.seconds + GRACE_SECONDS)
        after = process.cpu_times()
        for reader in readers:
            reader.connection.close()
    seconds = after.user - before.user + after.system - before.system
    return seconds * 1e6 / (load.events * load.readers)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="CPU of the server for each delivered event.")
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50.0, help="events each second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serving = serve_baseline() if arguments.serve == "baseline" else serve_tidegate()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serving)
        return
    load = Load(arguments.readers, arguments.rate, arguments.seconds)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(
        f"{load.readers} readers, {load.rate:g} events/s for {load.seconds:g} s, "
        f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, uvloop {version('uvloop')}"
    )
    crowd = Crowd()
    crowd.readers = load.readers
    print(f"an event of so large a crowd waits up to {crowd.spacing * 1000:g} ms for others")
    found: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(arguments.rounds):
        for case, costs in found.items():
            costs.append(measure(case, load))
    usual = median(found["baseline"])
    for case, costs in found.items():
        cost = median(costs)
        spread = " ".join(f"{each:.1f}" for each in costs)
        print(
            f"{case:10} {cost:5.1f} µs CPU per delivery, {usual / cost:3.1f} times less ({spread})"
        )


if __name__ == "__main__":
    main()
