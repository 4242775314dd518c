"""The store that keeps sessions in one SQLite file: they survive the process, and the power."""

# ruff: noqa: D102 - its methods are documented once, on the `CheckpointStore` protocol

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

from runtime.checkpoint import Checkpoint
from runtime.errors import CheckpointError
from runtime.graph.store import (
    Entry,
    Kept,
    RunRecord,
    check_next,
    dumped,
    journaled,
    loaded,
    no_checkpoint,
    no_session,
    status_after,
)

__all__ = ["SqliteStore"]

T = TypeVar("T")

SCHEMAS = (
    """
    CREATE TABLE run (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL UNIQUE,
        session_id TEXT NOT NULL,
        began_after INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX run_of_session ON run (session_id, number);
    CREATE TABLE checkpoint (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        checkpoint_id TEXT NOT NULL UNIQUE,
        session_id TEXT NOT NULL,
        run_id TEXT NOT NULL,
        journal_after INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX checkpoint_of_session ON checkpoint (session_id, number);
    CREATE TABLE entry (
        session_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        at TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (session_id, seq)
    ) STRICT, WITHOUT ROWID;
    """,
)
"""The steps that make the tables; `PRAGMA user_version` counts those that were done."""

BUSY_SECONDS = 5.0
"""How long a transaction waits for one of another process."""


class SqliteStore:
    """Keeps sessions in a file. One process may run a session at a time; many may read."""

    def __init__(self, path: Path | str) -> None:
        """Name the file; it is opened, and made if it is missing, when it is first used.

        Args:
            path: On a local file system, in a folder that exists.
        """
        self._path = Path(path)
        self._db: sqlite3.Connection | None = None
        # One thread is the lock: what is asked for behind a cancelled call waits for its end.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-store")
        self._closed = False

    async def begin(self, run: RunRecord) -> int:
        def work(db: sqlite3.Connection) -> int:
            tail = _tail(db, run.session_id)
            db.execute(
                "INSERT INTO run (run_id, session_id, began_after, body) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (run_id) DO UPDATE SET body = excluded.body",
                (run.run_id, run.session_id, tail, _body(run)),
            )
            return tail

        return await self._do(work)

    async def record(self, session_id: str, entries: Sequence[Entry]) -> None:
        await self._do(lambda db: _record(db, session_id, entries))

    async def save(
        self,
        session_id: str,
        checkpoint: Checkpoint,
        entries: Sequence[Entry] = (),
        *,
        keep_journal: bool = False,
    ) -> None:
        def work(db: sqlite3.Connection) -> None:
            _record(db, session_id, entries)
            after = _journal_after(db, session_id) if keep_journal else _tail(db, session_id)
            db.execute(
                "INSERT INTO checkpoint (checkpoint_id, session_id, run_id, journal_after, body)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    checkpoint.checkpoint_id,
                    session_id,
                    checkpoint.run_id,
                    after,
                    checkpoint.model_dump_json().encode(),
                ),
            )

        await self._do(work)

    async def load(self, session_id: str) -> Kept | None:
        def work(db: sqlite3.Connection) -> Kept | None:
            newest = _newest(db, session_id)
            if newest is None:
                return None
            run, _ = newest
            checkpoint = None
            own = _own(db, session_id, run.run_id)
            if own is not None:
                checkpoint = Checkpoint.model_validate_json(own[0])
            elif run.checkpoint_id is not None:
                _, checkpoint = _get(db, run.checkpoint_id)
            entries = _events(db, session_id, _journal_after(db, session_id), None)
            journal = tuple(entry.event for entry in entries if journaled(entry.event))
            return Kept(run, _tail(db, session_id), checkpoint, journal)

        return await self._do(work)

    async def get(self, checkpoint_id: str) -> tuple[str, Checkpoint]:
        return await self._do(lambda db: _get(db, checkpoint_id))

    async def history(self, session_id: str) -> tuple[Checkpoint, ...]:
        def work(db: sqlite3.Connection) -> tuple[Checkpoint, ...]:
            rows = db.execute(
                "SELECT body FROM checkpoint WHERE session_id = ? ORDER BY number", (session_id,)
            )
            return tuple(Checkpoint.model_validate_json(body) for (body,) in rows)

        return await self._do(work)

    async def events(
        self, session_id: str, after: int = 0, *, limit: int | None = None
    ) -> tuple[Entry, ...]:
        return await self._do(lambda db: _events(db, session_id, after, limit))

    async def runs(self, session_id: str) -> tuple[RunRecord, ...]:
        def work(db: sqlite3.Connection) -> tuple[RunRecord, ...]:
            rows = db.execute(
                "SELECT body FROM run WHERE session_id = ? ORDER BY number", (session_id,)
            )
            return tuple(RunRecord.model_validate_json(body) for (body,) in rows)

        return await self._do(work)

    async def sessions(self) -> tuple[str, ...]:
        def work(db: sqlite3.Connection) -> tuple[str, ...]:
            rows = db.execute("SELECT session_id FROM run GROUP BY session_id ORDER BY min(number)")
            return tuple(session_id for (session_id,) in rows)

        return await self._do(work)

    async def delete(self, session_id: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM run WHERE session_id = ?", (session_id,))
            db.execute("DELETE FROM checkpoint WHERE session_id = ?", (session_id,))
            db.execute("DELETE FROM entry WHERE session_id = ?", (session_id,))

        await self._do(work)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._thread.submit(self._close)
        await asyncio.to_thread(self._thread.shutdown)

    # --- on the thread -------------------------------------------------------------------------

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in a transaction, to its end also if the caller is cancelled.

        Raises:
            CheckpointError: If the store failed, or is closed; nothing was written.
        """
        if self._closed:
            raise CheckpointError("the store is closed")
        job = asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)
        return await asyncio.shield(job)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._db is None:
                self._db = _open(self._path)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._db)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise CheckpointError(f"the store failed: {type(error).__name__}") from error
        return result

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    try:
        _write_ahead(db)
        db.execute("PRAGMA synchronous = FULL")
        _migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _write_ahead(db: sqlite3.Connection) -> None:
    """Keep a log in a file of its own. SQLite itself does not wait here for who does the same."""
    until = monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > until:
                raise
            sleep(0.01)
        else:
            return


def _migrate(db: sqlite3.Connection) -> None:
    """Do the steps that are missing; another process may be about to do the same."""
    db.execute("BEGIN IMMEDIATE")
    (done,) = db.execute("PRAGMA user_version").fetchone()
    if done > len(SCHEMAS):
        raise CheckpointError(
            f"the store was made by a newer version (schema {done}, "
            f"this version knows {len(SCHEMAS)})"
        )
    for script in SCHEMAS[done:]:
        for statement in script.split(";"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(SCHEMAS)}")
    db.execute("COMMIT")


# --- inside a transaction --------------------------------------------------------------------------


def _body(run: RunRecord) -> bytes:
    return run.model_dump_json().encode()


def _tail(db: sqlite3.Connection, session_id: str) -> int:
    (tail,) = db.execute(
        "SELECT max(seq) FROM entry WHERE session_id = ?", (session_id,)
    ).fetchone()
    return tail or 0


def _newest(db: sqlite3.Connection, session_id: str) -> tuple[RunRecord, int] | None:
    """Return the session's newest run, and the tail when it began."""
    row = db.execute(
        "SELECT body, began_after FROM run WHERE session_id = ? ORDER BY number DESC LIMIT 1",
        (session_id,),
    ).fetchone()
    return None if row is None else (RunRecord.model_validate_json(row[0]), row[1])


def _own(db: sqlite3.Connection, session_id: str, run_id: str) -> tuple[bytes, int] | None:
    """Return a run's last own checkpoint, and the last entry before its journal."""
    row = db.execute(
        "SELECT body, journal_after FROM checkpoint WHERE session_id = ? AND run_id = ?"
        " ORDER BY number DESC LIMIT 1",
        (session_id, run_id),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def _journal_after(db: sqlite3.Connection, session_id: str) -> int:
    newest = _newest(db, session_id)
    if newest is None:
        return 0
    run, began_after = newest
    own = _own(db, session_id, run.run_id)
    return began_after if own is None else own[1]


def _record(db: sqlite3.Connection, session_id: str, entries: Sequence[Entry]) -> None:
    if _newest(db, session_id) is None:
        raise no_session(session_id)
    check_next(session_id, _tail(db, session_id), entries)
    db.executemany(
        "INSERT INTO entry (session_id, seq, at, body) VALUES (?, ?, ?, ?)",
        [(session_id, entry.seq, entry.at.isoformat(), dumped(entry.event)) for entry in entries],
    )
    for run_id in {entry.event.run_id for entry in entries}:
        row = db.execute("SELECT body FROM run WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            continue
        run = RunRecord.model_validate_json(row[0])
        status = status_after(run, entries)
        if status != run.status:
            run = run.model_copy(update={"status": status})
            db.execute("UPDATE run SET body = ? WHERE run_id = ?", (_body(run), run_id))


def _get(db: sqlite3.Connection, checkpoint_id: str) -> tuple[str, Checkpoint]:
    row = db.execute(
        "SELECT session_id, body FROM checkpoint WHERE checkpoint_id = ?", (checkpoint_id,)
    ).fetchone()
    if row is None:
        raise no_checkpoint(checkpoint_id)
    return row[0], Checkpoint.model_validate_json(row[1])


def _events(
    db: sqlite3.Connection, session_id: str, after: int, limit: int | None
) -> tuple[Entry, ...]:
    rows = db.execute(
        "SELECT seq, at, body FROM entry WHERE session_id = ? AND seq > ? ORDER BY seq LIMIT ?",
        (session_id, after, -1 if limit is None else limit),
    )
    return tuple(Entry(seq, datetime.fromisoformat(at), loaded(body)) for seq, at, body in rows)
