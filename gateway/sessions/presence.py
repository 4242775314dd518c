"""What the nodes on one store tell each other about who controls which session.

A run that ends when nobody is there is judged by whoever has it, and its controllers may be connected
to any node. So each node says in the store which sessions have controllers there: soon after the first
one came, soon after the last one left, and again at every beat.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Collection

from gateway.errors import EngineClosed, EngineUnavailable
from gateway.log.engine import Engine

__all__ = ["MARGIN_SECONDS", "Elsewhere", "Presence"]

_logger = logging.getLogger(__name__)

MARGIN_SECONDS = 2.0
"""How late a beat may be, with the store slow and the process busy."""

GATHER_SECONDS = 0.05
"""What comes and goes within this time is said with one call: a command does, and stays for no longer."""

RETRY_SECONDS = 0.5
"""Between two attempts to say something to a store that is away."""


class Presence:
    """Says which sessions have controllers on this node; nothing, where no other uses the store.

    Attributes:
        node: This node, as others know it: random, so that it is nobody's before or after it.
        interval: Seconds between two beats.
        certain_from: From when on, by the loop's clock, the store knows of all who are there. While
            it was away, no node could tell it.
    """

    def __init__(self, engine: Engine, present: Collection[str], *, interval: float) -> None:
        """Make it.

        Args:
            engine: The store.
            present: The sessions that have controllers here, as it is at any time.
            interval: Seconds between two beats.
        """
        self.node = secrets.token_hex(8)
        self.interval = interval
        self.certain_from = 0.0
        self._engine = engine
        self._present = present
        self._news: set[str] = set()  # what others know otherwise
        self._changed = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to say it."""
        if self._engine.shared:
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    def stop(self) -> None:
        """Say of nobody any more that it has left: a server that stops cuts its clients, and ends no run.

        What was said last stands for a while, in which they come back elsewhere.
        """
        self._stopped = True

    async def aclose(self) -> None:
        """Say nothing more. Safe to call twice."""
        self._stopped = True
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait([self._telling])

    def changed(self, session_id: str) -> None:
        """Note that a session got its first controller here, or lost its last."""
        if self._engine.shared:
            self._news.add(session_id)
            self._changed.set()

    def elsewhere(self, session_id: str) -> Elsewhere | None:
        """Return what is known of a session's controllers on other nodes; None if there are none."""
        return Elsewhere(self, session_id) if self._engine.shared else None

    async def alone(self, session_id: str) -> float | None:
        """Return for how many seconds no other node has had a controller of a session: see `Ledger`.

        Raises:
            EngineUnavailable: If the store failed.
        """
        try:
            return await self._engine.alone(session_id, but=self.node)
        except EngineUnavailable:
            self._doubt()
            raise

    def next_certain(self) -> float:
        """Return when every node will have said who is there of a session that is judged from now on."""
        return asyncio.get_running_loop().time() + self.interval + MARGIN_SECONDS

    def _doubt(self) -> None:
        self.certain_from = self.next_certain()

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        beats_at = loop.time() + self.interval
        while True:
            try:
                async with asyncio.timeout_at(beats_at):
                    await self._changed.wait()
            except TimeoutError:
                beats_at = loop.time() + self.interval
                self._news |= set(self._present)
            else:
                await asyncio.sleep(GATHER_SECONDS)
            self._changed.clear()
            news, self._news = self._news, set()
            try:
                await self._say(news)
            except EngineClosed:
                return
            except EngineUnavailable:
                _logger.warning("others cannot be told who is here: the store is not available")
                self._doubt()
                self._news |= news
                self._changed.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _say(self, news: Collection[str]) -> None:
        gone = [session_id for session_id in news if session_id not in self._present]
        there = [session_id for session_id in news if session_id in self._present]
        if gone and not self._stopped:
            await self._engine.attend(gone, by=self.node, seconds=0)
        if there:
            lasting = 2 * self.interval + MARGIN_SECONDS
            await self._engine.attend(there, by=self.node, seconds=lasting)


class Elsewhere:
    """What is known here of a session's controllers on other nodes.

    Attributes:
        is_attended: Whether there was one when the store was asked last.
        left: When the last one left, by the loop's clock; 0 if none is known to have been there.
        interval: Seconds between two questions.
    """

    def __init__(self, presence: Presence, session_id: str) -> None:
        """Begin to know."""
        self.is_attended = False
        self.left = 0.0
        self.interval = presence.interval
        self._presence = presence
        self._session_id = session_id
        self._judged_from: float | None = None

    def judge(self, is_judged: bool) -> None:
        """Note whether the session has runs that end when nobody is there: others learn it at a beat."""
        if not is_judged:
            self._judged_from = None
        elif self._judged_from is None:
            self._judged_from = self._presence.next_certain()

    @property
    def certain_from(self) -> float:
        """From when on, by the loop's clock, all who are there are known to the store."""
        return max(self._judged_from or 0.0, self._presence.certain_from)

    async def ask(self) -> None:
        """Ask the store.

        Raises:
            EngineUnavailable: If it failed.
        """
        seconds = await self._presence.alone(self._session_id)
        self.is_attended = seconds == 0
        if seconds is not None:
            self.left = asyncio.get_running_loop().time() - seconds
