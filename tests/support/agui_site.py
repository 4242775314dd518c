"""Agents for tests of AG-UI, and its stock clients under Node."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from gateway.codecs.codec import Frame
from runtime.agent import Agent
from runtime.errors import ModelRefused
from runtime.events import ErrorInfo, NodeCompleted, NodeFailed, NodeStarted
from runtime.graph import END, Graph, Key, ListKey, View, append, set_
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.runnable import Runnable
from runtime.tools import ToolContext, tool
from tests.codecs.rules_agui import check_agui, events_of
from tests.support.node import node_command
from tests.support.puppet import Part, Puppet

__all__ = ["Cast", "asked", "events_in", "kinds", "node", "pay", "scenes"]

LIMIT = 60.0


@tool
async def add(context: ToolContext, a: int, b: int) -> int:
    """Add two numbers."""
    await context.progress({"percent": 50})
    await context.progress({"percent": 100})
    return a + b


@tool(needs_approval=True)
async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def _answer(request: ModelRequest) -> str | None:
    last = request.messages[-1]
    return last.content if last.role == "tool" else None


def _adder(request: ModelRequest) -> Iterable[Cue]:
    if (sum_ := _answer(request)) is not None:
        return say(f"It is {sum_}.")
    call = ToolCall(id="call_add", name="add", arguments='{"a": 2, "b": 2}')
    return [*say("I add.")[:-1], *call_tools(call)]


def _payer(request: ModelRequest) -> Iterable[Cue]:
    if (paid := _answer(request)) is not None:
        return say(f"Done: {paid}")
    return call_tools(ToolCall(id="call_pay", name="pay", arguments='{"amount": 100}'))


def _painter(request: ModelRequest) -> Iterable[Cue]:
    if (colour := _answer(request)) is not None:
        return say(f"It is {colour} now.")
    if request.messages[-1].content == "never mind":
        return say("As you like.")
    call = ToolCall(id="call_pick", name="pick_colour", arguments='{"of": "the door"}')
    return [*say("You choose.")[:-1], *call_tools(call)]


def _boss(request: ModelRequest) -> Iterable[Cue]:
    if _answer(request) is not None:
        return say("That is what was found.")
    return call_tools(ToolCall(id="call_ask", name="researcher", arguments='{"input": "tides"}'))


TOTAL = Key("total", 0)
NOTES = ListKey("notes", str)
STORY = Key("story", "")


def _counting() -> Runnable:
    graph = Graph(TOTAL, NOTES, STORY, name="counting")

    async def one(view: View) -> object:
        return set_(TOTAL, 1).append(NOTES, "one").set(STORY, "once upon a time " * 9)

    async def two(view: View) -> object:
        return set_(TOTAL, view.get(TOTAL) + 1).append(NOTES, "two")

    async def also(view: View) -> object:
        return append(NOTES, "also")

    graph.start("one").node("one", one, "two", "also")
    graph.node("two", two, END).node("also", also, END)
    return graph.build(input=lambda history: {}, show_state=True)


async def _retried(part: Part) -> None:
    """Play a graph whose node fails once, after it has said something."""
    node: Any = {"run_id": part.run_id, "path": ("retrying",), "node": "write"}
    below = part.below("retrying", "write", "writer")
    error = ErrorInfo(code="model_error", message="it broke")
    await part.emit(NodeStarted(**node))
    await below.begin("msg_first")
    await below.say("Once upon", "msg_first")
    await below.finish_step("Once upon", message_id="msg_first")
    await part.emit(NodeFailed(**node, error=error, will_retry=True))
    await below.begin("msg_second")
    await below.say("Once upon a time", "msg_second")
    await below.finish_step("Once upon a time", message_id="msg_second")
    await part.emit(NodeCompleted(**node, duration_ms=1))
    await part.end("Once upon a time")


class Cast:
    """The agents, with the models of those that a test looks at."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.talker = ScriptedModel(lambda request: say("Hello you", reasoning="a greeting"))
        self.gated = ScriptedModel(self._gated)
        researcher = Agent(
            "researcher",
            ScriptedModel(lambda request: say("Twice a day.")),
            description="Looks things up.",
        )
        self.runnables: tuple[Runnable, ...] = (
            Agent("talker", self.talker),
            Agent("adder", ScriptedModel(_adder), tools=(add,)),
            Agent("payer", ScriptedModel(_payer), tools=(pay,)),
            Agent("painter", ScriptedModel(_painter)),
            Agent("broken", ScriptedModel(lambda request: ["Hello", ModelRefused("it will not")])),
            Agent("gated", self.gated),
            Agent("opener", ScriptedModel(self._open)),
            Agent("boss", ScriptedModel(_boss), tools=(researcher.as_tool(),)),
            _counting(),
            Puppet(_retried, "retrying", "graph"),
        )

    def _gated(self, request: ModelRequest) -> Iterable[Cue]:
        return ["Half ", self.gate, *say("and half")]

    def _open(self, request: ModelRequest) -> Iterable[Cue]:
        self.gate.set()
        return say("open")


async def scenes(*arguments: str) -> AsyncIterator[dict[str, Any]]:
    """Run the driver and yield what it prints, a line of JSON each."""
    process = await asyncio.create_subprocess_exec(
        *node_command("agui.mjs", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(LIMIT):
            async for line in process.stdout:
                yield json.loads(line)
            problems = (await process.stderr.read()).decode()
            assert await process.wait() == 0, problems[-2000:]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def node(*arguments: str) -> dict[str, dict[str, Any]]:
    """Run the driver to its end and return what it printed of each scene."""
    return {told.pop("name"): told async for told in scenes(*arguments)}


def events_in(body: bytes, *, cut: bool = False) -> list[dict[str, Any]]:
    """Return the events of a whole stream, each valid, in an order that clients bear."""
    frames = []
    for block in body.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith((":", "id: "))]
        assert all(line.startswith("data: ") for line in lines), block
        frames += [Frame(line.removeprefix("data: ").encode()) for line in lines]
    check_agui(frames, cut)
    return events_of(frames)


def kinds(events: Iterable[dict[str, Any]]) -> list[str]:
    """Return the types of events, neighbours of one type once."""
    return [kind for kind, _ in itertools.groupby(event["type"] for event in events)]


def asked(thread_id: str = "t1", run_id: str = "r1", **fields: Any) -> dict[str, Any]:
    """Return the body of a request; by default a user says hi."""
    messages = [{"id": "u1", "role": "user", "content": "hi"}]
    return {
        "threadId": thread_id,
        "runId": run_id,
        "protocolVersion": "1.0",
        "state": {},
        "messages": messages,
        "tools": [],
        "context": [],
        "forwardedProps": {},
    } | fields
