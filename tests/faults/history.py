"""What clients did and saw, and which faults were injected while they did: the record of a test.

A history is a list of operations, in the order in which they happened in this process. An operation
that takes time is two records: `invoke`, and later `ok`, `fail` (it had no effect) or `unknown` (it
may have had one: the answer was lost). What is merely seen is `info`.

The names of operations, and what their values hold:

    name         kinds                       value
    ──────────   ─────────────────────────   ──────────────────────────────────────────────────────
    connect      invoke, ok, fail            transport, after: {session_id: cursor}, at: a URL
    disconnect   info                        why
    event        info                        the bytes of the event, as they came over the wire
    reset        info                        session_id, reason, cursor, snapshot
    snapshot     info                        session_id, snapshot, as a request for it gave it
    finished     info                        session_id: this client has seen all that there is
    send, …      invoke, ok, fail, unknown   id, session_id, body; ok: answer; fail: status, code
    trim         info                        session_id, through
    measure      info                        what, baseline, now, allowed
    kill, cut …  info                        whatever says what was done
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

__all__ = ["History", "Kind", "Operation"]

Kind = Literal["invoke", "ok", "fail", "unknown", "info"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One record.

    Attributes:
        process: Who did or saw it: a client's name, `nemesis` for faults.
        kind: What the record says about the operation.
        name: What was done.
        value: Its details; see the module.
        wall: When, seconds since 1970 UTC.
        monotonic: When, on a clock that never jumps, in seconds.
    """

    process: str
    kind: Kind
    name: str
    value: Any
    wall: float
    monotonic: float

    def as_json(self) -> bytes:
        """Return it as one line of JSON, without the line's end."""
        return orjson.dumps(self, default=_text)


def _text(value: object) -> str:
    """Stand in for the bytes of events."""
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"not for a history: {value!r}")


class History:
    """A growing record; to be used on one event loop."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._lines: dict[bytes, bytes] = {}

    def record(self, process: str, kind: Kind, name: str, **value: Any) -> None:
        """Note an operation of a process."""
        self._add(process, kind, name, value)

    def event(self, process: str, line: bytes) -> None:
        """Note an event that came over the wire.

        Many clients see the same events, so equal bytes are kept once.
        """
        self._add(process, "info", "event", self._lines.setdefault(line, line))

    def fault(self, name: str, **value: Any) -> None:
        """Note a fault that was injected."""
        self._add("nemesis", "info", name, value)

    def _add(self, process: str, kind: Kind, name: str, value: Any) -> None:
        self.operations.append(Operation(process, kind, name, value, time.time(), time.monotonic()))

    def named(self, *names: str) -> Iterator[Operation]:
        """Yield the operations of these names, in order."""
        return (operation for operation in self.operations if operation.name in names)

    def write(self, path: Path) -> None:
        """Write it as JSON lines."""
        with path.open("wb") as file:
            for operation in self.operations:
                file.write(operation.as_json() + b"\n")
