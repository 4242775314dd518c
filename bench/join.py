"""How long one waits for the snapshot of a session whose log is long.

    python -m bench.join [--events 100000] [--joiners 200]

A server is filled with two sessions of as many events: one of 200 runs, and one whose only run is
still at work, in the middle of one message. Then it is killed, as by `kill -9`, and started again: so
the first who joins finds nothing in memory. (The run is taken over at the start, so that session is
loaded by then.) "first byte" is from the request to the first byte of the snapshot over SSE, "whole"
to its last. Of the joins to what is loaded the median of 20 is told, and the slowest. At last many
join at once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import uvloop

from gateway.app import running
from gateway.commands import CreateSession, parse_command
from gateway.config import Settings
from gateway.engines.sqlite import SqliteEngine
from gateway.log.position import Position
from gateway.sessions.manager import SessionManager
from gateway.sessions.retention import Keep
from runtime.events import MessageCompleted, MessageDelta, MessageStarted, RunCompleted
from runtime.messages import Usage
from runtime.registry import Registry
from runtime.runnable import Emit, RunOptions, RunRequest, ToolInfo

__all__ = ["main"]

RUNS = 200
PIECE = "word "
AT_ONCE = 500
"""Deltas that are appended in one transaction while the server is filled; each is an event."""


class Teller:
    """Says so many pieces in each run, and ends it, or goes on for ever."""

    name = "teller"
    kind: Literal["agent"] = "agent"
    description = "says a lot"
    options_type = RunOptions

    def __init__(self, pieces: int, *, ends: bool) -> None:
        self._pieces = pieces
        self._ends = ends
        self.said = asyncio.Event()

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        return ()

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        async def say(delta: MessageDelta) -> None:
            await emit(delta)  # itself it may be any awaitable, and no task

        of = {"run_id": request.run_id, "message_id": f"msg_{request.run_id}"}
        if request.attempt == 1:
            await emit(MessageStarted(**of, path=(self.name,)))
            delta = MessageDelta(**of, path=(self.name,), text=PIECE)
            for _ in range(self._pieces // AT_ONCE):
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(AT_ONCE):
                        tasks.create_task(say(delta))
        self.said.set()
        if not self._ends:
            await asyncio.Event().wait()
        text = PIECE * self._pieces
        await emit(MessageCompleted(**of, path=(self.name,), text=text))
        await emit(
            RunCompleted(
                run_id=request.run_id, output=text, usage=Usage(), message_count=1, num_turns=1
            )
        )

    async def aclose(self) -> None:
        """Hold nothing."""


async def fill(directory: Path, events: int) -> None:
    """Make both sessions, and end as if killed."""
    engine = await SqliteEngine.open(directory, synchronous="normal")
    for name, runs in (("runs", RUNS), ("one", 1)):
        teller = Teller(events // runs, ends=runs > 1)
        keep = Keep(events=0)
        manager = SessionManager(engine, Registry(teller), delta_interval=0.0, keep=keep)
        await manager.create(CreateSession(session_id=name))
        for number in range(runs):
            send = {"type": "send", "id": f"c{number}", "session_id": name, "text": "go on"}
            ack = await manager.obey(parse_command(send))
            after = Position.parse(getattr(ack, "cursor"))  # noqa: B009 - only a ping has none
            await teller.said.wait()
            while runs > 1 and (await manager.snapshot(name)).status != "idle":
                await engine.wait(name, after)
                after = (await engine.head(name)).tail
            teller.said.clear()
        print(f"{name}: {(await engine.head(name)).tail.seq} events", flush=True)
    os._exit(0)


async def serve(directory: Path) -> None:
    settings = Settings(data=directory, port=0, keep_events=0)
    async with running(settings, Registry(Teller(0, ends=False))) as server:
        print(server.url.rpartition(":")[2], flush=True)
        await asyncio.Event().wait()


async def join(port: int, session_id: str) -> tuple[float, float, int]:
    """Join; return the seconds to the first and to the last byte of the snapshot, and its size."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024 * 1024)
    request = f"GET /v1/sessions/{session_id}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    started = time.perf_counter()
    writer.write(request.encode())
    await reader.readuntil(b"data: ")
    first = time.perf_counter() - started
    snapshot = await reader.readuntil(b"\n\n")
    whole = time.perf_counter() - started
    writer.close()
    return first, whole, len(snapshot)


async def measure(port: int, joiners: int) -> None:
    print("                          first byte ms    whole ms   snapshot KiB")
    for name, label in (("runs", "not loaded, 200 runs"), ("one", "taken over, one run")):
        first, whole, size = await join(port, name)
        print(f"{label:24} {first * 1e3:14.1f} {whole * 1e3:11.1f} {size / 1024:14.0f}")
        again = [await join(port, name) for _ in range(20)]
        firsts, wholes = ([each[n] for each in again] for n in (0, 1))
        print(
            f"  loaded                 {statistics.median(firsts) * 1e3:14.1f} "
            f"{statistics.median(wholes) * 1e3:11.1f}   slowest first byte {max(firsts) * 1e3:.1f}"
        )
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        storm = [tasks.create_task(join(port, "runs")) for _ in range(joiners)]
    elapsed = time.perf_counter() - started
    slowest = max(task.result()[1] for task in storm)
    print(
        f"{joiners} at once: all in {elapsed * 1e3:.0f} ms, the slowest whole {slowest * 1e3:.0f} ms"
    )


def main() -> None:
    """Fill, kill, serve, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--joiners", type=int, default=200)
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fill:
        uvloop.run(fill(arguments.fill, arguments.events))
    if arguments.serve:
        uvloop.run(serve(arguments.serve))
        return
    myself = [sys.executable, "-m", "bench.join"]
    with tempfile.TemporaryDirectory() as directory:
        filling = [*myself, "--fill", directory, "--events", str(arguments.events)]
        subprocess.run(filling, check=True)  # noqa: S603 - this program
        server = subprocess.Popen(  # noqa: S603 - as above
            [*myself, "--serve", directory], stdout=subprocess.PIPE
        )
        try:
            assert server.stdout is not None
            uvloop.run(measure(int(server.stdout.readline()), arguments.joiners))
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
