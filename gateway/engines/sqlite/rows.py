"""Rows to objects."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

import orjson

from gateway.engines.rules import Lease
from gateway.errors import SessionGone, SessionUnknown
from gateway.log.engine import Answer, Fence, Head, SessionRecord, SessionStatus
from gateway.log.position import Position

__all__ = ["SessionRow", "find", "find_answer", "look_up", "tag_at"]


class SessionRow(NamedTuple):
    """A row of `session`, in the order of the table's columns."""

    number: int
    session_id: str
    agent: str
    metadata: bytes
    digest: str
    status: SessionStatus
    title: str | None
    created_at: int
    claim_run_id: str
    claim_attempt: int
    claim_nonce: str | None
    epoch: str
    start_seq: int
    start_tag: str
    tail_seq: int
    tail_tag: str
    tail_at: int
    claim_life: str | None
    claim_until: int | None

    @property
    def tail(self) -> Position:
        """The position after the last entry."""
        return Position(self.epoch, self.tail_seq, self.tail_tag)

    @property
    def head(self) -> Head:
        """Both ends of what is kept."""
        return Head(Position(self.epoch, self.start_seq, self.start_tag), self.tail)

    @property
    def claim(self) -> Fence | None:
        """The current claim."""
        if self.claim_nonce is None:
            return None
        return Fence(self.claim_run_id, self.claim_attempt, self.claim_nonce)

    @property
    def lease(self) -> Lease:
        """How long the claim holds."""
        return Lease(self.claim_life, self.claim_until or 0)

    @property
    def record(self) -> SessionRecord:
        """The session as the session list shows it."""
        return SessionRecord(
            session_id=self.session_id,
            agent=self.agent,
            metadata=orjson.loads(self.metadata),
            digest=self.digest,
            status=self.status,
            title=self.title,
            created_at=self.created_at,
            claim=self.claim,
            tail=self.tail,
        )


def look_up(db: sqlite3.Connection, session_id: str) -> SessionRow | None:
    """Return a session's row, or None if the id was never used.

    Raises:
        SessionGone: If the session was deleted.
    """
    row = db.execute("SELECT * FROM session WHERE session_id = ?", (session_id,)).fetchone()
    if row is not None:
        return SessionRow._make(row)
    gone = "SELECT 1 FROM tombstone WHERE session_id = ?"
    if db.execute(gone, (session_id,)).fetchone() is not None:
        raise SessionGone(session_id)
    return None


def find(db: sqlite3.Connection, session_id: str) -> SessionRow:
    """Return a session's row.

    Raises:
        SessionUnknown: If there is no such session.
        SessionGone: If the session was deleted.
    """
    row = look_up(db, session_id)
    if row is None:
        raise SessionUnknown(session_id)
    return row


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
