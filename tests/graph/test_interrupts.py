"""Graphs that ask a human: before a node, or inside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from runtime.errors import ApprovalRejected, UpdateInvalid
from runtime.events import (
    ApprovalRequested,
    NodeFailed,
    NodeStarted,
    RunCompleted,
    RunInterrupted,
    SuperstepStarted,
)
from runtime.graph import END, CompiledGraph, Graph, Key, ListKey, NodeContext, View
from runtime.runnable import Decision
from tests.graph.graphs import all_results, asked, failed, final_state, going_on, run

COUNT = Key("count", 0)
ITEMS: ListKey[str] = ListKey("items", str)
APPROVED = Decision("approved")


class Counted:
    """Nodes that count how often they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def node(self, name: str) -> Any:
        async def work(view: View) -> Mapping[str, Any]:
            self.ran.append(name)
            return {"items": [f"{name}{view[COUNT]}"]}

        return work


def sending(counted: Counted, guard: Any = True) -> CompiledGraph:
    """Return write → send, where sending needs a human's word."""
    graph = Graph(ITEMS, COUNT, name="mail").node("write", counted.node("write"), "send")
    graph.node("send", counted.node("send"), END, interrupt_before=guard)
    return graph.start("write").build()


@pytest.mark.rows("AX4", "W-C5")
async def test_a_node_that_needs_approval_runs_exactly_once_after_it() -> None:
    counted = Counted()
    graph = sending(counted, "Really send it?")

    first = await run(graph)
    question, end = first.one(ApprovalRequested), first.one(RunInterrupted)

    assert counted.ran == ["write"]
    assert (question.node, question.reason, question.path) == ("send", "Really send it?", ("mail",))
    assert (end.reason, end.node, end.pending) == (
        "Really send it?",
        "send",
        (question.approval_id,),
    )
    assert end.state == {"items": ["write0"]}
    assert first.types[-4:] == [
        "superstep.completed",
        "edge.taken",
        "approval.requested",
        "run.interrupted",
    ]

    again = going_on(asked(), first.events, {question.approval_id: APPROVED})
    second = await run(graph, again)

    assert counted.ran == ["write", "send"]
    assert final_state(second) == {"items": ["write0", "send0"]}
    assert [e.node for e in second.of(NodeStarted)] == ["send"]
    assert second.one(SuperstepStarted).index == 2


@pytest.mark.rows("AX4")
@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Decision("rejected", "not now"), "a human rejected it: not now"),
        (Decision("expired"), "nobody approved it in time"),
    ],
)
async def test_a_node_that_is_not_approved_fails_the_run(decision: Decision, message: str) -> None:
    counted = Counted()
    graph = sending(counted)
    first = await run(graph)
    question = first.one(ApprovalRequested)

    second = await run(graph, going_on(asked(), first.events, {question.approval_id: decision}))

    assert counted.ran == ["write"]
    assert failed(second).error.code == "rejected"
    assert failed(second).error.message == f"node 'send' was not run: {message}"
    assert isinstance(failed(second).exception, ApprovalRejected)


@pytest.mark.rows("AX4")
async def test_an_edit_changes_the_state_before_the_node_runs_also_when_it_is_replayed() -> None:
    counted = Counted()
    graph = Graph(ITEMS, COUNT).node("send", counted.node("send"), "after", interrupt_before=True)
    compiled = graph.node("after", counted.node("after"), END).start("send").build()
    first = await run(compiled)
    edit = Decision("edited", arguments=json.dumps({"count": 7, "items": ["edited"]}))
    decisions = {first.one(ApprovalRequested).approval_id: edit}

    second = await run(compiled, going_on(asked(), first.events, decisions))
    state = final_state(second)
    assert state == {"count": 7, "items": ["edited", "send7", "after7"]}

    for cut in range(len(second.events)):
        events = [*first.events, *second.events[:cut]]
        assert final_state(await run(compiled, going_on(asked(), events, decisions))) == state


@pytest.mark.rows("AX4")
@pytest.mark.parametrize("arguments", ['{"count": "x"}', '{"other": 1}', "[1]"])
async def test_an_edit_that_does_not_fit_fails_the_run(arguments: str) -> None:
    graph = sending(Counted())
    first = await run(graph)
    edit = Decision("edited", arguments=arguments)

    second = await run(
        graph, going_on(asked(), first.events, {first.one(ApprovalRequested).approval_id: edit})
    )

    assert isinstance(failed(second).exception, UpdateInvalid)


@pytest.mark.rows("AX4")
async def test_a_guard_is_asked_with_the_state() -> None:
    counted = Counted()
    graph = sending(counted, lambda view: "too much" if view[COUNT] > 5 else False)

    assert (await run(graph, asked({"count": 5}))).types[-1] == "run.completed"
    log = await run(graph, asked({"count": 6}))
    assert log.one(RunInterrupted).reason == "too much"


@pytest.mark.rows("AX4", "W-C5")
async def test_nothing_of_a_superstep_starts_before_all_its_questions_are_answered() -> None:
    counted = Counted()
    graph = Graph(ITEMS, COUNT)
    for name, guard in (("a", True), ("b", False), ("c", True)):
        graph.node(name, counted.node(name), END, interrupt_before=guard)
    compiled = graph.start("a", "b", "c").build()

    first = await run(compiled)
    one, two = first.of(ApprovalRequested)
    half = await run(compiled, going_on(asked(), first.events, {one.approval_id: APPROVED}))
    assert (counted.ran, half.of(ApprovalRequested)) == ([], [])
    assert half.one(RunInterrupted).pending == (two.approval_id,)

    decisions = {one.approval_id: APPROVED, two.approval_id: APPROVED}
    whole = await run(compiled, going_on(asked(), [*first.events, *half.events], decisions))
    assert final_state(whole) == {"items": ["a0", "b0", "c0"]}
    assert sorted(counted.ran) == ["a", "b", "c"]


async def test_questions_of_different_places_have_different_ids_and_the_same_ones_when_repeated() -> (
    None
):
    graph = Graph(COUNT).node("a", Counted().node("a"), "a", END, interrupt_before=True)
    compiled = graph.start("a").build()

    first = (await run(compiled)).one(ApprovalRequested).approval_id
    again = (await run(compiled)).one(ApprovalRequested).approval_id

    assert first == again
    assert first.startswith("apr_")
    assert len(first) == 28


def talking(counted: Counted) -> CompiledGraph:
    """Return a node that asks twice, beside one that does not."""

    async def talk(context: NodeContext, view: View) -> Mapping[str, Any]:
        counted.ran.append("talk")
        who = await context.interrupt("who?", {"choices": ["Ada", "Bob"]})
        how = await context.interrupt("how?")
        return {"items": [f"{who.arguments} {how.kind}"]}

    graph = Graph(ITEMS, COUNT, name="talk").node("begin", counted.node("begin"), "talk", "other")
    graph.node("talk", talk, "end").node("other", counted.node("other"), "end")
    return graph.node("end", counted.node("end"), END).start("begin").build()


@pytest.mark.rows("AX4", "W-C5", "W-A5")
async def test_a_node_may_ask_in_the_middle_of_its_work_and_is_given_the_answers_in_order() -> None:
    counted = Counted()
    graph = talking(counted)

    first = await run(graph)
    who = first.one(ApprovalRequested)
    assert (who.reason, json.loads(who.arguments or "")) == ("who?", {"choices": ["Ada", "Bob"]})
    assert first.one(RunInterrupted).pending == (who.approval_id,)
    assert [(e.node, e.error.code) for e in first.of(NodeFailed)] == [("talk", "interrupted")]
    assert counted.ran == ["begin", "talk", "other"]

    decisions = {who.approval_id: Decision("edited", arguments='"Ada"')}
    second = await run(graph, going_on(asked(), first.events, decisions))
    how = second.one(ApprovalRequested)
    assert (how.reason, how.arguments) == ("how?", None)
    assert how.approval_id != who.approval_id

    decisions[how.approval_id] = Decision("rejected")
    third = await run(graph, going_on(asked(), [*first.events, *second.events], decisions))

    assert counted.ran == ["begin", "talk", "other", "talk", "talk", "end"]
    assert final_state(third) == {"items": ["begin0", '"Ada" rejected', "other0", "end0"]}


async def test_a_question_that_is_still_open_is_not_asked_twice() -> None:
    graph = talking(Counted())
    first = await run(graph)

    second = await run(graph, going_on(asked(), first.events))

    assert second.of(ApprovalRequested) == []
    assert second.one(RunInterrupted).pending == first.one(RunInterrupted).pending


@pytest.mark.rows("AX4")
async def test_the_others_finish_while_one_waits_for_a_human() -> None:
    counted = Counted()
    asking = asyncio.Event()

    async def ask(context: NodeContext, view: View) -> None:
        asking.set()
        await context.interrupt("sure?")

    async def slow(view: View) -> Mapping[str, Any]:
        await asking.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        counted.ran.append("slow")
        return {"items": ["slow"]}

    graph = Graph(ITEMS).node("ask", ask, END).node("slow", slow, END).start("ask", "slow")
    compiled = graph.build()

    first = await run(compiled)
    assert counted.ran == ["slow"]
    decisions = {first.one(ApprovalRequested).approval_id: APPROVED}
    second = await run(compiled, going_on(asked(), first.events, decisions))

    assert counted.ran == ["slow"]
    assert final_state(second) == {"items": ["slow"]}


async def test_several_things_in_one_node_may_ask_at_once() -> None:
    async def ask_twice(context: NodeContext, view: View) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(context.interrupt("one?"))
            group.create_task(context.interrupt("two?"))

    graph = Graph(ITEMS).node("ask", ask_twice, END).start("ask").build()

    first = await run(graph)
    assert len(first.one(RunInterrupted).pending) >= 1
    decisions = dict.fromkeys([e.approval_id for e in first.of(ApprovalRequested)], APPROVED)
    events = list(first.events)
    while not isinstance(events[-1], RunCompleted):
        log = await run(graph, going_on(asked(), events, decisions))
        events += log.events
        decisions |= dict.fromkeys([e.approval_id for e in log.of(ApprovalRequested)], APPROVED)
    assert len(decisions) == 2


async def test_a_program_sees_an_interrupt_as_the_end_of_the_results() -> None:
    stream = sending(Counted()).run()

    results = await all_results(stream)

    assert [(r.node, r.output) for r in results] == [("write", None)]
    assert isinstance(stream.end, RunInterrupted)
