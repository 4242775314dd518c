"""The latest committed entries of the busiest sessions. Only a cache: every miss asks the store.

All live readers of a session get the same `Entry` objects from here, so that each is encoded once,
and reading at the tail needs no thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.log.entry import Entry
from gateway.log.page import page
from gateway.log.position import Position

__all__ = ["Recent", "weight"]


OBJECT_BYTES = 400
"""What an entry takes beside its body (measured)."""

ENCODINGS = 4
"""What a busy entry has in its memo: its JSON, an SSE frame, that as a chunk, a WebSocket frame."""

ENCODING_BYTES = 200
"""What each of these takes more than the body (measured): cursor, time, session, the object itself."""


def weight(entry: Entry) -> int:
    """Return what an entry takes in memory, about: readers will have it encoded a while after this.

    With text deltas of 140 bytes that is 1,900, and 1,875 were measured: 13 times the body.
    """
    body = len(entry.body)
    return OBJECT_BYTES + body + ENCODINGS * (body + ENCODING_BYTES)


@dataclass(slots=True)
class _Window:
    """A contiguous stretch at the end of one log: the entries after `before`, by their `seq`."""

    before: Position
    tail: Position
    size: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Put the next entry at the end."""
        self.entries[entry.seq] = entry
        self.tail = entry.position
        self.size += weight(entry)

    def evict(self) -> None:
        """Give up the oldest entry."""
        oldest = self.entries.pop(self.before.seq + 1)
        self.before = oldest.position
        self.size -= weight(oldest)


class Recent:
    """Windows on the ends of logs, the least recently used one given up first.

    Args:
        entries: At most so many entries of one session.
        size: At most so many bytes of memory for one session, as `weight` has it.
        sessions: At most so many sessions.
        total_size: At most so many bytes of memory in all.
    """

    def __init__(
        self,
        *,
        entries: int = 2048,
        size: int = 4 * 1024 * 1024,
        sessions: int = 1024,
        total_size: int = 64 * 1024 * 1024,
    ) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._entries = entries
        self._size = size
        self._sessions = sessions
        self._total_size = total_size
        self._held = 0

    def put(self, before: Position, entries: Sequence[Entry]) -> None:
        """Remember the entries of one commit of one session; call it in the order of commits.

        Args:
            before: The tail of the log before them.
            entries: What was committed, in order; at least one.
        """
        session_id = entries[0].session_id
        window = self._windows.get(session_id)
        if window is None or window.tail != before:
            self.drop(session_id)
            window = self._windows[session_id] = _Window(before, before)
        self._held -= window.size
        for entry in entries:
            window.add(entry)
        while len(window.entries) > self._entries or window.size > self._size:
            window.evict()
        self._held += window.size
        self._windows.move_to_end(session_id)
        while len(self._windows) > self._sessions or self._held > self._total_size:
            self._held -= self._windows.popitem(last=False)[1].size

    def read(self, session_id: str, after: Position, limit: int) -> Sequence[Entry] | None:
        """Return a page after a position that is known here, or None: then ask the store.

        None also stands for a position that is wrong; only the store can say in which way.
        """
        window = self._windows.get(session_id)
        if window is None:
            return None
        if after != window.before:
            known = window.entries.get(after.seq)
            if known is None or after != known.position:
                return None
        self._windows.move_to_end(session_id)
        last = min(window.tail.seq, after.seq + limit)
        return page((window.entries[seq] for seq in range(after.seq + 1, last + 1)), limit)

    def tail(self, session_id: str) -> Position | None:
        """Return the log's tail if it is known here."""
        window = self._windows.get(session_id)
        return None if window is None else window.tail

    def start(self, session_id: str) -> int | None:
        """Return the `seq` right before the first entry that is known here."""
        window = self._windows.get(session_id)
        return None if window is None else window.before.seq

    def trim(self, session_id: str, through: int) -> None:
        """Forget the entries up to and including `through`."""
        window = self._windows.get(session_id)
        if window is not None:
            self._held -= window.size
            while window.before.seq < min(through, window.tail.seq):
                window.evict()
            self._held += window.size

    def drop(self, session_id: str) -> None:
        """Forget a session, because it was deleted."""
        window = self._windows.pop(session_id, None)
        if window is not None:
            self._held -= window.size
