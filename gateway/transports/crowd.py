"""Crowds: sessions with so many readers that waking them for each event is most of the work.

A reader that has just been written to rests until its session's next round, and all that was
committed meanwhile goes out in one write: fewer wakes, fewer system calls. Rounds are as far apart
as the crowd is large, so a handful of readers never rest, and the first event after a silence is
never held up, because only a reader that was just written to rests. There is one timer for each
round, and no list of readers.
"""

from __future__ import annotations

import asyncio

__all__ = ["Crowd", "Crowds"]

SECONDS_PER_READER = 200e-6
"""Some ten times what a wake and a write cost (15 to 20 µs measured): rounds of one session take at
most about a tenth of a core."""

NOT_WORTH_IT = 0.002
"""Below this many seconds between rounds, readers do not rest."""

LONGEST_REST = 0.1
"""The most that an event waits for others, in seconds: text still flows to the eye."""


class Crowd:
    """The readers of one session."""

    def __init__(self) -> None:
        self.readers = 0
        self._round: asyncio.Event | None = None

    @property
    def spacing(self) -> float:
        """Seconds between two rounds."""
        seconds = self.readers * SECONDS_PER_READER
        return min(seconds, LONGEST_REST) if seconds >= NOT_WORTH_IT else 0.0

    async def rest(self) -> None:
        """Return at the next round; at once if there are few readers."""
        if self._round is None:
            spacing = self.spacing
            if spacing == 0:
                return
            self._round = asyncio.Event()
            asyncio.get_running_loop().call_later(spacing, self._begin_round)
        await self._round.wait()

    def _begin_round(self) -> None:
        if self._round is not None:
            self._round.set()
            self._round = None


class Crowds:
    """The crowds of one server, by session, as long as they have readers."""

    def __init__(self) -> None:
        self._crowds: dict[str, Crowd] = {}

    def join(self, session_id: str) -> Crowd:
        """Count one reader more; `leave` must follow."""
        crowd = self._crowds.setdefault(session_id, Crowd())
        crowd.readers += 1
        return crowd

    def leave(self, session_id: str) -> None:
        """Count one reader less."""
        crowd = self._crowds[session_id]
        crowd.readers -= 1
        if crowd.readers == 0:
            del self._crowds[session_id]
