"""When to try again. Pure: the dice are rolled elsewhere.

PROTOCOL.md, section 7: full jitter from the first retry on, so that the clients of a server that
restarts do not all come back in one moment.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff", "Retry"]

BASE_SECONDS = 0.5
"""Upper bound of the first wait; it doubles with every failed try."""

CEILING_SECONDS = 30.0
"""Upper bound of all waits."""

STEADY_SECONDS = 10.0
"""A stream that lived this long was a good one: its end starts the count anew."""

_MOST_DOUBLINGS = 10


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after a random time between nothing and `at_most`, but not before `at_least`; seconds."""

    at_least: float
    at_most: float

    def seconds(self, dice: float) -> float:
        """Return how long to wait; `dice` is uniform in [0, 1)."""
        return max(self.at_least, dice * self.at_most)


class Backoff:
    """Counts failed tries."""

    def __init__(self) -> None:
        self._tries = 0

    def failed(self, *, lived: float = 0.0, floor: float = 0.0) -> Retry:
        """Return when to try again.

        Args:
            lived: Seconds for which the stream that ended was up.
            floor: Seconds that the server asked for.
        """
        if lived >= STEADY_SECONDS:
            self._tries = 0
        bound = min(CEILING_SECONDS, BASE_SECONDS * 2 ** min(self._tries, _MOST_DOUBLINGS))
        self._tries += 1
        return Retry(floor, bound)
