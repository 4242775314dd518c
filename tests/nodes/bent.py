"""A gateway whose clock is wrong and which hears hints badly: `python -m tests.nodes.bent serve …`.

`BENT_CLOCK` is by how many seconds its clock is ahead. `BENT_HINTS` is a file whose text says what
happens to hints from other nodes while it stands there: `lost`, `twice`, `shuffled`, or `late` by
`LATE` seconds; anything else leaves them as they come.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

from asyncpg import connection

from gateway.cli import main

__all__ = ["CLOCK", "HINTS", "LATE", "PROGRAM"]

CLOCK = "BENT_CLOCK"
HINTS = "BENT_HINTS"
LATE = 30.0
PROGRAM = ("-m", "tests.nodes.bent")


def _bend_clock(seconds: float) -> None:
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + round(seconds * 1e9)


def _bend_hints(file: Path) -> None:
    connections: Any = connection.Connection  # what tells of notifications is not for everybody
    heard = connections._process_notification

    def hear(self: Any, *said: Any) -> None:
        how = file.read_text()
        loop = asyncio.get_running_loop()
        if how == "lost":
            return
        if how == "late":
            loop.call_later(LATE, heard, self, *said)
        elif how == "shuffled":
            loop.call_later(random.uniform(0, 1), heard, self, *said)  # noqa: S311 - no secret
        else:
            heard(self, *said)
        if how == "twice":
            heard(self, *said)
            loop.call_later(1, heard, self, *said)

    connections._process_notification = hear


if __name__ == "__main__":
    _bend_clock(float(os.environ.get(CLOCK, "0")))
    _bend_hints(Path(os.environ[HINTS]))
    main()
