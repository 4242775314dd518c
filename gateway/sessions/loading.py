"""From a log to the state that it makes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from gateway.errors import CursorInvalid, EngineUnavailable
from gateway.log.engine import Engine, SessionRecord
from gateway.log.follow import kept
from gateway.log.position import Position
from gateway.log.serde import load
from gateway.sessions.fold import fold
from gateway.sessions.state import SessionState
from gateway.sessions.stored import Keeper, restore

__all__ = ["TRIES", "Loaded", "latest_state", "load_session", "load_state"]

TRIES = 8
"""A log that is replaced as often while it is read does not come from a store that works."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A session's state, and what is known of the one that is stored."""

    state: SessionState
    keeper: Keeper


async def load_session(engine: Engine, session_id: str) -> tuple[SessionRecord, Loaded]:
    """Return a session as the store has it, and the fold of its whole log.

    It begins anew if the log is put in place of another one meanwhile, as by a failover.

    Raises:
        SessionUnknown, SessionGone: If there is no such session any more.
        EngineUnavailable: As `load_state`, or if the log cannot be read after so many `TRIES`.
    """
    for _ in range(TRIES):
        record = await engine.session(session_id)
        with suppress(CursorInvalid):
            return record, await load_state(engine, record)
    raise EngineUnavailable("the log of this session cannot be read")


async def load_state(
    engine: Engine, record: SessionRecord, through: Position | None = None
) -> Loaded:
    """Fold a session's log, beginning with the latest state that is kept of it.

    Args:
        engine: Where the log is.
        record: The session.
        through: Up to where; default: the tail.

    Raises:
        SessionUnknown, SessionGone: If there is no such session any more.
        CursorInvalid: If `through` is not in the log.
        EngineUnavailable: If the store failed, or a newer version wrote the only state that is kept.
    """
    while True:
        if through is not None:
            await engine.read(record.session_id, through, limit=1)  # or say why it cannot be
        last = None if through is None else through.seq
        try:
            loaded = await latest_state(engine, record, last)
            state = loaded.state
            entries = kept(engine, record.session_id, state.position, through=last)
            async for entry in entries:
                fold(state, entry, load(entry))
        except CursorInvalid as error:
            if error.reason != "trimmed":
                raise
            continue  # it was trimmed just now: there is a later state to begin with
        return loaded


async def latest_state(engine: Engine, record: SessionRecord, through: int | None) -> Loaded:
    """Return the latest state that is kept and can be read, or the empty one before the log.

    Args:
        engine: Where the log is.
        record: The session.
        through: The state's `seq` is at most this; default: the tail's.

    Raises:
        SessionUnknown, SessionGone: If there is no such session any more.
        CursorInvalid: If the log was trimmed just now.
        EngineUnavailable: As `load_state`.
    """
    start = (await engine.head(record.session_id)).start
    while (snapshot := await engine.load_snapshot(record.session_id, through)) is not None:
        state = restore(snapshot.state)
        if state is not None:
            return Loaded(state, Keeper(state.seq, len(snapshot.state)))
        through = snapshot.position.seq - 1
    if start.seq:
        if (await engine.head(record.session_id)).start != start:
            raise CursorInvalid("trimmed")
        raise EngineUnavailable("the state of this session was stored in a form not known here")
    empty = SessionState(
        session_id=record.session_id,
        agent=record.agent,
        metadata=record.metadata,
        created_at=record.created_at,
        epoch=start.epoch,
        seq=start.seq,
        tag=start.tag,
    )
    return Loaded(empty, Keeper(0, 0))
