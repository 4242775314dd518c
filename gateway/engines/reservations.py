"""Who was given which run to take over, for engines that one process uses."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from gateway.log.engine import Orphan, Write

__all__ = ["Reservations"]


class Reservations:
    """Sessions on whose run nobody works, and of which somebody was told a moment ago."""

    def __init__(self) -> None:
        self._until: dict[str, int] = {}

    def give(
        self, orphans: Iterable[Orphan], *, limit: int | None, reserve: float, now: int
    ) -> list[Orphan]:
        """Return some of the orphans, as `Ledger.orphans` says.

        Args:
            orphans: All that there are, longest waiting first.
            limit: At most so many are returned.
            reserve: Seconds; 0 returns also what is reserved.
            now: Milliseconds since 1970 UTC.
        """
        if not reserve:
            return list(islice(orphans, limit))
        self._until = {id_: until for id_, until in self._until.items() if until > now}
        free = (orphan for orphan in orphans if orphan.session_id not in self._until)
        given = list(islice(free, limit))
        ids = (orphan.session_id for orphan in given)
        self._until.update(dict.fromkeys(ids, now + round(reserve * 1000)))
        return given

    def end(self, write: Write) -> None:
        """Forget who was told, if this write took the session's run over, or let go of it."""
        if write.claim is not None or write.release:
            self._until.pop(write.session_id, None)
