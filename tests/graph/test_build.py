"""Building a graph: everything that is wrong is told at once."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from runtime import Agent, ScriptedModel
from runtime.errors import GraphBuildError
from runtime.graph import END, Graph, Key, ListKey, MessageGraph, NodeContext, View
from runtime.models import say
from tests.graph.graphs import Meeting, all_results, asked, committed, final_state, run

COUNT = Key("count", 0)
TEXT = Key("text", "")


async def nothing(view: View) -> None:
    """A node that does nothing."""


def problems(graph: Graph, **settings: Any) -> list[str]:
    with pytest.raises(GraphBuildError) as refused:
        graph.build(**settings)
    return list(refused.value.problems)


@pytest.mark.rows("A12", "A7")
def test_all_that_is_wrong_is_told_at_once() -> None:
    graph = Graph(COUNT, Key("count", 1), name="wrong")
    graph.node("a", nothing, "b", "nowhere")
    graph.node("a", nothing, END)
    graph.node("b", nothing)
    graph.node("c", lambda: None, END)
    graph.node("d", 7, END)  # type: ignore[arg-type]  # that is the point
    graph.node("x:y", nothing, END, timeout=-1)
    graph.branch("ghost", lambda view: END, END)
    graph.start("e")

    assert problems(graph, max_steps=0, output=TEXT) == [
        "key 'count' is declared twice",
        "node 'a' is declared twice",
        "there is a branch of 'ghost', which is no node",
        "the output 'text' is no key of the graph",
        "max_steps and timeout must be positive",
        "node 'c': its function takes a context and a view, or only a view",
        "node 'd': 7 is no function, agent or built graph",
        "node 'a' goes to 'nowhere', which is no node",
        "node 'b' has no target; the last one goes to END",
        "'x:y' is no name for a node: it may not be empty or hold ':' or '/'",
        "node 'x:y': its timeout must be positive",
        "the start 'e' is no node",
    ]


@pytest.mark.rows("A12")
def test_a_graph_needs_a_start_and_nodes_that_can_be_reached() -> None:
    unreachable = Graph(COUNT).node("a", nothing, END).node("b", nothing, END).start("a")
    endless = Graph(COUNT).node("a", nothing, "b").node("b", nothing, "a").start("a")

    assert problems(Graph(COUNT).node("a", nothing, END)) == [
        "there is no start: name the first node with start()"
    ]
    assert problems(unreachable) == ["node 'b' cannot be reached"]
    assert problems(endless) == ["END cannot be reached: the graph would never be done"]
    assert problems(Graph().node("a", nothing, END).start("a")) == [
        "there is no key: declare what the graph keeps"
    ]


def test_an_agent_needs_to_know_what_to_ask_and_where_to_put_the_answer() -> None:
    agent = Agent("writer", model=ScriptedModel([say("hi")]))

    assert problems(Graph(COUNT).node("a", agent, END).start("a")) == [
        "node 'a': an agent needs ask=, or the key MESSAGES",
        "node 'a': an agent needs into=, or the key MESSAGES",
    ]
    assert MessageGraph().node("a", agent, END).start("a").build().name == "graph"


def test_two_branches_of_one_node_are_refused() -> None:
    graph = Graph(COUNT).node("a", nothing).start("a")
    graph.branch("a", lambda view: END, END).branch("a", lambda view: END, END)

    assert problems(graph) == ["node 'a' has two branches"]


@pytest.mark.rows("A9")
async def test_nodes_may_be_async_or_sync_functions_methods_or_objects() -> None:
    class Adder:
        async def __call__(self, context: NodeContext, view: View) -> dict[str, Any]:
            return {"seen": [context.node]}

        def method(self, view: View) -> dict[str, Any]:
            return {"seen": ["method"]}

    def later(view: View) -> Any:
        return Adder()(NodeContextStub(), view)  # type: ignore[arg-type]  # has what is needed

    class NodeContextStub:
        node = "later"

    def with_more(context: NodeContext, view: View, more: str) -> dict[str, Any]:
        return {"seen": [more]}

    seen: ListKey[str] = ListKey("seen", str)
    graph = Graph(seen)
    graph.node("object", Adder(), "method")
    graph.node("method", Adder().method, "partial")
    graph.node("partial", partial(with_more, more="partial"), "later")
    graph.node("later", later, END)
    graph.start("object")

    log = await run(graph.build())

    assert final_state(log) == {"seen": ["object", "method", "partial", "later"]}


@pytest.mark.rows("A12")
async def test_a_built_graph_runs_many_times_at_once_without_sharing_anything() -> None:
    meeting = Meeting(2)

    async def add(view: View) -> dict[str, int]:
        await meeting.arrive("add")
        return {"count": view[COUNT] + 1}

    compiled = Graph(COUNT).node("add", add, END).start("add").build()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(all_results(compiled.run({"count": n}))) for n in (1, 10)]

    assert [task.result()[-1].output for task in tasks] == [2, 11]
    assert (await run(compiled, asked({"count": 5}))).types[-1] == "run.completed"


async def test_what_is_added_after_building_does_not_change_what_was_built() -> None:
    graph = Graph(COUNT).node("a", nothing, END).start("a")
    compiled = graph.build()
    graph.node("b", nothing, END).start("b")

    assert list(committed(await run(compiled))) == ["a"]


def test_a_graph_is_drawn() -> None:
    graph = Graph(COUNT, name="drawn")
    graph.node("plan", nothing, "write", interrupt_before=True)
    graph.node("write", nothing)
    graph.branch("write", lambda view: END, "plan", END)

    assert graph.start("plan").build().mermaid() == (
        "flowchart TD\n"
        "    start([start])\n"
        '    n0{{"plan"}}\n'
        '    n1["write"]\n'
        "    finish([end])\n"
        "    start --> n0\n"
        "    n0 --> n1\n"
        "    n1 -.-> n0\n"
        "    n1 -.-> finish\n"
    )


async def test_a_graph_closes_its_agents_and_tells_of_their_tools() -> None:
    model = ScriptedModel([])
    agent = Agent("writer", model=model)
    compiled = MessageGraph(name="chat").node("a", agent, END).start("a").build(description="x")

    await compiled.aclose()

    assert model.closed == 1
    assert (compiled.kind, compiled.description, compiled.tool_infos()) == ("graph", "x", ())
