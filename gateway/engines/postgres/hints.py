"""Hints to the other processes that something is new, by LISTEN and NOTIFY. Never the truth.

One channel: Postgres wakes everybody who listens to anything in the database at each notification,
and each process follows sessions of all kinds, so that more channels would spare nobody anything.

A notification that is sent in the transaction that appends makes all such commits wait for each
other; so they are sent after it, by a connection of their own, all that came together in 10 ms.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from gateway.engines.postgres.connections import Connections
from gateway.engines.postgres.pauses import pause_after
from gateway.errors import EngineClosed, EngineUnavailable
from gateway.log.position import Position

__all__ = ["CHANNEL", "Hints", "News", "packed", "unpacked"]

CHANNEL = "tidegate"

GATHER_SECONDS = 0.01
"""The least time between two notifications of a process."""

KEEPALIVE_SECONDS = 3.0
"""A connection that was silent for so long is tried."""

ANSWER_SECONDS = 3.0
"""How long the store may take; a connection that is half open is given up then."""

DEAF_SECONDS = 2 * (KEEPALIVE_SECONDS + ANSWER_SECONDS)
"""Our own words come back, too. If none did for so long, those of others do not either."""

PAYLOAD_BYTES = 7900
"""Postgres takes less than 8000 bytes."""

PAYLOADS = 64
"""At most so many notifications at once; what is more comes with the next."""

# A lost hint costs latency only: its commit waits neither for the disk nor for a standby.
_NOTIFY = """
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, payload)
FROM unnest($2::text[]) AS payload
"""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class News:
    """What has changed.

    Attributes:
        by: The process that says so.
        sessions: The tails of logs as cursors; empty where something else than the tail changed.
        clients: Whose subscriptions were changed.
        orphans: Whether runs were left for others to work on.
    """

    by: str
    sessions: dict[str, str] = field(default_factory=dict)
    clients: set[str] = field(default_factory=set)
    orphans: bool = False

    def __bool__(self) -> bool:
        return bool(self.sessions or self.clients or self.orphans)


def packed(news: News) -> Iterator[str]:
    """Yield payloads that together say all of it, each short enough for a notification."""
    piece, room = News(news.by, orphans=news.orphans), 0
    begun = False
    for kind, name, cursor in _items(news):
        takes = len(orjson.dumps(name)) + len(cursor) + 4  # quotes, colon, comma
        if takes > PAYLOAD_BYTES - 200:  # the frame around it
            continue  # nobody's id is as long as that; they look without being told
        if not begun or takes > room:
            if begun:
                yield _payload(piece)
                piece = News(news.by)
            begun, room = True, PAYLOAD_BYTES - len(_payload(piece)) - 2
        room -= takes
        if kind == "session":
            piece.sessions[name] = cursor
        else:
            piece.clients.add(name)
    yield _payload(piece)


def _items(news: News) -> Iterable[tuple[str, str, str]]:
    for session_id, cursor in news.sessions.items():
        yield "session", session_id, cursor
    for client_id in news.clients:
        yield "client", client_id, ""


def _payload(news: News) -> str:
    return orjson.dumps(
        {
            "by": news.by,
            "sessions": news.sessions,
            "clients": sorted(news.clients),
            "orphans": news.orphans,
        }
    ).decode()


def unpacked(payload: str) -> News | None:
    """Read a payload; None if it says nothing that this version knows."""
    try:
        said = orjson.loads(payload)
        return News(
            by=str(said["by"]),
            sessions={str(name): str(cursor) for name, cursor in said["sessions"].items()},
            clients=set(map(str, said["clients"])),
            orphans=bool(said["orphans"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


class Hints:
    """Tells other processes what has changed, and hears it from them, while it can.

    Args:
        connections: Where the connection comes from.
        heard: Called with what another process said.
        connected: Called when hints come again; what was said before has not been heard.
    """

    def __init__(
        self,
        connections: Connections,
        heard: Callable[[News], None],
        connected: Callable[[], None],
    ) -> None:
        self._connections = connections
        self._heard = heard
        self._connected = connected
        self._by = secrets.token_hex(4)
        self._pending = News(self._by)
        self._wake = asyncio.Event()
        self._closing = False
        self._up = False
        self._failures = 0
        self._deaf = False
        self._echoed = 0.0

    def session(self, session_id: str, tail: Position | None) -> None:
        """Say that a log has a new tail, or if there is none to tell, that something else changed."""
        if self._up:
            told = self._pending.sessions
            if tail is None or told.get(session_id) == "":
                told[session_id] = ""  # whoever looks at all of it sees the tail too
            else:
                told[session_id] = str(tail)
            self._wake.set()

    def client(self, client_id: str) -> None:
        """Say that a client's subscriptions have changed."""
        if self._up:
            self._pending.clients.add(client_id)
            self._wake.set()

    def orphans(self) -> None:
        """Say that a run was left for others to work on."""
        if self._up:
            self._pending.orphans = True
            self._wake.set()

    def close(self) -> None:
        """Let `run` say what is still to be said, and return."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Listen and tell, connecting again whenever the connection is lost, until closed."""
        while not self._closing:
            try:
                await self._connect()
            except EngineClosed:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is: without hints it goes on
                if not self._failures and not isinstance(error, EngineUnavailable):
                    _logger.warning("no hints from other processes for now: %r", error)
                self._failures += 1
            finally:
                self._up = False
                self._pending = News(self._by)
            if not self._closing:
                self._wake.clear()
                await self._woken(pause_after(self._failures))

    async def _connect(self) -> None:
        """Listen and tell over one connection, until it is lost or all is said."""
        db = await self._connections.dedicated("hints")
        try:
            db.add_termination_listener(lambda _: self._wake.set())
            async with asyncio.timeout(ANSWER_SECONDS):
                await db.add_listener(CHANNEL, self._notified)
            if self._failures:
                _logger.info("hints from other processes come again")
            self._failures, self._up = 0, True
            self._connected()
            await self._tell(db)
            await db.close(timeout=ANSWER_SECONDS)
        finally:
            db.terminate()

    async def _tell(self, db: asyncpg.Connection) -> None:
        """Say what is to be said; where nothing is, speak to ourselves."""
        now = asyncio.get_running_loop().time
        self._echoed = now()
        while not self._closing or self._pending:
            if not self._closing:
                await self._woken(KEEPALIVE_SECONDS)
            self._wake.clear()
            self._notice(deaf=now() - self._echoed > DEAF_SECONDS)
            news, self._pending = self._pending, News(self._by)
            payloads = list(packed(news))
            for first in range(0, len(payloads), PAYLOADS):
                part = payloads[first : first + PAYLOADS]
                await db.execute(_NOTIFY, CHANNEL, part, timeout=ANSWER_SECONDS)
            await asyncio.sleep(GATHER_SECONDS)

    async def _woken(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _notice(self, *, deaf: bool) -> None:
        """Take in whether our own words came back to us."""
        if deaf and not self._deaf:
            _logger.warning(
                "notifications of the database do not arrive, although it answers: is there a pooler "
                "between that shares connections? News of other processes come by polling only"
            )
        elif self._deaf and not deaf:
            _logger.info("notifications of the database arrive again")
        self._deaf = deaf

    def _notified(self, _db: object, _pid: int, _channel: str, payload: Any) -> None:
        news = unpacked(payload)
        if news is None:
            return
        if news.by == self._by:
            self._echoed = asyncio.get_running_loop().time()
        else:
            self._heard(news)
