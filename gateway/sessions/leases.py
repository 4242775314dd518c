"""Who works on which run: this process renews its own claims, and takes over what nobody works on.

Only the store is asked who works on what. So it makes no difference why nobody does: a process that
died, one that was told to stop, a machine that was asleep, a task here that ended without a word, a
take-over that failed because the store was away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gateway.errors import EngineUnavailable
from gateway.log.engine import Engine, Fence, Orphan
from gateway.sessions.session import Session

__all__ = ["HEARTBEAT_SECONDS", "Leases"]

HEARTBEAT_SECONDS = 5.0
"""Between two heartbeats: a quarter of a lease, so that three in a row may be lost."""

AT_ONCE = 16
"""Take-overs at the same time: their appends share commits, and commands do not wait for them all."""

LONGEST_PAUSE = 300.0
"""Seconds between attempts at a session that cannot be loaded: its log is read anew each time."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Failed:
    """A session whose run could not be taken over."""

    times: int
    again_at: float


class Leases:
    """Beats for one process: keeps the claims of its runs, and finds runs that nobody works on."""

    def __init__(
        self,
        engine: Engine,
        sessions: Mapping[str, Session],
        *,
        load: Callable[[str], Awaitable[Session]],
        forget: Callable[[str], None],
        interval: float,
    ) -> None:
        """Make it.

        Args:
            engine: Where claims are kept.
            sessions: Those of this process, by id; all with a run at work are among them.
            load: Returns a session, one of these or a new one.
            forget: Drops a session that goes on in another process.
            interval: Seconds between two beats.
        """
        self._engine = engine
        self._sessions = sessions
        self._load = load
        self._forget = forget
        self._interval = interval
        self._failed: dict[str, _Failed] = {}
        self._beating: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._retired = False

    async def start(self) -> None:
        """Take over what nobody works on, and beat from then on. What fails is tried again later."""
        await self._look()
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def hand_over(self, seconds: float) -> None:
        """Take nothing over any more, and let go of all runs; see `Session.hand_over`."""
        await self._retire()
        async with asyncio.TaskGroup() as group:
            for session in list(self._sessions.values()):
                group.create_task(_hand_over(session, seconds))

    async def aclose(self) -> None:
        """Stop beating."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        await self._retire()

    async def drop(self) -> None:
        """Let others take over at once what this process still has, and does no more."""
        claims = {id_: held.claim for id_, held in self._sessions.items() if held.claim is not None}
        with contextlib.suppress(EngineUnavailable):
            await self._engine.heartbeat(claims, lease=0)

    async def _retire(self) -> None:
        self._retired = True
        if self._looking is not None:
            await asyncio.wait([self._looking])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                # First this: after a pause longer than the lease, the runs here are still ours.
                await self._renew()
            except EngineUnavailable:
                _logger.warning("no heartbeat: the store is not available")
            except Exception:
                _logger.exception("a heartbeat failed")
            if self._looking is None or self._looking.done():
                # Beside it: many take-overs must not make the next heartbeat late.
                self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _renew(self) -> None:
        claims = {
            session_id: session.claim
            for session_id, session in self._sessions.items()
            if session.claim is not None and session.at_work
        }
        if not claims:
            return
        ours = await self._engine.heartbeat(claims)
        for session_id, claim in claims.items():
            if session_id not in ours:
                await self._lose(session_id, claim)

    async def _lose(self, session_id: str, claim: Fence) -> None:
        """Stop what somebody else has taken over."""
        session = self._sessions.get(session_id)
        if session is None:
            return
        await session.settled()
        if session.claim == claim:  # it has not just ended here
            _logger.warning("a run goes on elsewhere", extra={"run_id": claim.run_id})
            session.stop()
            self._forget(session_id)

    async def _look(self) -> None:
        """Take over what nobody works on. Never fails."""
        try:
            orphans = await self._engine.orphans()
        except EngineUnavailable:
            _logger.warning("no look for runs that nobody works on: the store is not available")
            return
        self._failed = {
            orphan.session_id: failed
            for orphan in orphans
            if (failed := self._failed.get(orphan.session_id)) is not None
        }
        free = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for orphan in orphans:
                await free.acquire()
                task = group.create_task(self._go_on_with(orphan))
                task.add_done_callback(lambda _: free.release())

    async def _go_on_with(self, orphan: Orphan) -> None:
        now = asyncio.get_running_loop().time()
        failed = self._failed.get(orphan.session_id)
        if self._retired or (failed is not None and now < failed.again_at):
            return
        try:
            session = await self._load(orphan.session_id)
            if not (session.at_work and session.claim == orphan.claim):  # else a heartbeat is late
                await session.take_over(orphan)
        except EngineUnavailable:
            _logger.warning("a take-over has to wait: the store is not available")
        except Exception:
            times = 1 if failed is None else failed.times + 1
            pause = min(LONGEST_PAUSE, self._interval * 2**times)
            self._failed[orphan.session_id] = _Failed(times, now + pause)
            _logger.exception(
                "a run could not be taken over", extra={"session_id": orphan.session_id}
            )
        else:
            self._failed.pop(orphan.session_id, None)


async def _hand_over(session: Session, seconds: float) -> None:
    try:
        await session.hand_over(seconds)
    except EngineUnavailable:
        _logger.warning("a run could not be handed over", exc_info=True)
