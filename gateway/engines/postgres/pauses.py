"""How long to leave a database alone that did not answer."""

from __future__ import annotations

import random

__all__ = ["pause_after"]

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 2.0
"""A database that is back after a long time is noticed within this."""


def pause_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row; another number each time."""
    longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures, 16))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, keeps no secret
