"""Appends per second of each engine, alone and with many sessions at once.

    python -m bench.append [--seconds 0.6] [--directory DIR]

Bodies have 200 bytes. "p50" and "p99" are the latency of one append call. The store is made in a
temporary directory; name one on the disk that you want to know about. Takes about 10 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.engines.memory import MemoryEngine
from gateway.engines.sqlite import SqliteEngine
from gateway.log.engine import Engine, NewSession, Write

__all__ = ["main"]

BODY = b'{"type":"message.delta","message_id":"msg_0123456789","text":"' + b"x" * 136 + b'"}'
ENGINES = ("memory", "sqlite full", "sqlite normal")


@asynccontextmanager
async def opened(name: str, directory: Path) -> AsyncIterator[Engine]:
    engine: Engine
    match name:
        case "memory":
            engine = MemoryEngine()
        case "sqlite normal":
            engine = await SqliteEngine.open(directory, synchronous="normal")
        case _:
            engine = await SqliteEngine.open(directory)
    try:
        yield engine
    finally:
        await engine.aclose()


async def append_until(
    engine: Engine, session_id: str, batch: int, end: float, took: list[float]
) -> None:
    """Append to one session, one call after the other, and note how long each took."""
    await engine.append(Write(session_id, (), create=NewSession("bench", {}, "")))
    write = Write(session_id, [BODY] * batch)
    started = time.perf_counter()
    while started < end:
        await engine.append(write)
        ended = time.perf_counter()
        took.append(ended - started)
        started = ended


async def measure(name: str, directory: Path, batch: int, sessions: int, seconds: float) -> None:
    took: list[float] = []
    async with opened(name, directory) as engine:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for n in range(sessions):
                tasks.create_task(append_until(engine, f"s{n}", batch, started + seconds, took))
        elapsed = time.perf_counter() - started
    cuts = statistics.quantiles(took, n=100)
    print(
        f"{name:14} {batch:5} {sessions:8} {len(took) / elapsed:10,.0f} "
        f"{len(took) * batch / elapsed:10,.0f} {cuts[49] * 1e3:8.2f} {cuts[98] * 1e3:8.2f}"
    )


def main() -> None:
    """Print one line for each engine, batch size and number of sessions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=0.6, help="for each line (default 0.6)")
    parser.add_argument("--directory", type=Path, help="where to make the stores")
    arguments = parser.parse_args()
    print(f"python {sys.version.split()[0]}, {len(BODY)} bytes a body")
    print("engine         batch sessions  appends/s   events/s   p50 ms   p99 ms")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as parent:
        for name in ENGINES:
            for batch in (1, 50):
                for sessions in (1, 16):
                    directory = Path(parent, f"{name}-{batch}-{sessions}")
                    asyncio.run(measure(name, directory, batch, sessions, arguments.seconds))


if __name__ == "__main__":
    main()
