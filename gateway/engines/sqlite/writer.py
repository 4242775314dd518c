"""The one thread that writes: group commit, and results delivered from the commit.

The thread is the lock. Work queued behind a call that was cancelled simply waits its turn, and what
follows a commit (cache, results, bells) is started by the commit, so that a caller that went away
takes nothing with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.engines.sqlite.wal import Bounded
from gateway.errors import EngineUnavailable, GatewayError

__all__ = ["Writer"]

BATCH_LIMIT = 512
"""Jobs in one transaction: bounds how long the first has to wait for the last."""

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Job:
    """Something to write; `committed` is called on the event loop with what `work` returned."""

    work: Callable[[sqlite3.Connection], Any]
    committed: Callable[[Any], None]
    result: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Failed:
    """Stands for a result: the job wrote nothing."""

    error: Exception


class _Spoiled(_Failed):
    """The job may have written something, and all of the transaction has to be rolled back."""


class Writer:
    """Does all writes and all checkpoints, many jobs in one transaction.

    Args:
        db: The connection; from now on only the writer's thread uses it.
        resting: Keeps the readers from reading, for some checkpoints.
    """

    def __init__(
        self, db: sqlite3.Connection, resting: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._db = db
        self._resting = resting
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def do(
        self, work: Callable[[sqlite3.Connection], _T], committed: Callable[[_T], None]
    ) -> _T:
        """Queue a job, and return its result after the commit.

        Cancelling the caller does not stop the job.

        Args:
            work: Runs inside the transaction, on the thread; may run twice, the first time rolled
                back. It raises a `GatewayError` only if it has written nothing.
            committed: Called on the event loop right after the commit, in the order of commits.

        Raises:
            EngineUnavailable: If the store failed; nothing was written.
        """
        result: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.put(_Job(work, committed, result))
        return await result

    def stop(self) -> None:
        """Finish what is queued, do a last checkpoint and close the connection. Blocks."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        wal = Bounded(self._db, self._resting)
        stopping = False
        while not stopping:
            batch = [self._jobs.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < BATCH_LIMIT:
                    batch.append(self._jobs.get_nowait())
            jobs = [job for job in batch if job is not None]
            stopping = len(jobs) < len(batch)
            if jobs:
                outcomes = self._commit(jobs)
                self._loop.call_soon_threadsafe(_deliver, jobs, outcomes)
                wal.keep()
        self._close()

    def _commit(self, jobs: Sequence[_Job]) -> list[Any]:
        """Do all jobs in one transaction; return a result or a `_Failed` for each."""
        outcomes: list[Any] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for job in jobs:
                outcomes.append(_attempt(job, self._db))
                if isinstance(outcomes[-1], _Spoiled):
                    break
            else:
                self._db.execute("COMMIT")
                return outcomes
        except sqlite3.Error as error:
            self._roll_back()
            _logger.exception("the store failed")
            return [_Failed(_unavailable(error)) for _ in jobs]
        self._roll_back()
        if len(jobs) == 1:
            return outcomes
        # One of them is at fault; the others shall not suffer for it.
        return [outcome for job in jobs for outcome in self._commit([job])]

    def _roll_back(self) -> None:
        """Make the connection usable again; SQLite may have rolled back by itself."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _close(self) -> None:
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            _logger.warning("the last checkpoint failed; the next start does it", exc_info=True)
        self._db.close()


def _attempt(job: _Job, db: sqlite3.Connection) -> Any:
    """Return the job's result, its refusal, or that it failed half-way."""
    try:
        return job.work(db)
    except GatewayError as refusal:
        return _Failed(refusal)
    except sqlite3.Error as error:
        _logger.exception("a write failed")
        return _Spoiled(_unavailable(error))
    except Exception as error:  # noqa: BLE001 - the thread must live; the caller gets the error
        return _Spoiled(error)


def _unavailable(cause: sqlite3.Error) -> EngineUnavailable:
    error = EngineUnavailable()
    error.__cause__ = cause
    return error


def _deliver(jobs: Sequence[_Job], outcomes: Sequence[Any]) -> None:
    """On the event loop: what follows a commit, whether or not the caller still waits."""
    for job, outcome in zip(jobs, outcomes, strict=True):
        if isinstance(outcome, _Failed):
            if not job.result.done():
                job.result.set_exception(outcome.error)
            continue
        try:
            job.committed(outcome)
        except Exception:
            _logger.exception("what follows a commit failed")  # and yet it is committed
        if not job.result.done():
            job.result.set_result(outcome)
