"""When a run that is to be handed over stands between two steps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.sessions.gate import Gate, at_rest
from runtime.boundaries import Boundaries
from runtime.events import (
    AgentStarted,
    Event,
    MessageStarted,
    ModelCompleted,
    ModelStarted,
    NodeStarted,
    RunCompleted,
    SuperstepStarted,
    ToolStarted,
)
from runtime.messages import Usage
from tests.support.waiting import proven_blocked

R = "run_1"


def tool(call_id: str, *path: str) -> ToolStarted:
    return ToolStarted(
        run_id=R, path=path, call_id=call_id, name="t", arguments="{}", idempotency_key=call_id
    )


def node(name: str, *path: str) -> NodeStarted:
    return NodeStarted(run_id=R, path=path, node=name, kind="node", superstep=1)


def model(*path: str) -> ModelStarted:
    return ModelStarted(run_id=R, path=path, turn=1, model="m", message_count=1)


def message(*path: str) -> MessageStarted:
    return MessageStarted(run_id=R, path=path, message_id="m1", turn=1)


def superstep(*path: str) -> SuperstepStarted:
    return SuperstepStarted(run_id=R, path=path, index=2, nodes=("n",))


CASES: list[tuple[bool, Sequence[Event], Sequence[Event]]] = [
    # at rest   what is open                          what waits to begin
    (False, [], []),
    (True, [], [model("a")]),
    (False, [message("a")], [model("a", "c1:b")]),
    (False, [tool("c1", "a")], [tool("c2", "a")]),
    (False, [tool("c1", "a")], []),
    (True, [tool("c1", "a")], [model("a", "c1:b")]),
    (True, [tool("c1", "a")], [model("a", "c1:b", "c9:d")]),
    (False, [tool("c1", "a")], [model("a", "c11:b")]),
    (False, [tool("c1", "a")], [model("x", "c1:b")]),
    (False, [tool("c1", "a"), tool("c2", "a")], [model("a", "c1:b")]),
    (True, [tool("c1", "a"), tool("c2", "a")], [model("a", "c1:b"), model("a", "c2:b")]),
    (False, [node("n", "g")], [node("m", "g")]),
    (True, [node("n", "g")], [model("g", "n", "b")]),
    (False, [node("n", "g")], [model("g", "nn", "b")]),
    (True, [node("n", "g"), tool("c1", "g", "n", "b")], [model("g", "n", "b", "c1:d")]),
    (False, [node("n", "g"), tool("c1", "g", "n", "b")], [tool("c2", "g", "n", "b")]),
    (True, [], [superstep("g")]),
]


@pytest.mark.parametrize(("rests", "opened", "waiting"), CASES)
def test_a_run_rests_when_all_that_it_has_begun_waits_to_begin_something(
    rests: bool, opened: Sequence[Event], waiting: Sequence[Event]
) -> None:
    boundaries = Boundaries()
    for event in opened:
        boundaries.note(event)
    assert at_rest(boundaries, waiting) is rests


async def test_a_gate_that_is_open_lets_all_through_and_one_that_is_shut_no_beginning() -> None:
    gate = Gate()
    agent = AgentStarted(run_id=R, path=("a", "b"), agent="b")
    beginnings: list[Event] = [agent, model("a"), node("n", "g"), superstep("g"), tool("c1", "a")]
    done = ModelCompleted(run_id=R, message_id="m1", usage=Usage(), turn=1)
    end = RunCompleted(run_id=R, output="", usage=Usage(), message_count=1, num_turns=1)
    others: list[Event] = [done, end]
    for event in (*beginnings, *others):
        await gate.passed(event)
    gate.shut()
    for event in others:
        await gate.passed(event)
    assert gate.waiting == []
    tasks = [asyncio.create_task(gate.passed(event)) for event in beginnings]
    await gate.news()
    await proven_blocked(*tasks)
    assert gate.waiting == beginnings
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert gate.waiting == [], "who was stopped does not wait"
