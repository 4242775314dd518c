"""What clients say to a run that works: it takes it at its next step, once, or nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import EngineUnavailable
from gateway.log.engine import Appended, Write
from runtime.agent import Agent
from runtime.graph import END, MessageGraph
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.runnable import Runnable
from runtime.tools import tool
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk

LOOK = ToolCall(id="c1", name="look", arguments="{}")
ENDS = {"run.completed", "run.failed", "run.cancelled"}


class Scene:
    """An agent that waits at a gate in its tool, or in its answer, before it goes on."""

    def __init__(self, *answers: Iterable[Cue], **more: object) -> None:
        self.model = ScriptedModel([tuple(answer) for answer in answers])
        self.in_tool = asyncio.Event()
        self.gate = asyncio.Event()
        self.agent = Agent("a", self.model, tools=[tool(self.look)], **more)  # type: ignore[arg-type] # per test

    async def look(self) -> str:
        """Look around."""
        self.in_tool.set()
        await self.gate.wait()
        return "trees"

    async def until_in_tool(self) -> None:
        async with asyncio.timeout(30):
            await self.in_tool.wait()


def held(text: str, gate: asyncio.Event) -> tuple[Cue, ...]:
    """Return an answer that ends once a gate is open."""
    *words, finish = say(text)
    return (*words, gate, finish)


def told(request: ModelRequest) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in request.messages if m.role != "tool"]


async def users(at: Desk) -> list[str]:
    return [m.text for m in (await at.manager.snapshot("s")).messages if m.role == "user"]


@pytest.mark.rule("send.steer", "send.policies")
async def test_a_running_agent_takes_it_before_its_next_model_call() -> None:
    scene = Scene(call_tools(LOOK), say("Trees, in English."))
    async with desk(MemoryEngine(), scene.agent) as at:
        first = await at.send("look")
        await scene.until_in_tool()
        waits = await at.send("waits")
        ack = await at.send("in English", policy="steer", message_id="m_steer")
        queue = (await at.manager.snapshot("s")).queue
        assert [(item.run_id, item.policy, item.position) for item in queue] == [
            (waits.run_id, "enqueue", 1),
            (ack.run_id, "steer", 2),
        ]
        scene.gate.set()
        steered = await at.until("input.steered")
        await at.until("run.completed", run_id=first.run_id)
        assert (steered["run_id"], steered["command_id"]) == (first.run_id, ack.id)
        assert steered["message"]["message_id"] == "m_steer"
        events = await at.events()
        dequeued = events[steered["seq"] - 2]
        assert (dequeued["type"], dequeued["run_id"]) == ("input.dequeued", ack.run_id)
        assert (dequeued["reason"], dequeued["command_id"]) == ("steered", ack.id)
        assert dequeued["cursor"].rpartition(".")[2] == steered["cursor"].rpartition(".")[2]
        assert events[steered["seq"]]["type"] == "model.started"
        assert told(scene.model.requests[1])[-1] == ("user", "in English")
        messages = (await at.manager.snapshot("s")).messages
        heard = next(m for m in messages if m.message_id == "m_steer")
        assert heard.run_id == first.run_id
        assert not any(event.get("run_id") == ack.run_id for event in events[steered["seq"] :])


@pytest.mark.rule("send.steer", "run.boundaries")
async def test_an_answer_that_was_complete_stands_and_another_one_follows() -> None:
    gate = asyncio.Event()
    model = ScriptedModel([held("Blue.", gate), say("Because.")])
    async with desk(MemoryEngine(), Agent("a", model)) as at:
        await at.send("which?")
        await at.until("message.delta")
        await at.send("why?", policy="steer")
        await at.send("really?", policy="steer")
        gate.set()
        done = await at.until("run.completed")
        assert (done["output"], done["num_turns"]) == ("Because.", 2)
        own = {"message.completed", "model.completed", "input.steered", "model.started"}
        assert [kind for kind in await at.types() if kind in own] == [
            "model.started",
            "message.completed",
            "model.completed",
            "input.steered",
            "input.steered",
            "model.started",
            "message.completed",
            "model.completed",
        ]
        # Two inputs in a row are one message to the model: some refuse two.
        assert told(model.requests[1]) == [
            ("user", "which?"),
            ("assistant", "Blue."),
            ("user", "why?\n\nreally?"),
        ]
        assert await users(at) == ["which?", "why?", "really?"]


@pytest.mark.rule("send.steer")
@pytest.mark.parametrize("ends", ["completed", "cancelled", "failed"])
async def test_what_a_run_did_not_take_is_an_ordinary_input_once_that_has_ended(ends: str) -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        if len(puppet.played) == 1:
            await gate.wait()
        if len(puppet.played) == 1 and ends == "failed":
            raise ValueError
        await part.answer("ok", f"msg_{part.run_id}")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("first")
        waits = await at.send("waits")
        ack = await at.send("steer", policy="steer")
        last = await at.send("last")
        if ends == "cancelled":
            await at.command("cancel")
        gate.set()
        await at.until("run.completed", run_id=last.run_id)
        events = await at.events()
        assert "input.steered" not in {event["type"] for event in events}
        started = [e["run_id"] for e in events if e["type"] == "run.started"][1:]
        assert started == [waits.run_id, ack.run_id, last.run_id]
        accepted = next(
            e for e in events if e["type"] == "input.accepted" and e["run_id"] == ack.run_id
        )
        assert accepted["policy"] == "enqueue"
        assert await users(at) == ["first", "waits", "steer", "last"]


async def test_what_was_said_to_one_run_is_never_taken_by_the_next() -> None:
    scene = Scene(say("One."), say("Two."), max_turns=1)
    hold = asyncio.Event()
    scene.model = ScriptedModel([held("One.", hold), say("Two."), say("Three.")])
    who = Agent("a", scene.model, max_turns=1)
    async with desk(MemoryEngine(), who) as at:
        await at.send("first")
        await at.until("message.delta")
        await at.send("waits")
        ack = await at.send("steer", policy="steer")
        hold.set()
        await at.until("run.completed", run_id=ack.run_id)
        assert "input.steered" not in await at.types()
        assert [told(request)[-1][1] for request in scene.model.requests] == [
            "first",
            "waits",
            "steer",
        ]
        assert [item.policy for item in (await at.manager.snapshot("s")).queue] == []


async def test_when_the_run_ends_the_queue_says_that_it_waits_for_its_turn() -> None:
    gates = [asyncio.Event(), asyncio.Event()]

    async def play(part: Part) -> None:
        await gates[len(puppet.played) - 1].wait()
        await part.answer("ok", f"msg_{part.run_id}")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        first = await at.send("first")
        await at.send("waits")
        await at.send("steer", policy="steer")
        gates[0].set()
        await at.until("run.completed", run_id=first.run_id)
        queue = (await at.manager.snapshot("s")).queue
        assert [(item.message.content, item.policy) for item in queue] == [("steer", "enqueue")]


@pytest.mark.rule("send.steer", "run.taken_over")
async def test_after_a_crash_it_is_answered_and_stands_once() -> None:
    stuck = asyncio.Event()
    before = Scene(call_tools(LOOK), [stuck])
    engine = MemoryEngine()
    async with desk(engine, before.agent) as at:
        first = await at.send("look")
        await before.until_in_tool()
        await at.send("in English", policy="steer")
        before.gate.set()
        await at.until("model.started", 2)  # it has been told, and the process dies
    model = ScriptedModel([say("Trees, in English.")])
    async with desk(engine, Agent("a", model, tools=[tool(before.look)])) as at:
        await at.until("run.completed", run_id=first.run_id)
        assert told(model.requests[0])[-1] == ("user", "in English")
        assert (await at.types()).count("input.steered") == 1
        assert await users(at) == ["look", "in English"]


@pytest.mark.rule("send.steer", "run.taken_over")
async def test_after_a_crash_in_the_last_step_it_is_not_taken_for_the_end() -> None:
    """The answer was complete, what came then was taken, and the process died before more."""
    gate, stuck = asyncio.Event(), asyncio.Event()
    engine = MemoryEngine()
    model = ScriptedModel([held("Blue.", gate), [stuck]])
    async with desk(engine, Agent("a", model)) as at:
        await at.send("which?")
        await at.until("message.delta")
        await at.send("why?", policy="steer")
        gate.set()
        await at.until("input.steered")
    model = ScriptedModel([say("Because.")])
    async with desk(engine, Agent("a", model)) as at:
        assert (await at.until("run.completed"))["output"] == "Because."
        assert told(model.requests[0]) == [
            ("user", "which?"),
            ("assistant", "Blue."),
            ("user", "why?"),
        ]


@pytest.mark.rule("send.steer", "run.taken_over")
async def test_what_waited_when_the_process_died_is_taken_by_the_attempt_that_goes_on() -> None:
    scene = Scene(call_tools(LOOK))
    engine = MemoryEngine()
    async with desk(engine, scene.agent) as at:
        first = await at.send("look")
        await scene.until_in_tool()
        await at.send("in English", policy="steer")
    model = ScriptedModel([say("Trees, in English.")])
    async with desk(engine, Agent("a", model, tools=[tool(scene.look)])) as at:
        await at.until("run.completed", run_id=first.run_id)
        assert told(model.requests[0])[-1] == ("user", "in English")
        assert (await at.types()).count("input.steered") == 1


async def test_a_run_that_is_continued_knows_what_the_cancelled_one_heard() -> None:
    scene = Scene(call_tools(LOOK), [asyncio.Event()], say("Trees, in English."))
    async with desk(MemoryEngine(), scene.agent) as at:
        await at.send("look")
        await scene.until_in_tool()
        await at.send("in English", policy="steer")
        scene.gate.set()
        await at.until("model.started", 2)
        await at.command("cancel")
        goes_on = await at.command("continue")
        await at.until("run.completed", run_id=goes_on.run_id)
        assert told(scene.model.requests[2])[-1] == ("user", "in English")
        assert await users(at) == ["look", "in English"]


@pytest.mark.rule("send.steer", "cancel.after_step")
async def test_a_run_that_is_to_stop_after_its_step_leaves_it_to_a_run_of_its_own() -> None:
    scene = Scene(call_tools(LOOK), say("Here."))
    async with desk(MemoryEngine(), scene.agent) as at:
        first = await at.send("look")
        await scene.until_in_tool()
        await at.command("cancel", mode="after_step")
        ack = await at.send("and now?", policy="steer")
        scene.gate.set()
        await at.until("run.completed", run_id=ack.run_id)
        ends = [(e["run_id"], e["type"]) for e in await at.events() if e["type"] in ENDS]
        assert ends == [(first.run_id, "run.cancelled"), (ack.run_id, "run.completed")]
        assert "input.steered" not in await at.types()


@pytest.mark.rule("send.steer")
async def test_while_the_run_waits_for_a_human_it_waits_too_and_is_taken_afterwards() -> None:
    @tool(name="look", needs_approval=True)
    async def guarded() -> str:
        return "trees"

    model = ScriptedModel([call_tools(LOOK), say("Trees.")])
    engine = MemoryEngine()
    async with desk(engine, Agent("a", model, tools=[guarded])) as at:
        first = await at.send("look")
        asked = await at.until("approval.requested")
        await at.until("run.interrupted")
        await at.send("in English", policy="steer")
        assert (await at.types())[-1] == "input.queued"
    async with desk(engine, Agent("a", model, tools=[guarded])) as at:
        decision = {"approval_id": asked["approval_id"], "decision": "approve"}
        await at.command("continue", decisions=[decision])
        await at.until("run.completed", run_id=first.run_id)
        types = await at.types()
        assert types.index("input.steered") > types.index("tool.completed")
        assert told(model.requests[1])[-1] == ("user", "in English")


async def test_only_the_runs_own_agent_takes_it_whoever_works_below() -> None:
    gate, came = asyncio.Event(), asyncio.Event()

    def below_says(request: ModelRequest) -> Sequence[Cue]:
        came.set()
        return call_tools(LOOK) if len(below_model.requests) == 1 else say("from below")

    @tool
    async def look() -> str:
        await gate.wait()
        return "trees"

    below_model = ScriptedModel(below_says)
    below = Agent("below", below_model, tools=[look])
    call = ToolCall(id="n1", name="below", arguments='{"input": "work"}')
    model = ScriptedModel([call_tools(call), say("Done.")])
    async with desk(MemoryEngine(), Agent("a", model, tools=[below.as_tool()])) as at:
        await at.send("go")
        await at.until("tool.started", 2)
        await at.send("for the boss", policy="steer")
        gate.set()
        await at.until("run.completed")
        assert [told(request)[0] for request in below_model.requests] == [("user", "work")] * 2
        assert all("boss" not in text for r in below_model.requests for _, text in told(r))
        assert told(model.requests[1])[-1] == ("user", "for the boss")


def graph_of(agent: Agent) -> Runnable:
    return MessageGraph(name="g").node("n", agent, END).start("n").build()


async def test_a_graph_takes_nothing_and_it_gets_a_run_of_its_own() -> None:
    scene = Scene(call_tools(LOOK), say("Trees."), say("Again."))
    async with desk(MemoryEngine(), graph_of(scene.agent)) as at:
        first = await at.send("look")
        await scene.until_in_tool()
        ack = await at.send("in English", policy="steer")
        scene.gate.set()
        await at.until("run.completed", run_id=ack.run_id)
        events = await at.events()
        ends = [e["run_id"] for e in events if e["type"] == "run.completed"]
        assert ends == [first.run_id, ack.run_id]
        assert "input.steered" not in {event["type"] for event in events}


async def test_cancelling_what_was_taken_changes_nothing() -> None:
    scene = Scene(call_tools(LOOK), [asyncio.Event()])
    async with desk(MemoryEngine(), scene.agent) as at:
        await at.send("look")
        await scene.until_in_tool()
        ack = await at.send("in English", policy="steer")
        scene.gate.set()
        await at.until("model.started", 2)
        before = await at.types()
        assert (await at.command("cancel", run_id=ack.run_id)).run_id == ack.run_id
        assert await at.types() == before


class Failing(MemoryEngine):
    """A store that fails once, when something is handed to a run."""

    failed = False

    async def append(self, write: Write) -> Appended:
        if not self.failed and any(b"input.steered" in body for body in write.bodies):
            self.failed = True
            raise EngineUnavailable
        return await super().append(write)


async def test_a_store_that_fails_then_ends_the_run_and_loses_nothing() -> None:
    scene = Scene(call_tools(LOOK), say("It is for me."))
    async with desk(Failing(), scene.agent) as at:
        first = await at.send("look")
        await scene.until_in_tool()
        ack = await at.send("in English", policy="steer")
        scene.gate.set()
        await at.until("run.completed", run_id=ack.run_id)
        events = await at.events()
        failed = next(e for e in events if e["type"] == "run.failed")
        assert (failed["run_id"], failed["error"]["code"]) == (first.run_id, "engine_unavailable")
        assert await users(at) == ["look", "in English"]
