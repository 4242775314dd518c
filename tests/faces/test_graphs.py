"""Graphs behind the same faces as agents."""

from __future__ import annotations

import asyncio

import pytest

from runtime import Agent, Decision, Message, ScriptedModel, ToolCall, tool
from runtime.agent import runnable_tool
from runtime.cancel import CancelToken
from runtime.errors import NodeError, RunAborted
from runtime.events import MessageDelta
from runtime.graph import END, CompiledGraph, Graph, Key, ListKey, MessageGraph, NodeContext, View
from runtime.models.scripted import call_tools, say
from runtime.registry import ServedAgent
from runtime.session import create_session
from runtime.streaming import resume, run, stream
from tests.faces.support import Gated, check_events, gather_into
from tests.runtime.support import PATIENCE

APPROVED = Decision("approved")
DRAFT = Key("draft", "")
TEXT = Key("text", "")
COUNT = Key("count", 0)
NOTES = ListKey[str]("notes")


def two_agents() -> CompiledGraph:
    """A planner and a writer, one after the other."""
    planner = Agent("planner", ScriptedModel([say("A plan.")] * 3))
    writer = Agent("writer", ScriptedModel([say("The text.")] * 3))
    return (
        MessageGraph(name="essay")
        .node("plan", planner, "write")
        .node("write", writer, END)
        .start("plan")
        .build()
    )


@pytest.mark.rows("S12", "S42")
async def test_the_agents_in_its_nodes_speak_for_the_graph() -> None:
    handle = stream(two_agents(), "An essay.")
    said = [event.text async for event in handle.stream if isinstance(event, MessageDelta)]
    assert "".join(said) == "A plan.The text."
    result = await handle.result
    assert [m.content for m in result.messages] == ["An essay.", "A plan.", "The text."]
    assert result.last_agent.name in {"writer", "essay"}
    assert result.usage.total_tokens > 0
    assert result.interrupted == ()


async def test_all_its_events_end_with_the_end_and_leave_nothing_open() -> None:
    events = [event async for event in stream(two_agents(), "An essay.").events]
    check_events(events)
    assert {"superstep.started", "node.completed", "edge.taken"} <= {e.type for e in events}


async def test_it_answers_a_session_and_a_chat() -> None:
    session = create_session(two_agents())
    first = await session.prompt("One.")
    await session.prompt("Two.")
    assert [m.content for m in session.messages if m.role == "user"] == ["One.", "Two."]
    assert first.messages[0].content == "One."
    assert await ServedAgent(two_agents()).chat("An essay.") == "A plan.The text."


@pytest.mark.rows("S40", "X1")
async def test_an_abort_in_a_node_is_an_abort_of_the_run() -> None:
    place, token = Gated(), CancelToken()

    async def work(context: NodeContext, view: View) -> None:
        await place.stay()

    graph = Graph(DRAFT, name="g").node("work", work, END).start("work").build()
    handle = stream(graph, "hi", cancel=token)
    events: list[object] = []
    reading = asyncio.create_task(gather_into(events, handle.events))
    async with asyncio.timeout(PATIENCE):
        await place.reached.wait()
        token.abort("enough")
        with pytest.raises(RunAborted, match="enough"):
            await reading
    assert place.left.is_set()
    check_events(events)  # type: ignore[arg-type]  # they are events
    with pytest.raises(RunAborted):
        await handle.result


async def test_a_failing_node_is_told_with_its_cause() -> None:
    error = LookupError("no page")

    async def fail(view: View) -> None:
        raise error

    graph = Graph(DRAFT, name="g").node("fetch", fail, END).start("fetch").build()
    handle = stream(graph, "hi")
    with pytest.raises(NodeError, match="fetch") as raised:
        await handle.drain()
    assert raised.value.__cause__ is error


async def test_a_node_that_asks_a_human_goes_on_with_the_answer_and_nothing_is_done_twice() -> None:
    ran: list[str] = []

    async def draft(view: View) -> dict[str, str]:
        ran.append("draft")
        return {"draft": "v1"}

    async def publish(context: NodeContext, view: View) -> dict[str, str]:
        decision = await context.interrupt("publish?", {"draft": view.get(DRAFT)})
        ran.append(f"publish {decision.kind}")
        return {"text": view.get(DRAFT) + "!"}

    graph = (
        Graph(TEXT, DRAFT, name="g")
        .node("draft", draft, "publish")
        .node("publish", publish, END)
        .start("draft")
        .build()
    )
    handle = stream(graph, "hi")
    first = await handle.drain()
    (asked,) = first.interrupted
    assert (asked.node, asked.reason, asked.arguments) == ("publish", "publish?", '{"draft":"v1"}')
    more = resume(first, {asked.approval_id: APPROVED})
    check_events([event async for event in more.events])
    assert (await more.result).output == "v1!"
    assert ran == ["draft", "publish approved"]


async def test_a_graph_goes_on_from_the_conversation_that_it_began_with() -> None:
    async def ask(context: NodeContext, view: View) -> None:
        await context.interrupt("go on?")

    planner = Agent("planner", ScriptedModel([say("A plan.")]))
    graph = (
        MessageGraph(name="g")
        .node("plan", planner, "ask")
        .node("ask", ask, END)
        .start("plan")
        .build()
    )
    before = [Message(role="user", content="a"), Message(role="assistant", content="b")]
    first = await run(graph, "c", history=before)
    result = await resume(first, {first.interrupted[0].approval_id: APPROVED}).drain()
    assert [m["content"] for m in result.final_output] == ["a", "b", "c", "A plan."]


class Mailer:
    """An agent that sends a mail when a human agrees, once each time that it is asked."""

    def __init__(self, times: int) -> None:
        self.sent = 0

        @tool(needs_approval=True)
        async def send() -> str:
            """Send a mail."""
            self.sent += 1
            return f"sent {self.sent}"

        call = ToolCall(id="c1", name="send", arguments="{}")
        self.model = ScriptedModel([call_tools(call), say("Done.")] * times)
        self.agent = Agent("mailer", self.model, tools=[send])


async def test_an_agent_in_a_node_that_waits_for_a_human_goes_on_where_it_was() -> None:
    mailer = Mailer(1)
    graph = MessageGraph(name="g").node("mail", mailer.agent, END).start("mail").build()
    first = await run(graph, "Send it.")
    (asked,) = first.interrupted
    assert asked.path == ("g", "mail", "mailer")
    result = await resume(first, {asked.approval_id: APPROVED}).drain()
    assert result.output
    assert mailer.sent == 1
    assert len(mailer.model.requests) == 2
    assert [m.role for m in result.messages] == ["user", "assistant", "tool", "assistant"]


async def test_a_node_that_is_visited_again_waits_and_goes_on_each_time() -> None:
    """What it did in its first visit is not taken for what it has to do in the second."""
    mailer = Mailer(3)

    async def count(view: View) -> dict[str, int]:
        return {"count": view.get(COUNT) + 1}

    graph = (
        MessageGraph(COUNT, name="g")
        .node("mail", mailer.agent, "count")
        .node("count", count)
        .branch("count", lambda view: "mail" if view.get(COUNT) < 3 else END, "mail", END)
        .start("mail")
    )
    result = await run(graph.build(), "Send three.")
    for _ in range(3):
        (asked,) = result.interrupted
        result = await resume(result, {asked.approval_id: APPROVED}).drain()
    assert result.interrupted == ()
    assert mailer.sent == 3
    assert len(mailer.model.requests) == 6
    assert [m.content for m in result.messages if m.role == "tool"] == [
        "sent 1",
        "sent 2",
        "sent 3",
    ]


async def test_two_nodes_that_wait_side_by_side_are_answered_one_after_the_other() -> None:
    asked_by: list[str] = []

    def asking(name: str) -> object:
        async def node(context: NodeContext, view: View) -> dict[str, list[str]]:
            decision = await context.interrupt(f"{name}?")
            asked_by.append(name)
            return {"notes": [f"{name} {decision.kind}"]}

        return node

    graph = (
        Graph(NOTES, name="g")
        .node("a", asking("a"), END)  # type: ignore[arg-type]  # a node function
        .node("b", asking("b"), END)  # type: ignore[arg-type]  # a node function
        .start("a", "b")
        .build()
    )
    first = await run(graph, "hi")
    assert {asked.node for asked in first.interrupted} == {"a", "b"}
    one, two = first.interrupted
    second = await resume(first, {two.approval_id: APPROVED}).drain()
    assert [asked.node for asked in second.interrupted] == [one.node]
    third = await resume(second, {second.interrupted[0].approval_id: Decision("rejected")}).drain()
    assert third.interrupted == ()
    assert sorted(asked_by) == ["a", "b"]
    assert third.final_output == ["a rejected", "b approved"]


async def test_a_graph_as_a_tool_pauses_and_goes_on_with_its_agent() -> None:

    mailer = Mailer(1)
    graph = MessageGraph(name="mailing").node("mail", mailer.agent, END).start("mail").build()
    call = ToolCall(id="m1", name="mailing", arguments='{"input": "Send it."}')
    boss = Agent(
        "boss", ScriptedModel([call_tools(call), say("It is sent.")]), tools=[runnable_tool(graph)]
    )
    first = await run(boss, "Have it sent.")
    (asked,) = first.interrupted
    assert asked.path == ("boss", "m1:mailing", "mail", "mailer")
    result = await resume(first, {asked.approval_id: APPROVED}).drain()
    assert result.output == "It is sent."
    assert mailer.sent == 1
