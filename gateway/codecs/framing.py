"""From messages to bytes: server-sent events and lines. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.serde import load

if TYPE_CHECKING:
    from gateway.codecs.codec import Frame

__all__ = ["Style", "bare", "line", "run_id_of", "sse", "sse_with_id", "sse_with_run"]

Style = Callable[["Frame", Entry | None], bytes]
"""Frames a message. The entry is given with the last message of each: a client that has that
message has all of the entry."""


def sse(frame: Frame, entry: Entry | None) -> bytes:
    """Return a server-sent event without an id."""
    if frame.event is None:
        return b"data: %b\n\n" % frame.data
    return b"event: %b\ndata: %b\n\n" % (frame.event.encode(), frame.data)


def sse_with_id(frame: Frame, entry: Entry | None) -> bytes:
    """Return a server-sent event; the last one of an entry has its session and cursor for an id."""
    if entry is None:
        return sse(frame, None)
    return b"id: %b/%b\n%b" % (
        entry.session_id.encode(),
        str(entry.position).encode(),
        sse(frame, None),
    )


def run_id_of(session_id: str, run_id: str, position: Position) -> str:
    """Return the id of a server-sent event that says which run it is of, and up to where."""
    return f"{session_id}.{run_id}/{position}"


def sse_with_run(frame: Frame, entry: Entry | None) -> bytes:
    """Return a server-sent event; the last one of an entry has its session, run and cursor for an id."""
    event = None if entry is None else entry.encoded(load)
    if entry is None or event is None or event.run_id is None:
        return sse(frame, None)
    name = run_id_of(entry.session_id, event.run_id, entry.position)
    return b"id: %b\n%b" % (name.encode(), sse(frame, None))


def line(frame: Frame, entry: Entry | None) -> bytes:
    """Return a line of NDJSON."""
    return frame.data + b"\n"


def bare(frame: Frame, entry: Entry | None) -> bytes:
    """Return the data alone: for transports that have frames of their own."""
    return frame.data
