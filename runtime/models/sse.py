"""Server-sent events, as a provider sends them: bytes in, events and their JSON out. Pure.

A reader of our own, and not those of the SDKs, because they differ in what they forgive: a byte
order mark, lines that end in CR, several data lines, long lines in many pieces.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import Any

from runtime.errors import ModelSpokeNonsense

__all__ = ["EventDecoder", "ServerEvent", "loaded"]

_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event.

    Attributes:
        data: Its data lines, joined.
        name: What its `event` field says; empty where there is none.
    """

    data: str
    name: str = ""


class EventDecoder:
    """Reads the event stream format of the HTML standard, 9.2.6, in whatever pieces it comes.

    The time that it takes grows with the bytes and not with the pieces. What follows the last
    blank line is an event that was cut, and is never reported.
    """

    def __init__(self) -> None:
        self._first_line = True
        self._after_return = False
        self._line: list[bytes] = []
        self._data: list[str] = []
        self._name = ""

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """Return the events that are whole with this piece.

        Raises:
            UnicodeDecodeError: If a line is no UTF-8.
        """
        events: list[ServerEvent] = []
        start = 0
        if self._after_return and piece:
            self._after_return = False
            start = 1 if piece.startswith(b"\n") else 0  # the other half of a CRLF
        for end in _LINE_END.finditer(piece, start):
            self._line.append(piece[start : end.start()])
            start = end.end()
            line, self._line = b"".join(self._line), []
            event = self._take(line)
            if event is not None:
                events.append(event)
        if start < len(piece):
            self._line.append(piece[start:])
        self._after_return = piece.endswith(b"\r") or (self._after_return and not piece)
        return events

    def _take(self, line: bytes) -> ServerEvent | None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line:
            return self._dispatch()
        field, _, value = line.decode().partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        return None  # comments, and fields that only a browser needs

    def _dispatch(self) -> ServerEvent | None:
        data, self._data = self._data, []
        name, self._name = self._name, ""
        return ServerEvent("\n".join(data), name) if data else None


def loaded(data: str) -> dict[str, Any]:
    """Return the JSON object that an event carries.

    Raises:
        ModelSpokeNonsense: If it carries something else.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelSpokeNonsense("the provider's answer cannot be read") from error
    if not isinstance(value, dict):
        raise ModelSpokeNonsense("the provider sent a chunk that cannot be read")
    return value
