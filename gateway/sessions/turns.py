"""What waits for its turn at a session's writer, in order. Deltas are merged while they wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway.log.engine import Answer, Fence
from gateway.sessions.decide import Decide
from gateway.sessions.deltas import Delta, DeltaBuffer
from runtime.events import RUN_ENDS, Event, RunInterrupted
from runtime.messages import Message

__all__ = ["Asked", "Emitted", "Steered", "Turns", "is_end", "refuse"]

T = TypeVar("T")

MAX_WAITING = 64 * 1024
"""Characters of deltas that may wait for a slow store before the run has to wait as well."""


@dataclass(slots=True)
class Emitted:
    """A turn of a run: events to append; nobody waits for merged deltas, unless there are too many."""

    claim: Fence
    events: Sequence[Event]
    done: asyncio.Future[None] | None


@dataclass(slots=True)
class Steered:
    """A turn of a run: to be handed what clients have said to it."""

    claim: Fence
    done: asyncio.Future[tuple[Message, ...]]


@dataclass(slots=True)
class Asked:
    """A turn of a command: a decision to make and carry out.

    Attributes:
        looks: What others have written comes first, also where nobody else should write.
    """

    decide: Decide
    answer: Answer | None
    done: asyncio.Future[Answer | None]
    looks: bool = False


Turn = Emitted | Steered | Asked


class Turns:
    """The turns of one session."""

    def __init__(self, interval: float, on_due: Callable[[], None]) -> None:
        """Make it.

        Args:
            interval: Seconds for which deltas may wait to be merged.
            on_due: Called when deltas have waited for so long.
        """
        self._interval = interval
        self._on_due = on_due
        self._waiting: deque[Turn] = deque()
        self._deltas = DeltaBuffer()
        self._delta_claim: Fence | None = None
        self._due = False
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        """Whether anything waits, deltas that are not due yet among it."""
        return bool(self._waiting) or self._deltas.size > 0

    def put(self, turn: Turn) -> None:
        """Let a turn wait, behind all deltas that came before it."""
        self._queue_deltas(None)
        self._waiting.append(turn)

    def put_delta(self, claim: Fence, event: Delta) -> asyncio.Future[None] | None:
        """Let a delta wait.

        Returns:
            What the run has to wait for, if too many wait.
        """
        self._delta_claim = claim
        first = self._deltas.add(event)
        loop = asyncio.get_running_loop()
        if self._deltas.size > MAX_WAITING:
            done = loop.create_future()
            self._queue_deltas(done)
            self._on_due()
            return done
        if first:
            self.flush()
        elif self._timer is None:
            self._timer = loop.call_later(self._interval, self.flush)
        return None

    def flush(self) -> None:
        """Let the waiting deltas take their turn; those that come before it does are merged."""
        self._due = True
        self._on_due()

    def first(self) -> Turn | None:
        """Return whose turn it is; None if it is nobody's."""
        if not self._waiting and self._due:
            self._queue_deltas(None)
        return self._waiting[0] if self._waiting else None

    def pop(self) -> None:
        """Take the first turn away."""
        self._waiting.popleft()

    def pop_emitted(self, claim: Fence) -> list[Emitted]:
        """Take the first turns that are events of one run, up to one that ends it."""
        taken: list[Emitted] = []
        while self._waiting:
            turn = self._waiting[0]
            if not isinstance(turn, Emitted) or turn.claim != claim:
                break
            self._waiting.popleft()
            taken.append(turn)
            if is_end(turn.events[-1]):
                break
        return taken

    def refuse_asked(self, error: Exception) -> None:
        """Refuse all commands that wait; what runs say goes on waiting."""
        asked = [turn for turn in self._waiting if isinstance(turn, Asked)]
        self._waiting = deque(turn for turn in self._waiting if not isinstance(turn, Asked))
        for turn in asked:
            refuse(turn.done, error)

    def forget_deltas(self) -> None:
        """Drop the deltas that wait: their run has ended."""
        self._deltas.reset()

    def _queue_deltas(self, done: asyncio.Future[None] | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = False
        deltas = self._deltas.take()
        if deltas and self._delta_claim is not None:
            self._waiting.append(Emitted(self._delta_claim, deltas, done))


def is_end(event: Event) -> bool:
    """Tell whether a run is over, or pauses, with this event."""
    return isinstance(event, (*RUN_ENDS, RunInterrupted))


def refuse(done: asyncio.Future[T] | None, error: Exception) -> None:
    """Tell whoever waits for a turn that it came to nothing."""
    if done is not None and not done.done():
        done.set_exception(error)
        done.exception()  # its caller may be gone: that is no "never retrieved"
