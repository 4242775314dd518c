"""A reconnect storm: all clients of a server lose it at once, and come back with their cursors.

A server as users start it, killed (`kill -9`) while every session has a run that speaks, and started
again on the same port and data. The clients, in this process, do what PROTOCOL.md tells clients to do:
they keep the cursor of the last event that they applied, and wait a random time up to
min(30 s, 0.5 · 2ⁿ s) before each attempt, the first one included. Each has to see every event of its
session's log once, in order, to the end of the run that was taken over; or this fails.

To repeat: `python -m bench.storm --clients 5000 --sessions 50`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import resource
import tempfile
import time
from dataclasses import dataclass, field
from http import HTTPStatus

import uvloop

from bench.stalled import ask, server

__all__ = ["Storm", "main", "storm"]

MIB = 1024 * 1024
WORDS = 40
CUT_AT = 10
"""The server is killed once every client has so many events: each is in the middle of a run then."""

_EVENT = re.compile(rb'"seq":(\d+),"cursor":"([^"]+)"')
_ENDS = (b'"type":"run.completed"', b'"type":"run.failed"', b'"type":"run.cancelled"')


@dataclass
class Storm:
    """What happened.

    Attributes:
        caught_up: For each client, when it had all that there was, in seconds after the server was back.
        attempts: Connections that were tried after the cut.
        refused: Of these, those that were told to come back later.
        cpu: Seconds of CPU that the new server took.
        memory: Bytes of memory that it had at most.
        command: The longest time that a command took meanwhile, in seconds.
        wrong: Events that were lost, or came twice.
    """

    caught_up: list[float] = field(default_factory=list)
    attempts: int = 0
    refused: int = 0
    cpu: float = 0.0
    memory: int = 0
    command: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Client:
    """One client of one session."""

    def __init__(self, address: str, session_id: str, seen: Storm, chance: random.Random) -> None:
        self.host, self.port = address.split(":")
        self.session_id = session_id
        self.last = 0
        self.cursor = "0"
        self.caught_up_at = 0.0
        self._seen = seen
        self._chance = chance

    async def run(self) -> None:
        """Read the session to the end of its run, however often the connection breaks."""
        failures = 0
        while True:
            await asyncio.sleep(self._chance.uniform(0, min(30.0, 0.5 * 2**failures)))
            before = self.last
            try:
                if await self._read():
                    return
            except (OSError, asyncio.IncompleteReadError):
                pass  # the server is gone; it will be back
            failures = 0 if self.last > before else failures + 1

    async def _read(self) -> bool:
        """Read until the connection ends; return whether the run is over."""
        self._seen.attempts += 1
        reader, writer = await asyncio.open_connection(self.host, int(self.port))
        try:
            path = f"/v1/sessions/{self.session_id}/events?after={self.cursor}"
            # Without chunks each line is an event, an object of the stream, or empty.
            head = f"GET {path} HTTP/1.0\r\nHost: {self.host}:{self.port}\r\n"
            writer.write(f"{head}Accept: application/x-ndjson\r\n\r\n".encode())
            status = int((await reader.readuntil(b"\r\n")).split()[1])
            if status != HTTPStatus.OK:
                self._seen.refused += status == HTTPStatus.SERVICE_UNAVAILABLE
                return False
            async for line in reader:
                if line.startswith(b'{"type":"stream.caught_up"'):
                    self.caught_up_at = time.monotonic()
                elif line.startswith(b'{"v":1') and line.endswith(b"\n") and self._apply(line):
                    return True
            return False
        finally:
            writer.transport.abort()

    def _apply(self, line: bytes) -> bool:
        found = _EVENT.search(line)
        assert found is not None
        seq = int(found[1])
        if seq != self.last + 1:
            self._seen.wrong.append(f"{self.session_id}: {seq} came after {self.last}")
        self.last, self.cursor = seq, found[2].decode()
        return any(end in line for end in _ENDS)


async def storm(clients: int, sessions: int, *, limit: float = 120.0, seed: int = 1) -> Storm:
    """Let so many clients of so many sessions lose their server, and come back to the next.

    Args:
        clients: How many.
        sessions: Of how many sessions.
        limit: Seconds after which those that are not back count as lost.
        seed: Of the clients' pauses.

    Raises:
        RuntimeError: If a run was over too soon.
        TimeoutError: If some did not get everything in time.
    """
    chance = random.Random(seed)  # noqa: S311 - spreads load, keeps no secret
    seen = Storm()
    names = [f"storm{number}" for number in range(sessions)]
    with tempfile.TemporaryDirectory() as data:
        async with asyncio.timeout(limit), asyncio.TaskGroup() as tasks:
            with server(data) as (_, address):
                await asyncio.to_thread(_begin, address, names, clients)
                crowd = [Client(address, names[n % sessions], seen, chance) for n in range(clients)]
                over = [tasks.create_task(client.run()) for client in crowd]
                while any(client.last < CUT_AT for client in crowd):  # noqa: ASYNC110 - plain numbers
                    await asyncio.sleep(0.02)
                if any(task.done() for task in over):
                    raise RuntimeError("a run was over before the server was killed")
                seen.attempts = 0
            with server(data, port=int(crowd[0].port)) as (process, _):
                begun = time.monotonic()
                while not all(task.done() for task in over):
                    asked = time.monotonic()
                    await asyncio.to_thread(ask, address, "GET", f"/v1/sessions/{names[0]}")
                    seen.command = max(seen.command, time.monotonic() - asked)
                    seen.memory = max(seen.memory, process.memory_info().rss)
                    await asyncio.sleep(0.05)
                used = process.cpu_times()
                seen.cpu = used.user + used.system
    seen.caught_up = sorted(client.caught_up_at - begun for client in crowd)
    return seen


def _begin(address: str, names: list[str], clients: int) -> None:
    # Slow enough that no run is over before the last client is there.
    options = {"interval_ms": max(50, clients / 20)}
    for name in names:
        ask(address, "POST", "/v1/sessions", {"session_id": name, "agent": "echo"})
    for name in names:
        command = {"type": "send", "id": name, "text": "word " * WORDS, "options": options}
        ask(address, "POST", f"/v1/sessions/{name}/commands", command)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="A reconnect storm.")
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seen = runner.run(storm(arguments.clients, arguments.sessions, seed=arguments.seed))
    times = seen.caught_up
    print(
        f"{arguments.clients} clients of {arguments.sessions} sessions lost their server at once\n"
        f"caught up  {times[len(times) // 2]:.1f} s half of them, {times[-1]:.1f} s all of them, "
        f"after it answered again\n"
        f"attempts   {seen.attempts}, of which {seen.refused} were told to come back later\n"
        f"server     {seen.cpu:.1f} s of CPU, {seen.memory / MIB:.0f} MiB at most; "
        f"a request took {seen.command * 1000:.0f} ms at most\n"
        f"wrong      {len(seen.wrong)} events lost or twice"
    )
    if seen.wrong:
        raise SystemExit("\n".join(seen.wrong[:20]))


if __name__ == "__main__":
    main()
