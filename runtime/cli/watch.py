"""Following a run at a terminal, with Ctrl-C: the first ends the run, the second leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from runtime.cli.talk import Heard
from runtime.cli.terminal import Terminal
from runtime.run_stream import RunEnd

__all__ = ["Left", "Shows", "Watched", "follow"]


LEAVE_SECONDS = 1.0
"""What a run gets to tidy up once somebody leaves; it is expected to take a tenth of this."""


HINT_SECONDS = 0.5
"""A run that was asked to stop and has not ended by now cannot be reached; usually it takes 0.1 s."""


class Left(Exception):
    """Whoever watched has left; `code` is the exit code that says so."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


@dataclass(frozen=True, slots=True)
class Watched:
    """How it went.

    Attributes:
        end: The run's last event; None if it said none.
        interrupted: Whether Ctrl-C was pressed, so that the run was asked to end.
    """

    end: RunEnd | None
    interrupted: bool


class Shows(Protocol):
    """What is told all that is heard of a run."""

    end: RunEnd | None

    def show(self, heard: Heard) -> None:
        """Show it."""

    def give_up(self) -> None:
        """Tidy up when the run is left before its end."""


async def follow(
    heard: AsyncGenerator[Heard, None],
    shows: Shows,
    terminal: Terminal,
    stop: Callable[[], None],
) -> Watched:
    """Show a run to its end.

    Args:
        heard: What is heard of it.
        shows: Shows it.
        terminal: Where; the run is stopped when nobody reads there any more.
        stop: Asks the run to end.

    Raises:
        Left: At a second Ctrl-C, or at SIGTERM.
        Exception: What made following fail.
    """
    with _signals(stop, terminal) as signals:
        try:
            async with aclosing(heard):
                async for item in heard:
                    shows.show(item)
                    if terminal.gone:
                        stop()
        except asyncio.CancelledError:
            if signals.left is None:
                raise
            raise Left(signals.left) from None
        finally:
            if shows.end is None:
                shows.give_up()
    return Watched(shows.end, signals.interrupted)


class _Signals:
    """What was signalled.

    Attributes:
        interrupted: Whether Ctrl-C was pressed.
        left: The signal that said to leave.
        hint: Says how to leave when stopping takes long.
    """

    def __init__(self, stop: Callable[[], None], terminal: Terminal) -> None:
        self.interrupted = False
        self.left: int | None = None
        self.hint: asyncio.TimerHandle | None = None
        self._stop = stop
        self._terminal = terminal
        self._task = asyncio.current_task()

    def on_interrupt(self) -> None:
        if self.interrupted:
            self.leave(signal.SIGINT)
            return
        self.interrupted = True
        self.hint = asyncio.get_running_loop().call_later(HINT_SECONDS, self._say_how_to_leave)
        self._stop()

    def _say_how_to_leave(self) -> None:
        self._terminal.note("... stopping; Ctrl-C again leaves", "yellow")

    def leave(self, number: int) -> None:
        if self.left is None:
            self.left = number
            self._terminal.rest()
            # Whatever is left to be tidied up may hang: nobody who has left waits for that.
            force = threading.Timer(LEAVE_SECONDS, os._exit, (128 + number,))
            force.daemon = True
            force.start()
        if self._task is not None:
            self._task.cancel()


@contextmanager
def _signals(stop: Callable[[], None], terminal: Terminal) -> Iterator[_Signals]:
    loop = asyncio.get_running_loop()
    signals = _Signals(stop, terminal)
    with suppress(NotImplementedError):  # a platform without: Ctrl-C leaves at once there
        loop.add_signal_handler(signal.SIGINT, signals.on_interrupt)
        loop.add_signal_handler(signal.SIGTERM, signals.leave, signal.SIGTERM)
    try:
        yield signals
    finally:
        if signals.hint is not None:
            signals.hint.cancel()
        with suppress(NotImplementedError):  # as above
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_signal_handler(signal.SIGTERM)
