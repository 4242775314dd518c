"""A few connections that cannot write, each in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.errors import EngineUnavailable

__all__ = ["Readers"]

REST_SECONDS = 0.2
"""How long whoever wants all to rest waits for one of them: reads are done in a few milliseconds."""

_T = TypeVar("_T")


class Readers:
    """Runs reads, each in one transaction: it sees one state of the store.

    Args:
        connections: As many threads are used.
    """

    def __init__(self, connections: Sequence[sqlite3.Connection]) -> None:
        self._connections = tuple(connections)
        self._free: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for connection in connections:
            self._free.put(connection)
        self._may_read = threading.Event()
        self._may_read.set()
        self._threads = ThreadPoolExecutor(len(connections), thread_name_prefix="sqlite-reader")

    async def do(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        """Return what `read` returns or raises.

        Raises:
            EngineUnavailable: If the store failed.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._do, read)

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Let no read begin until the block ends. Blocks until those that have begun are done.

        One that takes unusually long is not waited for.
        """
        taken: list[sqlite3.Connection] = []
        self._may_read.clear()
        try:
            with contextlib.suppress(queue.Empty):
                while len(taken) < len(self._connections):
                    taken.append(self._free.get(timeout=REST_SECONDS))
            yield
        finally:
            for connection in taken:
                self._free.put(connection)
            self._may_read.set()

    def _do(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        self._may_read.wait()
        db = self._free.get()
        try:
            db.execute("BEGIN")
            try:
                return read(db)
            finally:
                db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise EngineUnavailable from error
        finally:
            self._free.put(db)

    def stop(self) -> None:
        """Finish what is queued and close the connections. Blocks."""
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()
