"""The engine seam: where logs and the ledger are kept, in words that hold for every engine.

`tests/contract` holds every engine to these words. Engines keep bytes; they know no event. `append`
is the one write of a session: events, the fence and the ledger changes that must be atomic with them
travel in one call and one transaction. After `aclose` every method but those that wait and `aclose`
raises `EngineClosed`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.upkeep import Upkeep

__all__ = [
    "LEASE_SECONDS",
    "Answer",
    "Appended",
    "Checkpoint",
    "Engine",
    "Fence",
    "Head",
    "Ledger",
    "Log",
    "NewSession",
    "Orphan",
    "SessionRecord",
    "SessionStatus",
    "StoredSnapshot",
    "Write",
]

SessionStatus = Literal["idle", "running", "interrupted", "closed"]

LEASE_SECONDS = 20.0
"""How long a claim holds without a heartbeat. Four heartbeats: three may be lost or late, and a run
whose process died with its machine goes on in less than half a minute."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write for a run: one claim of it. `nonce` is 64 random bits, new for each."""

    run_id: str
    attempt: int
    nonce: str


@dataclass(frozen=True, slots=True)
class NewSession:
    """What makes a session. `digest` is of the creating request's body, to tell a retry apart."""

    agent: str
    metadata: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The remembered answer to a command: which run it was about and where it took effect.

    `position` is filled in by the engine: of the first entry of the append, or the tail where the
    command appended nothing.
    """

    command_id: str
    digest: str
    run_id: str | None
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """One append: all of it is done, or nothing.

    Attributes:
        session_id: Whose log.
        bodies: The events, encoded by `gateway.log.serde`, in order; may be empty.
        create: Make the session first.
        expect: Refuse unless the log's tail is this.
        fence: Refuse unless this claim is the session's current one.
        claim: Make this the current claim, with a lease of `LEASE_SECONDS`.
        release: Drop the current claim; together with `claim` it is a handover.
        answer: Remember this answer.
        status: The session's new status in the session list.
        title: The session's new title in the session list.
        judged: Whether the session now has runs that end when nobody controls it: see `attend`.
    """

    session_id: str
    bodies: Sequence[bytes]
    create: NewSession | None = None
    expect: Position | None = None
    fence: Fence | None = None
    claim: Fence | None = None
    release: bool = False
    answer: Answer | None = None
    status: SessionStatus | None = None
    title: str | None = None
    judged: bool | None = None


@dataclass(slots=True)
class Appended:
    """What an append did. Never changes.

    Attributes:
        entries: The committed entries, in order.
        tail: The log's tail after it.
        answer: The answer as remembered, if `Write.answer` was given.
        repeated: The command had been answered before: nothing was written now, and `answer` is
            the first one.
    """

    entries: tuple[Entry, ...]
    tail: Position
    answer: Answer | None = None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """The two ends of what is kept of a log: `start` is right before the first kept entry."""

    start: Position
    tail: Position


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session in the session list. `created_at` is in milliseconds since 1970 UTC.

    `claim` and `tail` are of one moment.
    """

    session_id: str
    agent: str
    metadata: Mapping[str, Any]
    digest: str
    status: SessionStatus
    title: str | None
    created_at: int
    claim: Fence | None
    tail: Position


@dataclass(frozen=True, slots=True)
class Orphan:
    """A session whose run is active, and on whose run nobody works.

    Attributes:
        claim: What the store holds; whoever takes the run over gives it as the fence.
        why: `handed_over`: it has no claim, as a process let go of it, or began it for others to
            work on. `restart`: its claim is of an earlier life of the store. `lease_expired`: no
            heartbeat came in time.
    """

    session_id: str
    claim: Fence | None
    why: Literal["handed_over", "restart", "lease_expired"]


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A session's folded state at a position, so that loading it need not fold the whole log."""

    position: Position
    state: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a client's stream stands in each of its sessions, under the id that names it."""

    checkpoint_id: str
    cursors: Mapping[str, str]


class Log(Protocol):
    """Ordered, append-only logs, one per session."""

    async def append(self, write: Write) -> Appended:
        """Do all of `write` in one transaction, or nothing.

        A command or a creation that is repeated is recognised before the fence is looked at: a
        retry gets its first answer even if the run has a new owner by now.

        `seq` continues without a hole; all entries of one call share one new random tag; time
        never goes backwards within a log. It returns after the commit; what it wrote is readable
        then, and waiting readers are woken. Cancelling the caller neither undoes nor breaks it.

        Raises:
            SessionUnknown: If there is no such session and `create` is not given.
            SessionGone: If the session was deleted.
            SessionConflict: If `create` is given and the session exists with another digest; with
                the same digest nothing is written and `repeated` is true.
            CommandConflict: If `answer.command_id` was answered before with another digest.
            Fenced: If `fence` is not the current claim, or `claim` is given without a matching
                `fence` while there is a current claim.
            LogMoved: If `expect` is not the tail, and the fence is right.
            EngineUnavailable: If the store failed; nothing was written. Where that cannot be known,
                it was not acknowledged, and what reads the log later tells.
        """

    async def head(self, session_id: str) -> Head:
        """Return both ends of a log.

        Raises:
            SessionUnknown: If there is no such session.
            SessionGone: If it was deleted.
        """

    async def read(self, session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
        """Return up to `limit` entries after a position, in order, without holes.

        May return fewer than there are (pages are bounded in bytes too) but returns nothing only
        at the tail.

        Raises:
            SessionUnknown: If there is no such session.
            SessionGone: If it was deleted.
            CursorInvalid: If `after` is of another epoch, before what is kept, past the tail, or
                its tag is not that of the entry at its `seq`.
        """

    async def wait(self, session_id: str, after: Position) -> None:
        """Return once the tail is past `after`, or the session was deleted.

        May return early, at the latest after `WAIT_LIMIT` seconds; never late. Returns at once if
        the tail is past already, if there is no such session, or if the engine is closed. Reading
        is the truth, waking a hint.
        """

    async def trim(self, session_id: str, through: int, state: bytes | None = None) -> None:
        """Drop the entries up to and including `through`. The last entry always stays.

        They are gone for readers at once; their room is given back in pieces, between which others
        write.

        Args:
            session_id: Whose log.
            through: The `seq` of the last entry to drop.
            state: The state folded up to `through`. It becomes what the log begins with, in the
                same transaction, so that a log that was trimmed can always be folded. Then nothing
                is done if `through` is no entry that can be dropped.

        Raises:
            SessionUnknown, SessionGone: If there is no such session.
        """

    async def save_snapshot(self, session_id: str, snapshot: StoredSnapshot) -> None:
        """Keep a folded state, in place of the one saved before; what the log begins with stays.

        Raises:
            SessionUnknown, SessionGone: If there is no such session.
        """

    async def load_snapshot(
        self, session_id: str, through: int | None = None
    ) -> StoredSnapshot | None:
        """Return the latest kept state whose position is in what is kept of the log.

        Args:
            session_id: Whose.
            through: Its `seq` is at most this; default: the tail's.
        """


class Ledger(Protocol):
    """What is looked up across sessions, or must be atomic with an append."""

    async def session(self, session_id: str) -> SessionRecord:
        """Return a session's record.

        Raises:
            SessionUnknown: If there is no such session.
            SessionGone: If it was deleted.
        """

    async def sessions(self, *, limit: int, after: str | None) -> Sequence[SessionRecord]:
        """Return sessions, newest first, those after `after` (an id) if given.

        An `after` that is unknown or deleted gives an empty page.
        """

    async def heartbeat(
        self, claims: Mapping[str, Fence], *, lease: float = LEASE_SECONDS
    ) -> frozenset[str]:
        """Renew claims, by session; return the sessions whose current claim that is.

        A lease that is over is renewed all the same, as long as nobody has taken the run over. By
        the store's clock, as all leases.

        Args:
            claims: What this process holds, and really works on.
            lease: Seconds from now; 0 lets others take the runs over at once.
        """

    async def orphans(self, *, limit: int | None = None, reserve: float = 0.0) -> Sequence[Orphan]:
        """Return the sessions with an active run on which nobody works, longest waiting first.

        Those are: with a claim whose lease is over, or that an earlier life of the store gave; and
        with the status `running` and no claim. They wait since the lease was over; without a claim,
        since it was dropped or the status became `running`. Of those that wait equally long, the
        oldest session is first.

        Args:
            limit: At most so many; default: all.
            reserve: Seconds for which nobody else who reserves is given them. It keeps processes
                out of each other's way and nothing more: what counts is who appends the claim.
        """

    async def wait_orphans(self) -> None:
        """Return when a run may have been left for others to work on.

        A hint, as with `wait`: may return early, at the latest after `WAIT_LIMIT` seconds.
        """

    async def attend(self, session_ids: Collection[str], *, by: str, seconds: float) -> None:
        """Say that a process has controllers of these sessions, for so many seconds from now.

        Sessions that were never told to be `judged` may be left out.

        Args:
            session_ids: Which.
            by: The process.
            seconds: How long that holds unless it is said again; 0: they have just gone.
        """

    async def alone(self, session_id: str, *, but: str) -> float | None:
        """Return for how many seconds no process but this one has had a controller of a session.

        0 means that one has. None means that none ever had, or so long ago that it is forgotten.
        """

    async def delete(self, session_id: str) -> None:
        """Delete a session's log and all about it; leave a tombstone. Wakes its readers.

        Raises:
            SessionUnknown: If there is no such session. Deleting twice is not an error.
        """

    async def answer(self, session_id: str, command_id: str) -> Answer | None:
        """Return what a command was answered; None if it was not, or there is no such session."""

    async def subscribe(self, client_id: str, session_id: str, cursor: str) -> None:
        """Put a session on a client's stream, to be read from `cursor`; again: from the new one.

        Whether the session exists is not looked at.
        """

    async def unsubscribe(self, client_id: str, session_id: str) -> None:
        """Take a session off a client's stream. Doing it twice is not an error."""

    async def subscriptions(self, client_id: str) -> Mapping[str, str]:
        """Return a client's sessions and the cursors that it asked to start from."""

    async def wait_subscriptions(self, client_id: str, known: Mapping[str, str]) -> None:
        """Return once a client's subscriptions may differ from those known.

        A hint, as with `wait`: may return early, at the latest after `WAIT_LIMIT` seconds.
        """

    async def save_checkpoint(self, client_id: str, checkpoint: Checkpoint) -> None:
        """Keep a client's checkpoint; the engine keeps at least its latest 16."""

    async def load_checkpoint(self, client_id: str, checkpoint_id: str) -> Checkpoint | None:
        """Return one of a client's checkpoints, if it is still kept."""


class Engine(Log, Ledger, Upkeep, Protocol):
    """A log and its ledger, in one store that can be kept bounded."""

    @property
    def shared(self) -> bool:
        """Whether other processes may write to the same store at the same time."""

    async def aclose(self) -> None:
        """Finish what was accepted and let go of all resources. Safe to call twice."""
