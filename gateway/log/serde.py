"""Events to stored bytes and back. Pure."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from gateway.log.entry import Entry
from runtime.events import EVENT, Event

__all__ = ["dump", "load"]


def _placeholder(value: Any) -> Any:
    """Stand in for a value that JSON cannot say, so that an odd tool result never fails a run."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def dump(event: Event) -> bytes:
    """Return the event as one line of JSON, without the fields that the log gives it.

    Fields that are None are left out. Values that JSON cannot say become safe placeholders.
    """
    data = {
        name: value
        for name, value in event.model_dump(exclude_none=True, warnings=False).items()
        if value is not None
    }
    ordered = {"type": data.pop("type"), **data}
    try:
        return orjson.dumps(ordered, default=_placeholder, option=_OPTIONS)
    except orjson.JSONEncodeError:
        safe = {name: _safe(value) for name, value in ordered.items()}
        return orjson.dumps(safe, default=_placeholder, option=_OPTIONS)


def _safe(value: Any) -> Any:
    """Keep a field that JSON can say; replace one that it cannot (a cycle, a lone surrogate)."""
    try:
        orjson.dumps(value, default=_placeholder, option=_OPTIONS)
    except orjson.JSONEncodeError:
        if isinstance(value, str):
            return value.encode(errors="replace").decode()
        return _placeholder(value)
    return value


def load(entry: Entry) -> Event | None:
    """Return the entry's event, or None if a newer version wrote a type that this one lacks."""
    try:
        return EVENT.validate_json(entry.body)
    except ValidationError:
        return None
