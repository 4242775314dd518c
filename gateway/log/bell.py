"""Wakes the waiters of a session inside one process. A ring is a hint, never the truth.

Every waiter has a future of its own, because cancelling a task cancels the future it awaits. There
is no timer per waiter: one coarse ticker, alive only while somebody waits, rings everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

__all__ = ["WAIT_LIMIT", "Bell"]

WAIT_LIMIT = 5.0
"""Seconds after which a waiter is woken in any case, to look again: the net under a lost hint."""


class Bell:
    """One bell for all sessions of an engine; to be used on one event loop."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._ticker: asyncio.TimerHandle | None = None

    def awaited(self) -> Collection[str]:
        """Return the sessions for which somebody waits; a view."""
        return self._waiters.keys()

    def ring(self, session_id: str) -> None:
        """Wake everybody who waits for the session now."""
        for waiter in self._waiters.pop(session_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    def ring_all(self) -> None:
        """Wake everybody, and let the ticker rest until somebody waits again."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        for session_id in list(self._waiters):
            self.ring(session_id)

    async def wait(self, session_id: str) -> None:
        """Return at the next ring for the session, at the latest after `WAIT_LIMIT` seconds."""
        waiter = self.listen(session_id)
        try:
            await waiter
        finally:
            self.leave(session_id, waiter)

    def listen(self, session_id: str) -> asyncio.Future[None]:
        """Return a future that is done at the next ring from now on; `leave` must follow.

        For who has to look at the store between starting to listen and waiting: what is committed
        during the look has rung.
        """
        loop = asyncio.get_running_loop()
        if self._ticker is None:
            self._ticker = loop.call_later(WAIT_LIMIT, self.ring_all)
        waiter = loop.create_future()
        waiters = self._waiters.get(session_id)
        if waiters is None:
            self._waiters[session_id] = {waiter}
        else:
            waiters.add(waiter)
        return waiter

    def leave(self, session_id: str, waiter: asyncio.Future[None]) -> None:
        """Stop listening: leave nothing behind, nor a ticker when nobody waits."""
        if waiter.done() and not waiter.cancelled():
            return  # rung: the whole set is gone already
        waiters = self._waiters.get(session_id)
        if waiters is None:
            return
        waiters.discard(waiter)
        if not waiters:
            del self._waiters[session_id]
        if not self._waiters and self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
