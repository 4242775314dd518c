"""A process that appends to a log, keeps it short, and says so; made to be killed.

    python -m tests.support.trimmer DIRECTORY

Each line of output is the `seq` up to which the log was trimmed, written after the trim returned. The
state that the log begins with then is that number as text. Another session is made and deleted in
each round.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from gateway.engines.sqlite import SqliteEngine
from gateway.errors import SessionUnknown
from gateway.log.engine import NewSession, StoredSnapshot, Write

NEW = NewSession("echo", {}, "d")
ROUND = 300
"""Entries of a round: more than go in one piece."""


async def main(directory: Path) -> None:
    engine = await SqliteEngine.open(directory, synchronous="normal")
    try:
        await engine.session("s")
    except SessionUnknown:
        await engine.append(Write("s", (), create=NEW))
    number = (await engine.head("s")).tail.seq
    while True:
        bodies = [b"%d" % n for n in range(number + 1, number + ROUND + 1)]
        tail = (await engine.append(Write("s", bodies))).tail
        number = tail.seq
        await engine.save_snapshot("s", StoredSnapshot(tail, b"%d" % number))
        other = f"other{number}"
        await engine.append(Write(other, bodies, create=NEW))
        through = number - 10
        await engine.trim("s", through, b"%d" % through)
        os.write(1, b"%d\n" % through)
        await engine.delete(other)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
