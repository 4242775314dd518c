"""Where engines get chance and time from."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

__all__ = ["Clock", "new_epoch", "new_tag", "now_ms"]

Clock = Callable[[], int]
"""Returns milliseconds since 1970 UTC; may go backwards, as clocks do."""


def now_ms() -> int:
    """Return the time of day in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def new_epoch() -> str:
    """Return 32 random bits that name one life of a log."""
    return secrets.token_hex(4)


def new_tag() -> str:
    """Return 32 random bits that name one append."""
    return secrets.token_hex(4)
