"""What the engine for several machines does, beside the database below it; and how fast others see it.

    python -m bench.engines [--url postgresql://…] [--seconds 2] [--rounds 3]

Without a URL it makes a Postgres of its own, which waits for the disk at each commit, and removes it.

Appends. One process appends to 1, 8 and 64 sessions at once, 1 and 20 events of 200 bytes a call, each
session one call after the other. Two baselines are measured in the same rounds, on the same number of
connections as the engine's writers, on a table like the engine's:

    raw single    each call is an INSERT of its own, on as many connections as there are sessions
                  (no more than 16): what a server without group commit would do
    raw batched   the same rows in INSERTs of all that can be joined, one on each writer's
                  connection at a time; nothing else is stored, checked or answered: the most that
                  this database could do

Delivery. Servers as users start them, on one database; an agent says words at a pace in several
sessions at once, and an SSE client follows each session, once on the node that runs it and once on
another. Each word is committed by itself. The time is from the moment when the commit was known to the
agent to the arrival at the client; all are processes of one machine with one clock. A delivery may
come first: the client on the node itself often hears of it before the agent does.

These machines are noisy: the figure of a case is the median of its rounds, and all rounds are printed.
Takes about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from statistics import median, quantiles
from typing import Any, Literal

import aiohttp
import asyncpg

from bench.append import BODY
from gateway.app import running
from gateway.config import Settings
from gateway.engines.postgres.engine import PostgresEngine
from gateway.engines.stamps import new_tag
from gateway.log.engine import NewSession, Write
from runtime.events import MessageCompleted, MessageDelta, MessageStarted, RunCompleted, RunStarted
from runtime.messages import Usage
from runtime.registry import Registry
from runtime.runnable import Emit, RunOptions, RunRequest, ToolInfo
from tests.support.postgres import Cluster

__all__ = ["main"]

WRITERS = 2
CASES = [(sessions, batch) for batch in (1, 20) for sessions in (1, 8, 64)]
SPEAKING = 16
WORDS = 100
PACE = 0.05
"""Seconds between two words of a session."""


@contextmanager
def database(url: str | None) -> Iterator[str]:
    """Yield the URL of a database that may be written to."""
    if url is not None:
        yield url
        return
    cluster = Cluster.started(
        {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB", "max_wal_size": "4GB"}
    )
    try:
        yield cluster.create_database("bench")
    finally:
        cluster.remove()


# --- appends ---------------------------------------------------------------------------------------


async def engine_rate(
    url: str, sessions: int, batch: int, seconds: float
) -> tuple[float, list[float]]:
    """Return events/s through the engine, and how long each call took."""
    engine = await PostgresEngine.open(url, writers=WRITERS)
    took: list[float] = []

    async def appending(session_id: str) -> None:
        write = Write(session_id, [BODY] * batch)
        started = time.perf_counter()
        while started < end:
            await engine.append(write)
            ended = time.perf_counter()
            took.append(ended - started)
            started = ended

    names = [f"bench-{time.monotonic_ns()}-{n}" for n in range(sessions)]
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(engine.append(Write(name, (), create=NewSession("b", {}, ""))))
    begun = time.perf_counter()
    end = begun + seconds
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(appending(name))
    rate = len(took) * batch / (time.perf_counter() - begun)
    await engine.aclose()
    return rate, took


async def raw_rate(url: str, connections: int, sessions: int, batch: int, seconds: float) -> float:
    """Return events/s by INSERTs, one at a time on each connection.

    Args:
        url: Of the database.
        connections: How many insert at the same time.
        sessions: Whose events one INSERT joins.
        batch: How many events of each of them.
        seconds: How long.
    """
    bodies = [BODY] * (sessions * batch)
    done = 0

    async def inserting(db: asyncpg.Connection[asyncpg.Record], first: int) -> None:
        nonlocal done
        statement = await db.prepare(
            "INSERT INTO raw_entry SELECT session, seq, tag, 1, body"
            " FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[])"
            " AS given (session, seq, tag, body)"
        )
        numbers = [number for number in range(first, first + sessions) for _ in range(batch)]
        seqs = list(range(1, batch + 1)) * sessions
        while time.perf_counter() < end:
            await statement.fetch(numbers, seqs, [new_tag()] * len(bodies), bodies)
            seqs = [seq + batch for seq in seqs]
            done += len(bodies)

    async with AsyncExitStack() as stack:
        dbs = []
        for _ in range(connections):
            db = await asyncpg.connect(url)
            stack.push_async_callback(db.close)
            dbs.append(db)
        await dbs[0].execute(
            "DROP TABLE IF EXISTS raw_entry; CREATE TABLE raw_entry (session bigint NOT NULL,"
            " seq bigint NOT NULL, tag text NOT NULL, at bigint NOT NULL, body bytea NOT NULL,"
            " PRIMARY KEY (session, seq))"
        )
        begun = time.perf_counter()
        end = begun + seconds
        async with asyncio.TaskGroup() as tasks:
            for place, db in enumerate(dbs):
                tasks.create_task(inserting(db, place * sessions))
        rate = done / (time.perf_counter() - begun)
        await dbs[0].execute("DROP TABLE raw_entry")
    return rate


async def appends(url: str, seconds: float, rounds: int) -> None:
    """Print a line for each number of sessions and size of a call."""
    print(f"events/s of {len(BODY)} bytes; medians of {rounds} rounds of {seconds} s")
    print("sessions batch     engine  p50 ms  p99 ms  raw single  raw batched  of batched  rounds")
    for sessions, batch in CASES:
        engine, took, single, batched = [], list[float](), [], []
        lanes = min(WRITERS, sessions)
        for _ in range(rounds):
            rate, each = await engine_rate(url, sessions, batch, seconds)
            engine.append(rate)
            took += each
            single.append(await raw_rate(url, min(sessions, 16), 1, batch, seconds))
            batched.append(await raw_rate(url, lanes, sessions // lanes, batch, seconds))
        cuts = quantiles(took, n=100)
        ratios = [mine / most for mine, most in zip(engine, batched, strict=True)]
        print(
            f"{sessions:8} {batch:5} {median(engine):10,.0f} {cuts[49] * 1e3:7.2f} "
            f"{cuts[98] * 1e3:7.2f} {median(single):11,.0f} {median(batched):12,.0f} "
            f"{median(ratios):10.0%}   {' '.join(f'{ratio:.0%}' for ratio in ratios)}",
            flush=True,
        )


# --- delivery --------------------------------------------------------------------------------------


class Speaker:
    """A runnable that says words at a pace, and at the end when each was committed."""

    name = "speaker"
    description = "Says words at a pace."
    options_type = RunOptions

    @property
    def kind(self) -> Literal["agent", "graph"]:
        return "agent"

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        return ()

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        run_id, message_id = request.run_id, f"msg_{request.run_id}"
        await emit(RunStarted(run_id=run_id, agent=self.name))
        await emit(MessageStarted(run_id=run_id, message_id=message_id, turn=1))
        committed = []
        for _ in range(WORDS):
            await asyncio.sleep(PACE)
            await emit(MessageDelta(run_id=run_id, message_id=message_id, text="word "))
            committed.append(time.monotonic())
        text = "word " * WORDS
        await emit(MessageCompleted(run_id=run_id, message_id=message_id, text=text))
        await emit(
            RunCompleted(
                run_id=run_id,
                output=json.dumps(committed),
                usage=Usage(),
                message_count=1,
                num_turns=1,
            )
        )

    async def aclose(self) -> None:
        """Nothing to let go of."""


async def serve(url: str) -> None:
    """Be one node, until killed."""
    settings = Settings(port=0, engine=url, delta_interval_ms=0, engine_writers=WRITERS)
    async with running(settings, Registry(Speaker())) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


@asynccontextmanager
async def node(url: str) -> AsyncIterator[str]:
    """Run a node beside this process; yield its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.engines", "--serve", url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(15):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def heard(http: aiohttp.ClientSession, address: str, session_id: str) -> list[float]:
    """Follow a session to the end of its run; return how long after its commit each word came."""
    arrived: list[float] = []
    url = f"{address}/v1/sessions/{session_id}/events?after=0"
    async with http.get(url, timeout=aiohttp.ClientTimeout(total=120)) as response:
        async for line in response.content:
            now = time.monotonic()
            if not line.startswith(b"data:"):
                continue
            event: dict[str, Any] = json.loads(line[5:])
            if event["type"] == "message.delta":
                arrived.append(now)
            if event["type"] == "run.completed":
                committed = json.loads(event["output"])
                return [there - here for here, there in zip(committed, arrived, strict=True)]
    message = f"the stream of {session_id} ended before its run"
    raise RuntimeError(message)


async def deliveries(url: str) -> None:
    """Print how long after the commit words come, on the node itself and on another."""
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(node(url)) for _ in range(2)]
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        names = [f"speak-{time.monotonic_ns()}-{n}" for n in range(SPEAKING)]
        for name in names:
            body = {"session_id": name, "agent": "speaker"}
            (await http.post(f"{here}/v1/sessions", json=body)).raise_for_status()
        following: dict[str, list[asyncio.Task[list[float]]]] = {"one node": [], "two nodes": []}
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                following["one node"].append(tasks.create_task(heard(http, here, name)))
                following["two nodes"].append(tasks.create_task(heard(http, there, name)))
            for name in names:
                command = {"type": "send", "id": f"say-{name}", "text": "speak"}
                sent = await http.post(f"{here}/v1/sessions/{name}/commands", json=command)
                sent.raise_for_status()
    print(
        f"\ncommit to client, {SPEAKING} sessions, {WORDS} words each, "
        f"{SPEAKING / PACE:,.0f} commits asked for each second"
    )
    print("clients on         p50 ms  p99 ms")
    for where, followed in following.items():
        _print_cuts(where, [late for task in followed for late in task.result()])


def _print_cuts(where: str, times: Sequence[float]) -> None:
    cuts = quantiles(times, n=100)
    print(f"{where:16} {cuts[49] * 1e3:8.1f} {cuts[98] * 1e3:7.1f}")


def main() -> None:
    """Measure and print; or be a node."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", help="of a database; its tables stay (default: one of its own)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="of each case (default 3)")
    parser.add_argument("--serve", metavar="URL", help="be a node on this database")
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.serve))
        return
    with database(arguments.url) as url:
        asyncio.run(appends(url, arguments.seconds, arguments.rounds))
        asyncio.run(deliveries(url))


if __name__ == "__main__":
    main()
