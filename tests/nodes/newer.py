"""A gateway of the version after this one: it says something that this one has never heard of.

`python -m tests.nodes.newer serve …` serves `registry`; `OLDER` in the environment makes its agent
that of this version.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, Literal

from gateway.cli import main
from runtime.agent import Agent
from runtime.events.base import RunEvent
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, say
from runtime.registry import Registry
from runtime.runnable import Emit, RunRequest

__all__ = ["OLDER", "PROGRAM", "WORDS", "registry"]

OLDER = "OLDER"
PROGRAM = ("-m", "tests.nodes.newer")
WORDS = "one two three four five six seven eight nine ten"


class TideForecast(RunEvent):
    """What only the next version knows."""

    type: Literal["tide.forecast"] = "tide.forecast"
    height: float


class Newer(Agent):
    """An agent that forecasts before it speaks."""

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        forecast: Any = TideForecast(run_id=request.run_id, height=request.attempt)
        await emit(forecast)
        await super().execute(request, emit)


def _script(request: ModelRequest) -> Iterator[Cue]:
    return iter(say(WORDS, seconds_per_word=0.2))


def registry() -> Registry:
    """Return the agent of this version, or of the next."""
    kind = Agent if os.environ.get(OLDER) else Newer
    return Registry(kind("speaker", ScriptedModel(_script)))


if __name__ == "__main__":
    sys.argv.insert(2, "tests.nodes.newer:registry")
    main()
