"""Who is told what a session's writer did, and what it learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.log.engine import Fence
from gateway.sessions.catching_up import News
from gateway.sessions.decide import Decided

__all__ = ["Effects", "Heard"]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a writer learned by looking at the log.

    Attributes:
        news: What others have written, and the claim.
        ours: The claim, if this process made it without knowing until now that it was taken.
        spoke: The run's claim that ended by its own words.
    """

    news: News
    ours: Fence | None
    spoke: Fence | None


@dataclass(frozen=True, slots=True)
class Effects:
    """Who is told what a writer did and learned.

    Attributes:
        changed: Called after each append that begins, ends, stops or releases a run, with the new
            claim, and whether the run itself asked for it.
        heard: Called when others have written, or the claim is another one.
        gone: Called when the session turns out to be deleted.
        at_work: Tells whether the run that has the claim is at work here.
    """

    changed: Callable[[Decided, Fence | None, bool], None]
    heard: Callable[[Heard], None]
    gone: Callable[[], None]
    at_work: Callable[[], bool]
