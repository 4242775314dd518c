"""Connections to the database: a pool for what is short, and connections for one purpose each.

What goes wrong with them is told in the words of the seam, and logged once for each outage.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from gateway.config import place
from gateway.engines.postgres.links import (
    CONNECT_SECONDS,
    ERRORS,
    Outage,
    arguments,
    is_lost,
    line,
    translated,
)
from gateway.errors import EngineClosed, EngineUnavailable, StartupRefused

__all__ = ["Connections", "Private", "arguments", "is_lost", "translated"]

T = TypeVar("T")

COMMAND_SECONDS = 5.0
"""How long a statement on a pooled connection may take. The slowest that is meant to be there, a page
of 1,000 entries or a piece of pruning, takes below 0.1 s on an idle machine."""

ACQUIRE_SECONDS = 5.0
"""How long to wait for a free connection of the pool."""

CLOSE_SECONDS = 2.0
"""How long what is still going on may take when everything is closed."""

PRIVATE_SECONDS = 15.0
"""How long one use of a private connection may take: less than a lease, which a heartbeat renews, and
long enough where a round trip takes seconds."""

RETRIES = 2
"""How often a read is repeated whose connection was lost."""

_MEET = "SELECT pg_postmaster_start_time()"
"""Tells one server from another, also through a PgBouncer."""

_MEET_WITHOUT_LIMITS = """
SELECT pg_postmaster_start_time(), count(set_config(name, '0', false)) FROM pg_settings WHERE name IN (
    'client_connection_check_interval', 'idle_in_transaction_session_timeout', 'idle_session_timeout',
    'lock_timeout', 'statement_timeout', 'transaction_timeout'
)
"""
"""Also lifts limits that an administrator may have set for all, and that must not break what waits for
a reason: an append for its standby, a listener for a notification."""


class Connections:
    """All connections of this process to one database; `open` makes one of these.

    Attributes:
        url: The URL.
        writers: How many connections append.
    """

    def __init__(self, url: str, *, readers: int, writers: int, direct: str) -> None:
        self.url = url
        self.writers = writers
        self._direct = direct
        self._pool = asyncpg.create_pool(
            **arguments(url, "tidegate"),
            min_size=0,
            max_size=readers,
            command_timeout=COMMAND_SECONDS,
            init=self._met,
            reset=_nothing,  # by itself a pool asks the server to reset, at the cost of a round trip
        )
        self._is_stale = False
        self._outage = Outage(place(url))
        self._server: object = None
        self._dedicated: dict[asyncpg.Connection, object] = {}
        self._is_closed = False

    @classmethod
    async def open(
        cls, url: str, *, readers: int = 8, writers: int = 2, direct: str | None = None
    ) -> Connections:
        """Connect once, to see that it can be done.

        Args:
            url: As asyncpg takes it, and `statement_cache_size=0` for a PgBouncer that cannot keep
                prepared statements apart. Of several hosts, the one is used that takes writes.
            readers: At most so many connections for what is short.
            writers: How many connections append.
            direct: The URL of the server itself, where `url` is that of a PgBouncer: for connections
                that keep something between two statements. Default: `url`.

        Raises:
            StartupRefused: If it cannot be done, with the reason in one line.
        """
        try:
            connections = cls(url, readers=readers, writers=writers, direct=direct or url)
            connections._pool = await connections._pool
            async with connections._pool.acquire(timeout=2 * CONNECT_SECONDS):
                pass
        except (asyncpg.ClientConfigurationError, ValueError) as error:
            # What these say may quote the password.
            raise StartupRefused(f"the URL of the database at {place(url)} is wrong") from error
        except ERRORS as error:
            raise StartupRefused(
                f"cannot use the database at {place(url)}: {line(error)}"
            ) from error
        return connections

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
        """Lend a connection of the pool, for statements that are short.

        Raises:
            EngineUnavailable: If there is none, or what is done with it fails.
            EngineClosed: After `aclose`.
        """
        with self.watched():
            if self._is_stale:
                self._is_stale = False
                await self._pool.expire_connections()
            async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as db:
                yield db

    async def read(self, work: Callable[[PoolConnectionProxy[asyncpg.Record]], Awaitable[T]]) -> T:
        """Return what `work` returns, which is called again if its connection was lost.

        Raises:
            EngineUnavailable: As `reading` does.
        """
        for tries in range(RETRIES):
            try:
                async with self.reading() as db:
                    return await work(db)
            except EngineUnavailable as error:
                if self._is_closed or not is_lost(error.__cause__):
                    raise
            await asyncio.sleep(random.uniform(0, 0.1 * 2**tries))  # noqa: S311 - no secret
        async with self.reading() as db:
            return await work(db)

    async def dedicated(self, name: str) -> asyncpg.Connection:
        """Return a connection of one's own, on which nothing has a time limit.

        It is terminated when another server has taken over. Who got it closes it.

        Args:
            name: What for; to be seen in `pg_stat_activity`.

        Raises:
            EngineUnavailable: If it cannot be had now.
            EngineClosed: After `aclose`.
        """
        with self.watched():
            db: asyncpg.Connection = await asyncpg.connect(
                **arguments(self._direct, f"tidegate {name}")
            )
            try:
                await self._met(db, _MEET_WITHOUT_LIMITS)
                self.check_open()
            except BaseException:
                db.terminate()
                raise
        self._dedicated[db] = self._server
        db.add_termination_listener(self._forget)
        return db

    def private(self, name: str, *, limit: float = PRIVATE_SECONDS) -> Private:
        """Return a connection of one's own that comes back by itself.

        Args:
            name: As with `dedicated`.
            limit: Seconds that one use of it may take.
        """
        return Private(self, name, limit)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Translate as `translated` does, and log when the store goes away and when it is back.

        Raises:
            EngineUnavailable: If something failed.
            EngineClosed: After `aclose`.
        """
        self.check_open()
        try:
            yield
        except ERRORS as error:
            self.check_open()
            self.failed(error)
            raise EngineUnavailable from error
        self._outage.over()

    def failed(self, error: BaseException) -> None:
        """Note an error of a connection."""
        self._outage.on(error)
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            self._is_stale = True  # others may be connected to what is a standby now

    def check_open(self) -> None:
        """Do nothing until `aclose`.

        Raises:
            EngineClosed: From then on.
        """
        if self._is_closed:
            raise EngineClosed

    async def aclose(self) -> None:
        """Close all connections. What still uses one gets a moment. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
        except ERRORS:
            self._pool.terminate()
        for db in list(self._dedicated):
            db.terminate()

    async def _met(self, db: Any, question: str = _MEET) -> None:
        """Look which server this is; if it is another one than before, leave that one."""
        server = await db.fetchval(question, timeout=CONNECT_SECONDS)
        if server != self._server:
            self._server = server
            self._is_stale = True
            for other, of in list(self._dedicated.items()):
                if of != server:
                    other.terminate()

    def _forget(self, db: Any) -> None:
        self._dedicated.pop(db, None)


class Private:
    """A connection for one purpose: opened when first needed, and again after it was lost."""

    def __init__(self, connections: Connections, name: str, limit: float) -> None:
        self._connections = connections
        self._name = name
        self._limit = limit
        self._lock = asyncio.Lock()
        self._db: asyncpg.Connection | None = None

    async def open(self) -> None:
        """Connect now, so that the first use need not.

        Raises:
            EngineUnavailable: If it cannot be done.
        """
        async with self._lock:
            await self._connected()

    async def _connected(self) -> asyncpg.Connection:
        if self._db is None or self._db.is_closed():
            self._db = await self._connections.dedicated(self._name)
        return self._db

    @contextlib.asynccontextmanager
    async def using(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend the connection, to one at a time.

        Raises:
            EngineUnavailable: If it cannot be had, or what is done with it fails or takes too long.
            EngineClosed: When all connections were closed.
        """
        async with self._lock:
            db = await self._connected()
            try:
                with self._connections.watched():
                    async with asyncio.timeout(self._limit):
                        yield db
            except EngineUnavailable as error:
                if is_lost(error.__cause__) or isinstance(error.__cause__, TimeoutError):
                    db.terminate()
                raise

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        if self._db is not None:
            self._db.terminate()


async def _nothing(db: object) -> None:
    """Do nothing to a connection that is given back: nobody changes anything of it."""
