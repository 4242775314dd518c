"""What a codec makes of events, as bytes, for tests with golden streams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.codecs.codec import Codec, Projection
from gateway.codecs.framing import Style, sse
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.serde import dump
from runtime.events import Event

__all__ = ["AT", "entries_of", "told"]

AT = 1_764_000_000_000
"""When it happens: 2025-11-24T16:00:00.000Z."""


def entries_of(events: Iterable[Event]) -> list[Entry]:
    return [
        Entry("ses_1", Position("e1", seq, "00000abc"), AT, dump(event))
        for seq, event in enumerate(events, start=1)
    ]


def told(codec: Codec[Any], *events: Event, style: Style = sse) -> bytes:
    """Return the stream of a codec that is fed these events from its beginning."""
    projection = Projection(codec, style)
    return b"".join(message for entry in entries_of(events) for message in projection.feed(entry))
