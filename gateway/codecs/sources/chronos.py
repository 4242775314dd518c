"""The wire of Chronos' broker: each event is `{"type": …, "data": …}`. Pure.

It says what a graph's runner says to its readers, in the same words (`runtime.graph.stream_event`
holds the table): a custom event has its own name and payload; of the rest, `data` has the keys
`type`, `node_id`, `state`, `error` and `timestamp`, without those that are empty, and for types
that Chronos has no word for `data`, the event itself. Each failure is one `error`, said by the end
of the run: a node that fails is `node.failed`, because it may be tried again, or wait for a human.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from gateway.codecs.codec import Frame
from gateway.codecs.framing import sse
from gateway.log.entry import Entry
from gateway.log.serde import load
from runtime.events import Event
from runtime.graph.store import Entry as Shown
from runtime.graph.stream_event import broker_event, shown

__all__ = ["ChronosCodec", "control_frame", "frame", "frame_named", "named", "unnamed"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ChronosCodec:
    """Says each event by itself, whatever came before it."""

    def begin(self) -> None:
        """There is nothing to remember."""

    def encode(self, state: None, event: Event, entry: Entry) -> tuple[None, Sequence[Frame]]:
        """Say an event; there is a word for each."""
        at = _EPOCH + timedelta(milliseconds=entry.at)
        told = broker_event(shown(entry.session_id, Shown(entry.seq, at, event)))
        return None, (_frame(told.type, told.data),)

    def cut(self, state: None, reason: str) -> Sequence[Frame]:
        """Say that the server ends the stream."""
        return (_frame("stream.closing", {"reason": reason}),)


def _frame(kind: str, data: Any) -> Frame:
    return Frame(orjson.dumps({"type": kind, "data": data}), kind)


_CODEC = ChronosCodec()


def named(message: Frame) -> bytes:
    """Return a server-sent event named after its type."""
    return sse(message, None)


def unnamed(message: Frame) -> bytes:
    """Return a server-sent event that `onmessage` sees, whatever its type."""
    return sse(message._replace(event=None), None)


def _of(entry: Entry) -> Frame | None:
    """Return what is said of an event, kept nowhere.

    The event and its JSON are many times as large as the frame, and a client that has stopped reading
    holds a page of them.
    """
    event = load(entry)
    if event is None:  # a newer version wrote it
        return None
    _, (message,) = _CODEC.encode(None, event, entry)
    return message


def frame(entry: Entry) -> bytes:
    """Return an event as an unnamed frame, for `Entry.encoded`; empty if it is not known."""
    message = _of(entry)
    return b"" if message is None else unnamed(message)


def frame_named(entry: Entry) -> bytes:
    """Return an event as a frame named after its type, for `Entry.encoded`."""
    message = _of(entry)
    return b"" if message is None else named(message)


def control_frame(message: Mapping[str, Any]) -> Frame:
    """Return an object of the native stream that is not an event, in the form of one."""
    return _frame(message["type"], {k: v for k, v in message.items() if k != "type"})
