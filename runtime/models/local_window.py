"""Which part of a conversation a model with a small context is shown. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from runtime.errors import ModelRefused
from runtime.messages import Message

__all__ = ["fit"]


def fit(
    messages: Sequence[Message], budget: int, count: Callable[[Message], int]
) -> tuple[Message, ...]:
    """Leave out the oldest parts of a conversation until the rest fits.

    Kept in any case: every system message, the last user message, and what follows it last (the
    answers of tools that the model is waiting for). Left out, oldest first: whole turns before
    the last user message, then finished steps after it. A tool's answer is never shown without
    the call that it answers, and the order does not change.

    What is left out is rounded up to halves of the budget. So the beginning stays the same over
    many turns, and the server, which keeps what it has read, reads only what is new; a cut that
    moved with each turn would make it read everything again, each time.

    Args:
        messages: The conversation, legal for a model.
        budget: Tokens that it may take.
        count: Tokens that one message takes.

    Raises:
        ModelRefused: If what must be kept does not fit.
    """
    total = sum(count(message) for message in messages)
    kept = set(range(len(messages)))
    if total > budget:
        half = max(1, budget // 2)
        goal = total - math.ceil((total - budget) / half) * half
        for unit in _units(messages):
            if total <= goal:
                break
            kept.difference_update(unit)
            total -= sum(count(messages[place]) for place in unit)
    if total > budget:
        raise ModelRefused(
            f"the message is too long for this model: with the instructions it takes {total} "
            f"tokens, and {budget} fit"
        )
    return tuple(message for place, message in enumerate(messages) if place in kept)


def _units(messages: Sequence[Message]) -> list[list[int]]:
    """Return the places that may be left out, oldest first; those of one list go together."""
    last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    units: list[list[int]] = []
    for place, message in enumerate(messages):
        if message.role == "system" or place == last_user:
            continue
        begins_step = place > last_user and message.role == "assistant"
        follows_last_user = place > last_user > (units[-1][-1] if units else -1)
        if not units or message.role == "user" or begins_step or follows_last_user:
            units.append([])
        units[-1].append(place)
    if units and units[-1][-1] > last_user:
        units.pop()
    return units
