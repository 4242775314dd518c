"""Which sessions a client's stream carries, and from where each is read. Pure.

The ledger keeps a subscription as `after#generation`: the generation is new each time the client
subscribes. A checkpoint keeps `cursor#generation`. So a stream that resumes knows whether the client
has asked for another start since: then the checkpoint says nothing about that session.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import CursorMalformed
from gateway.log.engine import Checkpoint
from gateway.log.position import After, parse_after

__all__ = ["Subscription", "parse_checkpoint_id", "starts"]

_CHECKPOINT_ID = re.compile(r"ckp_[0-9a-f]{16}", re.ASCII)


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
    kept: Mapping[str, str], checkpoint: Checkpoint | None, *, forgotten: bool
) -> dict[str, Subscription]:
    """Return from where each of a client's sessions is to be read.

    Args:
        kept: The client's subscriptions, as the ledger has them.
        checkpoint: The one that the client came back with.
        forgotten: It came back with one that is no longer kept: each session starts with a
            snapshot, as nobody knows what the client has seen.
    """
    wanted = {session_id: Subscription.parse(text) for session_id, text in kept.items()}
    if forgotten:
        return {sid: Subscription(None, known.generation) for sid, known in wanted.items()}
    for session_id, text in (checkpoint.cursors if checkpoint is not None else {}).items():
        reached = Subscription.parse(text)
        known = wanted.get(session_id)
        if known is not None and known.generation == reached.generation:
            wanted[session_id] = reached
    return wanted
