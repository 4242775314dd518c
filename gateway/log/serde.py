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
    return _type_name(value)


def _type_name(value: Any) -> str:
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def dump(event: Event) -> bytes:
    """Return the event as one line of JSON, without the fields that the log gives it.

    Fields that are None are left out. Values that JSON cannot say become safe placeholders.

    The bytes are a copy, because they are kept: what orjson returns still has the whole buffer that
    it was written in, 4 KiB for an event of 100 bytes (measured, 3.13).
    """
    data = {
        name: value
        for name, value in event.model_dump(exclude_none=True, warnings=False).items()
        if value is not None
    }
    ordered = {"type": data.pop("type"), **data}
    try:
        written = orjson.dumps(ordered, default=_placeholder, option=_OPTIONS)
    except orjson.JSONEncodeError:
        written = orjson.dumps(_safe(ordered))
    return bytes(memoryview(written))


_DEPTH = 100
"""Levels of nesting that are kept; the encoder's own limit is 254."""

_BITS = 10_000
"""Of a whole number that is kept as its digits; Python itself writes at most 4300 digits."""


def _safe(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """Replace only the parts that JSON cannot say: cycles, lone surrogates, odd keys, huge numbers.

    A whole number of more than 64 bits becomes a text of its digits.

    Args:
        value: Anything.
        inside: The identities of the containers around it.
    """
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        if id(value) in inside or len(inside) >= _DEPTH:
            return _type_name(value)
        inside = (*inside, id(value))
        if isinstance(value, dict):
            return {_key(key): _safe(item, inside) for key, item in value.items()}
        items = [_safe(item, inside) for item in value]
        return sorted(items, key=repr) if isinstance(value, (set, frozenset)) else items
    try:
        return orjson.loads(orjson.dumps(value, default=_placeholder, option=_OPTIONS))
    except orjson.JSONEncodeError:
        digits = isinstance(value, int) and value.bit_length() <= _BITS
        return str(value) if digits else _type_name(value)


def _key(key: Any) -> str:
    """Return what stands for the key of a dictionary."""
    if isinstance(key, str):
        return key.encode(errors="replace").decode()
    try:
        text: str = next(iter(orjson.loads(orjson.dumps({key: None}, option=_OPTIONS))))
    except orjson.JSONEncodeError:
        return _type_name(key)
    return text


def load(entry: Entry) -> Event | None:
    """Return the entry's event, or None if a newer version wrote a type that this one lacks."""
    try:
        return EVENT.validate_json(entry.body)
    except ValidationError:
        return None
