"""One connection that appends: what is queued goes out as one call, and each call is followed to its end.

Nothing ever cancels a call or gives it a time limit. While a commit waits for a standby, to cancel it
would make it visible to all readers although no standby has it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import asyncpg

from gateway.engines.postgres.calls import (
    APPEND,
    SETTLE,
    Committed,
    Try,
    arguments,
    outcomes,
    questions,
    settled,
)
from gateway.engines.postgres.connections import Connections, is_lost
from gateway.engines.stamps import Clock
from gateway.errors import EngineClosed, EngineUnavailable, GatewayError
from gateway.log.engine import Appended, Write

__all__ = ["Lane"]

BATCH_LIMIT = 512
"""Writes in one call: bounds how long the first has to wait for the last."""

BATCH_BYTES = 4 * 1024 * 1024
"""Bytes of events in one call, except for a write that is larger alone."""

PAUSE_SECONDS = (0.05, 2.0)
"""The first and the longest pause between attempts to reach a database that is away."""

_TRANSIENT = (
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.SerializationError,
    asyncpg.TransactionTimeoutError,
)
"""After these nothing was written, and it may be tried again."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Job:
    """A write that waits; `since` is by the event loop's clock."""

    write: Write
    result: asyncio.Future[Appended]
    since: float
    size: int

    def end(self, outcome: Committed | Appended | GatewayError) -> None:
        """Tell the caller, if it is still there."""
        if self.result.done():
            return
        if isinstance(outcome, GatewayError):
            self.result.set_exception(outcome)
        else:
            appended = outcome.appended if isinstance(outcome, Committed) else outcome
            self.result.set_result(appended)


@dataclass(frozen=True, slots=True)
class _Sent:
    """Jobs that went out on a connection, and under which tags; their outcome is not known."""

    lane: int
    jobs: Sequence[_Job]
    tries: Sequence[Try]


class Lane:
    """Appends for some of the sessions, in order for each of them.

    Args:
        connections: Where its connection comes from.
        name: What the connection is called.
        clock: Tells the time in place of the database's clock.
        lease: Seconds that a claim holds.
        patience: Seconds after which a write that was not sent yet is given up.
        committed: Called after each commit, in the order of commits.
    """

    def __init__(
        self,
        connections: Connections,
        name: str,
        *,
        clock: Clock | None,
        lease: float,
        patience: float,
        committed: Callable[[Committed], None],
    ) -> None:
        self._connections = connections
        self._name = name
        self._clock = clock
        self._lease = lease
        self._patience = patience
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, deque[_Job]] = {}
        self._singly = 0
        self._sent: _Sent | None = None
        self._failures = 0
        self._is_closing = False
        self._wake = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None
        self._db: asyncpg.Connection | None = None
        self._number = 0
        self._is_doubtful = False
        self._task = asyncio.create_task(self._run(), name=f"postgres {name}")

    def put(self, write: Write) -> asyncio.Future[Appended]:
        """Queue a write; the future that is returned may be cancelled, the write goes on."""
        result: asyncio.Future[Appended] = self._loop.create_future()
        job = _Job(write, result, self._loop.time(), sum(map(len, write.bodies)))
        jobs = self._waiting.get(write.session_id)
        if jobs is None:
            self._waiting[write.session_id] = deque((job,))
        else:
            jobs.append(job)
        self._wake.set()
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._patience / 4, self._sweep)
        return result

    async def aclose(self, limit: float) -> None:
        """Finish what is queued, for at most so many seconds; then nothing is left."""
        self._is_closing = True
        self._wake.set()
        await asyncio.wait([self._task], timeout=limit)
        if not self._task.done():
            _logger.warning("the store did not answer; some appends are given up")
            self._task.cancel()
            self._abandon()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _abandon(self) -> None:
        """Let go of all that is not done, and of the connection, without a word that breaks a commit."""
        if self._db is not None:
            self._db.terminate()
        for jobs in self._waiting.values():
            for job in jobs:
                job.end(EngineClosed())
        self._waiting.clear()
        for job in self._sent.jobs if self._sent is not None else ():
            job.end(EngineUnavailable())
        self._sent = None

    async def _run(self) -> None:
        try:
            while await self._has_work():
                try:
                    if self._sent is not None:
                        await self._settle(self._sent)
                    else:
                        await self._write()
                except EngineClosed:
                    self._abandon()
                except EngineUnavailable:
                    await self._pause()
                except Exception:
                    _logger.exception("appends failed in a way that nobody thought of")
                    self._abandon()
            if self._db is not None:
                await self._db.close(timeout=2)
        finally:
            if self._db is not None:
                self._db.terminate()

    async def _has_work(self) -> bool:
        """Wait for something to do; return False when nothing more will come."""
        while not self._waiting and self._sent is None:
            if self._is_closing:
                return False
            self._wake.clear()
            await self._wake.wait()
        return True

    async def _pause(self) -> None:
        first, longest = PAUSE_SECONDS
        self._failures += 1
        pause = min(longest, first * 2.0 ** min(self._failures, 10))
        await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret

    def _sweep(self) -> None:
        """Fail what has waited for too long and was not sent: it is sure that nothing was written."""
        self._sweeper = None
        before = self._loop.time() - self._patience
        for session_id, jobs in list(self._waiting.items()):
            while jobs and jobs[0].since <= before:
                jobs.popleft().end(EngineUnavailable())
            if not jobs:
                del self._waiting[session_id]
        if self._waiting:
            self._sweeper = self._loop.call_later(self._patience / 4, self._sweep)

    def _take(self) -> list[_Job]:
        """Take the first write of each session, as many as fit in one call."""
        limit = BATCH_LIMIT
        if self._singly:
            self._singly -= 1
            limit = 1
        batch: list[_Job] = []
        size = 0
        for session_id in list(islice(self._waiting, limit)):
            jobs = self._waiting[session_id]
            size += jobs[0].size
            if batch and size > BATCH_BYTES:
                break
            batch.append(jobs.popleft())
            del self._waiting[session_id]
            if jobs:
                self._waiting[session_id] = jobs  # it comes again after all others
        return batch

    def _put_back(self, batch: Sequence[_Job]) -> None:
        """Queue jobs again before all others, as they were not done."""
        before = self._loop.time() - self._patience
        first: dict[str, deque[_Job]] = {}
        for job in batch:
            if job.since <= before:
                job.end(EngineUnavailable())
                continue
            session_id = job.write.session_id
            first[session_id] = self._waiting.pop(session_id, deque())
            first[session_id].appendleft(job)
        self._waiting = first | self._waiting
        if self._waiting and self._sweeper is None:
            self._sweeper = self._loop.call_later(self._patience / 4, self._sweep)

    async def _connected(self) -> asyncpg.Connection:
        if self._db is None or self._db.is_closed():
            self._db = await self._connections.dedicated(self._name)
            self._db.add_log_listener(self._hear)
            self._number = secrets.randbits(63)
            self._is_doubtful = False
        return self._db

    def _hear(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        """Notice when a commit was told not to wait for its standby: what it did may still be lost."""
        if "synchronous replication" in str(message):
            _logger.warning("a commit did not wait for its standby: %s", message)
            self._is_doubtful = True

    async def _write(self) -> None:
        """Do one batch."""
        db = await self._connected()
        jobs = self._take()
        if not jobs:
            return
        tries = [Try(job.write) for job in jobs]
        now = self._clock() if self._clock is not None else None
        self._sent = sent = _Sent(self._number, jobs, tries)
        called = arguments(tries, self._number, now, self._lease)
        answer = await self._undisturbed(db, db.fetchrow(APPEND, *called))
        if isinstance(answer, Exception):
            self._failed(db, sent, answer)
        elif self._is_doubtful:
            db.terminate()  # what became of it is found out on another one
        else:
            found = outcomes(tries, answer)
            self._sent = None
            self._failures = 0
            for job, outcome in zip(jobs, found, strict=True):
                self._deliver(job, outcome)

    def _failed(self, db: asyncpg.Connection, sent: _Sent, error: Exception) -> None:
        """Decide what a failed call means.

        Raises:
            EngineUnavailable: If it is to be tried again after a pause.
        """
        self._connections.failed(error)
        refused = isinstance(error, (asyncpg.PostgresError, asyncpg.DataError))
        if db.is_closed() or not refused or is_lost(error):
            db.terminate()
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                self._not_done(sent)
            raise EngineUnavailable from error
        if isinstance(error, _TRANSIENT):
            self._not_done(sent)
            raise EngineUnavailable from error
        if len(sent.jobs) > 1:  # one of them is at fault; the others shall not suffer for it
            self._not_done(sent)
            self._singly = len(sent.jobs)
            return
        self._sent = None
        failure = EngineUnavailable()
        failure.__cause__ = error
        sent.jobs[0].end(failure)

    def _not_done(self, sent: _Sent) -> None:
        self._sent = None
        self._put_back(sent.jobs)

    async def _settle(self, sent: _Sent) -> None:
        """Find out what became of a call whose answer was lost."""
        db = await self._connected()
        answer = await self._undisturbed(db, db.fetch(SETTLE, *questions(sent.tries, sent.lane)))
        if isinstance(answer, Exception):
            self._connections.failed(answer)
            db.terminate()
            raise EngineUnavailable from answer
        if self._is_doubtful:
            db.terminate()
            raise EngineUnavailable
        self._sent = None
        again: list[_Job] = []
        for job, each, row in zip(sent.jobs, sent.tries, answer, strict=True):
            outcome = settled(each, row)
            if outcome is None:
                again.append(job)
            else:
                self._deliver(job, outcome)
        self._put_back(again)

    async def _undisturbed(
        self, db: asyncpg.Connection, call: Coroutine[Any, Any, Any]
    ) -> Any | Exception:
        """Return what a call returns or raises, and let nothing cancel it on the server."""
        return await asyncio.shield(_Call(_tried(call), db))

    def _deliver(self, job: _Job, outcome: Committed | Appended | GatewayError) -> None:
        """Do what follows a commit, whether or not the caller still waits."""
        if isinstance(outcome, Committed):
            try:
                self._committed(outcome)
            except Exception:
                _logger.exception("what follows a commit failed")
        job.end(outcome)


class _Call(asyncio.Task[Any]):
    """A call to the server. Who cancels it, as a loop that is shut down does, ends the connection.

    asyncpg would ask the server to cancel the statement.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], db: asyncpg.Connection) -> None:
        super().__init__(work, loop=asyncio.get_running_loop())
        self._db = db

    def cancel(self, msg: object = None) -> bool:
        self._db.terminate()
        return False


async def _tried(call: Coroutine[Any, Any, Any]) -> Any | Exception:
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - whoever called decides
        return error
