"""What is said on a stream of named events, as bytes. Pure: whoever has a connection writes them."""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["CONNECTED", "HEADERS", "KEEPALIVE", "StreamWords", "json_line"]

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",  # or nginx keeps the stream until it is whole
}
"""The head of a stream."""

CONNECTED = b": connected\n\n"
"""The first bytes: a comment, so that clients and proxies see at once that the stream is on."""

KEEPALIVE = b": keepalive\n\n"
"""Said in silence."""

_BREAKS = ("\r", "\n", "\0")
_LINE_ENDS = tuple((mark.encode(), b"\\u%04x" % ord(mark)) for mark in "\u0085\u2028\u2029")


def json_line(value: Any) -> bytes:
    """Return JSON that is one line to every reader.

    Some split text also at U+0085, U+2028 and U+2029, which JSON allows in strings as they are.

    Raises:
        TypeError: If the value is no JSON data.
    """
    line = orjson.dumps(value)
    for mark, escape in _LINE_ENDS:
        line = line.replace(mark, escape)
    return line


class StreamWords:
    """Says what is said on one stream, until it is over: from then on it says nothing.

    Each method returns the bytes to write; none once the stream is over.
    """

    def __init__(self) -> None:
        self._last_said = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the stream was closed."""
        return self._closed

    def event(self, type: str, data: Any) -> bytes:
        """Say an event.

        Args:
            type: Any text without CR, LF and NUL.
            data: JSON data.

        Raises:
            ValueError: If the type holds CR, LF or NUL.
            TypeError: If the data is no JSON data.
        """
        if self._closed or self._last_said:
            return b""
        if any(mark in type for mark in _BREAKS):
            raise ValueError("an event type must not hold CR, LF or NUL")
        return b"event: %b\ndata: %b\n\n" % (type.encode(), json_line(data))

    def result(self, data: Any) -> bytes:
        """Say what came of it all; the last word.

        Raises:
            TypeError: If the data is no JSON data.
        """
        return self._last("result", data)

    def error(self, message: str, status_code: int) -> bytes:
        """Say that it all failed; the last word.

        Args:
            message: Why, for people.
            status_code: The HTTP status that a plain answer would have had.
        """
        return self._last("error", {"error": message, "statusCode": status_code})

    def keepalive(self) -> bytes:
        """Say that the stream is still on."""
        return b"" if self._closed else KEEPALIVE

    def close(self) -> None:
        """Say nothing any more. Safe to call twice."""
        self._closed = True

    def _last(self, type: str, data: Any) -> bytes:
        said = self.event(type, data)
        self._last_said = True
        return said
