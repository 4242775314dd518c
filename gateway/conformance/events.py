"""Events as they came: their bytes, and what these say. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.conformance.check import Broken

__all__ = ["ENDS", "Event", "Log", "decoded", "page_events", "shown", "the"]

ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})
"""What ends a run for good."""

SHOWN = 300
"""Characters of an answer that a report shows."""


@dataclass(frozen=True, slots=True)
class Event:
    """One object of a log or a stream.

    Attributes:
        raw: Its bytes.
        data: What they say.
    """

    raw: bytes
    data: dict[str, Any]

    @property
    def type(self) -> str:
        """Its type; empty if it has none."""
        return str(self.data.get("type", ""))

    @property
    def is_control(self) -> bool:
        """Whether it says something about the stream, and is no event of the log."""
        return self.type.startswith("stream.")

    @property
    def seq(self) -> int:
        """Its number in the log; 0 if it has none."""
        number = self.data.get("seq")
        return number if isinstance(number, int) else 0

    @property
    def cursor(self) -> str:
        """Where a reader goes on after it."""
        return str(self.data.get("cursor", ""))

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field."""
        return self.data.get(name, default)


Log = Sequence[Event]
"""Events of one session, in order."""


def the(log: Log, type: str, **fields: Any) -> Event:
    """Return the first event of a type, with these fields.

    Raises:
        Broken: If there is none.
    """
    for event in log:
        if event.type == type and fields.items() <= event.data.items():
            return event
    named = "".join(f", {name} {value!r}" for name, value in fields.items())
    types = ", ".join(event.type for event in log[-5:])
    raise Broken(f"{type}{named} in the log", f"none among {len(log)} events ({types})")


def decoded(raw: bytes, request: str) -> Event:
    """Return the object that some bytes hold.

    Raises:
        Broken: If they hold none.
    """
    try:
        data = json.loads(raw)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise Broken("a JSON object", shown(raw), request)
    return Event(raw, data)


def page_events(body: bytes, request: str) -> list[Event]:
    """Return the events of one page, each with its bytes.

    Raises:
        Broken: If it is no page.
    """
    page = decoded(body, request).data
    if not isinstance(page.get("events"), list):
        raise Broken("a page {events, cursor, caught_up}", shown(body), request)
    text = body.decode()
    start = text.index("[", text.index('"events"')) + 1
    events: list[Event] = []
    read = json.JSONDecoder().raw_decode
    while True:
        start += len(text[start:]) - len(text[start:].lstrip(" \t\r\n,"))
        if text[start] == "]":
            return events
        data, end = read(text, start)
        events.append(Event(text[start:end].encode(), data))
        start = end


def shown(raw: bytes | str) -> str:
    """Return a text short enough for a report."""
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
