"""Which sessions a client's stream carries, and from where each is read. Pure.

The ledger keeps a subscription as `after#generation`: the generation is new each time the client
subscribes. A checkpoint keeps `cursor#generation`. So a stream that resumes knows whether the client
has asked for another start since: then the checkpoint says nothing about that session.

Where a client's stream stood is a checkpoint, or a checkpoint and what has moved since:
`ckp_…,session/cursor#generation,…`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.errors import CursorMalformed
from gateway.log.engine import Checkpoint
from gateway.log.position import After, parse_after

__all__ = ["Subscription", "Whereabouts", "parse_checkpoint_id", "starts"]

_CHECKPOINT_ID = re.compile(r"ckp_[0-9a-f]{16}", re.ASCII)
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A session on a client's stream.

    Attributes:
        after: From where; None for a snapshot first.
        generation: Which request of the client asked for this.
    """

    after: After
    generation: str

    def __str__(self) -> str:
        """Return the form that the ledger keeps."""
        return f"{'' if self.after is None else self.after}#{self.generation}"

    @classmethod
    def parse(cls, text: str) -> Subscription:
        """Read what the ledger kept.

        Raises:
            CursorMalformed: If it is not of this form.
        """
        after, _, generation = text.partition("#")
        return cls(parse_after(after), generation)


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a client's stream stood.

    Attributes:
        checkpoint_id: The checkpoint that it had passed.
        moved: The sessions that have moved since, and where they stood.
    """

    checkpoint_id: str | None = None
    moved: Mapping[str, Subscription] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the id that names it."""
        moved = [f"{session_id}/{reached}" for session_id, reached in self.moved.items()]
        return ",".join([self.checkpoint_id or "", *moved])

    @classmethod
    def parse(cls, text: str | None) -> Whereabouts:
        """Read what a client sent as its last event id; None or empty means that it has none.

        Raises:
            CursorMalformed: If this server never gave it.
        """
        checkpoint_id, *parts = (text or "").split(",")
        moved = {}
        for part in parts:
            session_id, _, reached = part.partition("/")
            if _SESSION_ID.fullmatch(session_id) is None:
                raise CursorMalformed
            moved[session_id] = Subscription.parse(reached)
        return cls(parse_checkpoint_id(checkpoint_id), moved)


def parse_checkpoint_id(text: str | None) -> str | None:
    """Check what a client sent as its last event id; None or empty means that it has none.

    Raises:
        CursorMalformed: If this server never gave it.
    """
    if not text:
        return None
    if _CHECKPOINT_ID.fullmatch(text) is None:
        raise CursorMalformed
    return text


def starts(
    kept: Mapping[str, str],
    checkpoint: Checkpoint | None,
    *,
    forgotten: bool,
    moved: Mapping[str, Subscription] | None = None,
) -> dict[str, Subscription]:
    """Return from where each of a client's sessions is to be read.

    Args:
        kept: The client's subscriptions, as the ledger has them.
        checkpoint: The one that the client came back with.
        forgotten: It came back with one that is no longer kept: each session starts with a
            snapshot, as nobody knows what the client has seen.
        moved: Where sessions stood that had moved since the checkpoint.
    """
    wanted = {session_id: Subscription.parse(text) for session_id, text in kept.items()}
    if forgotten:
        wanted = {sid: Subscription(None, known.generation) for sid, known in wanted.items()}
    cursors = checkpoint.cursors if checkpoint is not None else {}
    passed = [(session_id, Subscription.parse(text)) for session_id, text in cursors.items()]
    for session_id, reached in [*passed, *(moved or {}).items()]:
        known = wanted.get(session_id)
        if known is not None and known.generation == reached.generation:
            wanted[session_id] = reached
    return wanted
