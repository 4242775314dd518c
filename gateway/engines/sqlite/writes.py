"""All that is written, as functions on the writer's connection, inside its transaction.

Each looks first and writes then: one that raises a `GatewayError` has written nothing.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from itertools import islice

import orjson

from gateway.engines.rules import (
    KEPT_CHECKPOINTS,
    Lease,
    Standing,
    claim_after,
    judge,
    lease_after,
)
from gateway.engines.session_row import SessionRow
from gateway.engines.sqlite.rows import find_answer, look_up, to_write
from gateway.engines.stamps import new_epoch, new_tag
from gateway.log.engine import Answer, Appended, Checkpoint, NewSession, Write
from gateway.log.entry import Entry, appended_to
from gateway.log.position import NO_TAG, Position

__all__ = [
    "append",
    "save_checkpoint",
    "subscribe",
    "unsubscribe",
]

_ROWS = 64
"""Entries in one INSERT. Each statement gives up the interpreter lock once and may have to wait for
it behind a busy event loop, so one statement per entry would be slow just when it matters."""


def append(db: sqlite3.Connection, write: Write, life: str, now: int) -> tuple[Appended, Position]:
    """Do a write in this life of the store; return what it did and the tail before it."""
    is_new = False
    if write.create is not None and look_up(db, write.session_id) is None:
        _create(db, write.session_id, write.create, now)
        is_new = True
    found = to_write(db, write.session_id)
    session = found.session
    if not is_new:
        remembered = find_answer(db, session, write.answer.command_id) if write.answer else None
        repeated = judge(write, Standing(session.digest, session.claim, session.tail, remembered))
        if repeated is not None:
            return repeated, session.tail
    at = max(found.tail_at, now)
    entries = appended_to(write.session_id, session.tail, new_tag(), at, write.bodies)
    _insert_entries(db, session, entries)
    tail = entries[-1].position if entries else session.tail
    lease = lease_after(write, found.lease, life, now)
    _update(db, session, write, tail, at, lease=lease)
    answer = write.answer
    if answer is not None:
        answer = replace(answer, position=entries[0].position if entries else tail)
        _insert_answer(db, session, answer, answer.position or tail, now)
    return Appended(entries, tail, answer), session.tail


def _create(db: sqlite3.Connection, session_id: str, new: NewSession, now: int) -> None:
    db.execute(
        # SQLite would give the number of the last session again if that was deleted.
        "INSERT INTO session (number, session_id, agent, metadata, digest, status, created_at, epoch,"
        " start_seq, start_tag, tail_seq, tail_tag, tail_at)"
        " VALUES (1 + max((SELECT ifnull(max(number), 0) FROM session),"
        " (SELECT ifnull(max(session), 0) FROM dropped)),"
        " ?1, ?2, ?3, ?4, 'idle', ?5, ?6, 0, ?7, 0, ?7, ?5)",
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
    db: sqlite3.Connection,
    session: SessionRow,
    write: Write,
    tail: Position,
    at: int,
    *,
    lease: Lease,
) -> None:
    claim = claim_after(write, session.claim)
    db.execute(
        "UPDATE session SET tail_seq = ?, tail_tag = ?, tail_at = ?, status = ?, title = ?,"
        " claim_run_id = ?, claim_attempt = ?, claim_nonce = ?, claim_life = ?, claim_until = ?"
        " WHERE number = ?",
        (
            tail.seq,
            tail.tag,
            at,
            write.status or session.status,
            session.title if write.title is None else write.title,
            claim and claim.run_id,
            claim and claim.attempt,
            claim and claim.nonce,
            lease.life,
            lease.until,
            session.number,
        ),
    )


def _insert_answer(
    db: sqlite3.Connection, session: SessionRow, answer: Answer, position: Position, now: int
) -> None:
    db.execute(
        "INSERT INTO answer (session, command_id, digest, run_id, seq, tag, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            session.number,
            answer.command_id,
            answer.digest,
            answer.run_id,
            position.seq,
            position.tag,
            now,
        ),
    )


def _seen(db: sqlite3.Connection, client_id: str, now: int) -> None:
    """Note that a client was here."""
    db.execute("INSERT OR REPLACE INTO client (client_id, seen_at) VALUES (?, ?)", (client_id, now))


def subscribe(
    db: sqlite3.Connection, client_id: str, session_id: str, cursor: str, now: int
) -> None:
    """Put a session on a client's stream."""
    _seen(db, client_id, now)
    db.execute(
        "INSERT OR REPLACE INTO subscription (client_id, session_id, cursor) VALUES (?, ?, ?)",
        (client_id, session_id, cursor),
    )


def unsubscribe(db: sqlite3.Connection, client_id: str, session_id: str) -> None:
    """Take a session off a client's stream."""
    db.execute(
        "DELETE FROM subscription WHERE client_id = ? AND session_id = ?", (client_id, session_id)
    )


def save_checkpoint(
    db: sqlite3.Connection, client_id: str, checkpoint: Checkpoint, now: int
) -> None:
    """Keep a checkpoint as the client's latest, and let go of its oldest."""
    _seen(db, client_id, now)
    db.execute(
        "INSERT OR REPLACE INTO checkpoint (client_id, checkpoint_id, cursors) VALUES (?, ?, ?)",
        (client_id, checkpoint.checkpoint_id, orjson.dumps(dict(checkpoint.cursors))),
    )
    db.execute(
        "DELETE FROM checkpoint WHERE client_id = ?1 AND number <= (SELECT number FROM checkpoint"
        " WHERE client_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        (client_id, KEPT_CHECKPOINTS),
    )
