"""A process that appends to a store and says what was acknowledged; made to be killed.

    python -m tests.support.appender DIRECTORY [full|normal]

Several tasks append to two sessions. Each line of output is `session seq`, written after the append
returned.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Literal

from gateway.engines.sqlite import SqliteEngine
from gateway.log.engine import Engine, NewSession, Write

SESSIONS = ("a", "b")


async def append(engine: Engine, session_id: str, task: int) -> None:
    n = 0
    while True:
        n += 1
        bodies = [b"%d.%d.%d" % (task, n, part) + b"x" * 100 for part in range(1 + n % 3)]
        appended = await engine.append(Write(session_id, bodies))
        os.write(1, f"{session_id} {appended.tail.seq}\n".encode())


async def main(directory: Path, synchronous: Literal["full", "normal"]) -> None:
    engine = await SqliteEngine.open(directory, synchronous=synchronous)
    for session_id in SESSIONS:
        await engine.append(Write(session_id, (), create=NewSession("echo", {}, "d")))
    async with asyncio.TaskGroup() as tasks:
        for task in range(4):
            tasks.create_task(append(engine, SESSIONS[task % 2], task))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), "normal" if "normal" in sys.argv else "full"))
