"""Supersteps: side by side, one state before, one after, whichever node is done first."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import Mapping
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import (
    ConflictingWrites,
    NodeError,
    RouteInvalid,
    StepLimitExceeded,
    UpdateInvalid,
)
from runtime.events import (
    EdgeTaken,
    NodeCompleted,
    NodeStarted,
    SuperstepCompleted,
    SuperstepStarted,
)
from runtime.graph import END, Command, CompiledGraph, Graph, Key, ListKey, View, set_
from runtime.graph.merge import merged
from tests.graph.graphs import (
    Meeting,
    all_results,
    asked,
    committed,
    failure,
    final_state,
    run,
)
from tests.runtime.support import PATIENCE, Log

COUNT = Key("count", 0)
TOTAL = Key("total", 0, reducer=operator.add)
ITEMS: ListKey[str] = ListKey("items", str)


async def nothing(view: View) -> None:
    """A node that does nothing."""


def fan(*middle: str, nodes: Mapping[str, Any], keys: tuple[Key[Any], ...]) -> CompiledGraph:
    """Return start → middle nodes side by side → end."""
    graph = Graph(*keys, name="fan").node("start", nothing, *middle)
    for name in middle:
        graph.node(name, nodes[name], "end")
    return graph.node("end", nodes.get("end", nothing), END).start("start").build()


@pytest.mark.rows("A1", "AX7")
async def test_the_nodes_of_a_superstep_run_side_by_side() -> None:
    names = [f"n{place:02}" for place in range(20)]
    meeting = Meeting(len(names))
    graph = fan(*names, nodes={name: meeting.node(name) for name in names}, keys=(COUNT,))

    log = await run(graph)

    assert sorted(meeting.there) == names
    assert log.of(SuperstepStarted)[1].nodes == tuple(names)


@pytest.mark.rows("A1")
async def test_sync_nodes_run_side_by_side_too() -> None:
    barrier = threading.Barrier(2, timeout=PATIENCE)

    def meet(view: View) -> None:
        barrier.wait()

    log = await run(fan("a", "b", nodes={"a": meet, "b": meet}, keys=(COUNT,)))

    assert log.types[-1] == "run.completed"


@pytest.mark.rows("A1")
async def test_writes_are_seen_only_after_the_barrier() -> None:
    meeting = Meeting(2)
    seen: dict[str, int] = {}

    def writer(name: str) -> Any:
        async def node(view: View) -> Command:
            seen[name] = view[TOTAL]
            command = set_(TOTAL, 5)
            await meeting.arrive(name)
            seen[f"{name}, later"] = view[TOTAL]
            return command

        return node

    async def end(view: View) -> None:
        seen["end"] = view[TOTAL]

    nodes = {"a": writer("a"), "b": writer("b"), "end": end}
    log = await run(fan("a", "b", nodes=nodes, keys=(TOTAL,)), asked({"total": 1}))

    assert seen == {"a": 1, "b": 1, "a, later": 1, "b, later": 1, "end": 11}
    assert final_state(log) == {"total": 11}


@pytest.mark.rows("A6", "CX7")
@pytest.mark.parametrize("order", list(permutations("abc")))
async def test_every_order_of_completion_gives_the_same_state(order: tuple[str, ...]) -> None:
    gates = {name: asyncio.Event() for name in "abc"}
    log = Log()

    def node(name: str) -> Any:
        async def work(view: View) -> Mapping[str, Any]:
            await gates[name].wait()
            return {"items": [name, name.upper()], "total": ord(name)}

        return work

    graph = fan("a", "b", "c", nodes={n: node(n) for n in "abc"}, keys=(ITEMS, TOTAL))
    task = asyncio.create_task(graph.execute(asked(), log.emit))
    await log.until(NodeStarted, 4)
    for place, name in enumerate(order):
        gates[name].set()
        await log.until(NodeCompleted, place + 2)
    async with asyncio.timeout(PATIENCE):
        await task

    assert [name for name in committed(log) if name in gates] == list(order)
    assert final_state(log) == {"items": ["a", "A", "b", "B", "c", "C"], "total": 294}
    assert committed(log)["b"] == {"items": ["b", "B"], "total": 98}


@pytest.mark.rows("A6", "CX7")
@given(st.data())
def test_merging_does_not_depend_on_who_was_done_first(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
    writes: dict[str, dict[Key[Any], Any]] = {
        name: {
            ITEMS: tuple(data.draw(st.lists(st.text(max_size=2), max_size=3))),
            TOTAL: data.draw(st.integers(-9, 9)),
        }
        for name in names
    }
    done = data.draw(st.permutations(names))

    finished = {name: writes[name] for name in done}  # in the order of completion
    state = merged({"total": 1}, [(name, finished[name]) for name in names])

    assert state["items"] == tuple(item for name in names for item in writes[name][ITEMS])
    assert state["total"] == 1 + sum(writes[name][TOTAL] for name in names)


@pytest.mark.rows("CX7")
async def test_two_nodes_that_set_one_key_are_in_conflict() -> None:
    async def write(view: View) -> Command:
        return set_(COUNT, 1)

    graph = fan("a", "b", nodes={"a": write, "b": write}, keys=(COUNT,))

    error = await failure(graph.run())

    assert isinstance(error, ConflictingWrites)
    assert (error.key, error.nodes) == ("count", ("a", "b"))
    assert "'count' was set by 'a' and 'b'" in str(error)
    log = await run(graph)
    assert log.types[-1] == "run.failed"


async def test_a_reducer_that_fails_names_its_key() -> None:
    def broken(old: int, new: int) -> int:
        raise ZeroDivisionError

    key = Key("broken", 0, reducer=broken)

    async def write(view: View) -> Command:
        return set_(key, 1)

    error = await failure(Graph(key).node("a", write, END).start("a").build().run())

    assert isinstance(error, UpdateInvalid)
    assert error.key == "broken"


@pytest.mark.rows("A8")
async def test_going_to_a_node_that_was_not_declared_fails_with_both_names() -> None:
    async def stray(view: View) -> Command:
        return Command().to("secret")

    graph = Graph(COUNT).node("process", stray, END, "other").node("other", nothing, END)

    error = await failure(graph.start("process").build().run())

    assert isinstance(error, NodeError)
    assert isinstance(error.__cause__, RouteInvalid)
    assert "'process' went to 'secret'; its declared targets are: '__end__', 'other'" in str(error)


@pytest.mark.rows("A27", "A8", "CX7")
async def test_a_command_chooses_among_the_declared_targets() -> None:
    async def route(view: View) -> Command:
        return set_(COUNT, 1).to("process", END)

    graph = Graph(COUNT).node("fetch", route, "process", "skip", END)
    graph.node("process", nothing, END).node("skip", nothing, END).start("fetch")

    log = await run(graph.build())

    assert list(committed(log)) == ["fetch", "process"]
    assert [(e.source, e.target) for e in log.of(EdgeTaken)] == [("fetch", "process")]


@pytest.mark.rows("CX7")
async def test_without_a_choice_all_declared_targets_are_taken_and_met_once() -> None:
    graph = fan("a", "b", nodes={"a": nothing, "b": nothing}, keys=(COUNT,))

    log = await run(graph)

    assert [step.nodes for step in log.of(SuperstepStarted)] == [("start",), ("a", "b"), ("end",)]
    assert [(e.source, e.target) for e in log.of(EdgeTaken)] == [
        ("start", "a"),
        ("start", "b"),
        ("a", "end"),
        ("b", "end"),
    ]


@pytest.mark.rows("CX7")
async def test_a_branch_chooses_by_the_state_with_the_writes_of_its_node() -> None:
    async def count(view: View) -> Command:
        return set_(COUNT, view[COUNT] + 1)

    graph = Graph(COUNT).node("count", count).node("done", nothing, END)
    graph.branch("count", lambda view: "count" if view[COUNT] < 3 else ["done"], "count", "done")

    log = await run(graph.start("count").build())

    assert final_state(log) == {"count": 3}
    assert [step.nodes for step in log.of(SuperstepStarted)] == [("count",)] * 3 + [("done",)]


async def test_a_branch_that_goes_astray_is_told_by_name() -> None:
    graph = Graph(COUNT).node("count", nothing).branch("count", lambda view: "nowhere", END)

    error = await failure(graph.start("count").build().run())

    assert isinstance(error.__cause__, RouteInvalid)


@pytest.mark.rows("AX6")
async def test_a_graph_that_goes_round_and_round_is_ended() -> None:
    graph = Graph(COUNT).node("a", nothing, "a", END).start("a").build(max_steps=4)

    error = await failure(graph.run())

    assert isinstance(error, StepLimitExceeded)
    assert str(error) == "the run was not done after 4 supersteps"
    log = await run(graph)
    assert len(log.of(SuperstepCompleted)) == 4


async def test_many_quick_nodes_write_in_the_order_of_their_declaration() -> None:
    def quick(name: str) -> Any:
        async def node(view: View) -> Mapping[str, Any]:
            return {"items": [name]}

        return node

    names = [f"n{place}" for place in range(50)]
    graph = Graph(ITEMS)
    for name in names:
        graph.node(name, quick(name), END)

    results = await all_results(graph.start(*reversed(names)).build().run())

    assert results[-1].output == names
    assert sorted(r.node for r in results[:-1]) == sorted(names)


@pytest.mark.rows("C36")
async def test_the_order_of_events_is_that_of_the_graph() -> None:
    graph = Graph(COUNT, name="g").node("a", nothing, "b").node("b", nothing, END).start("a")

    log = await run(graph.build())

    assert log.types == [
        "run.started",
        "superstep.started",
        "node.started",
        "node.completed",
        "superstep.completed",
        "edge.taken",
        "superstep.started",
        "node.started",
        "node.completed",
        "superstep.completed",
        "run.completed",
    ]
