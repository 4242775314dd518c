"""Keeps SQLite's write-ahead log small.

SQLite itself copies the log into the database after each 1,000 pages, and begins the log anew as soon
as nobody reads it. Where some reader always does, it never begins anew; then it is made to here, while
our own readers rest.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic

__all__ = ["Bounded"]

LIMIT_BYTES = 32 * 1024 * 1024
"""Eight times the size at which SQLite begins to copy."""

PATIENCE_MS = 200
"""For readers of other programs. Ours, and writers, wait in the meantime."""

PAUSE_SECONDS = 10.0
"""After an attempt that failed, because another program reads for long."""

_logger = logging.getLogger(__name__)


class Bounded:
    """Bounds the write-ahead log of one writing connection. For the thread that writes."""

    def __init__(
        self,
        db: sqlite3.Connection,
        resting: Callable[[], AbstractContextManager[None]],
        limit: int = LIMIT_BYTES,
    ) -> None:
        """Make it.

        Args:
            db: The connection.
            resting: Keeps our own readers from reading; see `Readers.resting`.
            limit: In bytes.
        """
        self._db = db
        self._resting = resting
        (_, _, path) = db.execute("PRAGMA database_list").fetchone()
        self._file = Path(f"{path}-wal")
        self._limit = limit
        self._not_before = 0.0

    def keep(self) -> None:
        """Empty the log if it is too large; call it between transactions."""
        if self._size() <= self._limit or monotonic() < self._not_before:
            return
        (before,) = self._db.execute("PRAGMA busy_timeout").fetchone()
        self._db.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
        try:
            with self._resting():
                (busy, _, _) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            _logger.warning("the write-ahead log could not be emptied", exc_info=True)
            busy = 1
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {before}")
        if busy:
            self._not_before = monotonic() + PAUSE_SECONDS
            _logger.warning(
                "the write-ahead log grows: another program reads the database for long",
                extra={"bytes": self._size()},
            )

    def _size(self) -> int:
        try:
            return self._file.stat().st_size
        except OSError:
            return 0
