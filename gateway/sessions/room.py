"""How many runs may be at work in this process at once, and whose turn it is when that is full."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Room"]


class Room:
    """The places for runs in one process.

    A run that finds no place begins without a claim, for whoever has one. So does one that would go
    before others that wait already: a session with many inputs gives its place to the next session
    after each.

    Attributes:
        others_wait: Whether runs are known to wait for a place, in whatever process.
    """

    def __init__(self, places: int | None = None) -> None:
        """Make it.

        Args:
            places: How many there are; None: no end of them.
        """
        self.others_wait = False
        self._places = places
        self._taken = 0
        self._on_free: Callable[[], None] = _nothing

    @property
    def free(self) -> int | None:
        """How many places are free; None: no end of them."""
        return None if self._places is None else max(0, self._places - self._taken)

    @property
    def open(self) -> bool:
        """Whether runs are ever at work here."""
        return self._places != 0

    def call_when_free(self, on_free: Callable[[], None]) -> None:
        """Have something called whenever there is a place again where there was none."""
        self._on_free = on_free

    def take(self, *, follows: bool = False, waited: bool = False) -> bool:
        """Take a place, if there is one for this run now; `leave` must follow.

        Args:
            follows: It follows a run that is at work here, and that leaves.
            waited: It has waited, and its turn has come.
        """
        if self._places is not None and (
            self._taken - follows >= self._places or (self.others_wait and not waited)
        ):
            return False
        self._taken += 1
        return True

    def enter(self) -> None:
        """Take a place in any case: the run is this process's already."""
        self._taken += 1

    def leave(self) -> None:
        """Give a place back."""
        was_full = self.free == 0
        self._taken -= 1
        if was_full and self.free:
            self._on_free()


def _nothing() -> None:
    """Nobody asked to be called."""
