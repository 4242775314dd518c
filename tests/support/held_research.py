"""`research`, which stands still at gates: `tidegate serve tests.support.held_research:registry`.

The plan stands at a gate, then each fetch at one of its own while it reads, and the report after its
first words.
The product knows nothing of this: its pauses are replaced from outside.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel
from runtime.registry import Registry
from tests.support.gates import Gates

__all__ = ["registry"]

FIRST_WORDS = 10
"""The pieces of a report before its gate; a shorter report has none."""

READING = 2
"""The tick of a fetch at which it stands."""


def registry() -> Registry:
    """Return it, and who opens its gates."""
    module = importlib.import_module("gateway.builtin.research")
    gates, ticks = Gates(), Counter[float]()

    async def sleep(seconds: float) -> None:
        ticks[seconds] += 1
        if seconds not in module.SECONDS_PER_TICK:
            ticks.clear()  # it plans: a run begins
            await gates.stand()
        elif ticks[seconds] == READING:
            await gates.stand()
        await asyncio.sleep(0)

    def report(request: ModelRequest) -> Iterator[Cue]:
        cues = tuple(module._script(0, request))
        yield from cues[:FIRST_WORDS]
        if len(cues) > FIRST_WORDS:
            with gates.closed() as gate:
                yield gate
        yield from cues[FIRST_WORDS:]

    module.__dict__["asyncio"] = SimpleNamespace(sleep=sleep)
    writer = ScriptedModel(report, name="scripted-writer")
    return Registry(module.research(writer), gates.usher)
