"""Rows to objects."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from gateway.engines.rules import Lease
from gateway.engines.session_row import COLUMNS, SessionRow
from gateway.errors import SessionGone, SessionUnknown
from gateway.log.engine import Answer
from gateway.log.position import Position

__all__ = ["ToWrite", "find", "find_answer", "look_up", "tag_at", "to_write"]


class ToWrite(NamedTuple):
    """A session, and what only an append wants to know of its row.

    Attributes:
        session: The session.
        tail_at: The time of its last entry, or of its creation.
        lease: How long its claim holds.
    """

    session: SessionRow
    tail_at: int
    lease: Lease


def _found(db: sqlite3.Connection, session_id: str) -> ToWrite | None:
    row = db.execute(
        f"SELECT tail_at, claim_life, claim_until, {COLUMNS} FROM session WHERE session_id = ?",  # noqa: S608 - fixed
        (session_id,),
    ).fetchone()
    if row is not None:
        tail_at, life, until, *columns = row
        return ToWrite(SessionRow(*columns), tail_at, Lease(life, until or 0))
    gone = "SELECT 1 FROM tombstone WHERE session_id = ?"
    if db.execute(gone, (session_id,)).fetchone() is not None:
        raise SessionGone(session_id)
    return None


def look_up(db: sqlite3.Connection, session_id: str) -> SessionRow | None:
    """Return a session's row, or None if the id was never used.

    Raises:
        SessionGone: If the session was deleted.
    """
    found = _found(db, session_id)
    return None if found is None else found.session


def find(db: sqlite3.Connection, session_id: str) -> SessionRow:
    """Return a session's row.

    Raises:
        SessionUnknown: If there is no such session.
        SessionGone: If the session was deleted.
    """
    return to_write(db, session_id).session


def to_write(db: sqlite3.Connection, session_id: str) -> ToWrite:
    """Return a session for an append.

    Raises:
        SessionUnknown: If there is no such session.
        SessionGone: If the session was deleted.
    """
    found = _found(db, session_id)
    if found is None:
        raise SessionUnknown(session_id)
    return found


def find_answer(db: sqlite3.Connection, session: SessionRow, command_id: str) -> Answer | None:
    """Return what a command of the session was answered."""
    row = db.execute(
        "SELECT digest, run_id, seq, tag FROM answer WHERE session = ? AND command_id = ?",
        (session.number, command_id),
    ).fetchone()
    if row is None:
        return None
    digest, run_id, seq, tag = row
    return Answer(command_id, digest, run_id, Position(session.epoch, seq, tag))


def tag_at(db: sqlite3.Connection, session: SessionRow, seq: int) -> str | None:
    """Return the tag at a place of the session's log, if it is one that is kept."""
    if seq == session.start_seq:
        return session.start_tag
    if seq == session.tail_seq:
        return session.tail_tag
    row = db.execute(
        "SELECT tag FROM entry WHERE session = ? AND seq = ?", (session.number, seq)
    ).fetchone()
    return None if row is None else row[0]
