"""Of the Postgres engine."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["POSTGRES"]


POSTGRES = (
    Mutant(
        "what was sent on a connection that was given up is not done later",
        "gateway/engines/postgres/migrations/0001_append.sql",
        "    IF EXISTS (SELECT FROM retired WHERE lane = p_lane) THEN\n",
        "    IF false THEN\n",
        ("tests/engines/test_postgres_appender.py",),
    ),
    Mutant(
        "an append whose wait for a standby was cancelled is not acknowledged",
        "gateway/engines/postgres/lane.py",
        "        elif self._is_doubtful:\n",
        "        elif False:\n",
        ("tests/engines/test_postgres_synchronous.py",),
    ),
    Mutant(
        "two nodes do not wait for each other when they look for runs",
        "gateway/engines/postgres/leases.py",
        "    FOR NO KEY UPDATE SKIP LOCKED\n",
        "    FOR NO KEY UPDATE\n",
        ("tests/engines/test_postgres_leases.py",),
    ),
    Mutant(
        "what was fetched is put behind what is known only if it belongs there",
        "gateway/engines/postgres/rings.py",
        "    if tail.epoch != known.epoch or found.tag != known.tag:\n",
        "    if tail.epoch != known.epoch:\n",
        ("tests/engines/test_postgres_rings.py",),
    ),
    Mutant(
        "a commit of this process does not bridge what others wrote before it",
        "gateway/engines/postgres/rings.py",
        "        if known is None or known == before:\n",
        "        if True:\n",
        ("tests/engines/test_postgres_rings.py",),
    ),
    Mutant(
        "a head with another tag is another history",
        "gateway/engines/postgres/heads.py",
        " or row[5] != known.tag or row[1] != known.epoch:\n",
        " or row[1] != known.epoch:\n",
        ("tests/engines/test_postgres_following.py",),
    ),
    Mutant(
        "all is looked at when hints come again",
        "gateway/engines/postgres/hints.py",
        "            self._connected()\n",
        "            pass\n",
        ("tests/engines/test_postgres_hints.py",),
    ),
)
