"""The event stream format of the HTML standard, 9.2, as far as Tidegate's streams use it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["EventStreamDecoder", "Frame"]

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Frame:
    """What one blank line ended.

    Attributes:
        data: Its data lines, joined; None if it has none.
        id: Its id; None if it has none.
        retry_ms: Its `retry:` field; None if it has none.
    """

    data: bytes | None
    id: str | None
    retry_ms: int | None


class EventStreamDecoder:
    """Reads a stream in whatever pieces it comes.

    What follows the last blank line was cut, and is never reported. A lone CR at the end of a piece
    waits for the next piece, because it may be half of a CRLF.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._id: str | None = None
        self._retry: int | None = None

    def feed(self, piece: bytes) -> list[Frame]:
        """Return the frames that are whole with this piece; comments make frames without anything."""
        text = self._rest + piece
        held = text[-1:] if text.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(text.removesuffix(held) if held else text)
        self._rest = rest + held
        frames = []
        for line in lines:
            if line:
                self._field(line)
            else:
                frames.append(self._frame())
        return frames

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"id":
            self._id = value.decode()
        elif name == b"retry" and value.isdigit():
            self._retry = int(value)

    def _frame(self) -> Frame:
        frame = Frame(b"\n".join(self._data) if self._data else None, self._id, self._retry)
        self._data, self._id, self._retry = [], None, None
        return frame
