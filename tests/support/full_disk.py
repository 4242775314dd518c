"""A process in which files cannot grow for a while, as on a full disk; prints what appends did.

python -m tests.support.full_disk DIRECTORY
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from gateway.engines.sqlite import SqliteEngine
from gateway.errors import EngineUnavailable
from gateway.log.engine import Engine, NewSession, Write


async def append(engine: Engine, name: str) -> str:
    try:
        await engine.append(Write("s", [name.encode() + b"x" * 5000]))
    except EngineUnavailable:
        return "unavailable"
    return "written"


async def together(engine: Engine, name: str) -> list[str]:
    async with asyncio.TaskGroup() as tasks:
        appends = [tasks.create_task(append(engine, f"{name}{n}")) for n in range(10)]
    return [task.result() for task in appends]


async def main(directory: Path) -> None:
    engine = await SqliteEngine.open(directory)
    await engine.append(Write("s", (), create=NewSession("echo", {}, "d")))
    before = await together(engine, "before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    wal = directory / "tidegate.db-wal"
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size, hard))
    full = await together(engine, "full")
    readable = (await engine.head("s")).tail.seq
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = await together(engine, "after")
    await engine.aclose()
    sys.stdout.write(
        json.dumps({"before": before, "full": full, "readable": readable, "after": after})
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
