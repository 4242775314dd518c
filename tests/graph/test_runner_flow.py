"""A flow of two steps that are agents: what is told of it, and when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from runtime import Agent, RetryPolicy, ScriptedModel
from runtime.errors import ModelRefused, ModelUnavailable, NodeError
from runtime.events import (
    AgentCompleted,
    AgentStarted,
    Event,
    ModelCompleted,
    ModelRetrying,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunCompleted,
    RunFailed,
)
from runtime.graph import END, Graph, Key, View
from runtime.graph.compiled import CompiledGraph
from runtime.graph.runner import Runner
from runtime.models.scripted import Cue, say
from runtime.run_stream import RunStream
from runtime.runnable import RunRequest
from tests.graph.running import PATIENCE, read
from tests.support.waiting import proven_blocked

TOPIC, PLAN, TEXT = Key("topic", ""), Key("plan", ""), Key("text", "")
TEA = {"topic": "tea"}
AT_ONCE = RetryPolicy(attempts=3, base=0.0)


def flow(planner: ScriptedModel, writer: ScriptedModel, **more: Any) -> CompiledGraph:
    graph = Graph(TEXT, TOPIC, PLAN, name="flow")
    graph.node(
        "plan",
        Agent("planner", planner, retry=AT_ONCE),
        "write",
        kind="flow_step",
        ask=lambda view: view.get(TOPIC),
        into=PLAN,
    )
    graph.node(
        "write",
        Agent("writer", writer, retry=AT_ONCE),
        END,
        kind="flow_step",
        ask=lambda view: view.get(PLAN),
        into=TEXT,
        **more,
    )
    return graph.start("plan").build()


def events_of(graph: CompiledGraph, state: Mapping[str, Any] = TEA) -> RunStream[Event]:
    request = RunRequest(run_id="run_1", history=(), state=state)
    return RunStream(graph, request, lambda event: event)


def told(event: Event) -> str | None:
    """Return the names by which a flow's listeners know these events."""
    name = None
    match event:
        case NodeStarted(kind="flow_step"):
            name = f"flow_step_start {event.node}"
        case NodeCompleted(kind="flow_step"):
            name = f"flow_step_complete {event.node}"
        case NodeFailed(kind="flow_step"):
            name = f"{'retry' if event.will_retry else 'error'} {event.node}"
        case AgentStarted():
            name = f"agent_start {event.agent}"
        case AgentCompleted():
            name = f"agent_complete {event.agent}"
        case ModelCompleted():
            name = f"llm_response {event.content}"
        case _:
            pass
    return name


async def until_the_end(stream: RunStream[Event]) -> list[Event]:
    """Return all events, of a run that fails too."""
    found: list[Event] = []
    with contextlib.suppress(NodeError):
        async for event in stream:
            found.append(event)  # noqa: PERF401 - what came before a failure counts
    return found


async def until(events: AsyncGenerator[Event, None], last: str) -> list[str]:
    """Return what is told up to and including `last`."""
    found: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while not found or found[-1] != last:
            name = told(await anext(events))
            found += [name] if name else []
    return found


def gated(gate: asyncio.Event, text: str) -> ScriptedModel:
    return ScriptedModel([[gate, *say(text)]])


@pytest.mark.rows("L4", "L6", "L7", "L8")
async def test_each_part_of_a_flow_is_told_before_the_next_one_may_go_on() -> None:
    plan, write = asyncio.Event(), asyncio.Event()
    graph = flow(gated(plan, "one two"), gated(write, "Tea."))
    async with events_of(graph) as stream:
        events = aiter(stream)
        assert await until(events, "agent_start planner") == [  # type: ignore[arg-type]  # it is a generator
            "flow_step_start plan",
            "agent_start planner",
        ]
        waiting = asyncio.create_task(until(events, "agent_start writer"))  # type: ignore[arg-type]  # it is a generator
        await proven_blocked(waiting)
        plan.set()
        assert await waiting == [
            "llm_response one two",
            "agent_complete planner",
            "flow_step_complete plan",
            "flow_step_start write",
            "agent_start writer",
        ]
        waiting = asyncio.create_task(until(events, "flow_step_complete write"))  # type: ignore[arg-type]  # it is a generator
        await proven_blocked(waiting)
        write.set()
        assert await waiting == [
            "llm_response Tea.",
            "agent_complete writer",
            "flow_step_complete write",
        ]
        rest = [event async for event in events]
    assert isinstance(rest[-1], RunCompleted)
    assert rest[-1].output == "Tea."


@pytest.mark.rows("L7", "L13")
async def test_results_and_times_of_the_steps_can_be_read_from_their_events() -> None:
    graph = flow(ScriptedModel([say("plan")]), ScriptedModel([say("Tea.")]))
    steps = [e async for e in events_of(graph) if isinstance(e, NodeCompleted)]
    assert [(step.node, step.result) for step in steps] == [("plan", "plan"), ("write", "Tea.")]
    assert all(step.duration_ms >= 0 for step in steps)

    runner = Runner(flow(ScriptedModel([say("plan")]), ScriptedModel([say("Tea.")])))
    await runner.run("s", {"topic": "tea"})
    timeline = [
        (event.type, event.node_id, event.timestamp)
        for event in await read(runner)
        if event.type in {"node_start", "node_end"}
    ]
    assert [(kind, node) for kind, node, _ in timeline] == [
        ("node_start", "plan"),
        ("node_end", "plan"),
        ("node_start", "write"),
        ("node_end", "write"),
    ]
    assert [at for _, _, at in timeline] == sorted(at for _, _, at in timeline)


@pytest.mark.rows("L10", "W-L4", "C20")
@pytest.mark.parametrize(
    ("error", "retryable"), [(ModelRefused("no"), False), (ModelUnavailable("down"), True)]
)
async def test_a_step_that_fails_is_told_at_once_and_ends_the_flow(
    error: Exception, retryable: bool
) -> None:
    broken = ScriptedModel(lambda _: [error])
    graph = flow(ScriptedModel([say("plan")]), broken)
    found = await until_the_end(events_of(graph))
    (failed,) = [event for event in found if isinstance(event, NodeFailed)]
    assert (failed.node, failed.error.node, failed.error.retryable) == (
        "write",
        "write",
        retryable,
    )
    assert not failed.will_retry
    assert isinstance(found[-1], RunFailed)
    assert found[-1].error.retryable is retryable
    assert not any(isinstance(e, NodeCompleted) and e.node == "write" for e in found)


@pytest.mark.rows("L10")
async def test_a_step_that_fails_waits_for_no_other_to_be_told() -> None:
    never = asyncio.Event()
    failed = asyncio.Event()

    async def bad(view: View) -> None:
        failed.set()
        raise ModelUnavailable("down")

    async def slow(view: View) -> None:
        await failed.wait()
        await never.wait()

    graph = Graph(TEXT, name="flow")
    graph.node("bad", bad, END, kind="flow_step").node("slow", slow, END, kind="flow_step")
    async with asyncio.timeout(PATIENCE):
        found = await until_the_end(events_of(graph.start("bad", "slow").build(), {}))
    first = next(event for event in found if isinstance(event, NodeFailed))
    assert (first.node, first.error.retryable) == ("bad", True)
    assert isinstance(found[-1], RunFailed)


@pytest.mark.rows("L6", "W-L3")
@pytest.mark.parametrize("script", [[say("Tea.")], [[ModelRefused("no")]]])
async def test_every_step_that_began_gets_one_completion_or_one_error(
    script: list[list[Cue]],
) -> None:
    graph = flow(ScriptedModel([say("plan")]), ScriptedModel(script))
    found = await until_the_end(events_of(graph))
    began = [event.node for event in found if isinstance(event, NodeStarted)]
    ended = [event.node for event in found if isinstance(event, NodeCompleted)]
    failed = [e.node for e in found if isinstance(e, NodeFailed) and not e.will_retry]
    assert sorted(ended + failed) == sorted(began) == ["plan", "write"]
    agents = [event.agent for event in found if isinstance(event, AgentStarted)]
    closed = [event.agent for event in found if isinstance(event, AgentCompleted)]
    assert agents == closed == ["planner", "writer"]
    outputs = {e.agent: e.output for e in found if isinstance(e, AgentCompleted)}
    assert (outputs["writer"] is None) is bool(failed)  # a failure is not told as an answer


@pytest.mark.rows("L11", "W-L5")
async def test_each_new_try_of_a_model_is_told() -> None:
    down = ModelUnavailable("down")
    writer = ScriptedModel([[down], [down], say("Tea.")])
    graph = flow(ScriptedModel([say("plan")]), writer)
    found = [event async for event in events_of(graph)]
    retries = [event for event in found if isinstance(event, ModelRetrying)]
    assert len(retries) == 2
    assert all(event.error.retryable for event in retries)
    assert isinstance(found[-1], RunCompleted)


@pytest.mark.rows("L11", "W-L5")
async def test_each_new_try_of_a_step_is_told() -> None:
    writer = ScriptedModel([[ModelRefused("a")], [ModelRefused("b")], say("Tea.")])
    retry = RetryPolicy(attempts=3, base=0.0, on=ModelRefused)
    graph = flow(ScriptedModel([say("plan")]), writer, retry=retry)
    found = [event async for event in events_of(graph)]
    steps = [name for event in found if (name := told(event)) and name.endswith(" write")]
    assert steps == [
        "flow_step_start write",
        "retry write",
        "retry write",
        "flow_step_complete write",
    ]
    assert isinstance(found[-1], RunCompleted)
