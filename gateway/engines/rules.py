"""What engines decide in the same way: whether a write may happen, whether a position is valid.

Pure, so that one set of rules serves every engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.errors import CommandConflict, CursorInvalid, Fenced, LogMoved, SessionConflict
from gateway.log.engine import (
    LEASE_SECONDS,
    Answer,
    Appended,
    Fence,
    Head,
    Orphan,
    SessionStatus,
    Write,
)
from gateway.log.position import Position

__all__ = [
    "KEPT_CHECKPOINTS",
    "NO_LEASE",
    "Lease",
    "Standing",
    "check_position",
    "claim_after",
    "judge",
    "lease_after",
    "lease_until",
    "orphan",
]

KEPT_CHECKPOINTS = 16
"""Checkpoints kept for each client: as many as the `Ledger` promises."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What an existing session has to say about a write.

    Attributes:
        digest: Of the body that created it.
        claim: Its current claim.
        tail: The end of its log.
        remembered: What the write's command was answered before, if it was.
    """

    digest: str
    claim: Fence | None
    tail: Position
    remembered: Answer | None


def judge(write: Write, standing: Standing) -> Appended | None:
    """Decide on a write to a session that exists.

    A repetition is recognised before the fence is looked at: a retry gets its first answer even if
    the run has a new owner by now.

    Returns:
        None if the write may happen; the result to give back if it is a repetition.

    Raises:
        SessionConflict: If it would create the session differently.
        CommandConflict: If its command was answered before, with another body.
        Fenced: If it has not the right to write.
        LogMoved: If it was decided on without knowing all of the log.
    """
    remembered = standing.remembered
    if write.create is not None:
        if write.create.digest != standing.digest:
            raise SessionConflict(write.session_id)
        return Appended((), standing.tail, remembered, repeated=True)
    if write.answer is not None and remembered is not None:
        if write.answer.digest != remembered.digest:
            raise CommandConflict(write.answer.command_id)
        return Appended((), standing.tail, remembered, repeated=True)
    if write.fence is not None and write.fence != standing.claim:
        raise Fenced("the run has another owner by now")
    if write.claim is not None and write.fence is None and standing.claim is not None:
        raise Fenced("the session has a claim already")
    if write.expect is not None and write.expect != standing.tail:
        raise LogMoved
    return None


def claim_after(write: Write, claim: Fence | None) -> Fence | None:
    """Return the session's claim after a write; with both, the old one goes and the new one stays."""
    if write.claim is not None:
        return write.claim
    return None if write.release else claim


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a claim holds.

    Attributes:
        life: Which life of the store gave it; None if there is no claim.
        until: Milliseconds since 1970 UTC; without a claim: since when nobody works on the session.
    """

    life: str | None
    until: int


NO_LEASE = Lease(None, 0)
"""Where there never was a claim."""


def lease_until(now: int, seconds: float = LEASE_SECONDS) -> int:
    """Return when a lease that is given or renewed now is over."""
    return now + round(seconds * 1000)


def lease_after(write: Write, lease: Lease, life: str, now: int) -> Lease:
    """Return the lease of a session's claim after a write."""
    if write.claim is not None:
        return Lease(life, lease_until(now))
    if write.release or (write.status == "running" and lease.life is None):
        return Lease(None, now)  # since then a run may wait for somebody to work on it
    return lease


def orphan(
    session_id: str,
    claim: Fence | None,
    status: SessionStatus,
    *,
    lease: Lease,
    life: str,
    now: int,
) -> Orphan | None:
    """Tell whether nobody works on the active run of a session, and why."""
    why: Literal["handed_over", "restart", "lease_expired"]
    if claim is None:
        if status != "running":
            return None
        why = "handed_over"
    elif lease.life != life:
        why = "restart"
    elif lease.until <= now:
        why = "lease_expired"
    else:
        return None
    return Orphan(session_id, claim, why)


def check_position(after: Position, head: Head, tag: str | None) -> None:
    """Check that a position is in a log.

    Args:
        after: The position.
        head: What is kept of the log.
        tag: The tag stored for the entry at `after.seq`, or for the start of what is kept.

    Raises:
        CursorInvalid: If it is not, with the reason.
    """
    if after.epoch != head.tail.epoch:
        raise CursorInvalid("epoch_changed")
    if after.seq < head.start.seq:
        raise CursorInvalid("trimmed")
    if after.seq > head.tail.seq:
        raise CursorInvalid("cursor_ahead")
    if after.tag != tag:
        raise CursorInvalid("fork")
