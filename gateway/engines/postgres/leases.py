"""Leases in SQL: who still works on a run, on which runs nobody does, and who has whose controllers.

All times are by the database's clock, unless `now` is given, in milliseconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from gateway.log.engine import Fence, Orphan

__all__ = ["alone", "attend", "heartbeat", "orphans"]

_NOW = "coalesce(${}::bigint, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)"


class Database(Protocol):
    """A connection, pooled or not."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Return the rows."""

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first value of the first row."""

    async def execute(self, query: str, *args: Any) -> str:
        """Do it."""


# Rows are locked in the order of session ids, as appends do: nobody waits in a circle. Numbers come as
# texts: to learn what an array of integers is, asyncpg asks the server seven times on each new
# connection, which is most of a lease where an answer takes two seconds.
_HEARTBEAT = f"""
WITH held AS (
    SELECT session.number
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
        AS claim (session_id, run_id, attempt, nonce)
    JOIN session ON session.session_id = claim.session_id
        AND session.claim_run_id = claim.run_id
        AND session.claim_attempt = claim.attempt::integer
        AND session.claim_nonce = claim.nonce
    ORDER BY session.session_id
    FOR NO KEY UPDATE OF session
)
UPDATE session SET claim_until = {_NOW.format(5)} + $6::bigint
FROM held WHERE session.number = held.number
RETURNING session.session_id
"""  # noqa: S608 - fixed text


async def heartbeat(
    db: Database, claims: Mapping[str, Fence], now: int | None, lease: float
) -> frozenset[str]:
    """Renew claims; return the sessions that have them."""
    if not claims:
        return frozenset()
    fences = claims.values()
    rows = await db.fetch(
        _HEARTBEAT,
        list(claims),
        [fence.run_id for fence in fences],
        [str(fence.attempt) for fence in fences],
        [fence.nonce for fence in fences],
        now,
        round(lease * 1000),
    )
    return frozenset(session_id for (session_id,) in rows)


# Two halves, so that each has an index of its own. `claim_until` says until when a claim holds, and
# where there is none since when nobody works on the session: who waits longest comes first.
_ORPHANED = f"""
SELECT session_id, claim_run_id, claim_attempt, claim_nonce, coalesce(claim_until, 0) AS since, number,
    reserved_until
FROM session WHERE claim_nonce IS NOT NULL AND claim_until <= {_NOW.format(1)}
UNION ALL
SELECT session_id, claim_run_id, claim_attempt, claim_nonce, coalesce(claim_until, 0), number,
    reserved_until
FROM session WHERE claim_nonce IS NULL AND status = 'running'
"""  # noqa: S608 - fixed text

_ORPHANS = f"""
SELECT session_id, claim_run_id, claim_attempt, claim_nonce
FROM ({_ORPHANED}) AS orphaned ORDER BY since, number LIMIT $2::bigint
"""  # noqa: S608 - fixed text

# Who reserves passes over what others lock, and looks at each row again after it has locked it.
_RESERVED = f"""
WITH given AS MATERIALIZED (
    SELECT number, coalesce(claim_until, 0) AS since
    FROM session
    WHERE number IN (
            SELECT number FROM ({_ORPHANED}) AS orphaned WHERE reserved_until <= {_NOW.format(1)}
            ORDER BY since, number LIMIT 4 * $2::bigint
        )
        AND reserved_until <= {_NOW.format(1)}
        AND (claim_nonce IS NULL AND status = 'running'
            OR claim_nonce IS NOT NULL AND claim_until <= {_NOW.format(1)})
    ORDER BY since, number LIMIT $2::bigint
    FOR NO KEY UPDATE SKIP LOCKED
), reserved AS (
    UPDATE session SET reserved_until = {_NOW.format(1)} + $3::bigint
    FROM given WHERE session.number = given.number
    RETURNING session.session_id, claim_run_id, claim_attempt, claim_nonce, since, session.number
)
SELECT session_id, claim_run_id, claim_attempt, claim_nonce FROM reserved ORDER BY since, number
"""  # noqa: S608 - fixed text


async def orphans(db: Database, now: int | None, limit: int | None, reserve: float) -> list[Orphan]:
    """Return the sessions on whose active run nobody works, who waits longest first."""
    if reserve:
        rows = await db.fetch(_RESERVED, now, limit, round(reserve * 1000))
    else:
        rows = await db.fetch(_ORPHANS, now, limit)
    return [
        Orphan(session_id, None, "handed_over")
        if nonce is None
        else Orphan(session_id, Fence(run_id, attempt, nonce), "lease_expired")
        for session_id, run_id, attempt, nonce in rows
    ]


_ATTEND = f"""
INSERT INTO presence (session, node, until)
SELECT number, $2::text, {_NOW.format(4)} + $3::bigint
FROM session WHERE session_id = ANY ($1::text[]) AND judged
ORDER BY number
ON CONFLICT (session, node) DO UPDATE SET until = excluded.until
"""  # noqa: S608 - fixed text


async def attend(
    db: Database, session_ids: Collection[str], by: str, seconds: float, now: int | None
) -> None:
    """Note that a process has controllers of those sessions that are judged."""
    await db.execute(_ATTEND, list(session_ids), by, round(seconds * 1000), now)


_ALONE = f"""
SELECT {_NOW.format(3)} - max(until) FROM presence
WHERE session = (SELECT number FROM session WHERE session_id = $1) AND node <> $2
"""  # noqa: S608 - fixed text


async def alone(db: Database, session_id: str, but: str, now: int | None) -> float | None:
    """Return for how many seconds nobody but this process has had a controller of a session."""
    past: int | None = await db.fetchval(_ALONE, session_id, but, now)
    return None if past is None else max(0.0, past / 1000)
