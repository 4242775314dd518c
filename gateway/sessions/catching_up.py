"""What others have written into a session's log since it was folded here.

A session may be written by several processes. Each decides on its own fold of the log, and appends
only if the log still ends there; else it catches up, and decides again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.errors import CursorInvalid, EngineUnavailable
from gateway.log.engine import Engine, Fence, SessionRecord, Write
from gateway.log.entry import Entry
from gateway.log.follow import kept
from gateway.log.position import Position
from gateway.log.serde import load
from gateway.sessions.decide import Decided
from gateway.sessions.fold import fold
from gateway.sessions.loading import TRIES, Loaded, load_state
from gateway.sessions.state import SessionState

__all__ = ["Doubted", "News", "catch_up"]

FOLDED_AT_ONCE = 200
"""Entries that are folded before others get their turn: 3 ms."""


@dataclass(frozen=True, slots=True)
class News:
    """What was not known here.

    Attributes:
        claim: The session's claim now; of the same moment as the state.
        entries: What follows in the log. It is folded.
        anew: The whole state, if the log does not go on from where it was folded: it was cut behind
            that place, or is another one since a store was restored.
    """

    claim: Fence | None
    entries: Sequence[Entry] = ()
    anew: Loaded | None = None


class Doubted(NamedTuple):
    """An append of which nobody knows whether it was done."""

    write: Write
    decided: Decided

    def is_in(self, before: Position, news: News) -> bool:
        """Tell whether it was done: nobody but the run that has the claim says the same there."""
        bodies = self.write.bodies
        found = [entry.body for entry in news.entries[: len(bodies)]]
        return before == self.write.expect and bool(bodies) and found == [*bodies]


async def catch_up(engine: Engine, state: SessionState) -> News:
    """Fold what others have written; one look, and nothing to read, where nobody has.

    Args:
        engine: Where the log is.
        state: Changed in place, except where the news is a whole state.

    Raises:
        SessionUnknown, SessionGone: If there is no such session any more.
        EngineUnavailable: If the store failed; the state is as it was.
    """
    for _ in range(TRIES):
        record = await engine.session(state.session_id)
        if record.tail == state.position:
            return News(record.claim)
        try:
            entries = await _what_follows(engine, state, record)
            if entries is not None:
                await _fold(state, entries)
                return News(record.claim, entries)
            anew = await load_state(engine, record, record.tail)
        except CursorInvalid:
            continue  # it was cut or replaced just now
        if anew.state.position == record.tail:
            return News(record.claim, anew=anew)
    raise EngineUnavailable("the log of this session cannot be read")


async def _what_follows(
    engine: Engine, state: SessionState, record: SessionRecord
) -> Sequence[Entry] | None:
    """Return what the log has after the state, up to the record's tail; None if it has not that."""
    through = record.tail.seq
    try:
        rest = kept(engine, record.session_id, state.position, through=through)
        entries = [entry async for entry in rest]
    except CursorInvalid:
        return None
    return entries if entries and entries[-1].position == record.tail else None


async def _fold(state: SessionState, entries: Sequence[Entry]) -> None:
    for number, entry in enumerate(entries, start=1):
        fold(state, entry, load(entry))
        if number % FOLDED_AT_ONCE == 0:
            await asyncio.sleep(0)
