"""The store that keeps sessions in memory."""

# ruff: noqa: D102 - its methods are documented once, on the `CheckpointStore` protocol

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from runtime.checkpoint import Checkpoint
from runtime.graph.store import (
    Entry,
    Kept,
    RunRecord,
    check_next,
    dumped,
    journaled,
    loaded,
    no_checkpoint,
    no_session,
    status_after,
)

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Saved:
    """A checkpoint as JSON, and the number of the last entry before its journal."""

    checkpoint_id: str
    run_id: str
    body: bytes
    journal_after: int


@dataclass(slots=True)
class _Session:
    runs: dict[str, RunRecord] = field(default_factory=dict)
    newest: str = ""
    began_after: int = 0
    log: list[tuple[int, datetime, bytes]] = field(default_factory=list)
    saved: list[_Saved] = field(default_factory=list)


class MemoryStore:
    """Keeps sessions as long as the process lives. It keeps JSON, as any other store does."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._checkpoints: dict[str, tuple[str, _Saved]] = {}

    async def begin(self, run: RunRecord) -> int:
        session = self._sessions.setdefault(run.session_id, _Session())
        if run.run_id not in session.runs:
            session.newest = run.run_id
            session.began_after = len(session.log)
        session.runs[run.run_id] = run.model_copy(deep=True)
        return len(session.log)

    async def record(self, session_id: str, entries: Sequence[Entry]) -> None:
        session = self._session(session_id)
        check_next(session_id, len(session.log), entries)
        rows = [(entry.seq, entry.at, dumped(entry.event)) for entry in entries]
        session.log += rows
        for run_id in {entry.event.run_id for entry in entries}:
            if run_id in session.runs:
                run = session.runs[run_id]
                status = status_after(run, entries)
                session.runs[run_id] = run.model_copy(update={"status": status})

    async def save(
        self,
        session_id: str,
        checkpoint: Checkpoint,
        entries: Sequence[Entry] = (),
        *,
        keep_journal: bool = False,
    ) -> None:
        await self.record(session_id, entries)
        session = self._session(session_id)
        after = self._journal_after(session) if keep_journal else len(session.log)
        body = checkpoint.model_dump_json().encode()
        saved = _Saved(checkpoint.checkpoint_id, checkpoint.run_id, body, after)
        session.saved.append(saved)
        self._checkpoints[saved.checkpoint_id] = (session_id, saved)

    async def load(self, session_id: str) -> Kept | None:
        session = self._sessions.get(session_id)
        if session is None:
            return None
        run = session.runs[session.newest]
        own = self._own(session)
        checkpoint_id = own.checkpoint_id if own is not None else run.checkpoint_id
        checkpoint = None
        if checkpoint_id is not None:
            _, checkpoint = await self.get(checkpoint_id)
        rows = session.log[self._journal_after(session) :]
        events = (loaded(body) for _, _, body in rows)
        journal = tuple(event for event in events if journaled(event))
        return Kept(run.model_copy(deep=True), len(session.log), checkpoint, journal)

    async def get(self, checkpoint_id: str) -> tuple[str, Checkpoint]:
        if checkpoint_id not in self._checkpoints:
            raise no_checkpoint(checkpoint_id)
        session_id, saved = self._checkpoints[checkpoint_id]
        return session_id, Checkpoint.model_validate_json(saved.body)

    async def history(self, session_id: str) -> tuple[Checkpoint, ...]:
        saved = self._sessions.get(session_id, _Session()).saved
        return tuple(Checkpoint.model_validate_json(one.body) for one in saved)

    async def events(
        self, session_id: str, after: int = 0, *, limit: int | None = None
    ) -> tuple[Entry, ...]:
        log = self._sessions.get(session_id, _Session()).log
        rows = log[after : None if limit is None else after + limit]
        return tuple(Entry(seq, at, loaded(body)) for seq, at, body in rows)

    async def runs(self, session_id: str) -> tuple[RunRecord, ...]:
        runs = self._sessions.get(session_id, _Session()).runs
        return tuple(run.model_copy(deep=True) for run in runs.values())

    async def sessions(self) -> tuple[str, ...]:
        return tuple(self._sessions)

    async def delete(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, _Session())
        for saved in session.saved:
            del self._checkpoints[saved.checkpoint_id]

    async def aclose(self) -> None:
        pass

    def _session(self, session_id: str) -> _Session:
        session = self._sessions.get(session_id)
        if session is None:
            raise no_session(session_id)
        return session

    def _own(self, session: _Session) -> _Saved | None:
        """Return the last checkpoint of the newest run itself."""
        own = (saved for saved in reversed(session.saved) if saved.run_id == session.newest)
        return next(own, None)

    def _journal_after(self, session: _Session) -> int:
        own = self._own(session)
        return own.journal_after if own is not None else session.began_after
