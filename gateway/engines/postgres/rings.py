"""What this process knows of the sessions that it follows: tails, and the latest entries.

Pure: it is told what was committed here and what was found in the store, in any order, and says what
has to be looked at. It never serves what does not hang together by `seq` and tag; what cannot be
told from here is dropped, which costs one more look and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from gateway.log.engine import Head
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.recent import Recent

__all__ = ["BACKLOG", "Followed", "Found", "Question", "Rings", "Then"]

NEVER = float("-inf")

BACKLOG = 1024
"""A log that grew by more entries at once is not drawn through the ring: readers page in the store."""


class Then(Enum):
    """What is to be done after something was learnt of a session."""

    REST = auto()
    """Nothing: what is known is what the store has."""

    WAKE = auto()
    """Wake who waits: there is something to be read."""

    FETCH = auto()
    """There are more entries: fetch them."""

    WAKE_AND_FETCH = auto()
    """Both: some have come, and there are more."""

    LOOK = auto()
    """It cannot be told whether what is known is right: look again."""


@dataclass(slots=True, eq=False)
class Followed:
    """A session that somebody waits for, or did a moment ago.

    Attributes:
        waiters: How many wait now.
        left: When the last one left.
        known: The log's tail as far as it was told; where fetching goes on. None: ask.
        looked: When a look was begun that found the store to agree, or it agreed to a commit.
        blind: Whether somebody waits although it could not be looked at.
    """

    waiters: int = 0
    left: float = 0.0
    known: Position | None = None
    looked: float = NEVER
    blind: bool = False


@dataclass(slots=True, eq=False)
class Question:
    """What was known when the store was asked.

    Attributes:
        kept: The `seq` right before the first entry in the ring; None if there is none in it.
        at: When.
    """

    session_id: str
    known: Position | None
    kept: int | None
    at: float


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of a log, as of one moment.

    Attributes:
        head: Both ends of the log.
        tag: The tag at the `seq` that was asked for; None if nothing is kept there.
        entries: The next ones, without a hole; more may follow.
    """

    head: Head
    tag: str | None
    entries: Sequence[Entry]


class Rings:
    """Keeps the rings of the sessions that are followed.

    Args:
        recent: Where the entries are.
        backlog: As `BACKLOG`.
    """

    def __init__(self, recent: Recent | None = None, *, backlog: int = BACKLOG) -> None:
        self._recent = Recent() if recent is None else recent
        self._backlog = backlog
        self._followed: dict[str, Followed] = {}

    def __len__(self) -> int:
        return len(self._followed)

    def follow(self, session_id: str) -> Followed:
        """Follow a session; return what is known of it."""
        followed = self._followed.get(session_id)
        if followed is None:
            followed = self._followed[session_id] = Followed()
        return followed

    def followed(self, session_id: str) -> Followed | None:
        """Return what is known of a session if it is followed."""
        return self._followed.get(session_id)

    def forget(self, before: float) -> None:
        """Stop following what nobody has waited for since then."""
        gone = [
            session_id
            for session_id, followed in self._followed.items()
            if not followed.waiters and followed.left < before
        ]
        for session_id in gone:
            del self._followed[session_id]
            self._recent.drop(session_id)

    def due(self, before: float) -> list[str]:
        """Return the sessions at which nobody has looked since then."""
        return [name for name, followed in self._followed.items() if followed.looked < before]

    def fresh(self, session_id: str, since: float) -> bool:
        """Tell whether what is known of a session was right since then."""
        followed = self._followed.get(session_id)
        return followed is not None and followed.looked >= since

    def read(self, session_id: str, after: Position, limit: int) -> Sequence[Entry] | None:
        """Return a page; nothing if `after` is the tail as far as is known; None if it is not known."""
        followed = self._followed.get(session_id)
        if followed is None or followed.known is None:
            return None
        if after == followed.known:
            return ()
        return self._recent.read(session_id, after, limit)

    def question(self, session_id: str, now: float) -> Question | None:
        """Return what is to be asked about a session; None if it is not followed any more."""
        followed = self._followed.get(session_id)
        if followed is None:
            return None
        return Question(session_id, followed.known, self._recent.start(session_id), now)

    # What happened here.

    def committed(self, before: Position, entries: Sequence[Entry], now: float) -> Then:
        """Take in a commit of this process. Commits may be told in another order than they were.

        Args:
            before: The log's tail before it.
            entries: What was committed; at least one.
            now: The time.
        """
        followed = self._followed.get(entries[0].session_id)
        if followed is None:
            return Then.REST
        known, tail = followed.known, entries[-1].position
        if known is None or known == before:
            return self._extend(followed, before, entries, now)
        if known == tail:
            return Then.REST  # it was fetched before it was told
        inside = known.seq - before.seq
        if 0 < inside < len(entries) and entries[inside - 1].position == known:
            return self._extend(followed, known, entries[inside:], now)
        # Others wrote, and it is not known yet what; or it was overtaken by a later commit; or the
        # store has lost what was known. Only the store can tell.
        followed.looked = NEVER
        return Then.FETCH

    def trimmed(self, session_id: str, through: int) -> None:
        """Forget entries that are not kept any more."""
        self._recent.trim(session_id, through)

    def deleted(self, session_id: str) -> Then:
        """Forget a session's log."""
        followed = self._followed.get(session_id)
        if followed is None:
            return Then.REST
        followed.known, followed.looked = None, NEVER
        self._recent.drop(session_id)
        return Then.WAKE

    def heard(self, session_id: str, tail: Position | None) -> Then:
        """Take in a hint of another process; it may be late, doubled, or wrong.

        Args:
            session_id: About which session.
            tail: The log's tail, as it was there; None: something else has changed.
        """
        followed = self._followed.get(session_id)
        if followed is None:
            return Then.REST
        known = followed.known
        if tail is None or known is None:
            return Then.LOOK
        if tail == known or (tail.epoch == known.epoch and tail.seq < known.seq):
            return Then.REST
        if tail.epoch != known.epoch or tail.seq == known.seq:
            followed.looked = NEVER
        return Then.FETCH

    # What was found in the store.

    def agreed(self, asked: Question) -> Then:
        """Take in that the store's tail is the one that was known when it was asked."""
        followed = self._followed.get(asked.session_id)
        if followed is None:
            return Then.REST
        if followed.known is None:
            return Then.LOOK
        followed.looked = max(followed.looked, asked.at)
        return Then.REST

    def differs(self, asked: Question, head: Head | None) -> Then:
        """Take in another head than the one that was known when the store was asked.

        Args:
            asked: What was asked.
            head: What was found; None if there is no such session, or no more.
        """
        followed = self._followed.get(asked.session_id)
        if followed is None:
            return Then.REST
        known = followed.known
        if known != asked.known:
            return _since(followed, asked, head)
        if head is None or known is None:
            return self._begin(asked, followed, None if head is None else head.tail)
        self._recent.trim(asked.session_id, head.start.seq)
        if head.tail == known:
            return self.agreed(asked)
        more = head.tail.seq - known.seq
        if head.tail.epoch == known.epoch and 0 < more <= self._backlog:
            return Then.FETCH
        return self._begin(asked, followed, head.tail)

    def fetched(self, asked: Question, found: Found | None) -> Then:
        """Take in the entries after the tail that was known when the store was asked.

        Args:
            asked: What was asked, with a known tail.
            found: What was found; None if there is no such session, or no more.
        """
        followed = self._followed.get(asked.session_id)
        if followed is None:
            return Then.REST
        if found is None or asked.known is None:
            return self.differs(asked, None if found is None else found.head)
        known, tail = followed.known, found.head.tail
        if not _hangs_together(asked.known, found):
            # What was known is not in the log: it was trimmed, or the store has lost it.
            return self._begin(asked, followed, tail) if known == asked.known else Then.LOOK
        self._recent.trim(asked.session_id, found.head.start.seq)
        inside = 0 if known is None else known.seq - asked.known.seq
        stretch = (asked.known, *(entry.position for entry in found.entries))
        if known is None or known not in stretch[inside : inside + 1]:
            return _since(followed, asked, found.head)  # a commit came in meanwhile
        return self._grow(asked, known, found.head.tail, found.entries[inside:])

    def _grow(
        self, asked: Question, known: Position, tail: Position, entries: Sequence[Entry]
    ) -> Then:
        """Put what follows the known tail behind it."""
        followed = self._followed[asked.session_id]
        if known == tail:
            return self.agreed(asked)
        if tail.seq - known.seq > self._backlog:
            return self._begin(asked, followed, tail)
        if not entries:
            return Then.FETCH
        self._extend(followed, known, entries, asked.at)
        return Then.WAKE if followed.known == tail else Then.WAKE_AND_FETCH

    def _begin(self, asked: Question, followed: Followed, tail: Position | None) -> Then:
        """Begin anew at the store's tail; what was in the ring is not served any more."""
        self._recent.drop(asked.session_id)
        followed.known, followed.looked = tail, asked.at
        blind, followed.blind = followed.blind, False
        # Who was there first has asked, and is told the answer.
        return Then.REST if asked.known is None and not blind else Then.WAKE

    def _extend(
        self, followed: Followed, before: Position, entries: Sequence[Entry], now: float
    ) -> Then:
        self._recent.put(before, entries)
        followed.known = entries[-1].position
        followed.looked = max(followed.looked, now)
        return Then.WAKE


def _hangs_together(known: Position, found: Found) -> bool:
    """Tell whether what was found goes on right behind what was known."""
    tail, entries = found.head.tail, found.entries
    if tail.epoch != known.epoch or found.tag != known.tag:
        return False
    return entries[-1].seq == known.seq + len(entries) if entries else tail == known


def _since(followed: Followed, asked: Question, head: Head | None) -> Then:
    """Tell what is to be done as something else came in since the store was asked."""
    known = followed.known
    if known is None or head is None or head.tail.epoch != known.epoch:
        return Then.LOOK
    if head.tail.seq > known.seq:
        return Then.FETCH
    return Then.REST if followed.looked >= asked.at else Then.LOOK
