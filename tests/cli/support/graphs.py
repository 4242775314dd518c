"""Graphs that the tests of `tidegate run` run, from this file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from runtime.agent import Agent
from runtime.errors import ToolFailed
from runtime.graph import END, CompiledGraph, Graph, Key, ListKey, NodeContext, View
from runtime.models.scripted import ScriptedModel, say

FOR_EVER = 3600.0

N = Key("n", 0)
DONE: ListKey[str] = ListKey("done", str)
TEXT = Key("text", "")
TRACE = Key("trace", "")


async def double(context: NodeContext, view: View) -> dict[str, Any]:
    for step in (1, 2):
        context.writer({"progress": step / 2, "message": f"half {step}", "stage": "doubling"})
    return {"n": view[N] * 2}


async def note_left(view: View) -> dict[str, Any]:
    return {"done": ["left"]}


async def note_right(view: View) -> dict[str, Any]:
    return {"done": ["right"]}


def build() -> CompiledGraph:
    graph = Graph(N, DONE, name="doubling")
    graph.node("double", double, "left", "right")
    graph.node("left", note_left, END)
    graph.node("right", note_right, END)
    graph.start("double")
    return graph.build()


async def ask(context: NodeContext, view: View) -> dict[str, Any]:
    if view[TRACE]:  # where a test counts how often this ran
        with await asyncio.to_thread(Path(view[TRACE]).open, "a") as trace:
            trace.write("ask\n")
    answer = await context.interrupt("may it be published?", {"text": view[TEXT]})
    return {"text": f"{answer.kind} {answer.arguments or ''}".strip()}


async def prepare(view: View) -> dict[str, Any]:
    if view[TRACE]:
        with await asyncio.to_thread(Path(view[TRACE]).open, "a") as trace:
            trace.write("prepare\n")
    return {"text": view[TEXT] or "a draft"}


def build_asking() -> CompiledGraph:
    graph = Graph(TEXT, TRACE, name="asking")
    graph.node("prepare", prepare, "ask")
    graph.node("ask", ask, END)
    graph.start("prepare")
    return graph.build()


async def rest(context: NodeContext, view: View) -> None:
    """Wait until the file is there that `text` names."""
    context.writer({"message": "resting"})
    while not await asyncio.to_thread(Path(view[TEXT]).exists):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.02)


def build_resting() -> CompiledGraph:
    graph = Graph(TEXT, TRACE, name="resting")
    graph.node("prepare", prepare, "rest")
    graph.node("rest", rest, END)
    graph.start("prepare")
    return graph.build()


async def hold(context: NodeContext, view: View) -> None:
    context.writer({"progress": 40, "message": "holding"})
    await asyncio.sleep(FOR_EVER)


def build_slow() -> CompiledGraph:
    graph = Graph(N, name="slow")
    graph.node("hold", hold, END)
    graph.start("hold")
    return graph.build()


async def fail(view: View) -> None:
    raise ToolFailed("the source is gone")


def build_failing() -> CompiledGraph:
    graph = Graph(N, name="failing")
    graph.node("fetch", fail, END)
    graph.start("fetch")
    return graph.build()


def build_talking() -> CompiledGraph:
    graph = Graph(TEXT, name="talking")
    agent = Agent(
        "writer", ScriptedModel(lambda request: say(f"You said: {request.messages[-1].content}"))
    )
    graph.node("write", agent, END, ask=lambda view: view[TEXT], into=TEXT)
    graph.start("write")
    return graph.build()


graph = build()
