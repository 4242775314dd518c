"""The engine that keeps everything in memory: the contract's reference; for tests and demos."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from gateway.engines.rules import KEPT_CHECKPOINTS, Standing, check_position, claim_after, judge
from gateway.engines.stamps import Clock, new_epoch, new_tag, now_ms
from gateway.errors import CursorInvalid, EngineUnavailable, SessionGone, SessionUnknown
from gateway.log.bell import Bell
from gateway.log.engine import (
    Answer,
    Appended,
    Checkpoint,
    Head,
    NewSession,
    SessionRecord,
    StoredSnapshot,
    Write,
)
from gateway.log.entry import Entry
from gateway.log.page import page
from gateway.log.position import NO_TAG, Position

__all__ = ["MemoryEngine"]


@dataclass(slots=True)
class _Session:
    """A session's record and its log: `entries` are those after `start`."""

    record: SessionRecord
    start: Position
    at: int
    entries: list[Entry] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    snapshot: StoredSnapshot | None = None

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
        tag = new_tag()
        entries = tuple(
            Entry(write.session_id, Position(tail.epoch, tail.seq + n, tag), self.at, body)
            for n, body in enumerate(write.bodies, 1)
        )
        self.entries.extend(entries)
        answer = write.answer
        if answer is not None:
            answer = replace(answer, position=entries[0].position if entries else tail)
            self.answers[answer.command_id] = answer
        self.record = replace(
            self.record,
            status=write.status or self.record.status,
            title=self.record.title if write.title is None else write.title,
            claim=claim_after(write, self.record.claim),
        )
        return Appended(entries, self.head.tail, answer)


class MemoryEngine:
    """Logs in lists. Everything is lost with the process.

    No method awaits between looking and writing, so each is atomic on the event loop.
    """

    def __init__(self, *, clock: Clock = now_ms) -> None:
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._gone: set[str] = set()
        self._subscriptions: dict[str, dict[str, str]] = {}
        self._checkpoints: dict[str, OrderedDict[str, Checkpoint]] = {}
        self._bell = Bell()
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

    async def trim(self, session_id: str, through: int) -> None:
        session = self._find(session_id)
        count = min(through, session.head.tail.seq - 1) - session.start.seq
        if count > 0:
            session.start = session.entries[count - 1].position
            del session.entries[:count]

    async def save_snapshot(self, session_id: str, snapshot: StoredSnapshot) -> None:
        self._find(session_id).snapshot = snapshot

    async def load_snapshot(self, session_id: str) -> StoredSnapshot | None:
        self._check_open()
        session = self._sessions.get(session_id)
        if session is None or session.snapshot is None:
            return None
        try:
            session.index(session.snapshot.position)
        except CursorInvalid:
            return None
        return session.snapshot

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

    async def claimed(self) -> Sequence[SessionRecord]:
        self._check_open()
        return [s.record for s in self._sessions.values() if s.record.claim is not None]

    async def delete(self, session_id: str) -> None:
        self._check_open()
        if session_id in self._gone:
            return
        self._find(session_id)
        del self._sessions[session_id]
        self._gone.add(session_id)
        for sessions in self._subscriptions.values():
            sessions.pop(session_id, None)
        self._bell.ring(session_id)

    async def answer(self, session_id: str, command_id: str) -> Answer | None:
        self._check_open()
        session = self._sessions.get(session_id)
        return None if session is None else session.answers.get(command_id)

    async def subscribe(self, client_id: str, session_id: str, cursor: str) -> None:
        self._check_open()
        self._subscriptions.setdefault(client_id, {})[session_id] = cursor

    async def unsubscribe(self, client_id: str, session_id: str) -> None:
        self._check_open()
        self._subscriptions.get(client_id, {}).pop(session_id, None)

    async def subscriptions(self, client_id: str) -> Mapping[str, str]:
        self._check_open()
        return dict(self._subscriptions.get(client_id, {}))

    async def save_checkpoint(self, client_id: str, checkpoint: Checkpoint) -> None:
        self._check_open()
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
        self._bell.ring_all()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineUnavailable("the store is closed")

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
        if appended.entries:
            self._bell.ring(write.session_id)
        return appended

    def _is_new(self, session_id: str) -> bool:
        """Say whether the id was never used."""
        self._check_open()
        return session_id not in self._sessions and session_id not in self._gone


def _new_session(write: Write, new: NewSession, now: int) -> _Session:
    """Return a session with an empty log, without a claim."""
    return _Session(
        SessionRecord(
            session_id=write.session_id,
            agent=new.agent,
            metadata=new.metadata,
            digest=new.digest,
            status="idle",
            title=None,
            created_at=now,
            claim=None,
        ),
        start=Position(new_epoch(), 0, NO_TAG),
        at=now,
    )
