"""Questions that are answered for many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Asking"]

T = TypeVar("T")


class Asking(Generic[T]):
    """Who wants to know something about a name, and gets it together with others.

    Whoever asks before a name is taken shares its answer; whoever asks later gets the next one, as
    what is being found out may be older than the question.

    Args:
        limit: Seconds after which nobody waits for an answer any more.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._asked: dict[str, list[asyncio.Future[T | None]]] = {}
        self._taken: dict[str, list[asyncio.Future[T | None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._asked)

    def __iter__(self) -> Iterator[str]:
        return iter(self._asked)

    async def ask(self, name: str) -> T | None:
        """Return the answer; None if there was none in time."""
        asked = self._asked.setdefault(name, [])
        if not asked:
            asked.append(asyncio.get_running_loop().create_future())
        answer = asked[-1]
        await asyncio.wait((answer,), timeout=self._limit)
        return answer.result() if answer.done() else None

    def take(self, name: str) -> None:
        """Begin to find out about a name."""
        if name in self._asked:
            self._taken.setdefault(name, []).extend(self._asked.pop(name))

    def put_back(self, name: str) -> None:
        """Give up finding out this time: it is asked still."""
        if taken := self._taken.pop(name, None):
            self._asked[name] = taken + self._asked.get(name, [])

    def answer(self, name: str, answer: T | None) -> None:
        """Tell those whose question was taken."""
        for asked in self._taken.pop(name, ()):
            if not asked.done():
                asked.set_result(answer)

    def give_up(self) -> None:
        """Tell everybody that there is no answer."""
        for name in [*self._asked]:
            self.take(name)
        for name in [*self._taken]:
            self.answer(name, None)
