"""All that is written, as functions on the writer's connection, inside its transaction.

Each looks first and writes then: one that raises a `GatewayError` has written nothing.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from itertools import islice

import orjson

from gateway.engines.rules import KEPT_CHECKPOINTS, Standing, claim_after, judge
from gateway.engines.sqlite.rows import SessionRow, find, find_answer, look_up
from gateway.engines.stamps import new_epoch, new_tag
from gateway.errors import SessionGone
from gateway.log.engine import Answer, Appended, Checkpoint, NewSession, StoredSnapshot, Write
from gateway.log.entry import Entry
from gateway.log.position import NO_TAG, Position

__all__ = [
    "append",
    "delete",
    "save_checkpoint",
    "save_snapshot",
    "subscribe",
    "trim",
    "unsubscribe",
]

_ROWS = 64
"""Entries in one INSERT. Each statement gives up the interpreter lock once and may have to wait for
it behind a busy event loop, so one statement per entry would be slow just when it matters."""


def append(db: sqlite3.Connection, write: Write, now: int) -> tuple[Appended, Position]:
    """Do a write; return what it did and the tail before it."""
    session = look_up(db, write.session_id)
    if session is None and write.create is not None:
        session = _create(db, write.session_id, write.create, now)
    else:
        session = session or find(db, write.session_id)
        remembered = find_answer(db, session, write.answer.command_id) if write.answer else None
        repeated = judge(write, Standing(session.digest, session.claim, session.tail, remembered))
        if repeated is not None:
            return repeated, session.tail
    entries = _entries(session, write, max(session.tail_at, now))
    _insert_entries(db, session, entries)
    tail = entries[-1].position if entries else session.tail
    _update(db, session, write, tail, max(session.tail_at, now))
    answer = write.answer
    if answer is not None:
        answer = replace(answer, position=entries[0].position if entries else tail)
        _insert_answer(db, session, answer, answer.position or tail)
    return Appended(entries, tail, answer), session.tail


def _entries(session: SessionRow, write: Write, at: int) -> tuple[Entry, ...]:
    tag = new_tag()
    return tuple(
        Entry(write.session_id, Position(session.epoch, seq, tag), at, body)
        for seq, body in enumerate(write.bodies, session.tail_seq + 1)
    )


def _create(db: sqlite3.Connection, session_id: str, new: NewSession, now: int) -> SessionRow:
    db.execute(
        "INSERT INTO session (session_id, agent, metadata, digest, status, created_at, epoch,"
        " start_seq, start_tag, tail_seq, tail_tag, tail_at)"
        " VALUES (?1, ?2, ?3, ?4, 'idle', ?5, ?6, 0, ?7, 0, ?7, ?5)",
        (
            session_id,
            new.agent,
            orjson.dumps(dict(new.metadata)),
            new.digest,
            now,
            new_epoch(),
            NO_TAG,
        ),
    )
    return find(db, session_id)


def _insert_entries(
    db: sqlite3.Connection, session: SessionRow, entries: tuple[Entry, ...]
) -> None:
    remaining = iter(entries)
    while rows := list(islice(remaining, _ROWS)):
        first = rows[0]
        bodies = [row.body for row in rows]
        values = ", ".join(f"(?1, ?2 + {n}, ?3, ?4, ?{n + 5})" for n in range(len(rows)))
        db.execute(
            f"INSERT INTO entry (session, seq, tag, at, body) VALUES {values}",  # noqa: S608 - only numbers
            (session.number, first.seq, first.position.tag, first.at, *bodies),
        )


def _update(
    db: sqlite3.Connection, session: SessionRow, write: Write, tail: Position, at: int
) -> None:
    claim = claim_after(write, session.claim)
    db.execute(
        "UPDATE session SET tail_seq = ?, tail_tag = ?, tail_at = ?, status = ?, title = ?,"
        " claim_run_id = ?, claim_attempt = ?, claim_nonce = ? WHERE number = ?",
        (
            tail.seq,
            tail.tag,
            at,
            write.status or session.status,
            session.title if write.title is None else write.title,
            claim and claim.run_id,
            claim and claim.attempt,
            claim and claim.nonce,
            session.number,
        ),
    )


def _insert_answer(
    db: sqlite3.Connection, session: SessionRow, answer: Answer, position: Position
) -> None:
    db.execute(
        "INSERT INTO answer (session, command_id, digest, run_id, seq, tag)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            session.number,
            answer.command_id,
            answer.digest,
            answer.run_id,
            position.seq,
            position.tag,
        ),
    )


def trim(db: sqlite3.Connection, session_id: str, through: int) -> None:
    """Drop entries; the position of the last one dropped becomes the start."""
    session = find(db, session_id)
    through = min(through, session.tail_seq - 1)
    if through <= session.start_seq:
        return
    (tag,) = db.execute(
        "SELECT tag FROM entry WHERE session = ? AND seq = ?", (session.number, through)
    ).fetchone()
    db.execute(
        "UPDATE session SET start_seq = ?, start_tag = ? WHERE number = ?",
        (through, tag, session.number),
    )
    db.execute("DELETE FROM entry WHERE session = ? AND seq <= ?", (session.number, through))


def delete(db: sqlite3.Connection, session_id: str) -> None:
    """Delete all about a session but the fact that it was there."""
    try:
        session = find(db, session_id)
    except SessionGone:
        return
    db.execute("INSERT INTO tombstone (session_id) VALUES (?)", (session_id,))
    db.execute("DELETE FROM session WHERE number = ?", (session.number,))
    db.execute("DELETE FROM entry WHERE session = ?", (session.number,))
    db.execute("DELETE FROM answer WHERE session = ?", (session.number,))
    db.execute("DELETE FROM snapshot WHERE session = ?", (session.number,))
    db.execute("DELETE FROM subscription WHERE session_id = ?", (session_id,))


def save_snapshot(db: sqlite3.Connection, session_id: str, snapshot: StoredSnapshot) -> None:
    """Put a snapshot in place of the one before."""
    session = find(db, session_id)
    position = snapshot.position
    db.execute(
        "INSERT OR REPLACE INTO snapshot (session, epoch, seq, tag, state) VALUES (?, ?, ?, ?, ?)",
        (session.number, position.epoch, position.seq, position.tag, snapshot.state),
    )


def subscribe(db: sqlite3.Connection, client_id: str, session_id: str, cursor: str) -> None:
    """Put a session on a client's stream."""
    db.execute(
        "INSERT OR REPLACE INTO subscription (client_id, session_id, cursor) VALUES (?, ?, ?)",
        (client_id, session_id, cursor),
    )


def unsubscribe(db: sqlite3.Connection, client_id: str, session_id: str) -> None:
    """Take a session off a client's stream."""
    db.execute(
        "DELETE FROM subscription WHERE client_id = ? AND session_id = ?", (client_id, session_id)
    )


def save_checkpoint(db: sqlite3.Connection, client_id: str, checkpoint: Checkpoint) -> None:
    """Keep a checkpoint as the client's latest, and let go of its oldest."""
    db.execute(
        "INSERT OR REPLACE INTO checkpoint (client_id, checkpoint_id, cursors) VALUES (?, ?, ?)",
        (client_id, checkpoint.checkpoint_id, orjson.dumps(dict(checkpoint.cursors))),
    )
    db.execute(
        "DELETE FROM checkpoint WHERE client_id = ?1 AND number <= (SELECT number FROM checkpoint"
        " WHERE client_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        (client_id, KEPT_CHECKPOINTS),
    )
