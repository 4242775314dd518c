"""Who controls each session, and for how long nobody has: what a run's `cancel_after` is measured by.

A person may have several connections, and one that is cut may be replaced by another before the
server knows. So what counts is how many control a session, whatever their connections: those who
follow it and do not merely watch, and commands that are being obeyed or waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from gateway.commands import Role
from gateway.errors import EngineUnavailable
from gateway.sessions.presence import Elsewhere

__all__ = ["COME_BACK_SECONDS", "Absence", "Controllers"]

COME_BACK_SECONDS = 5.0
"""What controllers get at least to come back after a take-over: it was the server that went away, and
`retry:` told its clients to wait for up to 4 s."""

STORE_RETRY = 1.0
"""Seconds between attempts to end a run while the store is not available."""

TIMER_PRECISION = 0.001
"""Seconds by which an event loop may call too early: uvloop counts in milliseconds."""


class Controllers:
    """How many control each session of one server. Counting costs no task and no timer.

    Attributes:
        sessions: Those that somebody controls, as it is at any time.
    """

    def __init__(self, on_change: Callable[[str], None]) -> None:
        """Make it; `on_change` is told of each session that gets its first, or loses its last."""
        self._present: dict[str, int] = {}
        self.sessions = self._present.keys()
        self._on_change = on_change
        self._stopped = False

    def __contains__(self, session_id: str) -> bool:
        """Whether anybody controls a session."""
        return self._stopped or session_id in self._present

    @contextmanager
    def present(self, session_id: str, role: Role = "controller") -> Iterator[None]:
        """Count one more for the length of a block, unless it only watches."""
        if role == "observer":
            yield
            return
        self._present[session_id] = self._present.get(session_id, 0) + 1
        if self._present[session_id] == 1:
            self._on_change(session_id)
        try:
            yield
        finally:
            self._present[session_id] -= 1
            if not self._present[session_id]:
                del self._present[session_id]
                self._on_change(session_id)

    def stop(self) -> None:
        """Count all as present from now on: a server that stops cuts its clients, and ends no run."""
        self._stopped = True


class Absence:
    """For how long nobody has controlled a session, and the timer of runs that end by it.

    There is a timer only while nobody is there and some run asked for it. Where other nodes may have
    controllers of the session too, nobody is there once the store says so of them as well: it is
    asked when the timer rings, and the timer rings at every beat, so that an outage is noticed.
    """

    def __init__(
        self,
        is_attended: Callable[[], bool],
        grace: Callable[[], float | None],
        on_end: Callable[[], None],
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Begin to measure.

        Args:
            is_attended: Tells whether anybody controls the session.
            grace: Tells after how many seconds alone the first run is to end; None: none is.
            on_end: Called when so much time has passed, or other nodes are to be asked.
            elsewhere: What is known of controllers on other nodes; None where there are none.
        """
        self._is_attended = is_attended
        self._grace = grace
        self._on_end = on_end
        self._elsewhere = elsewhere
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._least = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, *, least: float = 0.0) -> None:
        """Measure from now: somebody came or went, or the session was taken over.

        Args:
            least: Seconds that every run gets, also those that asked for less.
        """
        self._since = self._loop.time()
        self._least = least
        self.look()

    def look(self) -> None:
        """Set the timer for what runs now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        grace = self._grace()
        if self._elsewhere is not None:
            self._elsewhere.judge(grace is not None)
        if grace is None or self._is_attended():
            return
        end = self._end_of(grace)
        if self._elsewhere is not None:
            soonest = self._loop.time() + self._elsewhere.interval
            end = soonest if self._elsewhere.is_attended else min(end, soonest)
        self._timer = self._loop.call_at(end, self._on_end)

    async def end(self, leave: Callable[[], Awaitable[object]]) -> None:
        """End what goes on with nobody there, as soon as the store takes it, if that is still so then.

        Args:
            leave: Has the end decided, by `has_lasted`, and written.
        """
        while True:
            try:
                if await self._is_over():
                    await leave()
            except (
                EngineUnavailable
            ):  # asked again then: what was known before an outage is not now
                await asyncio.sleep(STORE_RETRY)
            else:
                break
        self.look()  # the next one may be due

    async def _is_over(self) -> bool:
        """Whether it is time for the first run to end; other nodes are asked if that matters."""
        if (grace := self._grace()) is None or self._is_attended():
            return False
        if self._elsewhere is not None:
            await self._elsewhere.ask()
        return self.has_lasted(grace)

    def has_lasted(self, grace: float) -> bool:
        """Whether nobody is there, and was not for so many seconds."""
        if self._is_attended() or (self._elsewhere is not None and self._elsewhere.is_attended):
            return False
        return self._loop.time() + TIMER_PRECISION >= self._end_of(grace)

    def _end_of(self, grace: float) -> float:
        """Return when a run ends that asked for so many seconds, if nobody comes."""
        if self._elsewhere is None:
            return self._since + max(grace, self._least)
        since = max(self._since, self._elsewhere.left)
        return max(since + max(grace, self._least), self._elsewhere.certain_from)
