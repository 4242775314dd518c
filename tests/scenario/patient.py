"""Agents that wait in the middle until a test lets them: `tidegate serve tests.scenario.patient:registry`.

So a test finds each run where it wants it, however slow the machine is. Beside them are those of
`tests.support.survivors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from runtime.agent import Agent
from runtime.graph import END, CompiledGraph, Graph, ListKey, View, append
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.tools import ToolContext, tool
from tests.support import survivors
from tests.support.file_gates import said_with_gates, until_let
from tests.support.server import Server, running_server
from tests.support.survivors import FOLDER, effect, folder

__all__ = ["TALK", "WORDS", "WORK", "patient_server", "registry"]

TALK = "talk"
"""The gate at which agents stand in mid-sentence."""

WORK = "work"
"""The gate of tools and nodes."""

WORDS = " ".join(f"|{TALK}" if number == 30 else f"word{number}" for number in range(60))
"""What `talker` says."""


def _worker() -> Agent:
    @tool
    async def ship(context: ToolContext) -> str:
        """Ship something, which must not be done twice."""
        effect("ship begun")
        await context.progress({"message": "on its way"})
        await until_let(folder(), WORK)
        effect("ship done")
        return "shipped"

    def script(request: ModelRequest) -> Iterable[Cue]:
        if request.messages[-1].role == "tool":
            return say("all shipped")
        return call_tools(ToolCall(id="c_ship", name="ship", arguments="{}"))

    return Agent("worker", ScriptedModel(script), tools=(ship,))


def _scout() -> Agent:
    @tool
    async def look(context: ToolContext, where: str) -> str:
        """Look somewhere."""
        effect(f"looked {where}")
        return f"nothing {where}"

    def script(request: ModelRequest) -> Iterable[Cue]:
        if request.messages[-1].role == "tool":
            return said_with_gates(f"nothing was |{TALK} found anywhere", folder())
        return call_tools(
            *(
                ToolCall(id=f"c_{where}", name="look", arguments=f'{{"where": "{where}"}}')
                for where in ("here", "there")
            )
        )

    return Agent("scout", ScriptedModel(script), tools=(look,))


VISITS = ListKey("visits", str)


def _graph() -> CompiledGraph:
    async def left(view: View) -> object:
        effect("left")
        return append(VISITS, "left")

    async def right(view: View) -> object:
        await until_let(folder(), WORK)
        effect("right")
        return append(VISITS, "right")

    async def last(view: View) -> object:
        effect("last")
        return append(VISITS, "last")

    graph = Graph(VISITS, name="graph")
    graph.start("left", "right")
    graph.node("left", left, "last").node("right", right, "last").node("last", last, END)
    return graph.build(input=lambda history: {})


def registry() -> Registry:
    """Return all of them."""
    talker = Agent("talker", ScriptedModel(lambda request: said_with_gates(WORDS, folder())))
    return Registry(*survivors.registry(), talker, _worker(), _scout(), _graph())


@asynccontextmanager
async def patient_server(place: Path, **settings: str) -> AsyncIterator[Server]:
    """Run a server with these agents, whose gates and effects are in `place`."""
    environment = {f"TIDEGATE_{name.upper()}": value for name, value in settings.items()}
    agents = ["tests.scenario.patient:registry"]
    async with running_server(place / "data", agents, environment | {FOLDER: str(place)}) as server:
        yield server
