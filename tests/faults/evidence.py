"""What a checker looks at: a history beside the logs as they were in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from gateway.log.position import Position
from tests.faults.history import History, Operation

__all__ = ["ENDS", "Evidence", "Facts", "FinalLog", "Stored"]

ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """A log as it is in the database file.

    Attributes:
        lines: Its events, as clients would get them.
        start: The position before the first one that is kept, as the session's row has it.
        tail: The position of the last one, as the session's row has it.
    """

    lines: Sequence[bytes]
    start: Position
    tail: Position


@dataclass(frozen=True)
class FinalLog:
    """A log when all was over.

    Attributes:
        session_id: Whose.
        lines: Its events as a full read over HTTP gave them, to the byte.
        stored: The same log, straight from the database file.
    """

    session_id: str
    lines: Sequence[bytes]
    stored: Stored | None = None

    @cached_property
    def events(self) -> list[Event]:
        """The events, read."""
        return [orjson.loads(line) for line in self.lines]

    @property
    def first(self) -> int:
        """The `seq` of the first event that is kept."""
        return int(self.events[0]["seq"]) if self.events else 1

    @property
    def last(self) -> int:
        """The `seq` of the last event; 0 if there is none."""
        return int(self.events[-1]["seq"]) if self.events else 0

    def at(self, seq: int) -> Event | None:
        """Return the event at a place, if it is kept."""
        place = seq - self.first
        return self.events[place] if 0 <= place < len(self.events) else None

    def line_at(self, seq: int) -> bytes | None:
        """Return the bytes of the event at a place, if it is kept."""
        place = seq - self.first
        return self.lines[place] if 0 <= place < len(self.lines) else None


@dataclass
class Facts:
    """What an invariant was held against, and where it did not hold.

    Attributes:
        count: How many facts were looked at: a check that looked at none proves nothing.
        broken: What contradicts the invariant, a sentence each.
    """

    count: int = 0
    broken: list[str] = field(default_factory=list)

    def expect(self, holds: bool, sentence: str) -> None:
        """Note one fact; `sentence` says what is wrong if it does not hold."""
        self.count += 1
        if not holds:
            self.broken.append(sentence)


class Evidence:
    """A history and the final logs, with what several invariants need of them."""

    def __init__(
        self, history: History, logs: Sequence[FinalLog], *, cancel_seconds: float
    ) -> None:
        self.cancel_seconds = cancel_seconds
        self.operations: Sequence[Operation] = history.operations
        self.logs = {log.session_id: log for log in logs}
        self._read: dict[bytes, Event] = {}

    def event(self, operation: Operation) -> Event:
        """Return the event that an operation is about."""
        line: bytes = operation.value
        known = self._read.get(line)
        if known is None:
            known = self._read[line] = orjson.loads(line)
        return known

    def named(self, *names: str, kind: str | None = None) -> list[Operation]:
        """Return the operations of these names, in order."""
        wanted = frozenset(names)
        return [
            operation
            for operation in self.operations
            if operation.name in wanted and kind in {None, operation.kind}
        ]

    @cached_property
    def runs(self) -> dict[tuple[str, str], list[Event]]:
        """The events of each run, by session and run."""
        found: dict[tuple[str, str], list[Event]] = {}
        for session_id, log in self.logs.items():
            for event in log.events:
                if "run_id" in event:
                    found.setdefault((session_id, event["run_id"]), []).append(event)
        return found
