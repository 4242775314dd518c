"""What is not kept for ever, in SQL: trimmed entries, deleted sessions, what has outlived its time.

To trim and to delete are short transactions whatever the size: entries are hidden by them, and
their rows go in pieces, each a transaction of its own, so that other writes come between. Which rows
are left to go is in the table `dropped`, for the case that the process ends before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.engines.sqlite.rows import find, tag_at
from gateway.engines.sqlite.snapshots import begin_with
from gateway.errors import SessionGone
from gateway.log.engine import StoredSnapshot
from gateway.log.position import Position
from gateway.log.upkeep import Excess, Lifetimes

__all__ = ["delete", "drop_rows", "excess", "forget", "prune", "trim"]

PIECE_ROWS = 256
"""Rows that one transaction deletes: 2 ms or so, no more than an append of as many takes."""

_ALL = 2**62
"""More than any `seq`."""


def trim(db: sqlite3.Connection, session_id: str, through: int, state: bytes | None) -> None:
    """Hide entries; the position of the last one of them becomes the start."""
    session = find(db, session_id)
    last = min(through, session.tail_seq - 1)
    if last <= session.start_seq or (state is not None and last != through):
        return
    position = Position(session.epoch, last, tag_at(db, session, last) or "")
    db.execute(
        "UPDATE session SET start_seq = ?, start_tag = ? WHERE number = ?",
        (position.seq, position.tag, session.number),
    )
    if state is not None:
        begin_with(db, session, StoredSnapshot(position, state))
    _drop(db, session.number, last)


def delete(db: sqlite3.Connection, session_id: str, now: int) -> None:
    """Delete all about a session but the fact that it was there."""
    try:
        session = find(db, session_id)
    except SessionGone:
        return
    db.execute("INSERT INTO tombstone (session_id, at) VALUES (?, ?)", (session_id, now))
    db.execute("DELETE FROM session WHERE number = ?", (session.number,))
    db.execute("DELETE FROM answer WHERE session = ?", (session.number,))
    db.execute("DELETE FROM snapshot WHERE session = ?", (session.number,))
    db.execute("DELETE FROM subscription WHERE session_id = ?", (session_id,))
    _drop(db, session.number, _ALL)


def _drop(db: sqlite3.Connection, number: int, through: int) -> None:
    db.execute("INSERT OR REPLACE INTO dropped (session, through) VALUES (?, ?)", (number, through))


def drop_rows(db: sqlite3.Connection) -> bool:
    """Delete a piece of the rows that are hidden; return whether there may be more."""
    row = db.execute("SELECT session, through FROM dropped LIMIT 1").fetchone()
    if row is None:
        return False
    number, through = row
    gone = db.execute(
        "DELETE FROM entry WHERE session = ?1 AND seq <= (SELECT max(seq) FROM (SELECT seq FROM entry"
        " WHERE session = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3))",
        (number, through, PIECE_ROWS),
    ).rowcount
    if gone < PIECE_ROWS:
        db.execute("DELETE FROM dropped WHERE session = ?", (number,))
    return True


def excess(
    db: sqlite3.Connection, *, events: int, before: int, after: str | None, limit: int
) -> Sequence[Excess]:
    """Return sessions with entries that are too many: not among the last, and from before a time."""
    rows = db.execute(
        "SELECT number, session_id, start_seq, tail_seq - ?1, status FROM session"
        " WHERE tail_seq - start_seq > ?1 AND number > "
        " iif(?2 IS NULL, 0, (SELECT number FROM session WHERE session_id = ?2))"
        " AND (SELECT at FROM entry WHERE session = number AND seq = start_seq + 1) <= ?3"
        " ORDER BY number LIMIT ?4",
        (events, after, before, limit),
    )
    return [
        Excess(
            session_id,
            start,
            _last_from_before(db, number, start + 1, through, before),
            active=status in {"running", "interrupted"},
        )
        for number, session_id, start, through, status in rows.fetchall()
    ]


def _last_from_before(db: sqlite3.Connection, number: int, low: int, high: int, before: int) -> int:
    """Return the last `seq` from `low` to `high` that is from before a time; that at `low` is."""
    while low < high:
        middle = (low + high + 1) // 2
        (at,) = db.execute(
            "SELECT at FROM entry WHERE session = ? AND seq = ?", (number, middle)
        ).fetchone()
        low, high = (middle, high) if at <= before else (low, middle - 1)
    return low


def forget(db: sqlite3.Connection, before: int, limit: int, now: int) -> Sequence[str]:
    """Delete sessions that were last appended to before a time, and on which nobody works."""
    rows = db.execute(
        "SELECT session_id FROM session WHERE tail_at <= ? AND claim_nonce IS NULL"
        " AND status <> 'running' ORDER BY number LIMIT ?",
        (before, limit),
    )
    gone = [session_id for (session_id,) in rows.fetchall()]
    for session_id in gone:
        delete(db, session_id, now)
    return gone


_OLD_ANSWERS = (
    "DELETE FROM answer WHERE (session, command_id) IN"
    " (SELECT session, command_id FROM answer WHERE at <= ? LIMIT ?)"
)
_OLD_TOMBSTONES = (
    "DELETE FROM tombstone WHERE session_id IN"
    " (SELECT session_id FROM tombstone WHERE at <= ? LIMIT ?)"
)


def prune(db: sqlite3.Connection, lifetimes: Lifetimes, now: int) -> bool:
    """Drop a piece of what has outlived its time; return whether there may be more."""
    more = drop_rows(db)
    for statement, lifetime in (
        (_OLD_ANSWERS, lifetimes.answers),
        (_OLD_TOMBSTONES, lifetimes.tombstones),
    ):
        gone = db.execute(statement, (now - lifetime, PIECE_ROWS)).rowcount
        more = more or gone == PIECE_ROWS
    old = "SELECT client_id FROM client WHERE seen_at <= ? LIMIT 1"
    client = db.execute(old, (now - lifetimes.clients,)).fetchone()
    if client is not None:  # one has up to some hundred rows
        for table in ("subscription", "checkpoint", "client"):
            db.execute(f"DELETE FROM {table} WHERE client_id = ?", client)  # noqa: S608 - fixed names
    return more or client is not None
