"""Agents that kill their server, or outlive it; `tests.scenario.patient` serves them.

What tools and nodes do to the world is a line in a file, so that it can be counted afterwards.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from runtime.agent import Agent
from runtime.agent.hooks import Hooks, ToolUse
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, Pause, ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.tools import ToolContext, tool

FOLDER = "SURVIVORS_FOLDER"
"""The variable that names the folder for effects and for notes of who has died already."""

MOMENTS = ("token", "before_intent", "after_intent", "after_effect", "after_result")


def folder() -> Path:
    return Path(os.environ[FOLDER])


def effect(line: str) -> None:
    """Do something to the world."""
    with (folder() / "effects").open("a") as file:
        file.write(f"{line}\n")


def die() -> NoReturn:
    """Kill -9 this very server."""
    os.kill(os.getpid(), signal.SIGKILL)
    sys.exit("a process survived its own SIGKILL")


def die_once(moment: str) -> None:
    """Kill this server, unless it was killed at this moment before."""
    note = folder() / f"died-{moment}"
    if not note.exists():
        note.touch()
        die()


class Mortal:
    """An agent that calls two tools side by side, and kills its server once, at one moment."""

    def __init__(self, moment: str) -> None:
        self._moment = moment
        self._begun: set[str] = set()
        self._both = asyncio.Event()

    async def _at(self, moment: str, call: str) -> None:
        """Die here, if this is the moment, and both calls have come this far."""
        if moment != self._moment or (folder() / f"died-{moment}").exists():
            return
        self._begun.add(call)
        if len(self._begun) == 2:
            die_once(moment)
        await self._both.wait()

    def _script(self, request: ModelRequest) -> Iterator[Cue]:
        if request.messages[-1].role == "tool":
            if self._moment == "after_result":
                die_once(self._moment)
            yield from say("both done")
            return
        yield "I will "
        yield Pause(0.1)  # so that it is in the log
        if self._moment == "token":
            die_once(self._moment)
        calls = (ToolCall(id=f"c_{name}", name=name, arguments="{}") for name in ("pay", "store"))
        yield from call_tools(*calls)

    def build(self) -> Agent:
        @tool
        async def pay(context: ToolContext) -> str:
            """Pay. Never twice."""
            await self._at("after_intent", "pay")
            effect(f"{self._moment} pay {context.idempotency_key}")
            await self._at("after_effect", "pay")
            return "paid"

        @tool(idempotent=True)
        async def store(context: ToolContext) -> str:
            """Store something under a key: twice is once."""
            await self._at("after_intent", "store")
            effect(f"{self._moment} store {context.idempotency_key}")
            await self._at("after_effect", "store")
            return "stored"

        async def before(use: ToolUse) -> None:
            await self._at("before_intent", use.name)

        return Agent(
            self._moment,
            ScriptedModel(self._script),
            tools=(pay, store),
            hooks=(Hooks(before_tool=before),),
        )


def _killer(request: ModelRequest) -> Iterator[Cue]:
    effect("killer asked")
    yield "I feel "
    yield Pause(0.1)
    die()


def _asker() -> Agent:
    @tool(needs_approval=True)
    async def launch() -> str:
        """Launch it."""
        effect("launched")
        return "launched"

    def script(request: ModelRequest) -> Iterable[Cue]:
        if request.messages[-1].role == "tool":
            return say("it is up")
        return call_tools(ToolCall(id="c_launch", name="launch", arguments="{}"))

    return Agent("asker", ScriptedModel(script), tools=(launch,))


def registry() -> Registry:
    """Return all of them."""
    return Registry(
        Agent("brief", ScriptedModel(lambda request: say("brief"))),
        Agent("flood", ScriptedModel(lambda request: say(f"{'x' * 50_000} " * 40))),
        Agent("killer", ScriptedModel(_killer)),
        _asker(),
        *(Mortal(moment).build() for moment in MOMENTS),
    )
