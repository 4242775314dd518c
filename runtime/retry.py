"""When something that failed is tried again. A schedule; whoever tries does the waiting.

A model call is made again only before its first delta: later, text would stand in the log twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["RetryOn", "RetryPolicy"]

RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Which failures are worth another attempt: classes, or a function that is asked."""


def retryable(error: Exception) -> bool:
    """Tell whether an error says of itself that trying again may help."""
    return bool(getattr(error, "retryable", False))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter.

    Full jitter spreads many runs that failed at the same moment evenly over the whole wait, so
    that they do not come back together (AWS Architecture Blog, "Exponential Backoff And Jitter").

    Attributes:
        attempts: How often it is tried at most, the first time included.
        base: The longest first wait, in seconds; it doubles each time.
        cap: The longest wait, in seconds, also where the failure asks for more.
        on: Which failures are worth another attempt; by default those that say so themselves
            (`error.retryable`).
        roll: Gives numbers from 0 up to 1.
    """

    attempts: int = 3
    base: float = 0.5
    cap: float = 30.0
    on: RetryOn = retryable
    roll: Callable[[], float] = random.random

    def delay(self, failed: int, error: Exception) -> float | None:
        """Return how many seconds to wait after the `failed`-th attempt; None to give up.

        A failure that says how long to wait (`error.retry_after`) is obeyed, up to `cap`.
        """
        if failed >= self.attempts or not self._worth(error):
            return None
        asked: float | None = getattr(error, "retry_after", None)
        if asked is not None:
            return min(max(asked, 0.0), self.cap)
        return self.roll() * min(self.cap, self.base * 2.0 ** (failed - 1))

    def _worth(self, error: Exception) -> bool:
        if isinstance(self.on, type | tuple):
            return isinstance(error, self.on)
        return self.on(error)
