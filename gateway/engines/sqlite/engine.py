"""`SqliteEngine`: joins the writer, the readers, the cache of recent entries and the bell."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Literal

from gateway.engines.reservations import Reservations
from gateway.engines.sqlite import leases, pruning, reads, snapshots, writes
from gateway.engines.sqlite.lock import lock_directory
from gateway.engines.sqlite.readers import Readers
from gateway.engines.sqlite.schema import has_wal_reset_bug, open_reader, open_writer
from gateway.engines.sqlite.writer import Writer
from gateway.engines.stamps import Clock, new_epoch, now_ms
from gateway.errors import EngineClosed
from gateway.log.bell import Bell
from gateway.log.engine import (
    LEASE_SECONDS,
    Answer,
    Appended,
    Checkpoint,
    Fence,
    Head,
    Orphan,
    SessionRecord,
    StoredSnapshot,
    Write,
)
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.recent import Recent
from gateway.log.upkeep import Excess, Lifetimes

__all__ = ["SqliteEngine", "Synchronous"]

Synchronous = Literal["full", "normal"]
"""`full` survives a power loss; after one, `normal` may have lost the last commits (readers whose
cursors are ahead then get a reset). A crash of the process loses nothing with either."""

_READERS = 2
"""Connections for reading. They serve only what has left the cache of recent entries."""

_ANY = ""
"""The one key of a bell that does not ring for anything in particular."""

_logger = logging.getLogger(__name__)


class SqliteEngine:
    """Logs and ledger in one file, `tidegate.db` in a directory that one server may use at a time.

    Attributes:
        shared: False: what is written is written here.
    """

    shared = False

    def __init__(
        self, lock: FileIO, db: sqlite3.Connection, readers: Readers, clock: Clock
    ) -> None:
        self._lock = lock
        self._writer = Writer(db, readers.resting)
        self._readers = readers
        self._clock = clock
        self._life = new_epoch()
        self._recent = Recent()
        self._reservations = Reservations()
        self._bell = Bell()
        self._orphans_bell = Bell()
        self._clients_bell = Bell()
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, directory: Path, *, synchronous: Synchronous = "full", clock: Clock = now_ms
    ) -> SqliteEngine:
        """Open the store in a directory, making both if they are missing.

        Args:
            directory: On a local file system; SQLite's log does not work over a network.
            synchronous: What a commit waits for.
            clock: Gives entries their time.

        Raises:
            StartupRefused: If the directory or the file in it cannot be used, or another server
                uses them.
        """
        lock, db, readers = await asyncio.to_thread(_open, directory, synchronous)
        if has_wal_reset_bug(sqlite3.sqlite_version_info):
            _logger.warning(
                "this SQLite can lose commits if another program (Litestream, sqlite3) writes to or "
                "checkpoints the database file; let none",
                extra={"sqlite_version": sqlite3.sqlite_version},
            )
        return cls(lock, db, readers, clock)

    async def append(self, write: Write) -> Appended:
        self._check_open()
        left_alone = write.claim is None and (write.release or write.status == "running")
        appended, _ = await self._writer.do(
            lambda db: writes.append(db, write, self._life, self._clock()),
            lambda result: self._appended(write.session_id, *result, left_alone=left_alone),
        )
        self._reservations.end(write)
        return appended

    def _appended(
        self, session_id: str, appended: Appended, before: Position, *, left_alone: bool
    ) -> None:
        """Make a commit known: to the cache first, then to who waits."""
        if appended.entries:
            self._recent.put(before, appended.entries)
            self._bell.ring(session_id)
        if left_alone:
            self._orphans_bell.ring(_ANY)

    async def head(self, session_id: str) -> Head:
        self._check_open()
        return await self._readers.do(lambda db: reads.head(db, session_id))

    async def read(self, session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
        self._check_open()
        recent = self._recent.read(session_id, after, limit)
        if recent is not None:
            return recent
        return await self._readers.do(lambda db: reads.entries(db, session_id, after, limit))

    async def wait(self, session_id: str, after: Position) -> None:
        if self._closing is not None:
            return
        tail = self._recent.tail(session_id)
        if tail is not None:
            if tail.seq <= after.seq:
                await self._bell.wait(session_id)
            return
        ring = self._bell.listen(session_id)
        try:
            seq = await self._readers.do(lambda db: reads.tail_seq(db, session_id))
            if seq is not None and seq <= after.seq:
                await ring
        finally:
            self._bell.leave(session_id, ring)

    async def trim(self, session_id: str, through: int, state: bytes | None = None) -> None:
        self._check_open()
        await self._writer.do(
            lambda db: pruning.trim(db, session_id, through, state),
            lambda _: self._recent.trim(session_id, through),
        )
        await self._drop_rows()

    async def _drop_rows(self) -> None:
        """Give back the room of what is hidden, a piece at a time."""
        while self._closing is None and await self._writer.do(pruning.drop_rows, _nothing):
            pass

    async def save_snapshot(self, session_id: str, snapshot: StoredSnapshot) -> None:
        self._check_open()
        await self._writer.do(
            lambda db: snapshots.save_snapshot(db, session_id, snapshot), _nothing
        )

    async def load_snapshot(
        self, session_id: str, through: int | None = None
    ) -> StoredSnapshot | None:
        self._check_open()
        return await self._readers.do(lambda db: snapshots.load_snapshot(db, session_id, through))

    async def session(self, session_id: str) -> SessionRecord:
        self._check_open()
        return await self._readers.do(lambda db: reads.session(db, session_id))

    async def sessions(self, *, limit: int, after: str | None) -> Sequence[SessionRecord]:
        self._check_open()
        return await self._readers.do(lambda db: reads.sessions(db, limit, after))

    async def heartbeat(
        self, claims: Mapping[str, Fence], *, lease: float = LEASE_SECONDS
    ) -> frozenset[str]:
        self._check_open()
        return await self._writer.do(
            lambda db: leases.heartbeat(db, claims, self._life, self._clock(), lease), _nothing
        )

    async def orphans(self, *, limit: int | None = None, reserve: float = 0.0) -> Sequence[Orphan]:
        self._check_open()
        now = self._clock()
        left = await self._readers.do(lambda db: leases.orphans(db, self._life, now))
        return self._reservations.give(left, limit=limit, reserve=reserve, now=now)

    async def wait_orphans(self) -> None:
        if self._closing is None:
            await self._orphans_bell.wait(_ANY)

    async def attend(self, session_ids: Collection[str], *, by: str, seconds: float) -> None:
        self._check_open()  # there is no other process that would ask

    async def alone(self, session_id: str, *, but: str) -> float | None:
        self._check_open()
        return None

    async def delete(self, session_id: str) -> None:
        self._check_open()
        await self._writer.do(
            lambda db: pruning.delete(db, session_id, self._clock()),
            lambda _: self._deleted(session_id),
        )
        await self._drop_rows()

    def _deleted(self, session_id: str) -> None:
        self._recent.drop(session_id)
        self._bell.ring(session_id)

    async def excess(
        self, *, events: int, age_ms: int, after: str | None, limit: int
    ) -> Sequence[Excess]:
        self._check_open()
        before = self._clock() - age_ms
        return await self._readers.do(
            lambda db: pruning.excess(db, events=events, before=before, after=after, limit=limit)
        )

    async def forget(self, *, age_ms: int, limit: int) -> Sequence[str]:
        self._check_open()
        now = self._clock()
        return await self._writer.do(
            lambda db: pruning.forget(db, now - age_ms, limit, now), self._forgotten
        )

    def _forgotten(self, session_ids: Sequence[str]) -> None:
        for session_id in session_ids:
            self._deleted(session_id)

    async def prune(self, lifetimes: Lifetimes) -> bool:
        self._check_open()
        return await self._writer.do(
            lambda db: pruning.prune(db, lifetimes, self._clock()), _nothing
        )

    async def answer(self, session_id: str, command_id: str) -> Answer | None:
        self._check_open()
        return await self._readers.do(lambda db: reads.answer(db, session_id, command_id))

    async def subscribe(self, client_id: str, session_id: str, cursor: str) -> None:
        self._check_open()
        await self._writer.do(
            lambda db: writes.subscribe(db, client_id, session_id, cursor, self._clock()),
            lambda _: self._clients_bell.ring(client_id),
        )

    async def unsubscribe(self, client_id: str, session_id: str) -> None:
        self._check_open()
        await self._writer.do(
            lambda db: writes.unsubscribe(db, client_id, session_id),
            lambda _: self._clients_bell.ring(client_id),
        )

    async def subscriptions(self, client_id: str) -> Mapping[str, str]:
        self._check_open()
        return await self._readers.do(lambda db: reads.subscriptions(db, client_id))

    async def wait_subscriptions(self, client_id: str, known: Mapping[str, str]) -> None:
        if self._closing is not None:
            return
        ring = self._clients_bell.listen(client_id)
        try:
            if await self._readers.do(lambda db: reads.subscriptions(db, client_id)) == known:
                await ring
        finally:
            self._clients_bell.leave(client_id, ring)

    async def save_checkpoint(self, client_id: str, checkpoint: Checkpoint) -> None:
        self._check_open()
        await self._writer.do(
            lambda db: writes.save_checkpoint(db, client_id, checkpoint, self._clock()), _nothing
        )

    async def load_checkpoint(self, client_id: str, checkpoint_id: str) -> Checkpoint | None:
        self._check_open()
        return await self._readers.do(
            lambda db: reads.load_checkpoint(db, client_id, checkpoint_id)
        )

    async def aclose(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)  # whoever is cancelled, it is finished

    async def _close(self) -> None:
        for bell in (self._bell, self._orphans_bell, self._clients_bell):
            bell.ring_all()
        # Readers first: the last connection to close must be one that can checkpoint.
        await asyncio.to_thread(self._readers.stop)
        await asyncio.to_thread(self._writer.stop)
        self._lock.close()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise EngineClosed


def _nothing(result: object) -> None:
    """Follow a commit of which nobody needs to know."""


def _open(directory: Path, synchronous: Synchronous) -> tuple[FileIO, sqlite3.Connection, Readers]:
    """Do the blocking part of `SqliteEngine.open`."""
    lock = lock_directory(directory)
    path = directory / "tidegate.db"
    try:
        db = open_writer(path, synchronous=synchronous)
        readers = Readers([open_reader(path) for _ in range(_READERS)])
    except BaseException:
        lock.close()
        raise
    return lock, db, readers
