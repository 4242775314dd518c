"""The engine that keeps everything in memory: the contract's reference; for tests and demos."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import attrgetter

from gateway.engines.reservations import Reservations
from gateway.engines.rules import (
    KEPT_CHECKPOINTS,
    NO_LEASE,
    Lease,
    Standing,
    check_position,
    claim_after,
    judge,
    lease_after,
    lease_until,
    orphan,
)
from gateway.engines.stamps import Clock, new_epoch, new_tag, now_ms
from gateway.errors import CursorInvalid, EngineClosed, SessionGone, SessionUnknown
from gateway.log.bell import Bell
from gateway.log.engine import (
    LEASE_SECONDS,
    Answer,
    Appended,
    Checkpoint,
    Fence,
    Head,
    NewSession,
    Orphan,
    SessionRecord,
    StoredSnapshot,
    Write,
)
from gateway.log.entry import Entry, appended_to
from gateway.log.page import page
from gateway.log.position import NO_TAG, Position
from gateway.log.upkeep import Excess, Lifetimes

__all__ = ["MemoryEngine"]

_LIFE = "memory"
"""What is in memory has one life."""

_ANY = ""
"""The one key of a bell that does not ring for anything in particular."""


@dataclass(slots=True)
class _Session:
    """A session's record and its log: `entries` are those after `start`."""

    record: SessionRecord
    start: Position
    at: int
    entries: list[Entry] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    answered_at: dict[str, int] = field(default_factory=dict)
    snapshots: list[StoredSnapshot] = field(default_factory=list)
    lease: Lease = NO_LEASE

    @property
    def head(self) -> Head:
        """Both ends of what is kept."""
        return Head(self.start, self.entries[-1].position if self.entries else self.start)

    def index(self, after: Position) -> int:
        """Return where in `entries` the first one after a position is."""
        index = after.seq - self.start.seq
        tag = self.start.tag
        if 0 < index <= len(self.entries):
            tag = self.entries[index - 1].position.tag
        check_position(after, self.head, tag)
        return index

    def standing(self, answer: Answer | None) -> Standing:
        """Return what the session has to say about a write with this answer."""
        remembered = self.answers.get(answer.command_id) if answer is not None else None
        return Standing(self.record.digest, self.record.claim, self.head.tail, remembered)

    def write(self, write: Write, now: int) -> Appended:
        """Do a write that was judged."""
        tail = self.head.tail
        self.at = max(self.at, now)
        entries = appended_to(write.session_id, tail, new_tag(), self.at, write.bodies)
        self.entries.extend(entries)
        answer = write.answer
        if answer is not None:
            answer = replace(answer, position=entries[0].position if entries else tail)
            self.answers[answer.command_id] = answer
            self.answered_at[answer.command_id] = now
        self.record = replace(
            self.record,
            status=write.status or self.record.status,
            title=self.record.title if write.title is None else write.title,
            claim=claim_after(write, self.record.claim),
            tail=self.head.tail,
        )
        self.lease = lease_after(write, self.lease, _LIFE, now)
        return Appended(entries, self.head.tail, answer)


class MemoryEngine:
    """Logs in lists. Everything is lost with the process.

    No method awaits between looking and writing, so each is atomic on the event loop.

    Attributes:
        shared: Whether several servers use it at once, in this process.
    """

    def __init__(self, *, clock: Clock = now_ms, shared: bool = False) -> None:
        """Make an empty one.

        Args:
            clock: Gives entries their time.
            shared: Let several servers use it at once, as they do with a database.
        """
        self.shared = shared
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._gone: dict[str, int] = {}
        self._subscriptions: dict[str, dict[str, str]] = {}
        self._checkpoints: dict[str, OrderedDict[str, Checkpoint]] = {}
        self._seen: dict[str, int] = {}
        self._present: dict[str, dict[str, int]] = {}
        self._reservations = Reservations()
        self._bell = Bell()
        self._orphans_bell = Bell()
        self._clients_bell = Bell()
        self._closed = False

    async def append(self, write: Write) -> Appended:
        appended = self._append(write)
        await asyncio.sleep(0)  # as other engines do, let readers and cancellation in
        return appended

    async def head(self, session_id: str) -> Head:
        return self._find(session_id).head

    async def read(self, session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
        session = self._find(session_id)
        index = session.index(after)
        return page(session.entries[index : index + limit], limit)

    async def wait(self, session_id: str, after: Position) -> None:
        session = self._sessions.get(session_id)
        if session is not None and not self._closed and session.head.tail.seq <= after.seq:
            await self._bell.wait(session_id)

    async def trim(self, session_id: str, through: int, state: bytes | None = None) -> None:
        session = self._find(session_id)
        last = min(through, session.head.tail.seq - 1)
        if last <= session.start.seq or (state is not None and last != through):
            return
        count = last - session.start.seq
        session.start = session.entries[count - 1].position
        del session.entries[:count]
        if state is not None:
            later = [kept for kept in session.snapshots if kept.position.seq > last]
            session.snapshots = [StoredSnapshot(session.start, state), *later]

    async def save_snapshot(self, session_id: str, snapshot: StoredSnapshot) -> None:
        session = self._find(session_id)
        first = [kept for kept in session.snapshots if kept.position == session.start]
        session.snapshots = [*first, snapshot]

    async def load_snapshot(
        self, session_id: str, through: int | None = None
    ) -> StoredSnapshot | None:
        self._check_open()
        session = self._sessions.get(session_id)
        if session is None:
            return None
        for snapshot in reversed(session.snapshots):
            if through is None or snapshot.position.seq <= through:
                with suppress(CursorInvalid):
                    session.index(snapshot.position)
                    return snapshot
        return None

    async def session(self, session_id: str) -> SessionRecord:
        return self._find(session_id).record

    async def sessions(self, *, limit: int, after: str | None) -> Sequence[SessionRecord]:
        self._check_open()
        newest_first = reversed(self._sessions.values())
        if after is not None:
            for session in newest_first:
                if session.record.session_id == after:
                    break
        return [session.record for session in islice(newest_first, limit)]

    async def heartbeat(
        self, claims: Mapping[str, Fence], *, lease: float = LEASE_SECONDS
    ) -> frozenset[str]:
        self._check_open()
        renewed = Lease(_LIFE, lease_until(self._clock(), lease))
        held: set[str] = set()
        for session_id, claim in claims.items():
            session = self._sessions.get(session_id)
            if session is not None and session.record.claim == claim:
                session.lease = renewed
                held.add(session_id)
        return frozenset(held)

    async def orphans(self, *, limit: int | None = None, reserve: float = 0.0) -> Sequence[Orphan]:
        self._check_open()
        now = self._clock()
        found = (
            orphan(
                id_, held.record.claim, held.record.status, lease=held.lease, life=_LIFE, now=now
            )
            for id_, held in sorted(self._sessions.items(), key=lambda each: each[1].lease.until)
        )
        left = (each for each in found if each is not None)
        return self._reservations.give(left, limit=limit, reserve=reserve, now=now)

    async def wait_orphans(self) -> None:
        if not self._closed:
            await self._orphans_bell.wait(_ANY)

    async def attend(self, session_ids: Collection[str], *, by: str, seconds: float) -> None:
        self._check_open()
        until = self._clock() + round(seconds * 1000)
        for session_id in session_ids:
            if session_id in self._sessions:
                self._present.setdefault(session_id, {})[by] = until

    async def alone(self, session_id: str, *, but: str) -> float | None:
        self._check_open()
        present = self._present.get(session_id, {})
        last = max((until for by, until in present.items() if by != but), default=None)
        return None if last is None else max(0.0, (self._clock() - last) / 1000)

    async def delete(self, session_id: str) -> None:
        self._check_open()
        if session_id in self._gone:
            return
        self._find(session_id)
        del self._sessions[session_id]
        self._present.pop(session_id, None)
        self._gone[session_id] = self._clock()
        for sessions in self._subscriptions.values():
            sessions.pop(session_id, None)
        self._bell.ring(session_id)

    async def excess(
        self, *, events: int, age_ms: int, after: str | None, limit: int
    ) -> Sequence[Excess]:
        self._check_open()
        before = self._clock() - age_ms
        oldest_first = iter(self._sessions)
        if after is not None and after not in oldest_first:
            return []
        found = (_excess(self._sessions[id_], events, before) for id_ in oldest_first)
        return list(islice((each for each in found if each is not None), limit))

    async def forget(self, *, age_ms: int, limit: int) -> Sequence[str]:
        self._check_open()
        before = self._clock() - age_ms
        unused = (
            id_
            for id_, held in self._sessions.items()
            if held.at <= before and held.record.claim is None and held.record.status != "running"
        )
        gone = list(islice(unused, limit))
        for session_id in gone:
            await self.delete(session_id)
        return gone

    async def prune(self, lifetimes: Lifetimes) -> bool:
        self._check_open()
        now = self._clock()
        for session in self._sessions.values():
            for command_id in _older(session.answered_at, now - lifetimes.answers):
                del session.answers[command_id], session.answered_at[command_id]
        for client_id in _older(self._seen, now - lifetimes.clients):
            del self._seen[client_id]
            self._subscriptions.pop(client_id, None)
            self._checkpoints.pop(client_id, None)
        for session_id in _older(self._gone, now - lifetimes.tombstones):
            del self._gone[session_id]
        return False

    async def answer(self, session_id: str, command_id: str) -> Answer | None:
        self._check_open()
        session = self._sessions.get(session_id)
        return None if session is None else session.answers.get(command_id)

    async def subscribe(self, client_id: str, session_id: str, cursor: str) -> None:
        self._check_open()
        self._seen[client_id] = self._clock()
        self._subscriptions.setdefault(client_id, {})[session_id] = cursor
        self._clients_bell.ring(client_id)

    async def unsubscribe(self, client_id: str, session_id: str) -> None:
        self._check_open()
        self._subscriptions.get(client_id, {}).pop(session_id, None)
        self._clients_bell.ring(client_id)

    async def subscriptions(self, client_id: str) -> Mapping[str, str]:
        self._check_open()
        return dict(self._subscriptions.get(client_id, {}))

    async def wait_subscriptions(self, client_id: str, known: Mapping[str, str]) -> None:
        if not self._closed and self._subscriptions.get(client_id, {}) == known:
            await self._clients_bell.wait(client_id)

    async def save_checkpoint(self, client_id: str, checkpoint: Checkpoint) -> None:
        self._check_open()
        self._seen[client_id] = self._clock()
        kept = self._checkpoints.setdefault(client_id, OrderedDict())
        kept[checkpoint.checkpoint_id] = checkpoint
        kept.move_to_end(checkpoint.checkpoint_id)
        while len(kept) > KEPT_CHECKPOINTS:
            kept.popitem(last=False)

    async def load_checkpoint(self, client_id: str, checkpoint_id: str) -> Checkpoint | None:
        self._check_open()
        kept = self._checkpoints.get(client_id)
        return None if kept is None else kept.get(checkpoint_id)

    async def aclose(self) -> None:
        self._closed = True
        for bell in (self._bell, self._orphans_bell, self._clients_bell):
            bell.ring_all()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosed

    def _find(self, session_id: str) -> _Session:
        self._check_open()
        if session_id in self._gone:
            raise SessionGone(session_id)
        session = self._sessions.get(session_id)
        if session is None:
            raise SessionUnknown(session_id)
        return session

    def _append(self, write: Write) -> Appended:
        now = self._clock()
        if write.create is not None and self._is_new(write.session_id):
            session = _new_session(write, write.create, now)
        else:
            session = self._find(write.session_id)
            repeated = judge(write, session.standing(write.answer))
            if repeated is not None:
                return repeated
        appended = session.write(write, now)
        self._sessions[write.session_id] = session
        self._reservations.end(write)
        if appended.entries:
            self._bell.ring(write.session_id)
        if session.record.status == "running" and session.record.claim is None:
            self._orphans_bell.ring(_ANY)
        return appended

    def _is_new(self, session_id: str) -> bool:
        """Say whether the id was never used."""
        self._check_open()
        return session_id not in self._sessions and session_id not in self._gone


def _excess(session: _Session, events: int, before: int) -> Excess | None:
    """Return what is too many of a session, if anything is."""
    through = bisect_right(session.entries, before, key=attrgetter("at")) + session.start.seq
    through = min(through, session.head.tail.seq - events)
    if through <= session.start.seq:
        return None
    record = session.record
    active = record.status in {"running", "interrupted"}
    return Excess(record.session_id, session.start.seq, through, active=active)


def _older(times: Mapping[str, int], before: int) -> list[str]:
    return [name for name, at in times.items() if at <= before]


def _new_session(write: Write, new: NewSession, now: int) -> _Session:
    """Return a session with an empty log, without a claim."""
    start = Position(new_epoch(), 0, NO_TAG)
    record = SessionRecord(
        write.session_id, new.agent, new.metadata, new.digest, "idle", None, now, None, tail=start
    )
    return _Session(record, start=start, at=now)
