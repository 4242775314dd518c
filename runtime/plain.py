"""Any Python value as plain JSON data."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from pydantic_core import to_json

__all__ = ["plain"]

_logger = logging.getLogger(__name__)
_ATOMS = (str, bool, int, type(None))
_INT64 = 2**63


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
        return orjson.loads(
            to_json(value, fallback=placeholder, bytes_mode="base64", inf_nan_mode="null")
        )
    except ValueError:  # refers to itself, or holds text that is no Unicode
        if isinstance(value, str):
            return value.encode(errors="replace").decode()
        return placeholder(value)
