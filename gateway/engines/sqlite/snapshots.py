"""Folded states in SQL: the one that a log begins with, and the latest.

Each looks first and writes then, as in `writes`.
"""

from __future__ import annotations

import sqlite3

from gateway.engines.rules import check_position
from gateway.engines.session_row import SessionRow
from gateway.engines.sqlite.rows import find, look_up, tag_at
from gateway.errors import CursorInvalid, SessionGone
from gateway.log.engine import StoredSnapshot
from gateway.log.position import Position

__all__ = ["begin_with", "load_snapshot", "save_snapshot"]


def save_snapshot(db: sqlite3.Connection, session_id: str, snapshot: StoredSnapshot) -> None:
    """Put a state in place of the latest one."""
    session = find(db, session_id)
    db.execute(
        "DELETE FROM snapshot WHERE session = ? AND seq <> ?", (session.number, session.start_seq)
    )
    _insert(db, session, snapshot)


def begin_with(db: sqlite3.Connection, session: SessionRow, snapshot: StoredSnapshot) -> None:
    """Let a log begin with a state; a later one stays."""
    db.execute(
        "DELETE FROM snapshot WHERE session = ? AND seq <= ?",
        (session.number, snapshot.position.seq),
    )
    _insert(db, session, snapshot)


def _insert(db: sqlite3.Connection, session: SessionRow, snapshot: StoredSnapshot) -> None:
    position = snapshot.position
    db.execute(
        "INSERT OR REPLACE INTO snapshot (session, seq, epoch, tag, state) VALUES (?, ?, ?, ?, ?)",
        (session.number, position.seq, position.epoch, position.tag, snapshot.state),
    )


def load_snapshot(
    db: sqlite3.Connection, session_id: str, through: int | None
) -> StoredSnapshot | None:
    """Return the latest state whose position is in the log, and not after `through`."""
    try:
        session = look_up(db, session_id)
    except SessionGone:
        return None
    if session is None:
        return None
    rows = db.execute(
        "SELECT seq, epoch, tag FROM snapshot WHERE session = ? AND seq <= ? ORDER BY seq DESC",
        (session.number, session.tail_seq if through is None else through),
    )
    for seq, epoch, tag in rows.fetchall():
        position = Position(epoch, seq, tag)
        try:
            check_position(position, session.head, tag_at(db, session, seq))
        except CursorInvalid:
            continue
        (state,) = db.execute(
            "SELECT state FROM snapshot WHERE session = ? AND seq = ?", (session.number, seq)
        ).fetchone()
        return StoredSnapshot(position, state)
    return None
