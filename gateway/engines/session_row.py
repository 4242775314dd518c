"""What engines with tables read of a session's row."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from gateway.log.engine import Fence, Head, SessionRecord, SessionStatus
from gateway.log.position import Position

__all__ = ["COLUMNS", "SessionRow"]


class SessionRow(NamedTuple):
    """A row of `session`, in the order of `COLUMNS`."""

    number: int
    session_id: str
    agent: str
    metadata: bytes
    digest: str
    status: SessionStatus
    title: str | None
    created_at: int
    epoch: str
    start_seq: int
    start_tag: str
    tail_seq: int
    tail_tag: str
    claim_run_id: str
    claim_attempt: int
    claim_nonce: str | None

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


COLUMNS = ", ".join(SessionRow._fields)
"""By name: a newer version of a schema may have more, and each engine has some of its own."""
