"""Rows to objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeAlias

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from gateway.errors import SessionGone, SessionUnknown
from gateway.log.engine import Fence, Head, SessionRecord, SessionStatus
from gateway.log.position import Position

__all__ = [
    "COLUMNS",
    "GONE",
    "NOW",
    "Found",
    "Gone",
    "Pooled",
    "SessionRow",
    "absent",
    "find",
    "look_up",
]

Pooled: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
"""A connection that the pool has lent."""

NOW = "coalesce({}::bigint, (extract(epoch FROM statement_timestamp()) * 1000)::bigint)"
"""The time as SQL, in milliseconds since 1970 UTC: a parameter, or if that is NULL when the statement
began, by the clock of the database."""


class SessionRow(NamedTuple):
    """What is read of a row of `session`."""

    number: int
    session_id: str
    agent: str
    metadata: bytes
    digest: str
    status: SessionStatus
    title: str | None
    created_at: int
    epoch: str
    start_seq: int
    start_tag: str
    tail_seq: int
    tail_tag: str
    claim_run_id: str
    claim_attempt: int
    claim_nonce: str | None

    @property
    def tail(self) -> Position:
        """The position after the last entry."""
        return Position(self.epoch, self.tail_seq, self.tail_tag)

    @property
    def head(self) -> Head:
        """Both ends of what is kept."""
        return Head(Position(self.epoch, self.start_seq, self.start_tag), self.tail)

    @property
    def claim(self) -> Fence | None:
        """The current claim."""
        if self.claim_nonce is None:
            return None
        return Fence(self.claim_run_id, self.claim_attempt, self.claim_nonce)

    @property
    def record(self) -> SessionRecord:
        """The session as the session list shows it."""
        return SessionRecord(
            session_id=self.session_id,
            agent=self.agent,
            metadata=orjson.loads(self.metadata),
            digest=self.digest,
            status=self.status,
            title=self.title,
            created_at=self.created_at,
            claim=self.claim,
            tail=self.tail,
        )


COLUMNS = ", ".join(SessionRow._fields)
"""By name: a newer version of the schema may have more."""


class Gone:
    """In place of a row: the session was deleted."""


GONE = Gone()

Found = SessionRow | Gone | None
"""What there is under an id; None if it was never used."""


def find(found: Found, session_id: str) -> SessionRow:
    """Return a session's row.

    Raises:
        SessionUnknown: If there is no such session.
        SessionGone: If the session was deleted.
    """
    if isinstance(found, Gone):
        raise SessionGone(session_id)
    if found is None:
        raise SessionUnknown(session_id)
    return found


async def look_up(db: Pooled, session_ids: Collection[str]) -> Mapping[str, Found]:
    """Return what there is under ids, of one moment for each."""
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM session WHERE session_id = ANY($1::text[])",  # noqa: S608 - fixed
        list(session_ids),
    )
    found: dict[str, Found] = {row["session_id"]: SessionRow(*row) for row in rows}
    missing = [session_id for session_id in session_ids if session_id not in found]
    if missing:
        gone = await db.fetch(
            "SELECT session_id FROM tombstone WHERE session_id = ANY($1::text[])", missing
        )
        found |= dict.fromkeys(missing) | {row["session_id"]: GONE for row in gone}
    return found


async def absent(db: Pooled, session_id: str) -> SessionUnknown | SessionGone:
    """Return why there is no session of an id."""
    found = "SELECT true FROM tombstone WHERE session_id = $1"
    gone = await db.fetchval(found, session_id)
    return SessionGone(session_id) if gone else SessionUnknown(session_id)
