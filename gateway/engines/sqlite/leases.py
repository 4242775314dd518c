"""Leases in SQL: who still works on a run, and on which runs nobody does."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import orjson

from gateway.engines.rules import Lease, lease_until, orphan
from gateway.log.engine import Fence, Orphan

__all__ = ["heartbeat", "orphans"]


def heartbeat(
    db: sqlite3.Connection, claims: Mapping[str, Fence], life: str, now: int, lease: float
) -> frozenset[str]:
    """Renew claims that this life of the store gave; return the sessions that have them."""
    # One statement for all of them: each one more gives up the interpreter lock (see `writes._ROWS`).
    held = [[id_, claim.run_id, claim.attempt, claim.nonce] for id_, claim in claims.items()]
    renewed = db.execute(
        "UPDATE session SET claim_until = ?1 FROM json_each(?2) AS held"
        " WHERE session.session_id = json_extract(held.value, '$[0]')"
        " AND session.claim_run_id = json_extract(held.value, '$[1]')"
        " AND session.claim_attempt = json_extract(held.value, '$[2]')"
        " AND session.claim_nonce = json_extract(held.value, '$[3]')"
        " AND session.claim_life = ?3 RETURNING session.session_id",
        (lease_until(now, lease), orjson.dumps(held).decode(), life),
    )
    return frozenset(session_id for (session_id,) in renewed.fetchall())


def orphans(db: sqlite3.Connection, life: str, now: int) -> Sequence[Orphan]:
    """Return the sessions on whose active run nobody works, longest waiting first."""
    columns = (
        "number, session_id, claim_run_id, claim_attempt, claim_nonce, status, claim_life,"
        " claim_until"
    )
    rows = db.execute(  # two halves, so that each has an index of its own
        f"SELECT {columns} FROM session WHERE claim_nonce IS NOT NULL UNION ALL"  # noqa: S608 - fixed
        f" SELECT {columns} FROM session WHERE claim_nonce IS NULL AND status = 'running'"
        " ORDER BY claim_until, number"
    )
    found: list[Orphan] = []
    for _, session_id, run_id, attempt, nonce, status, given_in, until in rows:
        claim = None if nonce is None else Fence(run_id, attempt, nonce)
        lease = Lease(given_in, until or 0)
        left = orphan(session_id, claim, status, lease=lease, life=life, now=now)
        if left is not None:
            found.append(left)
    return found
