"""The engine that keeps logs and ledger in one Postgres, for as many processes as one likes.

Its libraries come with the extra `postgres`; nothing else imports them.
"""

from __future__ import annotations

__all__: list[str] = []
