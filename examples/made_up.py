"""An agent that needs no model at all: a script that plays one, with a tool of its own.

Run it with `tidegate serve examples.made_up:dice`, and say anything.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

from runtime import Agent, ToolCall, tool
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say


@tool
def roll(sides: int) -> int:
    """Roll a die."""
    return random.randint(1, sides)  # noqa: S311 - a game


def play(request: ModelRequest) -> Iterable[Cue]:
    """Answer as a model would: first by calling the tool, then by telling what came of it."""
    last = request.messages[-1]
    if last.role == "tool":
        return say(f"The die shows {last.content}.", seconds_per_word=0.05)
    number = len(request.messages)
    return call_tools(
        ToolCall(id=f"call_{number}", name="roll", arguments=json.dumps({"sides": 6}))
    )


dice = Agent("dice", ScriptedModel(play), tools=(roll,), description="Scripted. Rolls a die.")
