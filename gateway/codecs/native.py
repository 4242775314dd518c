"""The native wire: entries and control objects to JSON, SSE frames and WebSocket frames. Pure.

`event_json` is what every native transport carries, to the byte. The frame functions are meant for
`Entry.encoded`, so that an entry is framed once for all readers of a transport.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.log.entry import Entry

__all__ = [
    "event_json",
    "json_line",
    "ndjson_line",
    "sse_control",
    "sse_frame",
    "sse_frame_named",
    "sse_frame_of_many",
    "timestamp",
    "websocket_frame",
    "websocket_text",
]

_LENGTH_16 = 126
_LENGTH_64 = 65536
_FINAL_TEXT = 0x81


def timestamp(milliseconds: int) -> str:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    whole, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def event_json(entry: Entry) -> bytes:
    """Return the event as clients see it: its body with the fields that the log gave it."""
    kind, rest = _split(entry.body)
    return b'{"v":1,%b,"session_id":"%b","seq":%d,"cursor":"%b","ts":"%b"%b' % (
        kind,
        entry.session_id.encode(),
        entry.seq,
        str(entry.position).encode(),
        timestamp(entry.at).encode(),
        rest,
    )


def _split(body: bytes) -> tuple[bytes, bytes]:
    """Cut `{"type":"x","a":1}` into `"type":"x"` and `,"a":1}`: the type always comes first."""
    end = body.index(b'"', len(b'{"type":"')) + 1
    return body[1:end], body[end:]


def json_line(message: Mapping[str, Any]) -> bytes:
    """Return a control object as one line of JSON, without the line's end."""
    return orjson.dumps(message)


def ndjson_line(entry: Entry) -> bytes:
    """Return the event as a line of NDJSON."""
    return entry.encoded(event_json) + b"\n"


def sse_frame(entry: Entry) -> bytes:
    """Return the event as an unnamed SSE frame whose id is its cursor."""
    return b"id: %b\ndata: %b\n\n" % (str(entry.position).encode(), entry.encoded(event_json))


def sse_frame_named(entry: Entry) -> bytes:
    """Return the event as an SSE frame named after its type."""
    kind, _ = _split(entry.body)
    return b"event: %b\n%b" % (kind[len(b'"type":"') : -1], entry.encoded(sse_frame))


def sse_frame_of_many(entry: Entry) -> bytes:
    """Return the event as an SSE frame without id, for a stream of several sessions."""
    return b"data: %b\n\n" % entry.encoded(event_json)


def sse_control(line: bytes) -> bytes:
    """Return a control object, as one line of JSON, as an SSE frame; it never has an id."""
    return b"data: %b\n\n" % line


def websocket_frame(entry: Entry) -> bytes:
    """Return the event as a whole WebSocket text frame, as a server sends it (unmasked)."""
    return websocket_text(entry.encoded(event_json))


def websocket_text(payload: bytes) -> bytes:
    """Return UTF-8 text as one final, unmasked WebSocket frame (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < _LENGTH_16:
        return struct.pack("!BB", _FINAL_TEXT, length) + payload
    if length < _LENGTH_64:
        return struct.pack("!BBH", _FINAL_TEXT, _LENGTH_16, length) + payload
    return struct.pack("!BBQ", _FINAL_TEXT, _LENGTH_16 + 1, length) + payload
