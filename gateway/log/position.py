"""Places in a session's log, and their text form, the cursor. Pure.

A cursor is `epoch.seq.tag`. `seq` says where, `epoch` in which life of the log, and `tag`, 32 random
bits drawn for each append call, in which history: after a failover or a restored backup the same
`seq` may hold another event, and only the tag can tell (Raft's index and term, for the same reason).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from gateway.errors import CursorMalformed

__all__ = ["FROM_START", "NO_TAG", "ONLY_NEW", "After", "Position", "parse_after"]

_CURSOR = re.compile(r"([A-Za-z0-9]{1,16})\.(0|[1-9][0-9]{0,15})\.([0-9a-f]{8})", re.ASCII)

NO_TAG = "00000000"
"""The tag of the position before the first entry."""

FROM_START: Literal["0"] = "0"
"""In place of a cursor: the whole log, as far as it is kept."""

ONLY_NEW: Literal["$"] = "$"
"""In place of a cursor: only what comes next."""


# One is made for each entry: not `frozen`, with which that takes three times as long (measured).
@dataclass(slots=True, unsafe_hash=True)
class Position:
    """A place in a log: right after the entry `seq`, or before the first one if `seq` is 0.

    Never changes.
    """

    epoch: str
    seq: int
    tag: str

    def __str__(self) -> str:
        """Return the cursor: opaque to clients, printable, at most 43 bytes."""
        return f"{self.epoch}.{self.seq}.{self.tag}"

    @classmethod
    def parse(cls, cursor: str) -> Position:
        """Read a cursor.

        Raises:
            CursorMalformed: If it is not one.
        """
        match = _CURSOR.fullmatch(cursor)
        if match is None:
            raise CursorMalformed
        return cls(match[1], int(match[2]), match[3])


After = Position | Literal["0", "$"] | None
"""Where a reader wants to start; None asks for a snapshot and what comes after it."""


def parse_after(text: str | None) -> After:
    """Read what a client gave as `after` or `Last-Event-ID`; None or empty means absent.

    Raises:
        CursorMalformed: If it is neither `0`, `$` nor a cursor.
    """
    if not text:
        return None
    if text == FROM_START:
        return FROM_START
    if text == ONLY_NEW:
        return ONLY_NEW
    return Position.parse(text)
