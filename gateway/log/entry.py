"""Entries: events in their place in a log. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.log.position import Position

__all__ = ["Entry"]


@dataclass(slots=True, eq=False)
class Entry:
    """One committed event. Never changes; shared by all readers in the process.

    Attributes:
        session_id: Whose log.
        position: Where in it.
        at: Commit time, milliseconds since 1970 UTC; never decreases within a log.
        body: The event's JSON without `v`, `session_id`, `seq`, `cursor` and `ts`.
    """

    session_id: str
    position: Position
    at: int
    body: bytes
    _encoded: dict[Callable[[Entry], bytes], bytes] = field(default_factory=dict, repr=False)

    @property
    def seq(self) -> int:
        """The entry's place, from 1."""
        return self.position.seq

    def encoded(self, encode: Callable[[Entry], bytes]) -> bytes:
        """Return `encode(self)`, computed once however many readers ask for it."""
        data = self._encoded.get(encode)
        if data is None:
            data = self._encoded[encode] = encode(self)
        return data
