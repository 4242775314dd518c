"""Looks into the store for everybody who wants to know, many sessions at a time.

One look is under way at any time, so that none can be overtaken by another. Who asks while one is
under way is answered by the next: what was found may be older than the question.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice

from gateway.engines.postgres.asking import Asking
from gateway.engines.postgres.connections import Connections
from gateway.engines.postgres.heads import Answers, Questions, ask
from gateway.engines.postgres.pauses import pause_after
from gateway.engines.postgres.rings import Question, Rings, Then
from gateway.engines.stamps import Clock
from gateway.errors import EngineClosed, EngineUnavailable
from gateway.log.bell import WAIT_LIMIT, Bell

__all__ = ["ANYTHING", "Looks"]

ANYTHING = ""
"""The one key of a bell that does not ring for anything in particular."""

PAGE = 1000
"""Sessions of which one query compares the heads: the loop is not held up for longer than 5 ms."""

FETCHES = 32
"""Sessions of which one query fetches entries: at most 8 MiB, unless entries are larger than a page."""

GRACE_SECONDS = 5.0
"""A session is followed for so long after the last one who waited for it has left."""

UNTOLD = -1
"""In place of the version of subscriptions of which somebody waits for a change from he knows not what."""

_logger = logging.getLogger(__name__)


class Looks:
    """Keeps rings at what the store has, and rings the bells of those for whom something is new.

    Args:
        connections: To the store.
        rings: What is known of the sessions that are followed.
        sessions: The bell of those who wait for sessions.
        clients: The bell of those who wait for a client's subscriptions.
        orphans: The bell of those who wait for work.
        poll: Seconds after which everything that is waited for is looked at in any case.
        clock: In place of the store's, for tests.
    """

    def __init__(
        self,
        connections: Connections,
        rings: Rings,
        *,
        sessions: Bell,
        clients: Bell,
        orphans: Bell,
        poll: float,
        clock: Clock | None,
    ) -> None:
        self._connections = connections
        self._rings = rings
        self._sessions = sessions
        self._clients = clients
        self._orphans = orphans
        self._poll = poll
        self._clock = clock
        self._wanted = asyncio.Event()
        self._soon: dict[str, Then] = {}
        self._due: list[str] = []
        self._asking = Asking[bool](WAIT_LIMIT)
        self._asking_clients = Asking[Mapping[str, str]](WAIT_LIMIT)
        self._versions: dict[str, int | None] = {}
        self._everything = True
        self._failures = 0

    def want(self, session_id: str, then: Then) -> None:
        """Have a session looked at, if what was learnt of it asks for that."""
        if then is Then.WAKE or then is Then.WAKE_AND_FETCH:
            self._sessions.ring(session_id)
        if then is Then.FETCH or then is Then.WAKE_AND_FETCH:
            self._soon[session_id] = Then.FETCH
            self._wanted.set()
        elif then is Then.LOOK:
            self._soon.setdefault(session_id, then)
            self._wanted.set()

    def want_all(self) -> None:
        """Have everything looked at that is waited for."""
        self._everything = True
        self._wanted.set()

    async def look(self, session_id: str) -> bool:
        """Have a session looked at from now on; return whether that was done."""
        if self._failures:
            return False  # the store is away; it is tried again soon
        self.want(session_id, Then.LOOK)
        return await self._asking.ask(session_id) or False

    async def subscriptions(self, client_id: str) -> Mapping[str, str] | None:
        """Return a client's subscriptions as of some moment from now on; None if that fails.

        When they have changed since, the bell rings, as long as somebody waits for it.
        """
        found = None
        if not self._failures:
            self._wanted.set()
            found = await self._asking_clients.ask(client_id)
        if found is None:
            self._versions[client_id] = UNTOLD
        return found

    def left(self, client_id: str) -> None:
        """Take in that somebody waits for a client's subscriptions no more."""
        if client_id not in self._clients.awaited():
            self._versions.pop(client_id, None)

    def close(self) -> None:
        """Answer whoever still asks."""
        self._failures += 1
        self._give_up()

    async def run(self) -> None:
        """Look at what is wanted, and now and then at everything, whatever happens; until closed."""
        loop = asyncio.get_running_loop()
        next_poll = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_poll):
                    await self._wanted.wait()
            self._wanted.clear()
            if poll := self._everything or loop.time() >= next_poll:
                self._mark(loop.time())
                next_poll = loop.time() + self._poll * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load
            try:
                questions = self._questions(poll=poll)
                self._take_in(questions, await self._ask(questions))
            except EngineClosed:
                self.close()
                return
            except Exception as error:
                if not isinstance(error, EngineUnavailable):  # of that others tell
                    _logger.exception("what is followed cannot be looked at")
                await self._failed()
            else:
                self._failures = 0

    async def _failed(self) -> None:
        """Leave the store alone for a moment, then look at everything."""
        self._failures += 1
        self._give_up()
        await asyncio.sleep(pause_after(self._failures))
        self.want_all()

    async def _ask(self, questions: Questions) -> Answers:
        if not questions and not self._failures:
            return Answers()
        return await self._connections.read(lambda db: ask(db, questions))

    def _mark(self, now: float) -> None:
        """Begin a look at everything that is waited for and was not looked at just now."""
        before = float("inf") if self._everything else now - self._poll / 2
        self._everything = False
        self._rings.forget(now - GRACE_SECONDS)
        self._due = self._rings.due(before)

    def _give_up(self) -> None:
        self._asking.give_up()
        self._asking_clients.give_up()
        self._soon.clear()
        self._due.clear()

    def _questions(self, *, poll: bool) -> Questions:
        """Return what is to be asked next: what is wanted most, and as much as one look may take."""
        fetches, checks = self._take()
        clients = [*islice(self._asking_clients, PAGE)]
        for name in clients:
            self._asking_clients.take(name)
        return Questions(
            fetches=fetches,
            checks=checks,
            clients=clients,
            versions=tuple(self._versions) if poll else (),
            work=poll and bool(self._orphans.awaited()),
            now=None if self._clock is None else self._clock(),
        )

    def _take(self) -> tuple[list[Question], list[Question]]:
        """Return from whom to fetch, and whose heads to compare."""
        fetches, checks = list[Question](), list[Question]()
        for session_id, then in [*islice(self._soon.items(), PAGE)]:
            if then is not Then.FETCH:
                del self._soon[session_id]
                self._question(session_id, checks)
            elif len(fetches) < FETCHES:
                del self._soon[session_id]
                self._question(session_id, fetches)
        due, self._due = self._due[:PAGE], self._due[PAGE:]
        for session_id in due:
            self._question(session_id, checks)
        return fetches, checks

    def _question(self, session_id: str, questions: list[Question]) -> None:
        self._asking.take(session_id)
        asked = self._rings.question(session_id, asyncio.get_running_loop().time())
        if asked is None:  # nobody follows it any more
            self._asking.answer(session_id, answer=True)
        else:
            questions.append(asked)

    def _take_in(self, questions: Questions, answers: Answers) -> None:
        """Wake those for whom something is new, and answer those who asked."""
        for asked, found in answers.fetched:
            self._learnt(asked, self._rings.fetched(asked, found))
        for asked in questions.checks:
            if asked.session_id in answers.differing:
                head = answers.differing[asked.session_id]
                self._learnt(asked, self._rings.differs(asked, head))
            else:
                self._learnt(asked, self._rings.agreed(asked))
        for name, (version, subscriptions) in answers.clients.items():
            if self._versions.get(name, version) != version:
                self._clients.ring(name)  # those who have waited for longer
            self._versions[name] = version
            self._asking_clients.answer(name, subscriptions)
        for name in questions.versions:
            if name in self._versions and self._versions[name] != answers.versions.get(name):
                self._clients.ring(name)
        if answers.work:
            self._orphans.ring(ANYTHING)
        if self._soon or self._due or self._asking_clients:
            self._wanted.set()

    def _learnt(self, asked: Question, then: Then) -> None:
        if then is not Then.REST:
            self.want(asked.session_id, then)
        if then is Then.REST or then is Then.WAKE:
            self._asking.answer(asked.session_id, answer=True)
        else:
            self._asking.put_back(asked.session_id)
