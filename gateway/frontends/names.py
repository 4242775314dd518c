"""How the ids of other protocols name our sessions and runs. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from gateway.errors import RunUnknown

__all__ = ["RunName", "session_id_for"]

_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_RUN_NAME = re.compile(
    r"(?P<session>[A-Za-z0-9_-]{1,64})\.(?P<run>[A-Za-z0-9_-]{1,64})(?:\.(?P<segment>[0-9]{1,6}))?",
    re.ASCII,
)


def session_id_for(name: str) -> str:
    """Return the session of a conversation that a client calls by a name of its own.

    A name that can be a session id is one, so that native clients find the session under it; any
    other name, with slashes or blanks perhaps, is hashed.
    """
    if _SESSION_ID.fullmatch(name) is not None:
        return name
    return f"ext_{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:40]}"


@dataclass(frozen=True, slots=True)
class RunName:
    """A run under one id, for protocols whose clients keep nothing else.

    Attributes:
        session_id: Whose run.
        run_id: Which.
        segment: Which of its segments, from 0; each pause for a human ends one.
    """

    session_id: str
    run_id: str
    segment: int = 0

    def __str__(self) -> str:
        """Return the id: letters, digits, `_`, `-` and `.` only."""
        name = f"{self.session_id}.{self.run_id}"
        return f"{name}.{self.segment}" if self.segment else name

    @classmethod
    def parse(cls, text: str) -> RunName:
        """Read an id.

        Raises:
            RunUnknown: If it is not one.
        """
        match = _RUN_NAME.fullmatch(text)
        if match is None:
            raise RunUnknown(text)
        return cls(match["session"], match["run"], int(match["segment"] or 0))
