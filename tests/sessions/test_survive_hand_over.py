"""A process that stops in order hands its runs over: at the end of a step, to whoever comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import ShuttingDown
from gateway.sessions.manager import SessionManager
from runtime.agent import Agent
from runtime.agent.hooks import Hooks, ToolUse
from runtime.graph import END, Graph, ListKey, View, append
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.tools import tool
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk
from tests.support.waiting import proven_blocked

PATIENCE = 30.0
"""What runs get in tests that see them come to rest long before."""


def after(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    place = [event["type"] for event in events].index(kind)
    return events[place + 1 :]


async def handed_over(at: Desk) -> list[dict[str, Any]]:
    """See that the run was let go of, and return the log so far."""
    events = await at.events()
    assert events[-1]["type"] == "run.attempt_released"
    assert (await at.manager.snapshot("s")).status == "running"
    (orphan,) = await at.engine.orphans()
    assert (orphan.claim, orphan.why) == (None, "handed_over")
    anew = SessionManager(at.engine, Registry(Puppet(_nothing)))  # not started: it only folds
    assert (await anew.snapshot("s")).as_json() == (await at.manager.snapshot("s")).as_json()
    return events


async def _nothing(part: Part) -> None:
    """Play nothing."""


class Workshop:
    """An agent whose model calls two tools side by side and then sums up; a test opens each gate."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.may_speak, self.may_make, self.may_begin_second = (asyncio.Event() for _ in range(3))
        self.making = asyncio.Event()

        @tool
        async def first() -> str:
            """Make the first thing."""
            self.making.set()
            await self.may_make.wait()
            self.made.append("first")
            return "made"

        @tool
        async def second() -> str:
            """Make the second thing."""
            self.made.append("second")
            return "made"

        async def before(use: ToolUse) -> None:
            if use.name == "second":
                await self.may_begin_second.wait()

        self.model = ScriptedModel(self._script)
        self.agent = Agent(
            "workshop", self.model, tools=(first, second), hooks=(Hooks(before_tool=before),)
        )

    def _script(self, request: ModelRequest) -> Iterable[Cue]:
        if request.messages[-1].role == "tool":
            return say("both made")
        calls = (
            ToolCall(id=f"c_{name}", name=name, arguments="{}") for name in ("first", "second")
        )
        return ("let me", self.may_speak, " see", *call_tools(*calls))


@pytest.mark.rule("drain.orderly", "run.taken_over")
async def test_a_model_that_speaks_may_finish_and_then_nothing_begins() -> None:
    engine, shop = MemoryEngine(), Workshop()
    shop.may_make.set()
    shop.may_begin_second.set()
    async with desk(engine, shop.agent) as at:
        await at.send("go")
        await at.until("message.delta")
        handing = asyncio.create_task(at.manager.hand_over(PATIENCE))
        await proven_blocked(handing)
        shop.may_speak.set()
        await handing
        events = await handed_over(at)
        assert "model.completed" in [event["type"] for event in events]
        assert "tool.started" not in [event["type"] for event in events]
        assert not any(event.get("superseded") for event in events), "nothing was cut"
    async with desk(engine, shop.agent) as at:
        end = await at.until("run.completed")
        assert end["output"] == "both made"
        events = after(await at.events(), "run.attempt_released")
        assert (events[0]["type"], events[0]["reason"]) == ("run.attempt_started", "handed_over")
        assert (events[0]["attempt"], events[0]["from_step"]) == (2, 1)
        assert sorted(shop.made) == ["first", "second"]
        assert shop.model.calls == 2, "the step that was finished is not done again"


@pytest.mark.rule("drain.orderly")
async def test_tools_side_by_side_finish_and_those_that_had_not_begun_do_not() -> None:
    engine, shop = MemoryEngine(), Workshop()
    shop.may_speak.set()
    async with desk(engine, shop.agent) as at:
        await at.send("go")
        await shop.making.wait()
        handing = asyncio.create_task(at.manager.hand_over(PATIENCE))
        await proven_blocked(handing)
        shop.may_begin_second.set()
        await proven_blocked(handing)
        shop.may_make.set()
        await handing
        events = await handed_over(at)
        done = [event["call_id"] for event in events if event["type"] == "tool.completed"]
        begun = [event["call_id"] for event in events if event["type"] == "tool.started"]
        assert (done, begun) == (["c_first"], ["c_first"])
    async with desk(engine, shop.agent) as at:
        await at.until("run.completed")
        assert shop.made == ["first", "second"]
        types = await at.types()
        assert "tool.unknown_outcome" not in types
        assert types.count("tool.started") == 2


@pytest.mark.rule("drain.orderly", "run.boundaries")
async def test_what_takes_too_long_is_cut_and_done_anew() -> None:
    engine, shop = MemoryEngine(), Workshop()
    async with desk(engine, shop.agent) as at:
        await at.send("go")
        await at.until("message.delta")
        async with asyncio.timeout(2):
            await at.manager.hand_over(0.05)
        events = await handed_over(at)
        cut = events[-2]
        assert (cut["type"], cut["text"]) == ("message.completed", "let me")
        assert (cut["incomplete"], cut["superseded"]) == (True, True)
    for event in (shop.may_speak, shop.may_make, shop.may_begin_second):
        event.set()
    async with desk(engine, shop.agent) as at:
        await at.until("run.completed")
        started = next(e for e in await at.events() if e["type"] == "run.attempt_started")
        assert started["from_step"] == 0
        assert shop.model.calls == 3


async def test_a_tool_that_is_cut_has_an_unknown_outcome_and_is_not_run_again() -> None:
    engine, shop = MemoryEngine(), Workshop()
    shop.may_speak.set()
    shop.may_begin_second.set()
    async with desk(engine, shop.agent) as at:
        await at.send("go")
        await at.until("tool.completed")
        await at.manager.hand_over(0.05)
        await handed_over(at)
    shop.may_make.set()
    async with desk(engine, shop.agent) as at:
        await at.until("run.completed")
        unknown = [e["call_id"] for e in await at.events() if e["type"] == "tool.unknown_outcome"]
        assert unknown == ["c_first"]
        assert shop.made == ["second"]


DONE = ListKey("done", str)


@pytest.mark.rule("drain.orderly", "graph.run")
async def test_nodes_side_by_side_finish_and_the_next_superstep_begins_elsewhere() -> None:
    visits: list[str] = []
    there, go_on = asyncio.Event(), asyncio.Event()

    async def quick(view: View) -> Any:
        visits.append("quick")
        return append(DONE, "quick")

    async def slow(view: View) -> Any:
        visits.append("slow")
        there.set()
        await go_on.wait()
        return append(DONE, "slow")

    async def last(view: View) -> Any:
        visits.append("last")
        return append(DONE, "last")

    graph = Graph(DONE, name="work")
    graph.start("quick", "slow")
    graph.node("quick", quick, "last").node("slow", slow, "last").node("last", last, END)
    work = graph.build(input=lambda history: {})
    engine = MemoryEngine()
    async with desk(engine, work) as at:
        await at.send("go")
        await there.wait()
        await at.until("node.completed")
        handing = asyncio.create_task(at.manager.hand_over(PATIENCE))
        await proven_blocked(handing)
        go_on.set()
        await handing
        events = await handed_over(at)
        assert [e["type"] for e in events[-3:-1]] == ["edge.taken", "edge.taken"]
    async with desk(engine, work) as at:
        await at.until("run.completed")
        assert visits == ["quick", "slow", "last"]
        types = await at.types()
        assert types.count("superstep.started") == 2
        assert "node.failed" not in types


async def test_an_agent_below_a_tool_rests_where_it_is_and_its_caller_with_it() -> None:
    heard: list[str] = []
    speak = asyncio.Event()

    @tool
    async def look(thing: str) -> str:
        """Look at something."""
        heard.append(thing)
        return f"{thing} seen"

    def below(request: ModelRequest) -> Iterable[Cue]:
        if request.messages[-1].role == "tool":
            return say("found")
        return (speak, *call_tools(ToolCall(id="c_look", name="look", arguments='{"thing": "x"}')))

    def above(request: ModelRequest) -> Iterable[Cue]:
        if request.messages[-1].role == "tool":
            return say("done")
        return call_tools(ToolCall(id="c_ask", name="finder", arguments='{"input": "x"}'))

    finder = Agent("finder", ScriptedModel(below), description="Finds.", tools=(look,))
    boss = Agent("boss", ScriptedModel(above), tools=(finder.as_tool(),))
    engine = MemoryEngine()
    async with desk(engine, boss) as at:
        await at.send("go")
        await at.until("model.started", 2)
        handing = asyncio.create_task(at.manager.hand_over(PATIENCE))
        await proven_blocked(handing)
        speak.set()
        await handing
        await handed_over(at)
        assert heard == []
    async with desk(engine, boss) as at:
        await at.until("run.completed")
        assert heard == ["x"]
        spoken = [e for e in await at.events() if e["type"] == "model.completed"]
        assert len(spoken) == 4, "each of them twice, none again"


async def test_the_next_in_the_queue_is_begun_by_the_next_process() -> None:
    engine, speak = MemoryEngine(), asyncio.Event()
    model = ScriptedModel([(speak, *say("one")), say("two")])
    agent = Agent("a", model)
    async with desk(engine, agent) as at:
        first = await at.send("1")
        second = await at.send("2")
        await at.until("model.started")
        handing = asyncio.create_task(at.manager.hand_over(PATIENCE))
        await proven_blocked(handing)
        speak.set()
        await handing
        events = await handed_over(at)
        assert [e["run_id"] for e in events if e["type"] == "run.completed"] == [first.run_id]
        assert events[-1]["run_id"] == second.run_id
        assert model.calls == 1
    async with desk(engine, agent) as at:
        assert (await at.until("run.completed", 2))["output"] == "two"


async def test_a_run_that_waits_for_a_human_goes_on_waiting() -> None:
    @tool(needs_approval=True)
    async def launch() -> str:
        """Launch it."""
        return "launched"

    call = call_tools(ToolCall(id="c1", name="launch", arguments="{}"))
    agent = Agent("a", ScriptedModel([call, say("up")]), tools=(launch,))
    engine = MemoryEngine()
    async with desk(engine, agent) as at:
        await at.send("go")
        await at.until("run.interrupted")
        await at.manager.hand_over(PATIENCE)
        assert (await at.types())[-1] == "run.interrupted"
    async with desk(engine, agent) as at:
        (asked,) = (await at.manager.snapshot("s")).approvals
        decision = {"approval_id": asked.approval_id, "decision": "approve"}
        await at.command("continue", decisions=[decision])
        assert (await at.until("run.completed"))["output"] == "up"
        assert "run.attempt_started" not in await at.types()


async def test_a_hand_over_is_no_death_and_three_deaths_are_the_end() -> None:
    async def play(part: Part) -> None:
        await part.begin(f"msg_{part.request.attempt}")
        await asyncio.Event().wait()

    engine, puppet = MemoryEngine(), Puppet(play)
    ends = ["release", "die", "release", "die", "release", "release", "die"]
    for number, end in enumerate(ends, start=1):
        async with desk(engine, puppet) as at:
            if number == 1:
                await at.send("hi")
            await at.until("message.started", number)
            if end == "release":
                await at.manager.hand_over(0)
    async with desk(engine, puppet) as at:
        failed = await at.until("run.failed")
        assert failed["error"]["code"] == "attempts_exhausted"
        assert "3 times" in failed["error"]["message"]
        reasons = [e["reason"] for e in await at.events() if e["type"] == "run.attempt_started"]
        assert reasons == [
            "handed_over" if end == "release" else "lease_expired" for end in ends[:-1]
        ]
        assert len(puppet.played) == len(ends)


async def test_who_hands_over_takes_no_command_and_takes_nothing_back() -> None:
    stopped = asyncio.Event()

    async def play(part: Part) -> None:
        try:
            await part.begin()
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with desk(MemoryEngine(), Puppet(play), heartbeat=0.005) as at:
        await at.send("hi")
        await at.until("message.started")
        await at.manager.hand_over(0)
        async with asyncio.timeout(30):
            await stopped.wait()
        with pytest.raises(ShuttingDown) as refused:
            await at.send("and then?")
        assert refused.value.retryable
        never = asyncio.create_task(at.until("run.attempt_started"))
        await proven_blocked(never)  # for ten heartbeats
        never.cancel()
        await at.manager.hand_over(0)
        assert (await at.types()).count("run.attempt_released") == 1


async def test_a_store_that_fails_does_not_keep_a_process_from_stopping() -> None:
    async def play(part: Part) -> None:
        await asyncio.Event().wait()

    engine = MemoryEngine()
    async with desk(engine, Puppet(play)) as at:
        await at.send("hi")
        await engine.aclose()
        async with asyncio.timeout(2):
            await at.manager.hand_over(0.05)


async def _cancelled_beside_a_hand_over(lead: int) -> bool:
    """Begin both, the cancel `lead` turns of the loop earlier; tell whether it was acknowledged."""

    async def play(part: Part) -> None:
        await part.begin()
        await asyncio.Event().wait()

    engine, puppet = MemoryEngine(), Puppet(play)
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("message.started")
        works = [at.command("cancel"), at.manager.hand_over(0)]
        tasks: list[asyncio.Task[Any]] = []
        for work in works if lead >= 0 else reversed(works):
            tasks.append(asyncio.create_task(work))
            for _ in range(abs(lead)):
                await asyncio.sleep(0)
        await asyncio.wait(tasks)
        cancelling, handing = tasks if lead >= 0 else reversed(tasks)
        handing.result()
        error = cancelling.exception()
        assert error is None or isinstance(error, ShuttingDown)
        types = await at.types()
        assert types.count("run.cancelled") == (error is None)
        assert types.count("run.attempt_released") == (error is not None)
    async with desk(engine, puppet) as at:
        if error is not None:
            await at.until("run.attempt_started")
            await at.command("cancel")
        assert (await at.types())[-1] == "run.cancelled"
        assert (await at.types()).count("run.cancelled") == 1
        assert await engine.orphans() == []
    return error is None


@pytest.mark.fault("F34", holds=("I6", "I10"))
@pytest.mark.rule("cancel.bounded", "run.one_end")
async def test_a_cancel_beside_a_hand_over_ends_the_run_or_is_refused() -> None:
    outcomes = {await _cancelled_beside_a_hand_over(lead) for lead in range(-6, 12)}
    assert outcomes == {True, False}
