"""A batch of writes as the arguments of one call, and what the call returned as results. Pure.

The functions are in `migrations/0001_append.sql`. They decide as `rules.judge` does, and where they
refused, `judge` says in which words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, TypeVar

import orjson

from gateway.engines.rules import Standing, judge
from gateway.engines.stamps import new_epoch, new_tag
from gateway.errors import EngineUnavailable, GatewayError, SessionGone, SessionUnknown
from gateway.log.engine import Answer, Appended, Fence, Write
from gateway.log.entry import appended_to
from gateway.log.position import Position

__all__ = ["APPEND", "SETTLE", "Committed", "Try", "arguments", "outcomes", "questions", "settled"]

T = TypeVar("T")

APPEND = (
    "SELECT * FROM append_writes($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,"
    " $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28)"
)
SETTLE = "SELECT * FROM settle_writes($1, $2, $3, $4)"

_UNKNOWN, _GONE, _REFUSED, _DONE = range(4)


@dataclass(slots=True, eq=False)
class Committed:
    """A write that is in the store. Never changes.

    Attributes:
        session_id: Whose log.
        appended: What its caller gets.
        before: The log's tail before it.
        left_alone: The session has a run now on which nobody works.
    """

    session_id: str
    appended: Appended
    before: Position
    left_alone: bool


@dataclass(slots=True, eq=False)
class Try:
    """A write under the tag with which it is sent. No tag is sent twice."""

    write: Write
    tag: str = field(default_factory=new_tag)

    def done(self, before: Position, at: int) -> Appended:
        """Return what the write did, if it was done after this tail and at this time."""
        write = self.write
        entries = appended_to(write.session_id, before, self.tag, at, write.bodies)
        tail = entries[-1].position if entries else before
        answer = write.answer
        if answer is not None:
            answer = replace(answer, position=entries[0].position if entries else tail)
        return Appended(entries, tail, answer)


def arguments(tries: Sequence[Try], lane: int, now: int | None, lease: float) -> list[Any]:
    """Return the arguments of `APPEND`.

    Args:
        tries: At most one for each session.
        lane: The number of the connection.
        now: Milliseconds since 1970 UTC; None: by the database's clock.
        lease: Seconds that a claim holds.
    """
    writes = [each.write for each in tries]
    counts = [len(write.bodies) for write in writes]
    bodies = [body for write in writes for body in write.bodies]
    return [
        lane,
        now,
        round(lease * 1000),
        [write.session_id for write in writes],
        [each.tag for each in tries],
        counts,
        list(accumulate(counts[:-1], initial=0)),
        *_created(writes),
        *_positions([write.expect for write in writes]),
        *_fences([write.fence for write in writes]),
        *_fences([write.claim for write in writes]),
        _column(write.release or None for write in writes),
        *_answers([write.answer for write in writes]),
        _column(write.status for write in writes),
        _column(write.title and _storable(write.title) for write in writes),
        _column(write.judged for write in writes),
        bodies or None,
    ]


def _column(values: Iterable[T | None]) -> list[T | None] | None:
    """Return the values, or None if all of them are: that is cheaper to send."""
    column = list(values)
    return None if column.count(None) == len(column) else column


def _created(writes: Sequence[Write]) -> list[Any]:
    made = [write.create for write in writes]
    if made.count(None) == len(made):
        return [None] * 4
    return [
        [new and new.digest for new in made],
        [new and new.agent for new in made],
        [new and orjson.dumps(dict(new.metadata)) for new in made],
        [new and new_epoch() for new in made],
    ]


def _positions(positions: Sequence[Position | None]) -> list[Any]:
    if positions.count(None) == len(positions):
        return [None] * 3
    return [
        [position and position.epoch for position in positions],
        [position and position.seq for position in positions],
        [position and position.tag for position in positions],
    ]


def _fences(fences: Sequence[Fence | None]) -> list[Any]:
    if fences.count(None) == len(fences):
        return [None] * 3
    return [
        [fence and fence.run_id for fence in fences],
        [fence and fence.attempt for fence in fences],
        [fence and fence.nonce for fence in fences],
    ]


def _answers(answers: Sequence[Answer | None]) -> list[Any]:
    if answers.count(None) == len(answers):
        return [None] * 3
    return [
        [answer and answer.command_id for answer in answers],
        [answer and answer.digest for answer in answers],
        [answer and answer.run_id for answer in answers],
    ]


def _storable(text: str) -> str:
    """Return a text without the one character that Postgres cannot have in one."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def outcomes(
    tries: Sequence[Try], row: Mapping[str, Any]
) -> list[Committed | Appended | GatewayError]:
    """Return what became of each try: done, repeated or refused.

    Args:
        tries: What `APPEND` was called with.
        row: What it returned.
    """
    standings = json.loads(row["standings"] or "{}")
    found: list[Committed | Appended | GatewayError] = []
    columns = (row[name] for name in ("verdicts", "epochs", "seqs", "tags", "ats", "left_alone"))
    for place, (each, verdict, epoch, seq, tag, at, left_alone) in enumerate(
        zip(tries, *columns, strict=True), 1
    ):
        session_id = each.write.session_id
        if verdict == _UNKNOWN:
            found.append(SessionUnknown(session_id))
        elif verdict == _GONE:
            found.append(SessionGone(session_id))
        elif verdict == _REFUSED:
            found.append(_judged(each.write, Position(epoch, seq, tag), standings[str(place)]))
        else:
            before = Position(epoch, seq, tag)
            found.append(Committed(session_id, each.done(before, at), before, left_alone))
    return found


def _judged(write: Write, tail: Position, standing: Sequence[Any]) -> Appended | GatewayError:
    """Return why a write was not done, in the words that all engines have."""
    digest, run_id, attempt, nonce, said_digest, said_run, said_seq, said_tag = standing
    claim = None if nonce is None else Fence(run_id, attempt, nonce)
    remembered = None
    if write.answer is not None and said_digest is not None:
        position = Position(tail.epoch, said_seq, said_tag)
        remembered = Answer(write.answer.command_id, said_digest, said_run, position)
    try:
        repeated = judge(write, Standing(digest, claim, tail, remembered))
    except GatewayError as refusal:
        return refusal
    assert repeated is not None, "the database refused what the rules allow"  # noqa: S101
    return repeated


def questions(tries: Sequence[Try], lane: int) -> list[Any]:
    """Return the arguments of `SETTLE` for what was last sent on a connection that was lost."""
    return [
        lane,
        [each.write.session_id for each in tries],
        [each.tag for each in tries],
        [each.write.claim and each.write.claim.nonce for each in tries],
    ]


def settled(each: Try, row: Mapping[str, Any]) -> Committed | GatewayError | None:
    """Return what became of a try whose answer was lost.

    Args:
        each: The try.
        row: What `SETTLE` returned for it.

    Returns:
        None if it was surely not done, and may be tried again.
    """
    before: Position | None = None
    at = 0
    if each.write.bodies:
        if row["seq"] is not None:
            before, at = Position(row["epoch"], row["seq"] - 1, row["before"]), row["at"]
    elif row["is_last"]:
        before = Position(row["epoch"], row["tail_seq"], row["tail_tag"])
    elif row["is_claim"]:
        before = each.write.expect
    if before is not None:
        done = each.done(before, at)
        return Committed(each.write.session_id, done, before, row["left_alone"])
    if not each.write.bodies and each.write.expect is None and row["epoch"] is not None:
        # It left no trace that others do not cover. To do it again could undo what they did.
        return EngineUnavailable()
    return None
