"""Graphs and agents as nodes of a graph."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from runtime import Agent, ScriptedModel, ToolCall, tool
from runtime.errors import NodeError
from runtime.events import (
    AgentCompleted,
    AgentStarted,
    ApprovalRequested,
    Event,
    MessageCompleted,
    ModelCompleted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunCompleted,
    RunInterrupted,
    SuperstepStarted,
    ToolCompleted,
    ToolStarted,
)
from runtime.graph import (
    END,
    Command,
    CompiledGraph,
    Graph,
    Key,
    ListKey,
    MessageGraph,
    NodeContext,
    View,
)
from runtime.messages import Message
from runtime.models import call_tools, say
from runtime.nested import run_below
from runtime.retry import RetryPolicy
from runtime.runnable import Decision
from runtime.scope import emit, write
from tests.graph.graphs import (
    all_results,
    asked,
    failed,
    failure,
    final_state,
    going_on,
    run,
)
from tests.graph.test_resume import until

COUNT = Key("count", 0)
TEXT = Key("text", "")
TOTAL = Key("total", 0, reducer=operator.add)
ITEMS: ListKey[str] = ListKey("items", str)
APPROVED = Decision("approved")


async def nothing(view: View) -> None:
    """A node that does nothing."""


def inner(effects: list[str], **settings: Any) -> CompiledGraph:
    """Return a graph of two nodes; the second one counts."""

    async def first(view: View) -> Mapping[str, Any]:
        effects.append("first")
        write({"inside": True})
        return {"items": [f"inner {view[COUNT]}"]}

    async def second(view: View) -> Mapping[str, Any]:
        effects.append("second")
        return {"count": view[COUNT] + 1, "total": 3}

    graph = Graph(COUNT, ITEMS, TOTAL, name="inner").node("first", first, "second")
    return graph.node("second", second, END, **settings).start("first").build()


def outer(sub: CompiledGraph, *keys: Key[Any], **settings: Any) -> CompiledGraph:
    """Return a graph with a subgraph in the middle."""

    async def end(view: View) -> Mapping[str, Any]:
        return {"items": ["end"]}

    graph = Graph(*(keys or (COUNT, ITEMS, TOTAL)), name="outer").node("begin", nothing, "sub")
    return graph.node("sub", sub, "end", **settings).node("end", end, END).start("begin").build()


@pytest.mark.rows("CX7")
async def test_keys_of_the_same_name_go_in_and_out() -> None:
    log = await run(outer(inner([])), asked({"count": 4, "items": ["x"], "total": 10}))

    assert final_state(log) == {"count": 5, "items": ["x", "inner 4", "end"], "total": 13}
    (sub,) = [e for e in log.of(NodeCompleted) if e.node == "sub"]
    assert sub.updates == {"count": 5, "items": ["inner 4"], "total": 3}


@pytest.mark.rows("CX7")
async def test_functions_may_say_what_goes_in_and_out() -> None:
    def enter(view: View) -> Mapping[Any, Any]:
        return {COUNT: 100}

    def leave(view: View) -> Mapping[Any, Any]:
        return {"text": f"{view[COUNT]} {view[ITEMS]}"}

    graph = outer(inner([]), ITEMS, TEXT, enter=enter, leave=leave)

    assert final_state(await run(graph)) == {"text": "101 ['inner 100']", "items": ["end"]}


async def test_what_a_subgraph_did_not_change_is_not_written() -> None:
    quiet = Graph(COUNT, name="quiet").node("a", nothing, END).start("a").build()
    graph = Graph(COUNT).node("one", quiet, END).node("two", quiet, END).start("one", "two").build()

    log = await run(graph, asked({"count": 2}))

    assert [event.updates for event in log.of(NodeCompleted) if len(event.path) == 1] == [None] * 2


async def test_events_of_a_subgraph_have_a_path_of_their_own_and_no_end() -> None:
    log = await run(outer(inner([])))

    paths = {e.node: e.path for e in log.of(NodeStarted)}
    assert paths == {
        "begin": ("outer",),
        "sub": ("outer",),
        "first": ("outer", "sub", "inner"),
        "second": ("outer", "sub", "inner"),
        "end": ("outer",),
    }
    assert [e.index for e in log.of(SuperstepStarted) if len(e.path) == 3] == [1, 2]
    assert len(log.of(RunCompleted)) == 1
    results = await all_results(outer(inner([])).run())
    assert [(r.node, r.partial) for r in results] == [
        ("begin", False),
        ("sub/first", True),
        ("sub", False),
        ("end", False),
        ("end", False),
    ]


@pytest.mark.rows("A48", "AX7")
async def test_a_failure_deep_inside_names_the_way_to_its_node() -> None:
    problem = KeyError("x")

    async def broken(view: View) -> None:
        raise problem

    deepest = Graph(COUNT, name="deepest").node("broken", broken, END).start("broken").build()
    middle = Graph(COUNT, name="middle").node("deep", deepest, END).start("deep").build()
    graph = outer(middle)

    error = await failure(graph.run())
    log = await run(graph)

    assert isinstance(error, NodeError)
    assert error.node == "sub/deep/broken"
    assert error.__cause__ is problem
    assert str(error) == "node 'sub/deep/broken' failed: KeyError"
    assert failed(log).error.node == "sub/deep/broken"
    assert [(e.node, len(e.path)) for e in log.of(NodeFailed)] == [
        ("broken", 5),
        ("deep", 3),
        ("sub", 1),
    ]


@pytest.mark.rows("W-C5", "W-A5")
async def test_an_interrupt_inside_a_subgraph_goes_on_inside_it() -> None:
    effects: list[str] = []
    graph = outer(inner(effects, interrupt_before="go on?"))

    first = await run(graph)
    question = first.one(ApprovalRequested)
    assert question.path == ("outer", "sub", "inner")
    assert first.one(RunInterrupted).pending == (question.approval_id,)
    assert (first.one(RunInterrupted).node, first.one(RunInterrupted).reason) == ("sub", "go on?")
    assert effects == ["first"]

    request = going_on(asked(), first.events, {question.approval_id: APPROVED})
    second = await run(graph, request)

    assert effects == ["first", "second"]
    assert final_state(second) == {"count": 1, "items": ["inner 0", "end"], "total": 3}


@pytest.mark.rows("W-C6")
async def test_a_crash_inside_a_subgraph_goes_on_inside_it() -> None:
    state = final_state(await run(outer(inner([]))))
    length = len((await run(outer(inner([])))).events)

    for cut in range(length):
        effects: list[str] = []
        graph = outer(inner(effects))
        events = await until(graph, asked(), cut)
        done = [e.node for e in events if isinstance(e, NodeCompleted)]
        effects.clear()

        log = await run(graph, going_on(asked(), events))

        assert final_state(log) == state
        expected = [n for n in ("first", "second") if n not in done and "sub" not in done]
        assert effects == expected


@pytest.mark.rows("W-C6")
async def test_a_subgraph_that_is_visited_again_begins_anew() -> None:
    effects: list[str] = []

    async def again(view: View) -> Command:
        return Command().to("sub" if view[COUNT] < 3 else END)

    graph = Graph(COUNT, ITEMS, TOTAL, name="loop").node("sub", inner(effects), "again")
    compiled = graph.node("again", again, "sub", END).start("sub").build()
    whole = await run(compiled)
    assert effects == ["first", "second"] * 3

    for cut in range(0, len(whole.events), 2):
        events = await until(compiled, asked(), cut)
        effects.clear()
        log = await run(compiled, going_on(asked(), events))
        assert final_state(log) == final_state(whole)
        done = sum(isinstance(e, NodeCompleted) and e.node in {"first", "second"} for e in events)
        assert len(effects) == 6 - done


@pytest.mark.rows("W-C6", "AX6")
async def test_a_subgraph_that_is_tried_again_begins_anew_also_after_a_crash() -> None:
    failures = [True]

    async def first(view: View) -> Mapping[str, Any]:
        return {"items": ["first"]}

    async def second(view: View) -> None:
        if failures.pop():
            raise ConnectionError

    sub = Graph(ITEMS, name="inner").node("first", first, "second")
    built = sub.node("second", second, END).start("first").build()
    graph = outer(built, ITEMS, retry=RetryPolicy(on=Exception, roll=lambda: 0.0))

    failures[:] = [False, True]
    whole = await run(graph)
    assert final_state(whole) == {"items": ["first", "end"]}

    failures[:] = [False, True]
    retried = [place for place, e in enumerate(whole.events) if getattr(e, "will_retry", False)]
    events = await until(graph, asked(), retried[-1] + 1)
    failures[:] = [False]
    log = await run(graph, going_on(asked(), events))
    assert final_state(log) == {"items": ["first", "end"]}
    assert [e.node for e in log.of(NodeCompleted)] == ["first", "second", "sub", "end"]


# --- agents ----------------------------------------------------------------------------------------


@pytest.mark.rows("A25", "A24", "C35")
async def test_an_agent_answers_in_a_graph_and_speaks_for_it() -> None:
    model = ScriptedModel([say("Hello there!")])
    graph = Graph(TEXT, COUNT, name="g").node(
        "write", Agent("writer", model=model), END, ask=lambda view: f"{view[COUNT]}?", into=TEXT
    )

    log = await run(graph.start("write").build(), asked({"count": 5}))

    assert final_state(log) == {"count": 5, "text": "Hello there!"}
    (said,) = log.of(MessageCompleted)
    assert (said.path, said.text) == (("g", "write", "writer"), "Hello there!")
    assert model.requests[0].messages[-1].content == "5?"
    end = log.one(RunCompleted)
    assert (end.output, end.num_turns, end.usage.total_tokens) == ("Hello there!", 1, 3)
    assert log.one(NodeStarted).agent == "writer"
    assert (log.one(AgentStarted).step, log.one(AgentCompleted).output) == ("write", "Hello there!")


async def test_an_agent_in_a_conversation_hears_it_and_appends_its_answer() -> None:
    model = ScriptedModel([say("one"), say("two")])
    agent = Agent("writer", model=model)
    graph = MessageGraph(name="chat").node("a", agent, "b").node("b", agent, END).start("a")

    log = await run(graph.build(), asked(history=[Message(role="user", content="hi")]))

    assert [m["content"] for m in final_state(log)["messages"]] == ["hi", "one", "two"]
    assert [m.content for m in model.requests[1].messages] == ["hi", "one"]
    end = log.one(RunCompleted)
    assert (end.output, end.message_count, end.num_turns) == ("two", 3, 2)
    assert [said.text for said in log.of(MessageCompleted)] == ["one", "two"]


class Weather(BaseModel):
    """A model of the tests."""

    city: str


async def test_an_answer_goes_into_any_key_that_takes_it() -> None:
    async def answer(into: Key[Any]) -> Any:
        agent = Agent("writer", model=ScriptedModel([say("Paris")]))
        graph = Graph(into).node("a", agent, END, ask=lambda view: "?", into=into).start("a")
        return (await all_results(graph.build().run()))[-1].output

    assert await answer(TEXT) == "Paris"
    assert await answer(ITEMS) == ["Paris"]
    assert await answer(ListKey("said", Message)) == [Message(role="assistant", content="Paris")]


@pytest.mark.rows("W-C6")
async def test_model_calls_of_an_agent_are_not_repeated_after_a_crash() -> None:
    calls: list[str] = []

    @tool
    async def look(city: str) -> str:
        """Look up a city."""
        calls.append(city)
        emit("looked", {"city": city})
        return "sunny"

    def graph() -> tuple[CompiledGraph, ScriptedModel]:
        script = [call_tools(ToolCall(id="c1", name="look", arguments='{"city": "Paris"}'))]
        model = ScriptedModel(
            lambda request: (
                script[0] if request.messages[-1].role == "user" else say("It is sunny.")
            )
        )
        agent = Agent("writer", model=model, tools=[look])
        built = Graph(TEXT, name="g").node("a", agent, "b", ask=lambda view: "?", into=TEXT)
        return built.node("b", nothing, END).start("a").build(), model

    compiled, _ = graph()
    whole = await run(compiled)

    for cut in range(len(whole.events)):
        compiled, model = graph()
        events = await until(compiled, asked(), cut)
        made = sum(isinstance(e, ModelCompleted) for e in events)
        done = any(isinstance(e, ToolCompleted) for e in events)
        calls.clear()
        model.requests.clear()

        log = await run(compiled, going_on(asked(), events))

        assert len(model.requests) == 2 - made
        assert final_state(log) == {"text": "It is sunny."}
        assert log.one(RunCompleted).num_turns == 2
        if done or not any(isinstance(e, ToolStarted) for e in events):
            assert log.one(RunCompleted).usage == whole.one(RunCompleted).usage
        assert len(calls) <= (0 if done else 1)


@pytest.mark.rows("W-C5")
async def test_a_tool_of_an_agent_of_a_subgraph_may_ask_a_human() -> None:
    sent: list[str] = []

    @tool(needs_approval=True)
    async def send(text: str) -> str:
        """Send a text."""
        sent.append(text)
        return "sent"

    script = [call_tools(ToolCall(id="c1", name="send", arguments='{"text": "hi"}')), say("Done.")]
    model = ScriptedModel(script)
    agent = Agent("writer", model=model, tools=[send])
    sub = Graph(TEXT, name="inner").node("a", agent, END, ask=lambda view: "?", into=TEXT)
    graph = outer(sub.start("a").build(), TEXT, ITEMS)

    first = await run(graph)
    question = first.one(ApprovalRequested)
    assert question.path == ("outer", "sub", "inner", "a", "writer")
    assert sent == []

    decisions = {question.call_id or "": APPROVED, question.approval_id: APPROVED}
    second = await run(graph, going_on(asked(), first.events, decisions))

    assert sent == ["hi"]
    assert len(model.requests) == 2
    assert final_state(second)["text"] == "Done."


async def test_a_node_may_run_agents_itself() -> None:
    async def both(context: NodeContext, view: View) -> Mapping[str, Any]:
        agents = [Agent(name, model=ScriptedModel([say(name.upper())])) for name in ("a", "b")]
        question = (Message(role="user", content="?"),)
        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(run_below(a, question, context.scope)) for a in agents]
        return {"items": [end.result().output for end in ends]}

    log = await run(Graph(ITEMS, name="g").node("both", both, END).start("both").build())

    assert final_state(log) == {"items": ["A", "B"]}
    assert {e.path for e in log.of(MessageCompleted)} == {("g", "both", "a"), ("g", "both", "b")}


async def test_only_the_root_says_its_output_when_nobody_has() -> None:
    async def answer(view: View) -> Mapping[str, str]:
        return {"text": "forty-two"}

    sub = Graph(TEXT, name="inner").node("a", answer, END).start("a").build()
    log = await run(outer(sub, TEXT, ITEMS))

    said: list[Event] = [e for e in log.events if e.type.startswith("message.")]
    assert [(e.type, e.path) for e in said] == [
        ("message.started", ("outer",)),
        ("message.delta", ("outer",)),
        ("message.completed", ("outer",)),
    ]
