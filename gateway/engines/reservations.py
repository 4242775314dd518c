"""Who was given which run to take over, for engines that one process uses."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from gateway.log.engine import Orphan

__all__ = ["Reservations"]


class Reservations:
    """Runs that nobody works on and that somebody was told of a moment ago."""

    def __init__(self) -> None:
        self._until: dict[Orphan, int] = {}

    def give(
        self, orphans: Iterable[Orphan], *, limit: int | None, reserve: float, now: int
    ) -> list[Orphan]:
        """Return some of the orphans, as `Ledger.orphans` says.

        Args:
            orphans: All that there are, oldest first.
            limit: At most so many are returned.
            reserve: Seconds; 0 returns also what is reserved.
            now: Milliseconds since 1970 UTC.
        """
        if not reserve:
            return list(islice(orphans, limit))
        self._until = {orphan: until for orphan, until in self._until.items() if until > now}
        free = (orphan for orphan in orphans if orphan not in self._until)
        given = list(islice(free, limit))
        self._until.update(dict.fromkeys(given, now + round(reserve * 1000)))
        return given
