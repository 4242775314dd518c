"""A session's state as bytes: all of it, so that a log can be folded on from there. Pure.

What is open is kept too, or else the snapshot of a long answer would have to wait for its end. It is
kept as the fewest events that open it again, so that there is no second form of it.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.log.engine import StoredSnapshot
from gateway.sessions.state import SessionState
from runtime.boundaries import Boundaries
from runtime.events import Event, MessageDelta, ReasoningDelta, ToolCallDelta

__all__ = ["Keeper", "restore", "store"]

SNAPSHOT_EVERY = 256
"""Entries after which a state is stored: so many are folded in some 5 ms."""

BYTES_PER_ENTRY = 1024
"""For each of so many bytes of state one entry more: then all states that are stored in the course of
a conversation are some eight times as large as its log, and what is folded is in proportion."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: SessionState
    opened: list[Event]


def store(state: SessionState) -> bytes:
    """Return a state as bytes."""
    whole = _Stored.model_construct(state=state, opened=_opened(state.open))
    return whole.model_dump_json().encode()


def restore(data: bytes) -> SessionState | None:
    """Return what was stored; None if another version wrote it, in a form that this one lacks."""
    try:
        stored = _Stored.model_validate_json(data)
    except ValidationError:
        return None
    for event in stored.opened:
        stored.state.open.note(event)
    return stored.state


def _opened(opened: Boundaries) -> list[Event]:
    events: list[Event] = []
    for said in opened.messages.values():
        events += (said.opened, _message(said.opened.message_id, said.text, said.opened.run_id))
    for thought in opened.reasoning.values():
        begun = thought.opened
        piece = ReasoningDelta(run_id=begun.run_id, message_id=begun.message_id, text=thought.text)
        events += (begun, piece)
    for asked in opened.tool_calls.values():
        call = asked.opened
        events += (
            call,
            ToolCallDelta(run_id=call.run_id, call_id=call.call_id, arguments=asked.text),
        )
    for rest in (
        opened.tools,
        opened.approvals,
        opened.nodes,
        opened.supersteps,
        opened.agents,
    ):
        events += rest.values()
    return events


def _message(message_id: str, text: str, run_id: str) -> MessageDelta:
    return MessageDelta(run_id=run_id, message_id=message_id, text=text)


class Keeper:
    """Says when a session's state is to be stored."""

    def __init__(self, seq: int, size: int) -> None:
        """Make it.

        Args:
            seq: Up to where the state is stored.
            size: How many bytes that takes.
        """
        self._seq = seq
        self._size = size

    def due(self, state: SessionState) -> StoredSnapshot | None:
        """Return what is to be stored now, if anything is; it counts as stored then."""
        behind = state.seq - self._seq
        if behind < SNAPSHOT_EVERY or behind < self._size // BYTES_PER_ENTRY:
            return None
        data = store(state)
        self._seq, self._size = state.seq, len(data)
        return StoredSnapshot(state.position, data)
