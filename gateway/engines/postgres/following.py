"""`Following`: what this process knows of the logs that it follows, and who is woken when they grow.

Entries come into the ring of a session either with a commit of this process, or are fetched, once
for all its readers. That there is something to fetch is told by hints, and found by a poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from gateway.engines.postgres.calls import Committed
from gateway.engines.postgres.connections import Connections
from gateway.engines.postgres.hints import Hints, News
from gateway.engines.postgres.looks import ANYTHING, Looks
from gateway.engines.postgres.rings import Rings
from gateway.engines.stamps import Clock
from gateway.errors import CursorMalformed
from gateway.log.bell import Bell
from gateway.log.entry import Entry
from gateway.log.position import Position

__all__ = ["POLL_SECONDS", "Following"]

POLL_SECONDS = 0.8
"""What other processes did is noticed within this, also if no hint comes: a cancel within 1 s."""

TRUSTED_POLLS = 2
"""What was not found right for so many polls is looked at before it is served."""

FAREWELL_SECONDS = 1.0
"""How long the last hints may take."""


class Following:
    """The rings of a process, kept at what the store has.

    Args:
        connections: To the store.
        poll: Seconds between two looks at everything that is waited for.
        clock: In place of the store's, for tests.
    """

    def __init__(
        self, connections: Connections, *, poll: float = POLL_SECONDS, clock: Clock | None = None
    ) -> None:
        self._rings = Rings()
        self._sessions = Bell()
        self._clients = Bell()
        self._orphans = Bell()
        self._trusted = TRUSTED_POLLS * poll
        self._looks = Looks(
            connections,
            self._rings,
            sessions=self._sessions,
            clients=self._clients,
            orphans=self._orphans,
            poll=poll,
            clock=clock,
        )
        self._hints = Hints(connections, self._heard, self._looks.want_all)
        self._looking: asyncio.Task[None] | None = None
        self._hinting: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Begin to listen and to look, in the background. It never fails, if the store is away."""
        self._looking = asyncio.create_task(self._looks.run(), name="look at what is followed")
        self._hinting = asyncio.create_task(self._hints.run(), name="tell and hear hints")

    # What this process did.

    def committed(self, done: Committed) -> None:
        """Make a commit known: to the ring first, then to who waits here, then to other processes."""
        if entries := done.appended.entries:
            now = asyncio.get_running_loop().time()
            self._looks.want(done.session_id, self._rings.committed(done.before, entries, now))
            self._hints.session(done.session_id, entries[-1].position)
        if done.left_alone:
            self.left_alone()

    def left_alone(self) -> None:
        """Make known that a run was left for others to work on."""
        self._orphans.ring(ANYTHING)
        self._hints.orphans()

    def clients_changed(self, client_id: str) -> None:
        """Make known that a client's subscriptions have changed."""
        self._clients.ring(client_id)
        self._hints.client(client_id)

    def deleted(self, session_id: str) -> None:
        """Make known that a session was deleted."""
        self._looks.want(session_id, self._rings.deleted(session_id))
        self._hints.session(session_id, None)

    def trimmed(self, session_id: str, through: int) -> None:
        """Make known that entries up to and including `through` were dropped."""
        self._rings.trimmed(session_id, through)
        self._hints.session(session_id, None)

    # What others did.

    def _heard(self, news: News) -> None:
        for session_id, cursor in news.sessions.items():
            try:
                tail = Position.parse(cursor) if cursor else None
            except CursorMalformed:
                tail = None
            self._looks.want(session_id, self._rings.heard(session_id, tail))
        for client_id in news.clients:
            self._clients.ring(client_id)
        if news.orphans:
            self._orphans.ring(ANYTHING)

    # Who reads and waits.

    async def read(self, session_id: str, after: Position, limit: int) -> Sequence[Entry] | None:
        """Return a page of what is known here; None: ask the store.

        That there is nothing after a position is said only if the store said so since this was
        called: many who ask that are answered by one look.
        """
        page = self._rings.read(session_id, after, limit)
        if page is None:
            return None
        now = asyncio.get_running_loop().time()
        if page and self._rings.fresh(session_id, now - self._trusted):
            return page
        if not await self._looks.look(session_id):
            return None
        return self._rings.read(session_id, after, limit)

    async def wait(self, session_id: str, after: Position) -> None:
        """Wait as `Log.wait` does. It does not fail while the store is away: it waits."""
        if self._closed:
            return
        followed = self._rings.follow(session_id)
        followed.waiters += 1
        ring = self._sessions.listen(session_id)
        try:
            if _past(followed.known, after):
                return
            # What is not followed yet is looked at once; so is it if the reader knows more of the
            # log than is known here, or another one. If it still differs then, reading tells why.
            if followed.known != after:
                looked = await self._looks.look(session_id)
                if _past(followed.known, after) or (looked and followed.known != after):
                    return
                followed.blind = followed.blind or not looked
            await ring
        finally:
            self._sessions.leave(session_id, ring)
            followed.waiters -= 1
            followed.left = asyncio.get_running_loop().time()

    async def wait_orphans(self) -> None:
        """Wait as `Ledger.wait_orphans` does."""
        if not self._closed:
            await self._orphans.wait(ANYTHING)

    async def wait_subscriptions(self, client_id: str, known: Mapping[str, str]) -> None:
        """Wait as `Ledger.wait_subscriptions` does. It does not fail while the store is away."""
        if self._closed:
            return
        ring = self._clients.listen(client_id)
        try:
            current = await self._looks.subscriptions(client_id)
            if current is None or current == known:
                await ring
        finally:
            self._clients.leave(client_id, ring)
            self._looks.left(client_id)

    async def aclose(self) -> None:
        """Wake everybody, say the last hints, and let go of all connections."""
        self._closed = True
        self._looks.close()
        self._hints.close()
        for bell in (self._sessions, self._clients, self._orphans):
            bell.ring_all()
        if self._looking is not None:
            self._looking.cancel()
        if self._hinting is not None:
            await asyncio.wait((self._hinting,), timeout=FAREWELL_SECONDS)
            self._hinting.cancel()
        tasks = [task for task in (self._looking, self._hinting) if task is not None]
        if tasks:
            await asyncio.wait(tasks)


def _past(known: Position | None, after: Position) -> bool:
    """Tell whether there is something after a position, in this log."""
    return known is not None and known.epoch == after.epoch and known.seq > after.seq
