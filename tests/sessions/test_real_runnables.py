"""Sessions with real agents and graphs: what was done below is not done again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from gateway.engines.memory import MemoryEngine
from runtime.agent import Agent
from runtime.graph import END, Command, Graph, Key, NodeContext, View
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.tools import tool
from tests.support.sessions import desk


class Team:
    """A boss, who asks a worker, who needs a human's word before it digs."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.dug: list[str] = []
        digging = tool(self.dig, needs_approval=True)
        self.worker = Agent("worker", ScriptedModel(self._worker), tools=(digging,))
        self.boss = Agent("boss", ScriptedModel(self._boss), tools=(self.worker.as_tool(),))

    async def dig(self, place: str) -> str:
        """Dig somewhere."""
        self.dug.append(place)
        return f"a hole in {place}"

    def _boss(self, request: ModelRequest) -> Iterable[Cue]:
        self.asked.append("boss")
        last = request.messages[-1]
        if last.role == "tool":
            return say(f"So there is {last.content}.")
        call = ToolCall(id="call_0", name="worker", arguments='{"input": "dig in the garden"}')
        return call_tools(call)

    def _worker(self, request: ModelRequest) -> Iterable[Cue]:
        self.asked.append("worker")
        last = request.messages[-1]
        if last.role == "tool":
            return say(last.content)
        return call_tools(ToolCall(id="call_0", name="dig", arguments='{"place": "the garden"}'))


@pytest.mark.rule("approval.shared", "path.below")
async def test_a_question_of_an_agent_below_survives_a_restart_and_its_work_is_done_once() -> None:
    engine, team = MemoryEngine(), Team()
    async with desk(engine, team.boss) as at:
        await at.send("dig")
        asked = await at.until("approval.requested")
        assert asked["path"][0] == "boss"
        assert asked["path"][1].endswith(":worker")
        await at.until("run.interrupted")
        (shown,) = (await at.manager.snapshot("s")).approvals
        assert shown.path == tuple(asked["path"])
    async with desk(engine, team.boss) as at:
        yes = {"approval_id": asked["approval_id"], "decision": "approve"}
        await at.command("continue", decisions=[yes])
        done = await at.until("run.completed")
        assert done["output"] == "So there is a hole in the garden."
        assert team.dug == ["the garden"]
        assert team.asked == ["boss", "worker", "worker", "boss"]
        snapshot = await at.manager.snapshot("s")
        statuses = [call.status for message in snapshot.messages for call in message.tool_calls]
        assert statuses == ["completed", "completed"]


@pytest.mark.rule("cancel.after_step")
async def test_an_agent_that_is_to_stop_after_its_step_does_the_tools_of_the_step() -> None:
    at_work, gate = asyncio.Event(), asyncio.Event()

    @tool
    async def dig() -> str:
        """Dig."""
        at_work.set()
        await gate.wait()
        return "a hole"

    model = ScriptedModel(lambda request: call_tools(ToolCall(id="c", name="dig", arguments="{}")))
    async with desk(MemoryEngine(), Agent("digger", model, tools=(dig,))) as at:
        await at.send("dig")
        await at_work.wait()
        ack = await at.command("cancel", mode="after_step")
        gate.set()
        cancelled = await at.until("run.cancelled")
        assert cancelled["command_id"] == ack.id
        assert (await at.types()).count("tool.completed") == 1
        assert (await at.types()).count("model.started") == 1


@pytest.mark.rule("cancel.after_step", "run.continued")
async def test_a_graph_that_is_to_stop_after_its_superstep_can_be_continued_after_it() -> None:
    words = Key("words", "")
    at_work, gate = asyncio.Event(), asyncio.Event()
    worked: list[str] = []

    async def first(context: NodeContext, view: View) -> Command:
        worked.append("first")
        at_work.set()
        await gate.wait()
        return Command().set(words, "one")

    async def second(context: NodeContext, view: View) -> Command:
        worked.append("second")
        return Command().set(words, view.get(words) + " two")

    graph = Graph(words, name="flow").start("first").node("first", first, "second")
    flow = graph.node("second", second, END).build()
    async with desk(MemoryEngine(), flow) as at:
        await at.send("go")
        await at_work.wait()
        await at.command("cancel", mode="after_step")
        gate.set()
        await at.until("run.cancelled")
        assert worked == ["first"]
        await at.command("continue")
        assert (await at.until("run.completed"))["output"] == "one two"
        assert worked == ["first", "second"]
