"""All that is read of logs and of the session list, as functions on a connection.

What belongs together is read by one statement, which sees one moment of the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import asyncpg

from gateway.engines.postgres.rows import Pooled, absent
from gateway.engines.rules import check_position
from gateway.engines.session_row import COLUMNS, SessionRow
from gateway.log.engine import Answer, Head, SessionRecord
from gateway.log.entry import Entry
from gateway.log.page import PAGE_BYTES, page
from gateway.log.position import Position

__all__ = ["answer", "entries", "sessions"]

# The session's columns come with each entry, which is little beside its body; a session without any
# entry there gives one row. What is past the page's bytes is not sent at all.
_ENTRIES = f"""
SELECT s.epoch, s.start_seq, s.start_tag, s.tail_seq, s.tail_tag,
       CASE $2::bigint WHEN s.start_seq THEN s.start_tag WHEN s.tail_seq THEN s.tail_tag
       ELSE (SELECT tag FROM entry WHERE session = s.number AND seq = $2) END AS known,
       e.seq, e.tag, e.at, e.body
FROM session s LEFT JOIN LATERAL (
    SELECT seq, tag, at, body, sum(octet_length(body)) OVER (ORDER BY seq) AS bytes
    FROM (
        SELECT seq, tag, at, body FROM entry
        WHERE session = s.number AND seq > greatest($2, s.start_seq) ORDER BY seq LIMIT $3
    ) AS next
) AS e ON e.bytes - octet_length(e.body) < {PAGE_BYTES}
WHERE s.session_id = $1 ORDER BY e.seq
"""  # noqa: S608 - a number of ours


async def entries(db: Pooled, session_id: str, after: Position, limit: int) -> Sequence[Entry]:
    """Return a page of entries after a position."""
    rows = await db.fetch(_ENTRIES, session_id, after.seq, limit)
    if not rows:
        raise await absent(db, session_id)
    epoch, start_seq, start_tag, tail_seq, tail_tag, known, *_ = rows[0]
    head = Head(Position(epoch, start_seq, start_tag), Position(epoch, tail_seq, tail_tag))
    check_position(after, head, known)
    return page(_made(session_id, rows), limit)


def _made(session_id: str, rows: Sequence[asyncpg.Record]) -> Iterator[Entry]:
    for epoch, _, _, _, _, _, seq, tag, at, body in rows:
        if seq is not None:
            yield Entry(session_id, Position(epoch, seq, tag), at, body)


_SESSIONS = f"""
SELECT {COLUMNS} FROM session
WHERE $2::text IS NULL OR number < (SELECT number FROM session WHERE session_id = $2)
ORDER BY number DESC LIMIT $1
"""  # noqa: S608 - names of ours


async def sessions(db: Pooled, limit: int, after: str | None) -> Sequence[SessionRecord]:
    """Return a page of sessions, newest first."""
    return [SessionRow(*row).record for row in await db.fetch(_SESSIONS, limit, after)]


async def answer(db: Pooled, session_id: str, command_id: str) -> Answer | None:
    """Return what a command was answered."""
    row = await db.fetchrow(
        "SELECT a.digest, a.run_id, s.epoch, a.seq, a.tag FROM session s"
        " JOIN answer a ON a.session = s.number WHERE s.session_id = $1 AND a.command_id = $2",
        session_id,
        command_id,
    )
    if row is None:
        return None
    digest, run_id, epoch, seq, tag = row
    return Answer(command_id, digest, run_id, Position(epoch, seq, tag))
