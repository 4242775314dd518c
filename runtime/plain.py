"""Any Python value as plain JSON data."""

from __future__ import annotations

import logging
import re
from typing import Any

import orjson
from pydantic_core import from_json, to_json

__all__ = ["parsed", "plain"]

_logger = logging.getLogger(__name__)
_INT64 = 2**63
_LONG = re.compile(rb"\d{19}")
"""Maybe a whole number of more than 63 bits, or the like inside a text."""


def plain(value: Any, speaker: str) -> Any:
    """Return a value as plain JSON data; never fails.

    Models, dataclasses, dates (RFC 3339), bytes (base64) and the like are written as pydantic writes
    them. What cannot be written becomes a placeholder that names its type, and is logged.

    Args:
        value: What somebody reported or returned.
        speaker: Who, for the log.
    """

    def placeholder(part: Any) -> str:
        _logger.warning("%s gave a %s, which is no JSON", speaker, type(part).__name__)
        return f"<{type(part).__name__}>"

    try:
        return parsed(
            to_json(value, fallback=placeholder, bytes_mode="base64", inf_nan_mode="null")
        )
    except ValueError:  # refers to itself, or holds text that is no Unicode
        if isinstance(value, str):
            return value.encode(errors="replace").decode()
        return placeholder(value)


def parsed(written: bytes) -> Any:
    """Return JSON text as data. A whole number of more than 64 bits becomes a text of its digits.

    As a number it would be rounded, here or by whoever reads it.

    Raises:
        ValueError: If it is no JSON.
    """
    return _exact(from_json(written)) if _LONG.search(written) else orjson.loads(written)


def _exact(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _exact(part) for name, part in data.items()}
    if isinstance(data, list):
        return [_exact(part) for part in data]
    return str(data) if isinstance(data, int) and not -_INT64 <= data < 2 * _INT64 else data
