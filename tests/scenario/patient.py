"""Agents that wait in the middle until a test lets them: `tidegate serve tests.scenario.patient:registry`.

So a test finds each run where it wants it, however slow the machine is. Beside them are those of
`tests.support.survivors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

from runtime.agent import Agent
from runtime.graph import END, CompiledGraph, Graph, ListKey, View, append
from runtime.messages import ToolCall
from runtime.models.base import Finish, ModelRequest, Text
from runtime.models.scripted import Cue, Pause, ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.tools import ToolContext, tool
from tests.support import survivors
from tests.support.survivors import effect, folder

__all__ = ["TALK", "WORDS", "WORK", "let", "registry"]

TALK = "talk"
"""What lets agents speak on that stopped in mid-sentence."""

WORK = "work"
"""What lets tools and nodes come to their end."""

WORDS = " ".join(f"word{number}" for number in range(60))
"""What `talker` says; it stops in the middle of it."""

_LOOK_SECONDS = 0.02


def let(place: Path, what: str) -> None:
    """Let those who wait for this go on, in the servers whose effects are in `place`."""
    (place / what).touch()


def _is_let(what: str) -> bool:
    return (folder() / what).exists()


async def _until_let(what: str) -> None:
    while not _is_let(what):  # noqa: ASYNC110 - another process does it; there is nothing to wait on
        await asyncio.sleep(_LOOK_SECONDS)


def _halting(text: str) -> Iterator[Cue]:
    """Say a text, and stop after some words of it until that is let."""
    words = text.split(" ")
    for place, word in enumerate(words):
        yield Text(word if not place else f" {word}")
        yield Pause(0.001)
        while place == len(words) // 2 and not _is_let(TALK):
            yield Pause(_LOOK_SECONDS)
    yield Finish("stop")


def _worker() -> Agent:
    @tool
    async def ship(context: ToolContext) -> str:
        """Ship something, which must not be done twice."""
        effect("ship begun")
        await context.progress({"message": "on its way"})
        await _until_let(WORK)
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
            return _halting("nothing was found anywhere")
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
        await _until_let(WORK)
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
    talker = Agent("talker", ScriptedModel(lambda request: _halting(WORDS)))
    return Registry(*survivors.registry(), talker, _worker(), _scout(), _graph())
