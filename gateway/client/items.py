"""What comes out of a session that is followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gateway.client.wire import read_event
from runtime.events import Event

__all__ = ["Ack", "Disconnected", "Entry", "Item", "Reconnected", "Reset"]


@dataclass(frozen=True)
class Entry:
    """An event in its place in the log.

    Attributes:
        seq: Its number in the log.
        cursor: The place right after it. A program that keeps this together with what it made of the
            event, in one transaction, goes on exactly there, even if it is killed.
        type: Of the event, such as `message.delta`.
        data: The object as it came over the wire.
    """

    seq: int
    cursor: str
    type: str
    data: Mapping[str, Any] = field(repr=False)

    @cached_property
    def event(self) -> Event | None:
        """The event as a class of `runtime.events`; None for a type that this client is too old for."""
        return read_event(self.data)


class Reset:
    """The events since the cursor cannot be had: what was computed from earlier ones is void.

    It comes in place of an entry and has none of an entry's fields. Its snapshot replaces the state
    that a program keeps, in one step. To ask for the next item without having read it raises
    `ResetOverlooked`.

    Attributes:
        reason: `joined` where the reader had no cursor; else `epoch_changed`, `trimmed`,
            `cursor_ahead` or `fork`.
        cursor: Where the snapshot stands, and the stream goes on.
    """

    def __init__(self, reason: str, cursor: str, snapshot: Mapping[str, Any]) -> None:
        self.reason = reason
        self.cursor = cursor
        self._snapshot = snapshot
        self._read = False

    @property
    def snapshot(self) -> Mapping[str, Any]:
        """The session's state at `cursor` (PROTOCOL.md, section 3)."""
        self._read = True
        return self._snapshot

    @property
    def overlooked(self) -> bool:
        """Whether nobody has read the snapshot yet."""
        return not self._read

    def __repr__(self) -> str:
        return f"Reset(reason={self.reason!r}, cursor={self.cursor!r})"


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The server cannot be reached; it is tried again."""


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The server is there again; nothing was lost."""


Item = Entry | Reset
"""What iterating over a session yields."""


@dataclass(frozen=True, slots=True)
class Ack:
    """A command took effect.

    Attributes:
        id: The command's.
        run_id: The run that it is about.
        cursor: Where its first event was committed.
        forked: The session that a `fork` has made; None for all other commands.
    """

    id: str
    run_id: str | None
    cursor: str
    forked: str | None = None
