"""All that is read, as functions on a connection that cannot write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import orjson

from gateway.engines.rules import check_position
from gateway.engines.session_row import COLUMNS, SessionRow
from gateway.engines.sqlite.rows import find, find_answer, look_up, tag_at
from gateway.errors import SessionGone
from gateway.log.engine import Answer, Checkpoint, Head, SessionRecord
from gateway.log.entry import Entry
from gateway.log.page import page
from gateway.log.position import Position

__all__ = [
    "answer",
    "entries",
    "head",
    "load_checkpoint",
    "session",
    "sessions",
    "subscriptions",
    "tail_seq",
]


def head(db: sqlite3.Connection, session_id: str) -> Head:
    """Return both ends of a log."""
    return find(db, session_id).head


def tail_seq(db: sqlite3.Connection, session_id: str) -> int | None:
    """Return the last `seq` of a log, or None if there is no such session, or no more."""
    row = db.execute("SELECT tail_seq FROM session WHERE session_id = ?", (session_id,)).fetchone()
    return None if row is None else row[0]


def entries(
    db: sqlite3.Connection, session_id: str, after: Position, limit: int
) -> Sequence[Entry]:
    """Return a page of entries after a position."""
    row = find(db, session_id)
    check_position(after, row.head, tag_at(db, row, after.seq))
    if after.seq == row.tail_seq:
        return []
    rows = db.execute(
        "SELECT seq, tag, at, body FROM entry WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?",
        (row.number, after.seq, limit),
    )
    return page(_made(row, rows), limit)


def _made(session: SessionRow, rows: Iterator[tuple[int, str, int, bytes]]) -> Iterator[Entry]:
    for seq, tag, at, body in rows:
        yield Entry(session.session_id, Position(session.epoch, seq, tag), at, body)


def session(db: sqlite3.Connection, session_id: str) -> SessionRecord:
    """Return a session's record."""
    return find(db, session_id).record


def sessions(db: sqlite3.Connection, limit: int, after: str | None) -> Sequence[SessionRecord]:
    """Return a page of sessions, newest first."""
    if after is None:
        rows = db.execute(f"SELECT {COLUMNS} FROM session ORDER BY number DESC LIMIT ?", (limit,))  # noqa: S608 - fixed
    else:
        rows = db.execute(
            f"SELECT {COLUMNS} FROM session"  # noqa: S608 - fixed
            " WHERE number < (SELECT number FROM session WHERE session_id = ?)"
            " ORDER BY number DESC LIMIT ?",
            (after, limit),
        )
    return [SessionRow(*row).record for row in rows]


def answer(db: sqlite3.Connection, session_id: str, command_id: str) -> Answer | None:
    """Return what a command was answered."""
    try:
        session = look_up(db, session_id)
    except SessionGone:
        return None
    return None if session is None else find_answer(db, session, command_id)


def subscriptions(db: sqlite3.Connection, client_id: str) -> Mapping[str, str]:
    """Return a client's sessions and cursors."""
    return dict(
        db.execute("SELECT session_id, cursor FROM subscription WHERE client_id = ?", (client_id,))
    )


def load_checkpoint(
    db: sqlite3.Connection, client_id: str, checkpoint_id: str
) -> Checkpoint | None:
    """Return one of a client's checkpoints."""
    row = db.execute(
        "SELECT cursors FROM checkpoint WHERE client_id = ? AND checkpoint_id = ?",
        (client_id, checkpoint_id),
    ).fetchone()
    return None if row is None else Checkpoint(checkpoint_id, orjson.loads(row[0]))
