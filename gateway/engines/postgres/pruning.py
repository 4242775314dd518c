"""What is not kept for ever, in SQL: trimmed entries, deleted sessions, what has outlived its time.

To trim and to delete are short transactions whatever the size: entries are hidden by them, and their
rows go in pieces, each a transaction of its own, so that other writes come between. Which rows are
left to go is in the table `dropped`, for the case that the process ends before. Several processes
may do all of it at once: what one has in hand the others skip.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.engines.postgres.rows import NOW, Pooled, absent
from gateway.errors import SessionGone
from gateway.log.upkeep import Excess, Lifetimes

__all__ = ["delete", "drop_rows", "excess", "forget", "prune", "trim"]

PIECE_ROWS = 1000
"""Rows that one transaction deletes: some milliseconds, of which nothing waits for it."""

PRESENCE_MS = 24 * 60 * 60 * 1000
"""For how long it is known that a process had controllers of a session, after it last had some."""

_ALL = 2**62
"""More than any `seq`."""

# An entry that was appended while this waited for the session's row is not seen. Then it does
# nothing, though it could: `last` is past `start`, and it has to be done again.
_TRIM = """
WITH owner AS (
    SELECT number, start_seq, least($2, tail_seq - 1) AS last FROM session
    WHERE session_id = $1 FOR NO KEY UPDATE
), begun AS (
    UPDATE session s SET start_seq = e.seq, start_tag = e.tag
    FROM owner o JOIN entry e ON e.session = o.number AND e.seq = o.last
    WHERE s.number = o.number AND o.last > o.start_seq AND ($3::bytea IS NULL OR o.last = $2)
    RETURNING s.number, s.epoch, s.start_seq, s.start_tag
), hidden AS (
    INSERT INTO dropped AS d (session, through) SELECT number, start_seq FROM begun
    ON CONFLICT (session) DO UPDATE SET through = greatest(d.through, excluded.through)
), replaced AS (
    DELETE FROM snapshot USING begun
    WHERE session = begun.number AND seq < begun.start_seq AND $3 IS NOT NULL
), kept AS (
    INSERT INTO snapshot (session, seq, epoch, tag, state)
    SELECT number, start_seq, epoch, start_tag, $3 FROM begun WHERE $3 IS NOT NULL
    ON CONFLICT (session, seq) DO UPDATE
    SET epoch = excluded.epoch, tag = excluded.tag, state = excluded.state
)
SELECT o.last > o.start_seq AND ($3 IS NULL OR o.last = $2) AS wanted, b.start_seq
FROM owner o LEFT JOIN begun b ON true
"""


async def trim(db: Pooled, session_id: str, through: int, state: bytes | None) -> int | None:
    """Hide entries; the position of the last one of them becomes the start.

    Returns:
        Its `seq`, or None if there was nothing to hide.
    """
    while True:
        row = await db.fetchrow(_TRIM, session_id, through, state)
        if row is None:
            raise await absent(db, session_id)
        if row["start_seq"] is not None or not row["wanted"]:
            start: int | None = row["start_seq"]
            return start


# A second statement, so that it sees what was written until the session's row was gone.
_DELETE_REST = f"""
WITH tombstones AS (
    INSERT INTO tombstone (session_id, at)
    SELECT unnest($1::text[]), {NOW.format("$3")} ON CONFLICT DO NOTHING
), hidden AS (
    INSERT INTO dropped (session, through) SELECT unnest($2::bigint[]), {_ALL}
    ON CONFLICT (session) DO UPDATE SET through = excluded.through
), answers AS (
    DELETE FROM answer WHERE session = ANY($2)
), presences AS (
    DELETE FROM presence WHERE session = ANY($2)
), snapshots AS (
    DELETE FROM snapshot WHERE session = ANY($2)
)
DELETE FROM subscription WHERE session_id = ANY($1)
"""  # noqa: S608 - ours


async def delete(db: Pooled, session_id: str, now: int | None) -> bool:
    """Delete all about a session but the fact that it was there; return whether it was there."""
    async with db.transaction():
        gone = "DELETE FROM session WHERE session_id = $1 RETURNING number"
        number = await db.fetchval(gone, session_id)
        if number is not None:
            await db.execute(_DELETE_REST, [session_id], [number], now)
            return True
    why = await absent(db, session_id)
    if not isinstance(why, SessionGone):
        raise why
    return False


async def drop_rows(db: Pooled) -> bool:
    """Delete a piece of the rows that are hidden; return whether there may be more."""
    async with db.transaction():
        row = await db.fetchrow(
            "SELECT session, through FROM dropped LIMIT 1 FOR UPDATE SKIP LOCKED"
        )
        if row is None:
            return False
        done = await db.execute(
            "DELETE FROM entry WHERE session = $1 AND seq = ANY (ARRAY("
            "SELECT seq FROM entry WHERE session = $1 AND seq <= $2 ORDER BY seq LIMIT $3))",
            row["session"],
            row["through"],
            PIECE_ROWS,
        )
        if _number(done) < PIECE_ROWS:
            await db.execute("DELETE FROM dropped WHERE session = $1", row["session"])
    return True


def _number(done: str) -> int:
    """Return how many rows a statement says that it was about: `DELETE 3`."""
    return int(done.rpartition(" ")[2])


# Times never go backwards within a log, so the last entry that is old enough is found by halving.
_EXCESS = f"""
SELECT s.session_id, s.start_seq, found.seq AS through, s.status FROM (
    SELECT number, session_id, start_seq, tail_seq - $1 AS last, status FROM session
    WHERE tail_seq - start_seq > $1 AND number >
        CASE WHEN $3::text IS NULL THEN 0 ELSE (SELECT number FROM session WHERE session_id = $3) END
    AND (SELECT at FROM entry WHERE session = number AND seq = start_seq + 1)
        <= {NOW.format("$5")} - $2::bigint
    ORDER BY number LIMIT $4
) AS s, LATERAL (
    WITH RECURSIVE search (low, high) AS (
        SELECT s.start_seq + 1, s.last
        UNION ALL
        SELECT CASE WHEN old THEN middle ELSE low END, CASE WHEN old THEN high ELSE middle - 1 END
        FROM (
            SELECT low, high, (low + high + 1) / 2 AS middle, (
                SELECT at <= {NOW.format("$5")} - $2::bigint FROM entry
                WHERE session = s.number AND seq = (low + high + 1) / 2
            ) AS old
            FROM search WHERE low < high
        ) AS half
    )
    SELECT low AS seq FROM search WHERE low = high
) AS found
ORDER BY s.number
"""  # noqa: S608 - ours


async def excess(
    db: Pooled,
    *,
    events: int,
    age_ms: int,
    after: str | None,
    limit: int,
    now: int | None,
) -> Sequence[Excess]:
    """Return sessions with entries that are too many: not among the last, and too old."""
    rows = await db.fetch(_EXCESS, events, age_ms, after, limit, now)
    return [
        Excess(session_id, start, through, active=status in {"running", "interrupted"})
        for session_id, start, through, status in rows
    ]


# An array is made once. With `IN` the database may ask again for each row that it looks at, and then
# others are found in place of those that are gone already: more than the limit.
_FORGET = f"""
DELETE FROM session WHERE number = ANY (ARRAY(
    SELECT number FROM session WHERE tail_at <= {NOW.format("$1")} - $2::bigint
    AND claim_nonce IS NULL AND status <> 'running' ORDER BY number LIMIT $3
    FOR UPDATE SKIP LOCKED
)) RETURNING number, session_id
"""  # noqa: S608 - ours


async def forget(db: Pooled, age_ms: int, limit: int, now: int | None) -> Sequence[str]:
    """Delete sessions that were last appended to so long ago, and on which nobody works."""
    async with db.transaction():
        rows = await db.fetch(_FORGET, now, age_ms, limit)
        gone = {row["number"]: row["session_id"] for row in rows}
        names = [gone[number] for number in sorted(gone)]
        await db.execute(_DELETE_REST, names, list(gone), now)
    return names


def _old(table: str, column: str) -> str:
    """Return the statement that deletes a piece of a table's rows that are older than `$1`."""
    return (
        f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table}"  # noqa: S608 - ours
        f" WHERE {column} <= {NOW.format('$2')} - $1::bigint LIMIT {PIECE_ROWS}"
        " FOR UPDATE SKIP LOCKED))"
    )


_CLIENT = f"""
SELECT client_id FROM client WHERE seen_at <= {NOW.format("$2")} - $1::bigint
LIMIT 1 FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - ours


async def prune(db: Pooled, lifetimes: Lifetimes, now: int | None) -> bool:
    """Drop a piece of what has outlived its time; return whether there may be more."""
    more = await drop_rows(db)
    for table, column, lifetime in (
        ("answer", "at", lifetimes.answers),
        ("tombstone", "at", lifetimes.tombstones),
        ("presence", "until", PRESENCE_MS),
    ):
        done = await db.execute(_old(table, column), lifetime, now)
        more = more or _number(done) == PIECE_ROWS
    async with db.transaction():
        client = await db.fetchval(_CLIENT, lifetimes.clients, now)
        if client is None:
            return more
        for table in ("subscription", "checkpoint", "client"):  # one has up to some hundred rows
            await db.execute(f"DELETE FROM {table} WHERE client_id = $1", client)  # noqa: S608 - ours
    return True
