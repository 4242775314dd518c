"""Where the sessions of a graph are kept: the contract of a store, and what all stores share.

A session has one log: the events of all its runs, numbered 1, 2, 3 … without holes. Besides it
there are checkpoints. What the newest run has reported since its last checkpoint is its journal:
what it did in a superstep that is not finished. A run whose process died goes on from both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import orjson

from runtime.checkpoint import Checkpoint
from runtime.errors import CheckpointUnknown, SessionBusy
from runtime.events import (
    EVENT,
    ApprovalResolved,
    Event,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
)
from runtime.journal import JOURNALED
from runtime.messages import Frozen
from runtime.plain import plain

__all__ = ["CheckpointStore", "Entry", "Kept", "RunRecord", "Status"]

Status = Literal["running", "completed", "failed", "paused", "cancelled"]
"""How a run stands. After a crash it still says `running`, and nobody runs it."""

_STATUS: dict[type[Any], Status] = {
    RunCompleted: "completed",
    RunFailed: "failed",
    RunInterrupted: "paused",
    RunCancelled: "cancelled",
    RunResumed: "running",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in its place in a session's log.

    Attributes:
        seq: Its number, from 1.
        at: When it happened; it knows its time zone.
        event: What happened.
    """

    seq: int
    at: datetime
    event: Event


class RunRecord(Frozen):
    """A run of a session.

    Attributes:
        run_id: Its id.
        session_id: The session.
        parent_run_id: The run that it does again, or was forked from.
        checkpoint_id: The checkpoint that it began at; without one it began with `state`.
        state: What it began with, by key name, as plain JSON.
        attempt: 1, and one more each time that it was gone on with after a crash.
        status: How it stands.
    """

    run_id: str
    session_id: str
    parent_run_id: str | None = None
    checkpoint_id: str | None = None
    state: dict[str, Any] | None = None
    attempt: int = 1
    status: Status = "running"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store knows of a session's newest run.

    Attributes:
        run: The run.
        tail: The number of the session's last entry; 0 if there is none.
        checkpoint: Its last checkpoint, or the one that it began at.
        journal: What it has reported since then and needs in order to go on, and how approvals
            were answered.
    """

    run: RunRecord
    tail: int
    checkpoint: Checkpoint | None = None
    journal: tuple[Event, ...] = ()


class CheckpointStore(Protocol):
    """Keeps sessions. These words are the contract; one suite holds every store to it.

    Each call is one transaction. It takes effect as a whole, after those that were called before
    it, and also if whoever waits for it is cancelled; once it has returned, it is kept. What is
    kept is a copy.
    """

    async def begin(self, run: RunRecord) -> int:
        """Keep a run as the newest of its session, or what is new about it; return the tail.

        The session is made if there is none.
        """

    async def record(self, session_id: str, entries: Sequence[Entry]) -> None:
        """Add entries to the log. An event that ends, pauses or resumes a run sets its status.

        Raises:
            CheckpointUnknown: If there is no such session.
            SessionBusy: If the next entry is not the first of these: somebody else has written.
        """

    async def save(
        self,
        session_id: str,
        checkpoint: Checkpoint,
        entries: Sequence[Entry] = (),
        *,
        keep_journal: bool = False,
    ) -> None:
        """Add entries, then keep a checkpoint.

        Args:
            session_id: The session.
            checkpoint: Its id is new.
            entries: See `record`.
            keep_journal: Whether the journal goes on, because the superstep does; otherwise it
                begins anew.

        Raises:
            CheckpointUnknown: If there is no such session.
            SessionBusy: See `record`.
        """

    async def load(self, session_id: str) -> Kept | None:
        """Return the newest run and where it stands; None if there is no such session."""

    async def get(self, checkpoint_id: str) -> tuple[str, Checkpoint]:
        """Return a checkpoint, and the session that it belongs to.

        Raises:
            CheckpointUnknown: If there is none of this id.
        """

    async def history(self, session_id: str) -> tuple[Checkpoint, ...]:
        """Return a session's checkpoints, oldest first; none of an unknown session."""

    async def events(
        self, session_id: str, after: int = 0, *, limit: int | None = None
    ) -> tuple[Entry, ...]:
        """Return up to `limit` entries after a number, in order; none of an unknown session."""

    async def runs(self, session_id: str) -> tuple[RunRecord, ...]:
        """Return a session's runs, oldest first; none of an unknown session."""

    async def sessions(self) -> tuple[str, ...]:
        """Return the ids of all sessions, the oldest first."""

    async def delete(self, session_id: str) -> None:
        """Forget a session and all that belongs to it; an unknown one is fine."""

    async def aclose(self) -> None:
        """Let go of all resources. Safe to call twice."""


# --- what all stores share: pure -------------------------------------------------------------------


def dumped(event: Event) -> bytes:
    """Return an event as JSON; what JSON cannot say becomes a placeholder."""
    return orjson.dumps(plain(event, "an event"))


def loaded(body: bytes) -> Event:
    """Return the event that was dumped."""
    return EVENT.validate_json(body)


def status_after(run: RunRecord, entries: Iterable[Entry]) -> Status:
    """Return how a run stands after these entries."""
    status = run.status
    for entry in entries:
        if entry.event.run_id == run.run_id:
            status = _STATUS.get(type(entry.event), status)
    return status


def status_of(end: Event | None) -> Status:
    """Return what an event says about how its run stands."""
    return _STATUS.get(type(end), "running")


def journaled(event: Event) -> bool:
    """Tell whether a run needs this event in order to go on."""
    return isinstance(event, (*JOURNALED, ApprovalResolved))


def check_next(session_id: str, tail: int, entries: Sequence[Entry]) -> None:
    """Refuse entries that do not follow the tail.

    Raises:
        SessionBusy: If they do not.
    """
    if [entry.seq for entry in entries] != list(range(tail + 1, tail + 1 + len(entries))):
        raise SessionBusy(f"somebody else has written to session {session_id!r}")


def no_session(session_id: str) -> CheckpointUnknown:
    """Return the error that says so."""
    return CheckpointUnknown(f"there is no session {session_id!r}")


def no_checkpoint(checkpoint_id: str) -> CheckpointUnknown:
    """Return the error that says so."""
    return CheckpointUnknown(f"there is no checkpoint {checkpoint_id!r}")
