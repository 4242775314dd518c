"""Checks that may say no: to a text, to the arguments of a tool, to its result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Guardrail", "Trip", "name_of", "tripped"]


@dataclass(frozen=True, slots=True)
class Trip:
    """What a guardrail returns to say no.

    Attributes:
        message: Why, in words for whoever is told: clients, or the model if a tool was stopped.
        info: Any value that pydantic can write as JSON, for the event `guardrail.tripped`.
    """

    message: str | None = None
    info: Any = None


Verdict = Trip | bool | None

Guardrail = Callable[[Any], Verdict | Awaitable[Verdict]]
"""A function, async or sync, of what it checks. None and True let it pass; a `Trip`, or False, does
not. It is known by its `__name__`. A sync one runs on the event loop, so it must be quick."""


def name_of(function: Callable[..., Any]) -> str:
    """Return the name under which people know a function."""
    return str(getattr(function, "__name__", type(function).__name__))


def tripped(verdict: Verdict) -> Trip | None:
    """Return why something does not pass; None if it does."""
    if isinstance(verdict, Trip):
        return verdict
    return Trip() if verdict is False else None
