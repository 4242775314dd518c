"""Subscriptions and checkpoints of clients, as functions on a connection. Each write is one statement.

Whatever else a statement does comes after it has the client's row, so that two of them never wait
for each other.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from gateway.engines.postgres.rows import NOW, Pooled
from gateway.engines.rules import KEPT_CHECKPOINTS
from gateway.log.engine import Checkpoint

__all__ = ["load_checkpoint", "save_checkpoint", "subscribe", "subscriptions", "unsubscribe"]

_SUBSCRIBE = f"""
WITH seen AS (
    INSERT INTO client AS c (client_id, seen_at, version) VALUES ($1, {NOW.format("$4")}, 1)
    ON CONFLICT (client_id) DO UPDATE SET seen_at = excluded.seen_at, version = c.version + 1
    RETURNING client_id
)
INSERT INTO subscription (client_id, session_id, cursor) SELECT client_id, $2, $3 FROM seen
ON CONFLICT (client_id, session_id) DO UPDATE SET cursor = excluded.cursor
"""  # noqa: S608 - ours


async def subscribe(
    db: Pooled, client_id: str, session_id: str, cursor: str, now: int | None
) -> None:
    """Put a session on a client's stream."""
    await db.execute(_SUBSCRIBE, client_id, session_id, cursor, now)


_UNSUBSCRIBE = """
WITH changed AS (
    UPDATE client SET version = version + 1 WHERE client_id = $1 RETURNING client_id
)
DELETE FROM subscription s USING changed
WHERE s.client_id = changed.client_id AND s.session_id = $2
"""


async def unsubscribe(db: Pooled, client_id: str, session_id: str) -> None:
    """Take a session off a client's stream."""
    await db.execute(_UNSUBSCRIBE, client_id, session_id)


async def subscriptions(db: Pooled, client_id: str) -> Mapping[str, str]:
    """Return a client's sessions and cursors."""
    rows = await db.fetch(
        "SELECT session_id, cursor FROM subscription WHERE client_id = $1", client_id
    )
    return {row["session_id"]: row["cursor"] for row in rows}


# What this statement adds it does not see: of the others, all but one less are kept.
_SAVE = f"""
WITH seen AS (
    INSERT INTO client (client_id, seen_at) VALUES ($1, {NOW.format("$4")})
    ON CONFLICT (client_id) DO UPDATE SET seen_at = excluded.seen_at
    RETURNING client_id
), old AS (
    DELETE FROM checkpoint k USING seen
    WHERE k.client_id = seen.client_id AND k.checkpoint_id <> $2 AND k.number <= (
        SELECT number FROM checkpoint WHERE client_id = $1 AND checkpoint_id <> $2
        ORDER BY number DESC LIMIT 1 OFFSET {KEPT_CHECKPOINTS - 1}
    )
)
INSERT INTO checkpoint (client_id, checkpoint_id, cursors) SELECT client_id, $2, $3 FROM seen
ON CONFLICT (client_id, checkpoint_id) DO UPDATE SET cursors = excluded.cursors, number = DEFAULT
"""  # noqa: S608 - ours


async def save_checkpoint(
    db: Pooled, client_id: str, checkpoint: Checkpoint, now: int | None
) -> None:
    """Keep a checkpoint as the client's latest, and let go of its oldest."""
    cursors = orjson.dumps(dict(checkpoint.cursors))
    await db.execute(_SAVE, client_id, checkpoint.checkpoint_id, cursors, now)


async def load_checkpoint(db: Pooled, client_id: str, checkpoint_id: str) -> Checkpoint | None:
    """Return one of a client's checkpoints."""
    found = "SELECT cursors FROM checkpoint WHERE client_id = $1 AND checkpoint_id = $2"
    cursors = await db.fetchval(found, client_id, checkpoint_id)
    return None if cursors is None else Checkpoint(checkpoint_id, orjson.loads(cursors))
