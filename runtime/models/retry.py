"""When a model call that failed is made again. A schedule; whoever makes the call does the waiting.

A call is made again only before its first delta: later, text would stand in the log twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from runtime.errors import ModelError

__all__ = ["RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter.

    Full jitter spreads many runs that failed at the same moment evenly over the whole wait, so
    that they do not come back together (AWS Architecture Blog, "Exponential Backoff And Jitter").

    Attributes:
        attempts: How often a call is made at most, the first time included.
        base: The longest first wait, in seconds; it doubles each time.
        cap: The longest wait, in seconds, also where the provider asks for more.
        roll: Gives numbers from 0 up to 1.
    """

    attempts: int = 3
    base: float = 0.5
    cap: float = 30.0
    roll: Callable[[], float] = random.random

    def delay(self, failed: int, error: ModelError) -> float | None:
        """Return how many seconds to wait after the `failed`-th attempt; None to give up.

        A provider that said how long to wait is obeyed, up to `cap`.
        """
        if not error.retryable or failed >= self.attempts:
            return None
        if error.retry_after is not None:
            return min(max(error.retry_after, 0.0), self.cap)
        return self.roll() * min(self.cap, self.base * 2.0 ** (failed - 1))
