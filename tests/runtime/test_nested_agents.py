"""Agents as tools of agents: what is seen of them, and how they wait, fail, stop and go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import BaseModel

from runtime import Agent, ScriptedModel, ToolCall, Usage, tool
from runtime.agent import Prices, runnable_tool
from runtime.cancel import CancelToken
from runtime.events import (
    AgentCompleted,
    AgentStarted,
    ApprovalRequested,
    Custom,
    Event,
    MessageCompleted,
    MessageDelta,
    ModelCompleted,
    ModelStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    ToolCallReady,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
)
from runtime.models.base import Finish, Text
from runtime.models.scripted import Cue, Pause, call_tools, say
from runtime.runnable import Decision, RunRequest
from runtime.scope import emit
from tests.runtime.support import (
    PATIENCE,
    Log,
    check_ended,
    going_on,
    request,
    run,
    stopped_at_once,
)

ran: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@tool
async def note() -> str:
    ran["note"] += 1
    emit("noted", {"n": 1})
    return "noted"


@tool(needs_approval=True)
async def delete(path: str) -> str:
    ran[path] += 1
    return f"deleted {path}"


@tool(needs_approval=True)
async def buy() -> str:
    ran["buy"] += 1
    return "bought"


def ask(name: str, call_id: str = "c1", text: str = "go") -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=f'{{"input": "{text}"}}')


def call(name: str, call_id: str = "x", arguments: str = "{}") -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=arguments)


def boss(*answers: Iterable[Cue], tools: Iterable[Agent]) -> Agent:
    return Agent("boss", ScriptedModel(list(answers)), tools=[agent.as_tool() for agent in tools])


@pytest.mark.rows("SX1", "SX5")
async def test_all_that_an_agent_below_does_is_seen_as_it_happens_at_a_longer_path() -> None:
    model = ScriptedModel([call_tools(call("note")), say("found it")])
    child = Agent("child", model, tools=[note], description="Finds things.")
    log = await run(boss(call_tools(ask("child")), say("thanks"), tools=[child]))
    below = [event for event in log.events if event.path == ("boss", "c1:child")]
    assert [event.type for event in below] == [
        "agent.started",
        "model.started",
        "tool_call.started",
        "tool_call.delta",
        "tool_call.delta",
        "tool_call.ready",
        "model.completed",
        "tool.started",
        "custom",
        "tool.completed",
        "model.started",
        "message.started",
        "message.delta",
        "message.delta",
        "message.completed",
        "model.completed",
        "agent.completed",
    ]
    assert {event.path for event in log.events} == {("boss",), ("boss", "c1:child")}
    assert log.one(Custom).payload == {"n": 1}
    assert (log.one(AgentStarted).agent, log.one(AgentCompleted).output) == ("child", "found it")
    outer = [event for event in log.of(ToolCompleted) if event.path == ("boss",)]
    assert [event.result for event in outer] == ["found it"]
    assert [message.content for message in model.requests[0].messages] == ["go"]
    end = log.one(RunCompleted)
    assert end.path == ("boss",)
    used = [event.usage for event in log.of(ModelCompleted)]
    assert len(used) == 4
    assert end.usage == sum((usage for usage in used if usage), Usage())


def test_a_tool_made_of_an_agent_is_offered_with_one_text_and_its_description() -> None:
    child = Agent("my child", ScriptedModel([]), description="Finds things.")
    info = child.as_tool().info
    assert (info.name, info.description) == ("my_child", "Finds things.")
    assert list(info.parameters["properties"]) == ["input"]
    assert info.parameters["properties"]["input"]["type"] == "string"
    named = runnable_tool(child, name="find", description="Finds.", timeout=3)
    assert (named.info.name, named.info.description, named.timeout) == ("find", "Finds.", 3)


class Found(BaseModel):
    place: str


async def test_a_structured_answer_is_the_tools_result_as_json() -> None:
    child = Agent("child", ScriptedModel([say('{"place": "here"}')]), output_type=Found)
    log = await run(boss(call_tools(ask("child")), say("ok"), tools=[child]))
    assert log.one(ToolCompleted).result == {"place": "here"}


@pytest.mark.rows("W-S11")
async def test_two_runs_of_one_agent_at_once_can_be_told_apart_by_their_paths() -> None:
    gates = {"left": asyncio.Event(), "right": asyncio.Event()}

    def answer(asked: object) -> list[Cue]:
        side = asked.messages[-1].content  # type: ignore[attr-defined]  # a ModelRequest
        return [Text(side), gates[side], Text("!"), Finish("stop")]

    child = Agent("child", ScriptedModel(answer))
    calls = call_tools(ask("child", "c1", "left"), ask("child", "c2", "right"))
    log = Log()
    agent = boss(calls, say("ok"), tools=[child])
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(agent.execute(request(), log.emit))
        await log.until(MessageDelta, 2)  # both have spoken, and neither is done
        assert log.of(AgentCompleted) == []
        gates["right"].set()
        await log.until(AgentCompleted)
        gates["left"].set()
    check_ended(log)
    said = {event.path[-1]: event.text for event in log.of(MessageCompleted) if len(event.path) > 1}
    assert said == {"c1:child": "left!", "c2:child": "right!"}
    results = [(e.call_id, e.result) for e in log.of(ToolCompleted)]
    assert results == [("c2", "right!"), ("c1", "left!")]


async def test_ids_of_calls_in_two_agents_below_are_never_the_same() -> None:
    def answer(asked: object) -> Iterable[Cue]:
        done = asked.messages[-1].role == "tool"  # type: ignore[attr-defined]  # a ModelRequest
        return say("ok") if done else call_tools(call("note", "call_0"))

    child = Agent("child", ScriptedModel(answer), tools=[note])
    calls = call_tools(ask("child", "call_0"), ask("child", "call_1"))
    log = await run(boss(calls, say("ok"), tools=[child]))
    ids = [event.call_id for event in log.of(ToolCallReady)]
    assert len(ids) == len(set(ids)) == 4


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyError("sk-secret"), "tool_failed", "child failed: KeyError"),
        (None, "model_stream_broken", "the model's answer ended without a finish"),
    ],
)
async def test_a_failing_agent_below_is_a_failure_of_the_tool_and_the_model_is_told(
    error: Exception | None, code: str, text: str
) -> None:
    child = Agent("child", ScriptedModel([[Text("half"), *([error] if error else [])]]))
    model = ScriptedModel([call_tools(ask("child")), say("too bad")])
    log = await run(Agent("boss", model, tools=[child.as_tool()]))
    failed = log.one(ToolFailedEvent)
    assert (failed.path, failed.error.code, failed.error.message) == (("boss",), code, text)
    assert model.requests[1].messages[-1].content == f"error: {text}"
    assert log.of(RunFailed) == []
    assert log.one(RunCompleted).output == "too bad"


async def test_an_agent_below_that_takes_too_long_leaves_nothing_open() -> None:
    child = Agent("child", ScriptedModel([[Text("half"), Pause(60)]]))
    model = ScriptedModel([call_tools(ask("child")), say("too bad")])
    log = await run(Agent("boss", model, tools=[child.as_tool(timeout=0.02)]))
    assert log.one(ToolFailedEvent).error.code == "tool_timeout"
    assert log.one(AgentCompleted).path == ("boss", "c1:child")
    assert [m.incomplete for m in log.of(MessageCompleted)] == [True, None]
    assert log.one(RunCompleted).output == "too bad"


async def test_an_agent_below_that_is_cut_off_does_not_disturb_the_one_beside_it() -> None:
    gate = asyncio.Event()
    slow = Agent("slow", ScriptedModel([[Text("half"), Pause(60)]])).as_tool(timeout=0.02)
    fine = Agent("fine", ScriptedModel([[Text("all"), gate, Text(" well"), Finish("stop")]]))
    model = ScriptedModel([call_tools(ask("slow", "c1"), ask("fine", "c2")), say("ok")])
    log = Log()
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        agent = Agent("boss", model, tools=[slow, fine.as_tool()])
        group.create_task(agent.execute(request(), log.emit))
        await log.until(ToolFailedEvent)
        gate.set()
    check_ended(log)
    texts = {e.path[-1]: (e.text, e.incomplete) for e in log.of(MessageCompleted)}
    assert texts["c2:fine"] == ("all well", None)
    assert log.types.count("agent.completed") == 2


async def test_cancelling_the_run_ends_the_agents_below_and_closes_what_they_had_open() -> None:
    child = Agent("child", ScriptedModel([[Text("half"), Pause(60)]]))
    log = Log()
    agent = boss(call_tools(ask("child")), tools=[child])
    task = asyncio.create_task(agent.execute(request(), log.emit))
    await log.until(MessageDelta)
    await stopped_at_once(task)
    check_ended(log)
    assert log.one(RunCancelled).path == ("boss",)
    assert log.one(MessageCompleted).incomplete is True


# --- waiting for a human, and going on -------------------------------------------------------------


class Office:
    """A boss with an own tool that needs approval, and two agents that have one each."""

    def __init__(self) -> None:
        self.models = {
            name: ScriptedModel(
                [
                    call_tools(call("note", "n")),
                    call_tools(call("delete", "d", f'{{"path": "{name}"}}')),
                    say(f"{name} is done"),
                ]
            )
            for name in ("left", "right")
        }
        agents = [Agent(name, m, tools=[note, delete]) for name, m in self.models.items()]
        calls = (ask("left", "c1"), ask("right", "c2"), call("buy", "c3"), call("note", "c4"))
        self.model = ScriptedModel([call_tools(*calls), say("all done")])
        self.agent = Agent(
            "boss", self.model, tools=[*(a.as_tool() for a in agents), buy, note], prices=PRICES
        )

    @property
    def calls(self) -> tuple[int, int, int]:
        """How often each model was asked."""
        left, right = (len(model.requests) for model in self.models.values())
        return len(self.model.requests), left, right


PRICES = Prices(prompt_per_million=1.0, completion_per_million=1.0)


def decided(log: Log, **said: str) -> dict[str, Decision]:
    """Return decisions about the calls with these arguments."""
    decisions: dict[str, Decision] = {}
    for event in log.of(ApprovalRequested):
        for wanted, kind in said.items():
            if wanted in (event.arguments or "") or wanted == event.tool:
                assert event.call_id is not None
                decisions[event.call_id] = Decision(kind)  # type: ignore[arg-type]  # the tests' own words
    return decisions


async def test_what_agents_below_ask_for_pauses_the_whole_run_once_with_all_that_is_pending() -> (
    None
):
    office = Office()
    log = await run(office.agent)
    asked = log.of(ApprovalRequested)
    assert [event.path for event in asked].count(("boss",)) == 1
    assert len({event.call_id for event in asked}) == 3
    end = log.one(RunInterrupted)
    assert (end.path, end.reason) == (("boss",), "approval")
    assert set(end.pending) == {event.approval_id for event in asked}
    assert ran == {"note": 3}  # what needs nobody was done first
    assert office.calls == (1, 2, 2)


@pytest.mark.rows("SX4", "W-S9")
async def test_going_on_repeats_no_model_call_and_no_tool_and_counts_on() -> None:
    office = Office()
    first = await run(office.agent)
    decisions = decided(first, left="approved", right="rejected", buy="approved")
    rest = await run(office.agent, going_on(request(), first.events, decisions))
    assert ran == {"note": 3, "left": 1, "buy": 1}
    assert office.calls == (2, 3, 3)
    assert [e.call_id for e in rest.of(ToolStarted) if e.path == ("boss",)] == ["c1", "c2", "c3"]
    told = [m.content for m in office.model.requests[1].messages if m.role == "tool"]
    assert told == ["left is done", "right is done", "bought", "noted"]
    rejected = rest.one(ToolFailedEvent)
    assert rejected.path == ("boss", "c2:right")
    assert rest.types.count("message.delta") > 3  # it streams
    end = rest.one(RunCompleted)
    used = [e.usage for log in (first, rest) for e in log.of(ModelCompleted) if e.usage]
    assert end.usage == sum(used, Usage())
    assert end.num_turns == 2
    own = [
        e.usage
        for log in (first, rest)
        for e in log.of(ModelCompleted)
        if e.usage and e.path == ("boss",)
    ]
    assert end.cost_usd == pytest.approx(sum(PRICES.cost(usage) for usage in own))


async def test_what_is_still_undecided_pauses_the_run_again() -> None:
    office = Office()
    first = await run(office.agent)
    decisions = decided(first, left="approved")
    second = await run(office.agent, going_on(request(), first.events, decisions))
    assert len(second.one(RunInterrupted).pending) == 2
    both = [*first.events, *second.events]
    decisions = decided(first, right="approved", buy="approved")
    third = await run(office.agent, going_on(request(), both, decisions))
    assert third.one(RunCompleted).output == "all done"
    assert ran == {"note": 3, "left": 1, "right": 1, "buy": 1}
    assert office.calls == (2, 3, 3)


async def test_an_agent_two_floors_down_pauses_the_run_and_goes_on_too() -> None:
    deep = ScriptedModel([call_tools(call("delete", "d", '{"path": "deep"}')), say("deep done")])
    middle = ScriptedModel([call_tools(ask("deep", "m")), say("middle done")])
    agent = boss(
        call_tools(ask("middle")),
        say("ok"),
        tools=[Agent("middle", middle, tools=[Agent("deep", deep, tools=[delete]).as_tool()])],
    )
    first = await run(agent)
    path = first.one(ApprovalRequested).path
    assert (path[0], path[1], path[2].split(":")[1]) == ("boss", "c1:middle", "deep")
    rest = await run(agent, going_on(request(), first.events, decided(first, deep="approved")))
    assert rest.one(RunCompleted).output == "ok"
    assert (ran["deep"], len(deep.requests), len(middle.requests)) == (1, 2, 2)


@pytest.mark.parametrize("approved", ["approved", "rejected"])
async def test_an_agent_as_a_tool_may_itself_need_approval(approved: str) -> None:
    model = ScriptedModel([say("found")])
    child = Agent("child", model).as_tool(needs_approval=True)
    agent = Agent("boss", ScriptedModel([call_tools(ask("child")), say("ok")]), tools=[child])
    first = await run(agent)
    assert model.requests == []
    rest = await run(agent, going_on(request(), first.events, decided(first, child=approved)))
    assert len(model.requests) == (approved == "approved")
    assert rest.one(RunCompleted).output == "ok"


async def cut_after(agent: Agent, kind: Any, path: tuple[str, ...]) -> list[Event]:
    """Run, and return the events up to the first of a kind at a path: what a crash leaves."""
    log = await run(agent)
    place = next(
        n for n, event in enumerate(log.events) if isinstance(event, kind) and event.path == path
    )
    return log.events[: place + 1]


CHILD = ("boss", "c1:child")


@pytest.mark.parametrize(
    ("crash", "more_calls", "more_notes"),
    [
        (AgentStarted, 2, 1),
        (ToolCompleted, 1, 0),
        (AgentCompleted, 0, 0),
    ],
)
async def test_after_a_crash_an_agent_below_goes_on_where_it_was(
    crash: Any,
    more_calls: int,
    more_notes: int,
) -> None:
    model = ScriptedModel(
        lambda asked: (
            say("found") if asked.messages[-1].role == "tool" else call_tools(call("note"))
        )
    )
    top = ScriptedModel(
        lambda asked: (
            say("ok") if asked.messages[-1].role == "tool" else call_tools(ask("child", "c1"))
        )
    )
    agent = Agent("boss", top, tools=[Agent("child", model, tools=[note]).as_tool()])
    before = await cut_after(agent, crash, CHILD)
    model.requests.clear()
    ran.clear()
    rest = await run(agent, going_on(request(), before))
    assert (len(model.requests), ran["note"]) == (more_calls, more_notes)
    assert [e.result for e in rest.of(ToolCompleted) if e.path == ("boss",)] == ["found"]
    assert rest.one(RunCompleted).output == "ok"


async def test_a_run_that_died_between_its_answer_and_its_end_does_not_ask_again() -> None:
    model = ScriptedModel([say("done")])
    log = await run(Agent("a", model))
    rest = await run(Agent("a", model), going_on(request(), log.events[:-1]))
    assert rest.types == ["run.completed"]
    assert rest.one(RunCompleted).output == "done"
    assert rest.one(RunCompleted) == log.one(RunCompleted)
    assert len(model.requests) == 1


# --- stopping after the current step ---------------------------------------------------------------


@pytest.mark.rows("SX3")
async def test_stopping_after_the_step_lets_tools_and_agents_below_finish() -> None:
    token = CancelToken()
    working, go_on = asyncio.Event(), asyncio.Event()

    @tool
    async def work() -> str:
        working.set()
        await go_on.wait()
        return "worked"

    child = Agent("child", ScriptedModel([call_tools(call("work")), say("done")]), tools=[work])
    agent = boss(call_tools(ask("child")), say("never"), tools=[child])
    log = Log()
    asked = RunRequest("run_1", request().history, cancel=token)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(agent.execute(asked, log.emit))
        await working.wait()
        token.stop_after_step()
        go_on.set()
    check_ended(log)
    assert [e.result for e in log.of(ToolCompleted)] == ["worked", "done"]
    assert log.one(RunCancelled).reason == "cancel"
    assert len([e for e in log.of(ModelStarted) if e.path == ("boss",)]) == 1
    done = going_on(asked, log.events)
    assert [m.role for m in done.history] == ["user", "assistant", "tool"]


async def test_an_answer_that_is_the_last_one_completes_the_run_although_it_is_to_stop() -> None:
    token, gate = CancelToken(), asyncio.Event()
    model = ScriptedModel([[Text("Hel"), gate, Text("lo"), Finish("stop")]])
    log = Log()
    asked = RunRequest("run_1", request().history, cancel=token)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(Agent("a", model).execute(asked, log.emit))
        await log.until(MessageDelta)
        token.stop_after_step()
        gate.set()
    check_ended(log)
    assert log.one(RunCompleted).output == "Hello"
