"""A command as a process: how it ends when Ctrl-C is pressed, and pressed again."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from runtime.cli.perform import INTERRUPTED

__all__ = ["run_process", "running"]


def run_process(app: typer.Typer, name: str) -> None:
    """Run a command line; the process ends with its exit code.

    A command listens for Ctrl-C itself while it works. One that comes between two such moments, or
    when the command is over and the interpreter still puts its things away, ends the process with
    `INTERRUPTED` too, never with a traceback or by the signal.

    Args:
        app: The commands.
        name: What the help texts call the program.

    Raises:
        SystemExit: With the exit code, always.
    """
    # The interpreter gives SIGINT its deadly meaning back while it finishes, unless it is ignored
    # by then; before that, a thread may keep the process, so it must not be ignored too early.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        app(prog_name=name)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def running() -> Iterator[asyncio.Runner]:
    """Yield what the coroutines of a command run in, until the command is over.

    From then on Ctrl-C ends the process at once: it would break off the closing of the event loop,
    which complains when it is collected half closed.
    """
    with asyncio.Runner() as runner:
        try:
            yield runner
        finally:
            signal.signal(signal.SIGINT, _leave)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
