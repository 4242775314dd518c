"""Tool results as plain JSON."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from pydantic_core import to_json

__all__ = ["plain"]

_logger = logging.getLogger(__name__)


def plain(value: Any, tool: str) -> Any:
    """Return a value as plain JSON data; never fails.

    Models, dataclasses, dates, bytes (base64) and the like are written as pydantic writes them. What
    cannot be written becomes a placeholder that names its type, and is logged.
    """

    def placeholder(part: Any) -> str:
        _logger.warning("tool %r returned a %s, which is no JSON", tool, type(part).__name__)
        return f"<{type(part).__name__}>"

    try:
        return orjson.loads(
            to_json(value, fallback=placeholder, bytes_mode="base64", inf_nan_mode="null")
        )
    except ValueError:  # refers to itself, or holds text that is no Unicode
        if isinstance(value, str):
            return value.encode(errors="replace").decode()
        return placeholder(value)
