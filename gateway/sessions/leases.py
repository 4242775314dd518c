"""Who works on which run: this process renews its own claims, and takes over what nobody works on.

Only the store is asked who works on what. So it makes no difference why nobody does: a process that
died, one that was told to stop, a machine that was asleep, a task here that ended without a word, a
take-over that failed because the store was away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from gateway.errors import EngineUnavailable, SessionGone, SessionUnknown
from gateway.log.engine import LEASE_SECONDS, Engine, Fence, Orphan
from gateway.sessions.room import Room
from gateway.sessions.session import Session

__all__ = ["BEATS_PER_LEASE", "HEARTBEAT_SECONDS", "Leases"]

BEATS_PER_LEASE = 4
"""So that three heartbeats in a row may be lost."""

HEARTBEAT_SECONDS = LEASE_SECONDS / BEATS_PER_LEASE
"""Between two heartbeats."""

LOOK_SECONDS = 1.0
"""Between two looks for runs that nobody works on, where others may leave some: what a lost hint costs."""

LEAST_BETWEEN_HINTS = 0.02
"""Seconds: many runs that are left at once make one look."""

RESERVE_SECONDS = 1.0
"""For how long a run that this process is about to take over is not given to others: a take-over loads
a session and appends once. If it dies right then, others wait for that long and for their next look."""

AT_ONCE = 16
"""Take-overs at the same time: their appends share commits, and commands do not wait for them all. In a
shared store one look takes no more, so that several processes share many, and what was reserved is done
before others may take it too."""

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
        room: Room,
        interval: float,
        lease: float,
    ) -> None:
        """Make it.

        Args:
            engine: Where claims are kept.
            sessions: Those of this process, by id; all with a run at work are among them.
            load: Returns a session, one of these or a new one.
            room: The places for runs.
            interval: Seconds between two heartbeats.
            lease: Seconds for which a claim holds without one.
        """
        self._engine = engine
        self._sessions = sessions
        self._load = load
        self._room = room
        self._interval = interval
        self._lease = lease
        self._failed: dict[str, _Failed] = {}
        self._beating: list[asyncio.Task[None]] = []
        self._losing: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()
        self._watchdog: asyncio.TimerHandle | None = None
        self._held = False
        self._retired = False

    async def start(self) -> None:
        """Take over what nobody works on, and beat from then on. What fails is tried again later."""
        loop = asyncio.get_running_loop()
        self._room.call_when_free(self._look_now.set)
        await self._look()
        self._beating.append(loop.create_task(self._beat()))
        if self._engine.shared:
            self._beating.append(loop.create_task(self._listen()))
            self._trust()
        self._looking = loop.create_task(self._keep_looking())

    async def hand_over(self, seconds: float) -> None:
        """Take nothing over any more, and let go of all runs; see `Session.hand_over`.

        What the store did not let it hand over is not kept either: there is no heartbeat after this.
        """
        await self._retire()
        async with asyncio.TaskGroup() as group:
            for session in list(self._sessions.values()):
                group.create_task(_hand_over(session, seconds))
        await self.aclose()
        await self.drop()

    async def aclose(self) -> None:
        """Stop beating. Safe to call twice."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        tasks = [*self._beating, *self._losing.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._retire()

    async def drop(self) -> None:
        """Let others take over at once what this process still has, and does no more."""
        claims = {id_: own for id_, held in self._sessions.items() if (own := held.own_claim)}
        with contextlib.suppress(EngineUnavailable):
            await self._engine.heartbeat(claims, lease=0)

    async def _retire(self) -> None:
        self._retired = True
        self._look_now.set()
        if self._looking is not None:
            await asyncio.wait([self._looking])

    # --- heartbeats ----------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                # Before the next look: after a long pause, the runs here are still ours.
                await self._renew()
            except EngineUnavailable:
                _logger.warning("no heartbeat: the store is not available")
            except Exception:
                _logger.exception("a heartbeat failed")
            self._look_now.set()

    async def _renew(self) -> None:
        claims = {
            session_id: session.claim
            for session_id, session in self._sessions.items()
            if session.claim is not None and session.at_work
        }
        ours: Collection[str] = ()
        if claims:
            ours = await self._engine.heartbeat(claims, lease=self._lease)
        self._trust()
        loop = asyncio.get_running_loop()
        for session_id in claims.keys() - ours - self._losing.keys():
            # Beside the beat: a look may take as long as the store pleases.
            task = loop.create_task(self._lose(session_id, claims[session_id]))
            self._losing[session_id] = task
            task.add_done_callback(partial(self._lost, session_id))

    def _lost(self, session_id: str, _: asyncio.Task[None]) -> None:
        del self._losing[session_id]

    async def _lose(self, session_id: str, claim: Fence) -> None:
        """Stop what somebody else has taken over, unless it has just ended here."""
        session = self._sessions.get(session_id)
        if session is None:
            return
        try:
            await session.look()
        except (EngineUnavailable, SessionGone, SessionUnknown):
            return  # the next heartbeat will tell again
        if session.claim not in {None, claim}:
            _logger.warning("a run goes on elsewhere", extra={"run_id": claim.run_id})

    def _trust(self) -> None:
        """Go on, until two thirds of a lease have passed from now without a heartbeat.

        Whoever takes a run over is safe from this process by the fence. But what begins here late in
        a lease is likely to be done twice: so it waits until the claim is known to be renewed.
        """
        if not self._engine.shared:
            return  # nobody else is there to take it over
        if self._watchdog is not None:
            self._watchdog.cancel()
        loop = asyncio.get_running_loop()
        self._watchdog = loop.call_later(self._lease * 2 / 3, self._distrust)
        if self._held:
            self._held = False
            for session in self._sessions.values():
                session.go_on()

    def _distrust(self) -> None:
        _logger.warning("no heartbeat for a long time: runs begin nothing until there is one")
        self._held = True
        for session in self._sessions.values():
            session.hold()

    # --- runs that nobody works on -------------------------------------------------------------

    async def _listen(self) -> None:
        """Look as soon as a run may have been left for others."""
        while True:
            pause = LEAST_BETWEEN_HINTS
            try:
                await self._engine.wait_orphans()
                self._look_now.set()
            except EngineUnavailable:
                pause = LOOK_SECONDS
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load

    async def _keep_looking(self) -> None:
        while not self._retired:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_next_look()):
                    await self._look_now.wait()
            self._look_now.clear()
            await self._look()

    def _until_next_look(self) -> float | None:
        """Return the seconds to the next look without a hint; None: there is one at each heartbeat."""
        if not self._engine.shared:
            return None
        return min(LOOK_SECONDS, self._interval) * random.uniform(0.5, 1)  # noqa: S311 - spreads load

    async def _look(self) -> None:
        """Take over what nobody works on, as long as there is room. Never fails."""
        try:
            while self._room.open and not self._retired:
                if not await self._take_some():
                    return
        except EngineUnavailable:
            _logger.warning("no look for runs that nobody works on: the store is not available")
        except Exception:
            _logger.exception("a look for runs that nobody works on failed")

    async def _take_some(self) -> bool:
        """Take over what nobody works on; tell whether there may be more, and room for it."""
        free = self._room.free
        if free == 0:
            self._room.others_wait = bool(await self._engine.orphans(limit=1))
            return False
        limit: int | None
        if self._engine.shared:
            limit = min(free or AT_ONCE, AT_ONCE)
            orphans = await self._engine.orphans(limit=limit, reserve=RESERVE_SECONDS)
        else:  # what failed here is not in the way of the others
            limit = None if free is None else free + len(self._failed)
            orphans = await self._engine.orphans(limit=limit)
        self._room.others_wait = False
        self._forget_failures()
        places = asyncio.Semaphore(AT_ONCE)
        tasks: list[asyncio.Task[bool]] = []
        async with asyncio.TaskGroup() as group:
            for orphan in orphans:
                await places.acquire()
                task = group.create_task(self._go_on_with(orphan))
                task.add_done_callback(lambda _: places.release())
                tasks.append(task)
        some = any(task.result() for task in tasks)
        return some and limit is not None and len(orphans) >= limit

    def _forget_failures(self) -> None:
        """Forget what failed so long ago that it must have been done by somebody else."""
        before = asyncio.get_running_loop().time() - LONGEST_PAUSE
        self._failed = {
            id_: failed for id_, failed in self._failed.items() if failed.again_at > before
        }

    async def _go_on_with(self, orphan: Orphan) -> bool:
        """Take a run over; tell whether that was possible."""
        now = asyncio.get_running_loop().time()
        failed = self._failed.get(orphan.session_id)
        if self._retired or (failed is not None and now < failed.again_at):
            return False
        try:
            session = await self._load(orphan.session_id)
            if session.at_work and session.claim == orphan.claim:
                return False  # a heartbeat is late
            await session.take_over(orphan)
        except EngineUnavailable:
            _logger.warning("a take-over has to wait: the store is not available")
        except (SessionGone, SessionUnknown):
            self._failed.pop(orphan.session_id, None)  # it was deleted just now
        except Exception:
            times = 1 if failed is None else failed.times + 1
            pause = min(LONGEST_PAUSE, self._interval * 2**times)
            self._failed[orphan.session_id] = _Failed(times, now + pause)
            _logger.exception(
                "a run could not be taken over", extra={"session_id": orphan.session_id}
            )
        else:
            self._failed.pop(orphan.session_id, None)
            return session.at_work
        return False


async def _hand_over(session: Session, seconds: float) -> None:
    try:
        await session.hand_over(seconds)
    except EngineUnavailable:
        _logger.warning("a run could not be handed over", exc_info=True)
