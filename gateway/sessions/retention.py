"""What is not kept for ever, and the sweep that lets it go.

One sweep over the whole store does it, for sessions that are in use and for those that nobody has
used since the server started. It works in pieces and rests between them, so that nobody waits for it.
A log is folded up to where it is trimmed, and begins with that state from then on: so it can be
loaded, and forked at any place that is left of it, whatever happens in between.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.errors import CursorInvalid, EngineUnavailable, SessionGone, SessionUnknown
from gateway.log.engine import Engine
from gateway.log.position import Position
from gateway.log.serde import load
from gateway.log.upkeep import Excess, Lifetimes
from gateway.sessions.fold import fold
from gateway.sessions.loading import latest_state
from gateway.sessions.state import SessionState
from gateway.sessions.stored import store

__all__ = ["DAY_MS", "HOUR_MS", "Keep", "Sweeper", "needed_by_runs"]

logger = logging.getLogger(__name__)

HOUR_MS = 60 * 60 * 1000
DAY_MS = 24 * HOUR_MS

LIFETIMES = Lifetimes(answers=25 * HOUR_MS, clients=30 * DAY_MS, tombstones=30 * DAY_MS)
"""Answers to commands are promised for 24 h. Clients and tombstones: longer than any holiday."""

FOLDED_AT_ONCE = 200
"""Entries that are folded before others get their turn: 3 ms."""

REST_SECONDS = 0.01
"""After each piece of work; so a sweep takes a third of a core at most."""

SESSIONS_AT_ONCE = 50
"""Sessions that are looked up at a time."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of each session is kept.

    Attributes:
        events: So many of its last events stay readable, however old; 0: all.
        age_ms: Younger events stay readable, however many (milliseconds).
        unused_ms: A session to which nothing was added for so long is deleted; 0: never.
        every: Seconds between two sweeps.
    """

    events: int = 2000
    age_ms: int = DAY_MS
    unused_ms: int = 0
    every: float = 60.0


class Sweeper:
    """Sweeps a store now and then."""

    def __init__(
        self,
        engine: Engine,
        keep: Keep,
        *,
        needed: Callable[[str], Awaitable[int]],
        forgotten: Callable[[str], None],
    ) -> None:
        """Make it.

        Args:
            engine: The store.
            keep: How much stays.
            needed: Returns the `seq` after which a session's active runs need its log.
            forgotten: Called for each session that was deleted.
        """
        self._engine = engine
        self._keep = keep
        self._needed = needed
        self._forgotten = forgotten
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep from now on."""
        self._task = asyncio.get_running_loop().create_task(self._sweep_for_ever())

    async def aclose(self) -> None:
        """Stop; what was begun is finished by the next sweep, also of another process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self.sweep()
            except EngineUnavailable:
                logger.warning("a sweep was given up; the next one goes on", exc_info=True)
            except Exception:
                logger.exception("a sweep failed")

    def _pause(self) -> float:
        """Return the seconds to the next sweep.

        Processes that share a store sweep at different times, so that what one has done is not found
        by the next. Two at once do no harm: what is gone cannot be dropped again.
        """
        every = self._keep.every
        return every * random.uniform(0.5, 1.5) if self._engine.shared else every  # noqa: S311

    async def sweep(self) -> None:
        """Let go of all that is too much now.

        Raises:
            EngineUnavailable: If the store failed.
        """
        if self._keep.unused_ms:
            await self._forget()
        if self._keep.events:
            await self._trim()
        more = True
        while more:
            more = await self._engine.prune(LIFETIMES)
            await asyncio.sleep(REST_SECONDS)

    async def _forget(self) -> None:
        while gone := await self._engine.forget(
            age_ms=self._keep.unused_ms, limit=SESSIONS_AT_ONCE
        ):
            for session_id in gone:
                self._forgotten(session_id)
            await asyncio.sleep(REST_SECONDS)

    async def _trim(self) -> None:
        after: str | None = None
        while found := await self._engine.excess(
            events=self._keep.events,
            age_ms=self._keep.age_ms,
            after=after,
            limit=SESSIONS_AT_ONCE,
        ):
            for excess in found:
                try:
                    await self._trim_one(excess)
                except (SessionGone, SessionUnknown):
                    continue  # it was deleted just now
                except CursorInvalid as error:
                    if error.reason != "trimmed":  # else another process was faster
                        extra = {"session_id": excess.session_id}
                        logger.warning("a log has changed", extra=extra)
            after = found[-1].session_id

    async def _trim_one(self, excess: Excess) -> None:
        through = excess.through
        if excess.active:
            through = min(through, await self._needed(excess.session_id))
        # Each time the whole state is written, so a little excess is left for later.
        if through - excess.start < max(1, self._keep.events // 8):
            return
        record = await self._engine.session(excess.session_id)
        state = (await latest_state(self._engine, record, through)).state
        while state.seq < through:
            limit = min(FOLDED_AT_ONCE, through - state.seq)
            for entry in await self._engine.read(state.session_id, state.position, limit=limit):
                fold(state, entry, load(entry))
            await asyncio.sleep(REST_SECONDS)
        await self._engine.trim(excess.session_id, through, store(state))


def needed_by_runs(state: SessionState) -> int:
    """Return the `seq` after which the runs that are at work, or wait, need the log."""
    runs = [*state.queued_runs.values()]
    if state.current_run is not None:
        runs.append(state.current_run)
    begun = [Position.parse(run.segments[0]).seq for run in runs if run.segments]
    return min([state.seq, *begun])
