"""Rows to objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from gateway.engines.session_row import COLUMNS, SessionRow
from gateway.errors import SessionGone, SessionUnknown

__all__ = [
    "GONE",
    "NOW",
    "Found",
    "Gone",
    "Pooled",
    "absent",
    "find",
    "look_up",
]

Pooled: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
"""A connection that the pool has lent."""

NOW = "coalesce({}::bigint, (extract(epoch FROM statement_timestamp()) * 1000)::bigint)"
"""The time as SQL, in milliseconds since 1970 UTC: a parameter, or if that is NULL when the statement
began, by the clock of the database."""


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
