"""Sekuire: pieces of text, and `[DONE]` after them if all went well. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.codecs.codec import Frame
from gateway.codecs.waiting import waits_for_human
from gateway.log.entry import Entry
from runtime.events import (
    Event,
    MessageDelta,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
)
from runtime.journal import spoken_below
from runtime.sse.words import json_line

__all__ = ["DONE", "SekuireCodec"]

DONE = Frame(b"[DONE]")
"""The run was completed, and the client has all of it."""


@dataclass(frozen=True, slots=True)
class SekuireCodec:
    """The words of `/chat/stream`. It has no state: it can begin anywhere in a run."""

    def begin(self) -> None:
        """Return the state before the first event: there is none."""

    def encode(self, state: None, event: Event, entry: Entry) -> tuple[None, Sequence[Frame]]:
        """Say an event: what the run's own conversation says, and how it ends."""
        match event:
            case MessageDelta() if not spoken_below(event.path):
                frame = Frame(json_line({"chunk": event.text}))
            case RunCompleted():
                frame = DONE
            case RunFailed():
                frame = _error(event.error.message)
            case RunCancelled():
                frame = _error(f"the run was cancelled: {event.reason}")
            case RunInterrupted():
                frame = _error(waits_for_human(entry.session_id))
            case _:
                return None, ()
        return None, (frame,)

    def cut(self, state: None, reason: str) -> Sequence[Frame]:
        """Say that the server cannot go on with this answer; it can be resumed."""
        return (_error(f"the server cannot go on with this answer: {reason}"),)


def _error(message: str) -> Frame:
    return Frame(json_line({"error": message}), "error")
