"""What readers that have stopped reading cost the server in memory, while their session is busy.

A server as users start it; one run whose answer is long, told as fast as the log takes it; and readers
on every wire that can be read, which take the first bytes and then nothing more. They are not cut in
this time (the write time limit is out of reach), so all of them are stalled at once until the run is
over. The same run with one reader on each native wire that does read comes first: what is printed is
how far the process grows beyond what it had then. One reader keeps reading, and has to get every event.

To repeat: `python -m bench.stalled --readers 200 --words 20000 --wires sse websocket`; without `--wires`
it is all of them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import psutil

from bench.fanout import subscription, until

__all__ = ["NATIVE", "WIRES", "Cost", "ask", "main", "measure", "server", "stall"]

MIB = 1024 * 1024
CLIENT = "crowd"
JSON = {"Content-Type": "application/json"}
WIRES = {
    "sse": ("/v1/sessions/{}/events?after=0", "text/event-stream"),
    "ndjson": ("/v1/sessions/{}/events?after=0", "application/x-ndjson"),
    "websocket": ("/v1/ws", "*/*"),
    "client": (f"/v1/clients/{CLIENT}/events", "text/event-stream"),
    "chronos": (f"/events/{CLIENT}", "text/event-stream"),
    "vercel": ("/api/chat/{}/stream", "text/event-stream"),
    "agui": ("/agui/echo/threads/{}", "text/event-stream"),
}
"""Path and type of each wire. Of the projected ones, those whose clients may come to a run late."""

NATIVE = ("sse", "websocket")
"""The wires of PROTOCOL.md that a busy session is read on."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured: memory of the process in bytes, times in seconds."""

    baseline: int
    peak: int
    alone: float
    beside: float
    events: int

    @property
    def growth(self) -> int:
        """Bytes beyond the baseline."""
        return self.peak - self.baseline


@contextmanager
def server(data: str, *, port: int = 0, **settings: str) -> Iterator[tuple[psutil.Process, str]]:
    """Run `tidegate serve` in a process of its own; give the process and its address.

    It is killed at the end of the block.

    Args:
        data: Where it keeps its logs.
        port: Where it listens; 0 is any.
        settings: Its settings, as it finds them in the environment.
    """
    usual = {
        "TIDEGATE_SYNCHRONOUS": "normal",
        "TIDEGATE_DELTA_INTERVAL_MS": "0",
        "TIDEGATE_OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    }
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", "gateway", "serve", "--port", str(port), "--data", data],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **usual, **settings},
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://(\S+:\d+)", process.stdout.readline())
        assert found is not None
        yield psutil.Process(process.pid), found[1]
    finally:
        process.kill()
        process.communicate()


def ask(address: str, method: str, path: str, body: object = None) -> None:
    """Make a request, and read its answer."""
    connection = http.client.HTTPConnection(address)
    connection.request(method, path, None if body is None else json.dumps(body), JSON)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status < http.client.BAD_REQUEST, (path, answer.status)


def stall(address: str, wire: str, session_id: str) -> socket.socket:
    """Open a stream, take its first bytes, and never read again."""
    host, port = address.split(":")
    path, accept = WIRES[wire]
    lines = [f"GET {path.format(session_id)} HTTP/1.1", f"Host: {address}", f"Accept: {accept}"]
    if wire == "websocket":
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect((host, int(port)))
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    if wire == "websocket":
        until(connection, b'"hello"')
        connection.sendall(subscription(session_id, "0"))
    else:
        until(connection, b"\r\n\r\n")
    return connection


def say(address: str, session_id: str, words: int) -> None:
    """Begin a run whose answer has so many words, each an event."""
    text = {"text": "a " * words, "options": {"interval_ms": 0}}
    command = {"type": "send", "id": f"c{session_id}", **text}
    ask(address, "POST", f"/v1/sessions/{session_id}/commands", command)


def read_to_the_end(address: str, session_id: str) -> int:
    """Read a session until its run is over; return how many events of text came."""
    connection = http.client.HTTPConnection(address, timeout=300)
    headers = {"Accept": "application/x-ndjson"}
    connection.request("GET", f"/v1/sessions/{session_id}/events?after=0", headers=headers)
    answer = connection.getresponse()
    count = 0
    for line in answer:
        count += b'"type":"message.delta"' in line
        if b'"type":"run.completed"' in line:
            break
    connection.close()
    return count


@contextmanager
def listening(address: str, session_id: str) -> Iterator[None]:
    """Read a session on each native wire, all that comes: what is made once for all is made then."""
    with ExitStack() as stack:
        for wire in NATIVE:
            connection = stack.enter_context(stall(address, wire, session_id))
            threading.Thread(target=drain, args=(connection,), daemon=True).start()
        yield


def drain(connection: socket.socket) -> None:
    """Read until the connection is closed, by either side."""
    with suppress(OSError):
        while connection.recv(1 << 16):
            pass


def measure(readers: int, words: int, wires: Sequence[str] = tuple(WIRES)) -> Cost:
    """Measure what so many stalled readers cost, on some wires in equal parts.

    Raises:
        RuntimeError: If the reader that reads did not get everything.
    """
    with (
        tempfile.TemporaryDirectory() as data,
        server(data, TIDEGATE_WRITE_TIMEOUT_S="600") as (process, address),
        ExitStack() as stack,
    ):
        for session_id in ("alone", "beside"):
            ask(address, "POST", "/v1/sessions", {"session_id": session_id, "agent": "echo"})
        ask(address, "PUT", f"/v1/clients/{CLIENT}/subscriptions/beside", {"after": "0"})
        begun = time.monotonic()
        say(address, "alone", words)
        with listening(address, "alone"):
            events = read_to_the_end(address, "alone")
        alone = time.monotonic() - begun
        baseline = process.memory_info().rss
        begun = time.monotonic()
        say(address, "beside", words)
        over = threading.Event()
        peaks = [baseline]

        def watch() -> None:
            while not over.wait(0.02):
                peaks.append(process.memory_info().rss)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            for number in range(readers):
                wire = wires[number % len(wires)]
                stack.enter_context(stall(address, wire, "beside"))
            got = read_to_the_end(address, "beside")
        finally:
            over.set()
            watching.join()
        if got != events:
            raise RuntimeError(f"{events - got} events are missing")
        return Cost(baseline, max(peaks), alone, time.monotonic() - begun, events)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Memory of readers that have stopped reading.")
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--words", type=int, default=20_000)
    parser.add_argument("--wires", nargs="+", choices=WIRES, default=list(WIRES))
    arguments = parser.parse_args()
    cost = measure(arguments.readers, arguments.words, arguments.wires)
    print(
        f"{arguments.readers} stalled readers ({' '.join(arguments.wires)}), {cost.events} events of text\n"
        f"memory    {cost.baseline / MIB:.0f} MiB without them, {cost.peak / MIB:.0f} MiB at most with them: "
        f"{cost.growth / MIB:.1f} MiB more, {cost.growth / 1024 / arguments.readers:.0f} KiB each\n"
        f"time      {cost.alone:.1f} s without them, {cost.beside:.1f} s with them"
    )


if __name__ == "__main__":
    main()
