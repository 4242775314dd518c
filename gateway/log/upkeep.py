"""What keeps a store bounded, in words that hold for every engine (see `gateway.log.engine`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Excess", "Lifetimes", "Upkeep"]


@dataclass(frozen=True, slots=True)
class Excess:
    """A session of which more is kept than was asked about.

    Attributes:
        start: The `seq` right before its first kept entry.
        through: The `seq` of the last entry that is too many.
        active: Whether it has a run that is at work or waits for a human.
    """

    session_id: str
    start: int
    through: int
    active: bool


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """For how many milliseconds the ledger keeps what nobody asks for any more.

    Attributes:
        answers: To commands, since they were given.
        clients: Subscriptions and checkpoints, since the client last got one of either.
        tombstones: Since the session was deleted; then its id is free again.
    """

    answers: int
    clients: int
    tombstones: int


class Upkeep(Protocol):
    """Finding and dropping what is not kept for ever. Ages are by the store's clock."""

    async def excess(
        self, *, events: int, age_ms: int, after: str | None, limit: int
    ) -> Sequence[Excess]:
        """Return sessions that have entries too many, oldest session first.

        Too many are those that are at least `age_ms` old and not among the last `events`.

        Args:
            events: At least 1.
            age_ms: Milliseconds.
            after: Begin behind this session; one that is not there any more gives an empty page.
            limit: The most sessions that are returned.
        """

    async def forget(self, *, age_ms: int, limit: int) -> Sequence[str]:
        """Delete sessions to which nothing was appended for `age_ms`, as `delete` does.

        A session with a current claim stays.

        Returns:
            Their ids, at most `limit`; fewer if there are no more.
        """

    async def prune(self, lifetimes: Lifetimes) -> bool:
        """Drop a piece of what has outlived its time, or was deleted and still takes room.

        Returns:
            Whether there may be more.
        """
