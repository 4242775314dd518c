"""Runnables below others, for servers of tests: `tidegate serve tests.support.team:registry`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from runtime.agent import Agent
from runtime.graph import END, Graph, Key, View, set_
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.registry import Registry

EFFECTS = "TEAM_EFFECTS"
"""The variable that names the file into which nodes write that they have worked."""

FOUND = "The tide comes twice a day."
PACE = 0.05
"""Seconds per word: slow enough for a test to look at words on their way."""


def _boss(request: ModelRequest) -> Iterable[Cue]:
    if request.messages[-1].role == "tool":
        return say("That is what was found.", seconds_per_word=PACE)
    return call_tools(ToolCall(id="call_0", name="researcher", arguments='{"input": "tides"}'))


def _researcher(request: ModelRequest) -> Iterable[Cue]:
    return say(FOUND, seconds_per_word=PACE)


def _work(name: str) -> None:
    with Path(os.environ[EFFECTS]).open("a") as file:
        file.write(f"{name}\n")


STEPS = Key("steps", "")


def _graph() -> Graph:
    def plan(view: View) -> object:
        _work("plan")
        return set_(STEPS, "planned")

    def risky(view: View) -> object:
        _work("risky")
        return set_(STEPS, f"{view.get(STEPS)}, done")

    async def last(view: View) -> object:
        await asyncio.to_thread(_work, "last")
        return set_(STEPS, f"{view.get(STEPS)}, checked")

    graph = Graph(STEPS, name="guarded")
    graph.start("plan").node("plan", plan, "risky")
    graph.node("risky", risky, "last", interrupt_before="This cannot be undone. Go on?")
    return graph.node("last", last, END)


def registry() -> Registry:
    """Return an agent that asks another one, and a graph that asks before it does something."""
    researcher = Agent("researcher", ScriptedModel(_researcher), description="Looks things up.")
    boss = Agent("boss", ScriptedModel(_boss), tools=(researcher.as_tool(),))
    return Registry(boss, _graph().build(input=lambda history: {}))
