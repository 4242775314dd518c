"""Writing one part of a session's log, and showing it: what one call of a runner reports."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from runtime.checkpoint import Checkpoint
from runtime.events import Event
from runtime.graph.store import CheckpointStore, Entry, journaled
from runtime.run_stream import RunEnd

__all__ = ["Clock", "Recording", "is_end"]

BATCH = 100
"""Entries that may wait to be written. What a run needs in order to go on never waits."""


class Recording:
    """Numbers events, keeps them, and shows them in order.

    What a run needs in order to go on is kept before it returns from `report`, and only then shown.
    The rest is written along with it. The end of a run is kept at once and shown by `show_end`, so
    that who sees it finds the session free.

    Attributes:
        session_id: The session.
        after: The number of the last entry before this part.
        seq: The number of the last entry.
        end: The run's last event, once it is kept.
        checkpoint: The last checkpoint that was saved here, or that this part began at.
    """

    def __init__(
        self,
        store: CheckpointStore,
        session_id: str,
        after: int,
        show: Callable[[Entry], None],
        *,
        clock: Callable[[], datetime],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.session_id = session_id
        self.after = after
        self.seq = after
        self.end: RunEnd | None = None
        self.checkpoint = checkpoint
        self._store = store
        self._show = show
        self._clock = clock
        self._waiting: list[Entry] = []
        self._unseen: deque[Entry] = deque()
        self._kept = after

    async def report(self, event: Event) -> None:
        """Take the next event.

        Raises:
            RuntimeFault: If the store failed, or somebody else has written to the session.
        """
        self.seq += 1
        entry = Entry(self.seq, self._clock(), event)
        self._waiting.append(entry)
        self._unseen.append(entry)
        if _urgent(event) or len(self._waiting) >= BATCH:
            await self.flush()
        if isinstance(event, RunEnd):
            self.end = event
        self._show_kept()

    async def save(self, checkpoint: Checkpoint, *, keep_journal: bool = False) -> None:
        """Keep a checkpoint, after all that was reported.

        Raises:
            RuntimeFault: See `report`.
        """
        entries = self._take()
        await self._store.save(self.session_id, checkpoint, entries, keep_journal=keep_journal)
        self.checkpoint = checkpoint
        self._kept = max(self._kept, *(entry.seq for entry in entries), 0)
        self._show_kept()

    async def flush(self) -> None:
        """Keep all that was reported.

        Raises:
            RuntimeFault: See `report`.
        """
        entries = self._take()
        if entries:
            await self._store.record(self.session_id, entries)
            self._kept = max(self._kept, entries[-1].seq)

    def show_end(self, otherwise: Event) -> None:
        """Show the run's end; `otherwise`, if it has none because it could not be kept."""
        self._show_kept()
        if self.end is None:
            self._show(Entry(self.seq + 1, self._clock(), otherwise))
            return
        self._show(self._unseen.popleft())

    def _take(self) -> list[Entry]:
        # Taken before the store is called: the store writes them whether or not the caller waits.
        entries, self._waiting = self._waiting, []
        return entries

    def _show_kept(self) -> None:
        """Show what is kept, and what need not be; never anything before what came first."""
        while self._unseen:
            first = self._unseen[0]
            if is_end(first.event) or (_urgent(first.event) and first.seq > self._kept):
                return
            self._show(self._unseen.popleft())


def is_end(event: Event) -> bool:
    """Tell whether this is the last event of a run, or of its part before an interrupt."""
    return isinstance(event, RunEnd)


def _urgent(event: Event) -> bool:
    return journaled(event) or is_end(event)


def _now() -> datetime:
    return datetime.now(UTC)


class Clock:
    """The time of day, which never goes back."""

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        self._now = now
        self._last = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time; it knows its time zone."""
        self._last = max(self._last, self._now())
        return self._last
