"""A server that kills itself with -9 at a named place in its code, the n-th time that it comes there.

    python -m tests.faults.crash_points FILE serve …

The file says where and when: `PLACE COUNT`. It is looked at each time that the server comes to a place,
so it may be written while the server works; without it the server lives. The product knows nothing of
this: the places are wrapped from outside before it starts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.engines.sqlite import writes
from gateway.engines.sqlite.engine import SqliteEngine
from gateway.engines.sqlite.writer import Writer
from gateway.sessions.manager import SessionManager
from gateway.sessions.session import Session
from gateway.transports.outlet import Outlet

__all__ = ["PLACES"]

LET_OUT = 0.02
"""Seconds in which what was handed to the kernel leaves the process before it dies."""


class Countdown:
    """Counts how often a place is reached, from when the file names it."""

    def __init__(self, file: Path, place: str) -> None:
        self._file = file
        self._place = place
        self._reached = 0

    def reached(self) -> bool:
        """Say whether this is the time to die."""
        try:
            place, count = self._file.read_text().split()
        except FileNotFoundError:
            return False
        if place != self._place:
            return False
        self._reached += 1
        return self._reached == int(count)


def die() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_soon() -> None:
    """Die after what was just written has left."""
    asyncio.get_running_loop().call_later(LET_OUT, die)


def _wrap(owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    setattr(owner, name, wrapper(getattr(owner, name)))


def _before(owner: Any, name: str, countdown: Countdown) -> None:
    def wrapper(inner: Any) -> Any:
        def wrapped(*given: Any, **named: Any) -> Any:
            if countdown.reached():
                die()
            return inner(*given, **named)

        return wrapped

    _wrap(owner, name, wrapper)


def _after(owner: Any, name: str, countdown: Countdown) -> None:
    def wrapper(inner: Any) -> Any:
        def wrapped(*given: Any, **named: Any) -> Any:
            result = inner(*given, **named)
            if countdown.reached():
                die()
            return result

        return wrapped

    _wrap(owner, name, wrapper)


def before_transaction(countdown: Countdown) -> None:
    """Work is queued, and no transaction has begun."""
    _before(Writer, "_commit", countdown)


def before_commit(countdown: Countdown) -> None:
    """Entries are inserted; the transaction is open."""
    _after(writes, "append", countdown)


def after_commit(countdown: Countdown) -> None:
    """The transaction is committed; nobody in the process knows it yet."""
    _after(Writer, "_commit", countdown)


def before_waking(countdown: Countdown) -> None:
    """The event loop knows of the commit; readers were not woken."""
    _before(SqliteEngine, "_appended", countdown)


def _answering(countdown: Countdown, end: Callable[[], None]) -> None:
    def wrapper(inner: Any) -> Any:
        async def wrapped(*given: Any, **named: Any) -> Any:
            answer = await inner(*given, **named)
            if countdown.reached():
                end()
            return answer

        return wrapped

    _wrap(SessionManager, "obey", wrapper)


def before_answer(countdown: Countdown) -> None:
    """A command has taken effect; its answer was not sent."""
    _answering(countdown, die)


def after_answer(countdown: Countdown) -> None:
    """A command was answered just now."""
    _answering(countdown, die_soon)


def mid_frame(countdown: Countdown) -> None:
    """Half of what a reader gets has left the process."""

    def wrapper(inner: Any) -> Any:
        def wrapped(outlet: Outlet, data: bytes) -> None:
            if not outlet.pending and countdown.reached():
                connection = outlet._transport.get_extra_info("socket")
                os.write(connection.fileno(), data[: len(data) // 2])
                die()
            inner(outlet, data)

        return wrapped

    _wrap(Outlet, "write", wrapper)


def while_taking_over(countdown: Countdown) -> None:
    """A run of a process that died goes on in this one, since just now."""

    def wrapper(inner: Any) -> Any:
        async def wrapped(*given: Any, **named: Any) -> None:
            await inner(*given, **named)
            if countdown.reached():
                die()

        return wrapped

    _wrap(Session, "take_over", wrapper)


PLACES: dict[str, Callable[[Countdown], None]] = {
    "before-transaction": before_transaction,
    "before-commit": before_commit,
    "after-commit": after_commit,
    "before-waking": before_waking,
    "before-answer": before_answer,
    "after-answer": after_answer,
    "mid-frame": mid_frame,
    "while-taking-over": while_taking_over,
}
"""Where a server can be made to die."""


def main() -> None:
    """Start a server that dies when it is told to."""
    _, file, *rest = sys.argv
    for place, wrap in PLACES.items():
        wrap(Countdown(Path(file), place))
    sys.argv = ["tidegate", *rest]
    from gateway.__main__ import main as serve  # noqa: PLC0415 - reads the arguments

    serve()


if __name__ == "__main__":
    main()
