"""Entries: events in their place in a log. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway.log.position import Position

__all__ = ["Entry", "appended_to"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Entry:
    """One committed event. Never changes; shared by all readers in the process.

    Attributes:
        session_id: Whose log.
        position: Where in it.
        at: Commit time, milliseconds since 1970 UTC; never decreases within a log.
        body: The event's JSON without `v`, `session_id`, `seq`, `cursor` and `ts`.
        memo: What was computed from it, under a key of whoever did so: one computation serves all
            readers.
    """

    session_id: str
    position: Position
    at: int
    body: bytes
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def seq(self) -> int:
        """The entry's place, from 1."""
        return self.position.seq

    def encoded(self, encode: Callable[[Entry], T]) -> T:
        """Return `encode(self)`, computed once however many readers ask for it."""
        memo = self.memo
        if encode in memo:
            known: T = memo[encode]
            return known
        data = memo[encode] = encode(self)
        return data


def appended_to(
    session_id: str, before: Position, tag: str, at: int, bodies: Sequence[bytes]
) -> tuple[Entry, ...]:
    """Return the entries of one append.

    Args:
        session_id: Whose log.
        before: Its tail before the append.
        tag: The append's.
        at: Commit time, milliseconds since 1970 UTC.
        bodies: The events, as in `Entry.body`.
    """
    epoch = before.epoch
    return tuple(
        [
            Entry(session_id, Position(epoch, seq, tag), at, body)
            for seq, body in enumerate(bodies, before.seq + 1)
        ]
    )
