"""`PostgresEngine`: joins the connections, the appender, what is followed, and the statements."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from gateway.engines.postgres import (
    clients,
    leases,
    pruning,
    reads,
    rows,
    schema,
    snapshots,
)
from gateway.engines.postgres.appender import Appender
from gateway.engines.postgres.connections import Connections
from gateway.engines.postgres.following import POLL_SECONDS, Following
from gateway.engines.postgres.lookups import Lookups
from gateway.engines.stamps import Clock
from gateway.errors import EngineClosed, EngineUnavailable
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
from gateway.log.upkeep import Excess, Lifetimes

__all__ = ["PostgresEngine"]


class PostgresEngine:
    """Logs and ledger in a Postgres database that any number of processes may use.

    Attributes:
        shared: True: others write too.
    """

    shared = True

    def __init__(
        self, connections: Connections, clock: Clock | None, *, poll: float, lease: float
    ) -> None:
        self._connections = connections
        self._clock = clock
        self._heart = connections.private("heartbeat")
        self._following = Following(connections, poll=poll, clock=clock)
        self._appender = Appender(connections, clock, self._following.committed, lease=lease)
        self._lookups = Lookups(lambda names: connections.read(lambda db: rows.look_up(db, names)))
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        direct: str | None = None,
        clock: Clock | None = None,
        poll: float = POLL_SECONDS,
        lease: float = LEASE_SECONDS,
        pool: int = 8,
        writers: int = 2,
        migrate: bool = True,
        patience: float = 0.0,
    ) -> PostgresEngine:
        """Open the store in a database, making or migrating its tables.

        Args:
            url: Of the database.
            direct: Of the server itself, where `url` is that of a PgBouncer.
            clock: Gives entries and leases their time; default: the clock of the database, which all
                processes share.
            poll: Seconds between two looks at what others may have written, if no hint comes.
            lease: How long a claim that is given holds (seconds).
            pool: At most so many connections for what is short.
            writers: So many connections append.
            migrate: Whether to bring an older schema up to date.
            patience: For how many seconds to try to reach a database that does not answer.

        Raises:
            StartupRefused: If the database cannot be reached or used, with the reason in one line.
        """
        await schema.prepare(direct or url, migrate=migrate, patience=patience)
        connections = await Connections.open(url, readers=pool, writers=writers, direct=direct)
        engine = cls(connections, clock, poll=poll, lease=lease)
        await engine._following.start()
        with suppress(
            EngineUnavailable
        ):  # opened early: a database that is slow must not cost a lease
            async with engine._heart.using():
                pass
        return engine

    async def append(self, write: Write) -> Appended:
        self._check_open()
        return await self._appender.append(write)

    async def head(self, session_id: str) -> Head:
        self._check_open()
        return rows.find(await self._lookups.find(session_id), session_id).head

    async def read(self, session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
        self._check_open()
        recent = await self._following.read(session_id, after, limit)
        if recent is not None:
            return recent
        return await self._connections.read(lambda db: reads.entries(db, session_id, after, limit))

    async def wait(self, session_id: str, after: Position) -> None:
        if self._closing is None:
            await self._following.wait(session_id, after)

    async def trim(self, session_id: str, through: int, state: bytes | None = None) -> None:
        self._check_open()
        async with self._connections.reading() as db:
            start = await pruning.trim(db, session_id, through, state)
        if start is not None:
            self._following.trimmed(session_id, start)
            await self._drop_rows()

    async def _drop_rows(self) -> None:
        """Give back the room of what is hidden, a piece at a time."""
        more = True
        while more and self._closing is None:
            async with self._connections.reading() as db:
                more = await pruning.drop_rows(db)

    async def save_snapshot(self, session_id: str, snapshot: StoredSnapshot) -> None:
        self._check_open()
        async with self._connections.reading() as db:
            await snapshots.save_snapshot(db, session_id, snapshot)

    async def load_snapshot(
        self, session_id: str, through: int | None = None
    ) -> StoredSnapshot | None:
        self._check_open()
        return await self._connections.read(
            lambda db: snapshots.load_snapshot(db, session_id, through)
        )

    async def session(self, session_id: str) -> SessionRecord:
        self._check_open()
        return rows.find(await self._lookups.find(session_id), session_id).record

    async def sessions(self, *, limit: int, after: str | None) -> Sequence[SessionRecord]:
        self._check_open()
        return await self._connections.read(lambda db: reads.sessions(db, limit, after))

    async def heartbeat(
        self, claims: Mapping[str, Fence], *, lease: float = LEASE_SECONDS
    ) -> frozenset[str]:
        self._check_open()
        async with self._heart.using() as db:
            return await leases.heartbeat(db, claims, self._now(), lease)

    async def orphans(self, *, limit: int | None = None, reserve: float = 0.0) -> Sequence[Orphan]:
        self._check_open()
        async with self._connections.reading() as db:
            return await leases.orphans(db, self._now(), limit, reserve)

    async def wait_orphans(self) -> None:
        if self._closing is None:
            await self._following.wait_orphans()

    async def attend(self, session_ids: Collection[str], *, by: str, seconds: float) -> None:
        self._check_open()
        async with self._connections.reading() as db:
            await leases.attend(db, session_ids, by, seconds, self._now())

    async def alone(self, session_id: str, *, but: str) -> float | None:
        self._check_open()
        return await self._connections.read(
            lambda db: leases.alone(db, session_id, but, self._now())
        )

    async def delete(self, session_id: str) -> None:
        self._check_open()
        async with self._connections.reading() as db:
            await pruning.delete(db, session_id, self._now())
        self._following.deleted(session_id)
        await self._drop_rows()

    async def excess(
        self, *, events: int, age_ms: int, after: str | None, limit: int
    ) -> Sequence[Excess]:
        self._check_open()
        return await self._connections.read(
            lambda db: pruning.excess(
                db, events=events, age_ms=age_ms, after=after, limit=limit, now=self._now()
            )
        )

    async def forget(self, *, age_ms: int, limit: int) -> Sequence[str]:
        self._check_open()
        async with self._connections.reading() as db:
            gone = await pruning.forget(db, age_ms, limit, self._now())
        for session_id in gone:
            self._following.deleted(session_id)
        return gone

    async def prune(self, lifetimes: Lifetimes) -> bool:
        self._check_open()
        async with self._connections.reading() as db:
            return await pruning.prune(db, lifetimes, self._now())

    async def answer(self, session_id: str, command_id: str) -> Answer | None:
        self._check_open()
        return await self._connections.read(lambda db: reads.answer(db, session_id, command_id))

    async def subscribe(self, client_id: str, session_id: str, cursor: str) -> None:
        self._check_open()
        async with self._connections.reading() as db:
            await clients.subscribe(db, client_id, session_id, cursor, self._now())
        self._following.clients_changed(client_id)

    async def unsubscribe(self, client_id: str, session_id: str) -> None:
        self._check_open()
        async with self._connections.reading() as db:
            await clients.unsubscribe(db, client_id, session_id)
        self._following.clients_changed(client_id)

    async def subscriptions(self, client_id: str) -> Mapping[str, str]:
        self._check_open()
        return await self._connections.read(lambda db: clients.subscriptions(db, client_id))

    async def wait_subscriptions(self, client_id: str, known: Mapping[str, str]) -> None:
        if self._closing is None:
            await self._following.wait_subscriptions(client_id, known)

    async def save_checkpoint(self, client_id: str, checkpoint: Checkpoint) -> None:
        self._check_open()
        async with self._connections.reading() as db:
            await clients.save_checkpoint(db, client_id, checkpoint, self._now())

    async def load_checkpoint(self, client_id: str, checkpoint_id: str) -> Checkpoint | None:
        self._check_open()
        return await self._connections.read(
            lambda db: clients.load_checkpoint(db, client_id, checkpoint_id)
        )

    async def aclose(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)  # whoever is cancelled, it is finished

    async def _close(self) -> None:
        await self._appender.aclose()
        await self._following.aclose()
        await self._heart.aclose()
        await self._connections.aclose()
        await self._lookups.aclose()

    def _now(self) -> int | None:
        """Return the time if it is ours to say; else the database says it."""
        return None if self._clock is None else self._clock()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise EngineClosed
