"""Runs from a program: lazy results, the last one, all of them, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from runtime.cancel import CancelToken
from runtime.errors import EmptySequenceError, NodeError, RunAborted, RunTimeout
from runtime.events import (
    MessageCompleted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunCompleted,
    RunStarted,
)
from runtime.graph import (
    END,
    Command,
    Graph,
    Key,
    ListKey,
    View,
    collect,
    get,
    get_list,
    last,
    set_,
)
from runtime.messages import Message
from runtime.runnable import RunOptions, RunRequest
from tests.graph.graphs import all_results, asked, final_state, run
from tests.runtime.support import PATIENCE

COUNT = Key("count", 0)
STATUS = Key("status", "")
ITEMS: ListKey[str] = ListKey("items", str)


async def nothing(view: View) -> None:
    """A node that does nothing."""


def two_steps(second: Any = nothing) -> Graph:
    async def first(view: View) -> Command:
        return set_(STATUS, "fetched").append(ITEMS, "a").to("second")

    graph = Graph(STATUS, ITEMS, name="two").node("first", first, "second", END)
    return graph.node("second", second, END).start("first")


@pytest.mark.rows("A3")
async def test_nothing_happens_before_the_first_result_is_asked_for() -> None:
    ran: list[str] = []

    async def work(view: View) -> None:
        ran.append("work")

    stream = Graph(COUNT).node("work", work, END).start("work").build().run()
    await asyncio.sleep(0)
    assert not stream.started
    assert ran == []

    await anext(stream)
    assert ran == ["work"]
    await stream.aclose()


@pytest.mark.rows("A2", "A4")
async def test_a_result_is_there_while_the_next_node_still_works() -> None:
    gate = asyncio.Event()

    async def slow(view: View) -> None:
        await gate.wait()

    stream = two_steps(slow).build().run()
    assert isinstance(stream, AsyncIterator)

    first = await anext(stream)
    assert (first.node, gate.is_set()) == ("first", False)
    gate.set()
    assert [r.node for r in await all_results(stream)] == ["second", "second"]


@pytest.mark.rows("A13", "A14", "A15", "A16", "A17", "AX3")
async def test_each_result_has_its_node_its_writes_and_only_the_last_an_output() -> None:
    async def second(view: View) -> Mapping[str, Any]:
        return {"status": "done"}

    results = await all_results(two_steps(second).build().run())

    assert [(r.node, r.updates, r.output, r.partial) for r in results] == [
        ("first", {"status": "fetched", "items": ["a"]}, None, False),
        ("second", {"status": "done"}, None, False),
        ("second", None, "done", False),
    ]
    assert "node='second', updates=None, output='done'" in repr(results[-1])


@pytest.mark.rows("A15")
async def test_updates_are_values_as_they_are_and_copies() -> None:
    marker = object()
    anything = Key("anything", None)

    async def work(view: View) -> Mapping[str, Any]:
        return {"anything": [marker]}

    results = await all_results(Graph(anything).node("w", work, END).start("w").build().run())
    updates = results[0].updates or {}
    updates["anything"].append("more")

    assert results[-1].output == [marker]


@pytest.mark.rows("A21")
async def test_a_result_has_the_state_of_its_time() -> None:
    async def second(view: View) -> Mapping[str, Any]:
        return {"status": "done", "items": ["b"]}

    results = await all_results(two_steps(second).build().run({"items": ["z"]}))

    assert [get(result, STATUS) for result in results] == ["fetched", "done", "done"]
    assert [get_list(result, ITEMS) for result in results] == [
        ["z", "a"],
        ["z", "a", "b"],
        ["z", "a", "b"],
    ]


@pytest.mark.rows("A22", "A43", "A44")
async def test_the_last_result_and_all_results_come_from_the_same_run() -> None:
    graph = two_steps().build()

    final = await last(graph.run())
    everything = await collect(graph.run())
    each = [result async for result in graph.run()]

    assert final.output == everything[-1].output == each[-1].output == "fetched"
    assert len(everything) == len(each) == 3


@pytest.mark.rows("A22")
async def test_the_last_of_nothing_is_an_error_and_a_failed_run_raises_its_own() -> None:
    async def nobody() -> AsyncIterator[int]:
        for number in range(0):
            yield number

    async def broken(view: View) -> None:
        raise ValueError

    with pytest.raises(EmptySequenceError):
        await last(nobody())
    with pytest.raises(NodeError):
        await last(Graph(COUNT).node("a", broken, END).start("a").build().run())


@pytest.mark.rows("A16")
async def test_the_output_is_the_key_that_was_chosen() -> None:
    graph = two_steps()

    assert (await last(graph.build(output=ITEMS).run())).output == ["a"]
    log = await run(graph.build(output=ITEMS))
    end = log.one(RunCompleted)
    assert (end.output, end.final_output, end.last_node) == ('["a"]', ["a"], "second")
    assert end.state == {"status": "fetched", "items": ["a"]}
    assert (await last(Graph(COUNT).node("a", nothing, END).start("a").build().run())).output == 0


@pytest.mark.rows("A28", "W-A2")
async def test_a_run_that_is_not_done_in_time_raises_exactly_once_every_time() -> None:
    async def slow(view: View) -> None:
        await asyncio.sleep(PATIENCE * 2)

    graph = Graph(COUNT).node("slow", slow, END).start("slow").build()

    for _ in range(200):
        stream = graph.run(timeout=0.001)
        with pytest.raises(RunTimeout) as timed_out:
            await collect(stream)
        assert isinstance(timed_out.value, TimeoutError)
        assert await collect(stream) == []


@pytest.mark.rows("A28")
async def test_a_limit_around_the_loop_and_a_token_end_it_with_other_errors() -> None:
    began = asyncio.Event()

    async def slow(view: View) -> None:
        began.set()
        await asyncio.sleep(PATIENCE * 2)

    graph = Graph(COUNT).node("slow", slow, END).start("slow").build()
    token = CancelToken()

    with pytest.raises(TimeoutError) as outside:
        async with asyncio.timeout(0.02):
            await collect(graph.run())
    assert not isinstance(outside.value, RunTimeout)

    began.clear()
    task = asyncio.create_task(collect(graph.run(cancel=token)))
    await began.wait()
    token.abort("enough")
    with pytest.raises(RunAborted, match="enough"):
        async with asyncio.timeout(PATIENCE):
            await task


async def test_a_graph_has_a_limit_of_its_own() -> None:
    async def slow(view: View) -> None:
        await asyncio.sleep(PATIENCE * 2)

    graph = Graph(COUNT).node("slow", slow, END).start("slow").build(timeout=0.01)

    with pytest.raises(RunTimeout):
        await collect(graph.run(timeout=100))


@pytest.mark.rows("C36")
async def test_a_conversation_becomes_the_first_text_and_the_answer_is_said() -> None:
    query, response = Key("query", ""), Key("response", "")

    async def answer(view: View) -> Mapping[str, str]:
        return {"response": f"You said {view[query]}."}

    graph = Graph(COUNT, query, response).node("answer", answer, END).start("answer")
    compiled = graph.build(output=response)
    history = [
        Message(role="user", content="first"),
        Message(role="assistant", content="yes"),
        Message(role="user", content="hello"),
    ]

    log = await run(compiled, asked(history=history))

    assert final_state(log) == {"query": "hello", "response": "You said hello."}
    assert log.one(MessageCompleted).text == "You said hello."
    assert log.one(MessageCompleted).path == ("graph",)
    assert log.one(RunCompleted).output == "You said hello."
    assert log.one(RunCompleted).message_count == 3
    assert (await last(compiled.run("hello"))).output == "You said hello."
    assert (await last(compiled.run(history[-1]))).output == "You said hello."
    assert (await last(compiled.run({query: "x"}))).output == "You said x."


async def test_what_a_conversation_becomes_can_be_said() -> None:
    def count(history: tuple[Message, ...]) -> Mapping[Any, Any]:
        return {COUNT: len(history)}

    graph = Graph(COUNT).node("a", nothing, END).start("a").build(input=count)

    assert (await last(graph.run([Message(role="user", content="x")] * 3))).output == 3


async def test_first_values_are_checked_and_may_be_plain_json() -> None:
    pairs = Key("pairs", None, type=tuple[int, str])
    graph = Graph(COUNT, pairs).node("a", nothing, END).start("a").build(output=pairs)

    assert (await last(graph.run({"pairs": [1, "a"]}))).output == (1, "a")
    for wrong in ({"count": "3"}, {"other": 1}, {COUNT: None}):
        log = await run(graph, asked(wrong))
        assert log.types == ["run.started", "run.failed"]


async def test_a_run_is_announced_with_its_options_or_not_at_all() -> None:
    graph = Graph(COUNT).node("a", nothing, END).start("a").build()
    request = RunRequest("run_1", (), options=RunOptions(temperature=1), state={})

    log = await run(graph, request)
    assert log.one(RunStarted).options == {"temperature": 1.0}
    assert log.one(RunStarted).graph == "graph"
    quiet = await run(graph, RunRequest("run_1", (), announce=False, state={}))
    assert quiet.types[0] == "superstep.started"


async def test_nodes_show_the_state_before_and_after_if_asked_to() -> None:
    graph = two_steps().build()

    shown = await run(graph.showing_state(), asked({"items": ["z"]}))
    plain = await run(graph, asked({"items": ["z"]}))

    nodes = [e for e in shown.events if e.type in {"node.started", "node.completed"}]
    assert [getattr(e, "state", None) for e in nodes] == [
        {"items": ["z"]},
        {"items": ["z", "a"], "status": "fetched"},
        {"items": ["z", "a"], "status": "fetched"},
        {"items": ["z", "a"], "status": "fetched"},
    ]
    assert all(getattr(e, "state", None) is None for e in plain.events[:-1])


@pytest.mark.rows("L6", "L7", "L13")
async def test_the_steps_of_a_flow_are_told_with_results_and_durations() -> None:
    async def ask(view: View) -> Mapping[str, str]:
        return {"status": "asked"}

    async def both(view: View) -> Mapping[str, Any]:
        return {"status": "done", "items": ["x"]}

    graph = Graph(STATUS, ITEMS).node("ask", ask, "both", kind="flow_step")
    graph.node("both", both, "rest", kind="flow_step")
    graph.node("rest", nothing, END, kind="flow_step").start("ask")

    log = await run(graph.build())
    timeline = [
        (e.type, e.node, e.result if isinstance(e, NodeCompleted) else None)
        for e in log.events
        if isinstance(e, NodeStarted | NodeCompleted | NodeFailed) and e.kind == "flow_step"
    ]

    assert timeline == [
        ("node.started", "ask", None),
        ("node.completed", "ask", "asked"),
        ("node.started", "both", None),
        ("node.completed", "both", {"status": "done", "items": ["x"]}),
        ("node.started", "rest", None),
        ("node.completed", "rest", None),
    ]
    durations = [getattr(e, "duration_ms", None) for e in log.events if "completed" in e.type]
    assert all(d is None or d >= 0 for d in durations)
    assert sum(d is not None for d in durations) == 3
