"""What is asked of the store for all that is waited for at once, as functions on a connection."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from gateway.engines.postgres.rings import Found, Question
from gateway.log.engine import Head
from gateway.log.entry import Entry
from gateway.log.page import PAGE_BYTES
from gateway.log.position import Position

__all__ = ["Answers", "Questions", "ask"]

FETCHED = 256
"""The most entries of one session in one fetch; as many as readers take at a time."""

Watched: TypeAlias = tuple[int | None, Mapping[str, str]]
"""How often a client's subscriptions were changed, if the client is known; and what they are."""

_HEADS = """
SELECT session_id, epoch, start_seq, start_tag, tail_seq, tail_tag FROM session
WHERE session_id = ANY($1::text[])
"""

_FETCH = """
SELECT asked.place, s.epoch, s.start_seq, s.start_tag, s.tail_seq, s.tail_tag,
       CASE WHEN asked.known = s.start_seq THEN s.start_tag
            WHEN asked.known > s.start_seq THEN (
                SELECT tag FROM entry WHERE session = s.number AND seq = asked.known
            )
       END AS known_tag,
       e.seq, e.tag, e.at, e.body
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS asked (session_id, known, place)
JOIN session AS s USING (session_id)
LEFT JOIN LATERAL (
    SELECT seq, tag, at, body, sum(octet_length(body)) OVER (ORDER BY seq) AS size
    FROM (
        SELECT seq, tag, at, body FROM entry
        WHERE session = s.number AND seq > asked.known ORDER BY seq LIMIT $3
    ) AS next
) AS e ON e.size - octet_length(e.body) < $4
ORDER BY asked.place, e.seq
"""


@dataclass(frozen=True, slots=True)
class Questions:
    """What is wanted to be known.

    Attributes:
        fetches: Of which sessions what follows the known tail.
        checks: Of which sessions whether the head is the one that is known.
        clients: Whose subscriptions.
        versions: How often whose subscriptions were changed.
        work: Whether there is a run on which nobody works.
        now: The time in milliseconds since 1970 UTC; default: by the store's clock.
    """

    fetches: Sequence[Question] = ()
    checks: Sequence[Question] = ()
    clients: Collection[str] = ()
    versions: Collection[str] = ()
    work: bool = False
    now: int | None = None

    def __bool__(self) -> bool:
        return bool(self.fetches or self.checks or self.clients or self.versions or self.work)


@dataclass(frozen=True, slots=True)
class Answers:
    """What was found.

    Attributes:
        fetched: For each session, a piece of its log; None if there is no such session, or no more.
        differing: The heads that are not those that are known; None as above.
        clients: For each client, its subscriptions.
        versions: For the clients that are known.
        work: Whether there is some; False if that was not asked.
    """

    fetched: Sequence[tuple[Question, Found | None]] = ()
    differing: Mapping[str, Head | None] = field(default_factory=dict)
    clients: Mapping[str, Watched] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    work: bool = False


async def ask(db: PoolConnectionProxy[asyncpg.Record], questions: Questions) -> Answers:
    """Ask all of it, in as many statements as it has kinds."""
    return Answers(
        await _fetch(db, questions.fetches) if questions.fetches else (),
        await _differing(db, questions.checks) if questions.checks else {},
        await _subscriptions(db, questions.clients) if questions.clients else {},
        await _versions(db, questions.versions) if questions.versions else {},
        questions.work and await _work(db, questions.now),
    )


async def _differing(
    db: PoolConnectionProxy[asyncpg.Record], asked: Sequence[Question]
) -> dict[str, Head | None]:
    """Return the heads that are not those that are known, and the sessions that are not there."""
    rows = await db.fetch(_HEADS, [one.session_id for one in asked])
    there = {row[0]: row for row in rows}
    found: dict[str, Head | None] = {}
    for one in asked:
        row = there.get(one.session_id)
        if row is None:
            found[one.session_id] = None
        elif not _is_known(row, one):
            found[one.session_id] = _head(row)
    return found


def _is_known(row: asyncpg.Record, asked: Question) -> bool:
    """Tell whether a head is the one that is known: most are, so no object is made of it."""
    known, kept = asked.known, asked.kept
    if known is None or row[4] != known.seq or row[5] != known.tag or row[1] != known.epoch:
        return False
    return kept is None or bool(row[2] <= kept)


async def _fetch(
    db: PoolConnectionProxy[asyncpg.Record], asked: Sequence[Question]
) -> list[tuple[Question, Found | None]]:
    """Return what follows the known tails: of each session at most `FETCHED` entries, or a page.

    All of it is as of one moment.
    """
    rows = await db.fetch(
        _FETCH,
        [one.session_id for one in asked],
        [0 if one.known is None else one.known.seq for one in asked],
        FETCHED,
        PAGE_BYTES,
    )
    found = {place: _found(asked[place - 1], rows) for place, rows in groupby(rows, itemgetter(0))}
    return [(one, found.get(place)) for place, one in enumerate(asked, 1)]


def _head(row: asyncpg.Record) -> Head:
    _, epoch, start_seq, start_tag, tail_seq, tail_tag, *_ = row
    return Head(Position(epoch, start_seq, start_tag), Position(epoch, tail_seq, tail_tag))


def _found(asked: Question, rows: Iterator[asyncpg.Record]) -> Found:
    first = next(rows)
    head = _head(first)
    entries = [
        Entry(asked.session_id, Position(head.tail.epoch, row[7], row[8]), row[9], row[10])
        for row in (first, *rows)
        if row[7] is not None
    ]
    return Found(head, first[6], entries)


async def _subscriptions(
    db: PoolConnectionProxy[asyncpg.Record], client_ids: Collection[str]
) -> dict[str, Watched]:
    """Return the subscriptions of clients, each with its version, as of one moment."""
    rows = await db.fetch(
        "SELECT client_id, version, session_id, cursor"
        " FROM unnest($1::text[]) AS asked (client_id)"
        " LEFT JOIN client USING (client_id) LEFT JOIN subscription USING (client_id)",
        list(client_ids),
    )
    found: dict[str, tuple[int | None, dict[str, str]]] = {}
    for client_id, version, session_id, cursor in rows:
        _, known = found.setdefault(client_id, (version, {}))
        if session_id is not None:
            known[session_id] = cursor
    return dict(found)


async def _versions(
    db: PoolConnectionProxy[asyncpg.Record], client_ids: Collection[str]
) -> dict[str, int]:
    """Return how often the subscriptions of clients were changed, for those that are known."""
    rows = await db.fetch(
        "SELECT client_id, version FROM client WHERE client_id = ANY($1::text[])", list(client_ids)
    )
    return {row[0]: row[1] for row in rows}


async def _work(db: PoolConnectionProxy[asyncpg.Record], now: int | None) -> bool:
    """Tell whether there is a run on which nobody works, and that nobody is about to take over.

    Args:
        db: A connection.
        now: Milliseconds since 1970 UTC; default: the store's clock.
    """
    return bool(
        await db.fetchval(
            "WITH clock AS (SELECT coalesce($1::bigint,"
            " (extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now)"
            " SELECT EXISTS (SELECT FROM session, clock WHERE claim_nonce IS NULL"
            "  AND status = 'running' AND reserved_until <= now)"
            " OR EXISTS (SELECT FROM session, clock WHERE claim_nonce IS NOT NULL"
            "  AND claim_until <= now AND reserved_until <= now)",
            now,
        )
    )
