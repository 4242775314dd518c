"""A session as clients see it, encoded once for all who come while it stays as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from gateway.log.position import Position
from gateway.sessions.state import SessionState

__all__ = ["Show", "Shown"]

KEPT_SECONDS = 5.0
"""How long what was encoded is kept for those who come next: as long as a storm of them lasts."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The snapshot at a position.

    Attributes:
        position: Up to where the log is in it.
        json: The snapshot as one line of JSON.
        closed: Whether the session takes no more events.
        memo: What was made of it, as in `Entry.memo`.
    """

    position: Position
    json: bytes
    closed: bool
    memo: dict[Hashable, object] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returns, called once for each key."""
        if key not in self.memo:
            self.memo[key] = make()
        return cast("T", self.memo[key])


class Show:
    """What one session shows to those who join. It is given up a while after it was made."""

    def __init__(self) -> None:
        self._shown: Shown | None = None
        self.times = 0
        """How often a snapshot was encoded."""

    def now(self, state: SessionState) -> Shown:
        """Return the snapshot of a state."""
        shown = self._shown
        if shown is None or shown.position != state.position:
            shown = Shown(state.position, state.snapshot(shared=True).json_line(), state.closed)
            self._shown = shown
            self.times += 1
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._give_up, shown)
        return shown

    def _give_up(self, shown: Shown) -> None:
        if self._shown is shown:
            self._shown = None
