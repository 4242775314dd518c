"""Folded states in SQL: the one that a log begins with, and the latest.

`pruning.trim` puts the first one there.
"""

from __future__ import annotations

from gateway.engines.postgres.rows import Pooled, absent
from gateway.log.engine import StoredSnapshot
from gateway.log.position import Position

__all__ = ["load_snapshot", "save_snapshot"]

# The lock keeps the session from being deleted meanwhile, and keeps no append waiting.
_SAVE = """
WITH owner AS (
    SELECT number, start_seq FROM session WHERE session_id = $1 FOR KEY SHARE
), replaced AS (
    DELETE FROM snapshot USING owner
    WHERE session = owner.number AND seq <> owner.start_seq AND seq <> $2
)
INSERT INTO snapshot (session, seq, epoch, tag, state)
SELECT number, $2, $3, $4, $5 FROM owner
ON CONFLICT (session, seq) DO UPDATE
SET epoch = excluded.epoch, tag = excluded.tag, state = excluded.state
RETURNING true
"""


async def save_snapshot(db: Pooled, session_id: str, snapshot: StoredSnapshot) -> None:
    """Put a state in place of the latest one."""
    at = snapshot.position
    if not await db.fetchval(_SAVE, session_id, at.seq, at.epoch, at.tag, snapshot.state):
        raise await absent(db, session_id)


# `rules.check_position`, for all states at once and without sending any but the one.
_LOAD = """
SELECT n.epoch, n.seq, n.tag, n.state FROM session s JOIN snapshot n ON n.session = s.number
WHERE s.session_id = $1 AND n.epoch = s.epoch
    AND n.seq BETWEEN s.start_seq AND least(s.tail_seq, coalesce($2, s.tail_seq))
    AND n.tag = CASE n.seq WHEN s.start_seq THEN s.start_tag
        ELSE (SELECT tag FROM entry WHERE session = s.number AND seq = n.seq) END
ORDER BY n.seq DESC LIMIT 1
"""


async def load_snapshot(db: Pooled, session_id: str, through: int | None) -> StoredSnapshot | None:
    """Return the latest state whose position is in the log, and not after `through`."""
    row = await db.fetchrow(_LOAD, session_id, through)
    if row is None:
        return None
    epoch, seq, tag, state = row
    return StoredSnapshot(Position(epoch, seq, tag), state)
