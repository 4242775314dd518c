"""Tools that clients have: a call of one holds the run until a client says what came of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import ApprovalAlreadyResolved, CommandMalformed
from runtime.agent import Agent
from runtime.events import ApprovalRequested, RunInterrupted
from runtime.graph import END, MessageGraph, View
from runtime.messages import ToolCall
from runtime.models.scripted import ScriptedModel, call_tools, say
from runtime.tools import tool
from tests.sessions.guide import LOOK, PLACE, WHERE, Guide
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk


async def asked_of(at: Desk, **fields: Any) -> dict[str, Any]:
    """Send something, and return the question that the run then waits for."""
    await at.send("where am I?", **({"tools": [PLACE]} | fields))
    asked = await at.until("approval.requested")
    await at.until("run.interrupted")
    return asked


def answer(asked: dict[str, Any], result: Any) -> list[dict[str, Any]]:
    return [{"approval_id": asked["approval_id"], "decision": "answer", "result": result}]


@pytest.mark.rule("approval.client_tool")
async def test_a_call_of_a_clients_tool_is_answered_by_continue_and_the_run_goes_on() -> None:
    guide = Guide(LOOK, WHERE)
    async with desk(MemoryEngine(), guide.agent) as at:
        asked = await asked_of(at)
        assert asked["wants"] == "result"
        assert (asked["call_id"], asked["tool"]) == ("c1", "place")
        assert (asked["arguments"], asked["reason"]) == ('{"exact": true}', "client tool")
        assert guide.looked == 1  # all else of the step is done by then
        (shown,) = (await at.manager.snapshot("s")).approvals
        assert shown.wants == "result"
        interrupted = await at.until("run.interrupted")
        assert interrupted["pending"] == [asked["approval_id"]]

        ack = await at.command("continue", decisions=answer(asked, {"city": "Ulm"}))
        await at.until("run.completed")
        events = await at.events()
        since = [e for e in events if e["seq"] > interrupted["seq"]]
        assert [event["type"] for event in since][:3] == [
            "approval.resolved",
            "run.resumed",
            "tool.completed",
        ]
        resolved, _, completed = since[:3]
        assert (resolved["decision"], resolved["result"]) == ("answered", {"city": "Ulm"})
        assert resolved["cursor"] == ack.cursor
        assert (completed["call_id"], completed["name"]) == ("c1", "place")
        assert completed["result"] == {"city": "Ulm"}
        assert "tool.started" not in [e["type"] for e in events if e.get("call_id") == "c1"]
        assert events[-1]["output"] == 'So: trees, {"city":"Ulm"}.'
        offered = guide.model.requests[0].tools[-1]
        assert (offered.name, offered.description) == ("place", PLACE["description"])
        assert offered.parameters == PLACE["parameters"]
        assert [t.name for t in guide.model.requests[1].tools] == ["look", "place"]


@pytest.mark.parametrize("result", [None, "", "there", 0, [1], {"a": {"b": None}}, False])
async def test_a_result_is_any_json(result: Any) -> None:
    async with desk(MemoryEngine(), Guide().agent) as at:
        asked = await asked_of(at)
        await at.command("continue", decisions=answer(asked, result))
        completed = await at.until("tool.completed")
        assert completed.get("result") == result
        await at.until("run.completed")
        (call,) = (await at.manager.snapshot("s")).messages[1].tool_calls
        assert (call.status, call.result) == ("completed", result)


async def test_a_rejected_call_of_a_clients_tool_failed_and_the_model_is_told_why() -> None:
    guide = Guide()
    async with desk(MemoryEngine(), guide.agent) as at:
        asked = await asked_of(at)
        no = {"approval_id": asked["approval_id"], "decision": "reject", "message": "no GPS"}
        await at.command("continue", decisions=[no])
        failed = await at.until("tool.failed")
        assert failed["error"]["message"] == "no GPS"
        assert (await at.until("run.completed"))["output"] == "So: error: no GPS."


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        ({"decision": "approve"}, "decide `answer` with a `result`, or `reject`"),
        ({"decision": "edit", "arguments": "{}"}, "decide `answer` with a `result`, or `reject`"),
    ],
)
async def test_what_wants_a_result_takes_no_consent(decision: dict[str, Any], text: str) -> None:
    async with desk(MemoryEngine(), Guide().agent) as at:
        asked = await asked_of(at)
        with pytest.raises(CommandMalformed, match=text):
            await at.command(
                "continue", decisions=[{"approval_id": asked["approval_id"], **decision}]
            )
        assert (await at.manager.snapshot("s")).status == "interrupted"
        await at.command("continue", decisions=answer(asked, "x"))
        await at.until("run.completed")


async def test_what_wants_consent_takes_no_result() -> None:
    @tool(needs_approval=True)
    async def place() -> str:
        return "here"

    model = ScriptedModel([call_tools(WHERE.model_copy(update={"arguments": "{}"}))])
    agent = Agent("a", model, tools=(place,))
    async with desk(MemoryEngine(), agent) as at:
        asked = await asked_of(at, tools=[])
        with pytest.raises(CommandMalformed, match="waits for a decision, not for a result"):
            await at.command("continue", decisions=answer(asked, "x"))


@pytest.mark.rule("approval.shared")
async def test_of_two_clients_that_answer_the_first_wins() -> None:
    async with desk(MemoryEngine(), Guide().agent) as at:
        asked = await asked_of(at)
        first = await at.command("continue", decisions=answer(asked, "one"))
        with pytest.raises(ApprovalAlreadyResolved, match=f"answered by {first.id}"):
            await at.command("continue", decisions=answer(asked, "two"))
        await at.until("run.completed")
        assert [e["result"] for e in await at.events() if e["type"] == "tool.completed"] == ["one"]


@pytest.mark.rule("approval.shared", "approval.client_tool")
async def test_a_call_of_a_clients_tool_survives_a_restart() -> None:
    engine, guide = MemoryEngine(), Guide(LOOK, WHERE)
    async with desk(engine, guide.agent) as at:
        asked = await asked_of(at, instructions="Be brief.")
    async with desk(engine, guide.agent) as at:
        (shown,) = (await at.manager.snapshot("s")).approvals
        assert (shown.approval_id, shown.wants) == (asked["approval_id"], "result")
        await at.command("continue", decisions=answer(asked, "Ulm"))
        assert (await at.until("run.completed"))["output"] == "So: trees, Ulm."
        assert guide.looked == 1
        last = guide.model.requests[-1]
        assert [t.name for t in last.tools] == ["look", "place"]
        assert last.messages[0].content == "Be brief."


async def test_two_calls_are_answered_one_by_one_and_the_run_waits_for_both() -> None:
    other = WHERE.model_copy(update={"id": "c9"})
    async with desk(MemoryEngine(), Guide(WHERE, other).agent) as at:
        first = await asked_of(at)
        second = await at.until("approval.requested", 2)
        await at.command("continue", decisions=answer(second, "2"))
        assert (await at.manager.snapshot("s")).status == "interrupted"
        await at.command("continue", decisions=answer(first, "1"))
        assert (await at.until("run.completed"))["output"] == "So: 1, 2."


async def test_an_answer_that_comes_while_the_run_still_works_is_not_asked_for_again() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def play(part: Part) -> None:
        if len(puppet.played) == 1:
            await part.begin("msg_1")
            await part.finish_step("", WHERE, message_id="msg_1")
            await part.emit(
                ApprovalRequested(
                    run_id=part.run_id,
                    approval_id="apr_1",
                    call_id="c1",
                    tool="place",
                    wants="result",
                )
            )
            asked.set()
            await go_on.wait()
            await part.emit(
                RunInterrupted(run_id=part.run_id, reason="client tool", pending=("apr_1",))
            )
            return
        await part.answer("done", "msg_2")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("go", tools=[PLACE], instructions="Be brief.")
        await asked.wait()
        await at.command("continue", decisions=answer({"approval_id": "apr_1"}, {"n": 1}))
        go_on.set()
        await at.until("run.completed")
        request = puppet.played[1].request
        assert (request.decisions["c1"].kind, request.decisions["c1"].result) == (
            "answered",
            {"n": 1},
        )
        assert [each.name for each in request.tools] == ["place"]
        assert request.instructions == "Be brief."


async def test_a_queued_input_keeps_its_tools_and_instructions() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await gate.wait()
        await part.answer("ok", f"msg_{part.run_id}")

    puppet, engine = Puppet(play), MemoryEngine()
    async with desk(engine, puppet) as at:
        await at.send("one")
        await at.send("two", tools=[PLACE], instructions="Be brief.")
        await at.until("input.queued")
    async with desk(engine, puppet) as at:
        gate.set()
        await at.until("run.completed", 2)
        one, two = (puppet.played[n].request for n in (-2, -1))
        assert (one.tools, one.instructions) == ((), None)
        assert ([each.name for each in two.tools], two.instructions) == (["place"], "Be brief.")


async def test_a_run_that_goes_on_from_a_cancelled_one_has_its_tools_and_asks_again() -> None:
    guide = Guide()
    async with desk(MemoryEngine(), guide.agent) as at:
        asked = await asked_of(at, instructions="Be brief.")
        await at.command("cancel")
        await at.command("continue")
        again = await at.until("approval.requested", 2)
        assert again["approval_id"] != asked["approval_id"]
        assert again["wants"] == "result"
        await at.until("run.interrupted", 2)
        await at.command("continue", decisions=answer(again, "Ulm"))
        assert (await at.until("run.completed"))["output"] == "So: Ulm."
        last = guide.model.requests[-1]
        assert last.messages[0].content == "Be brief."
        assert [each.name for each in last.tools] == ["look", "place"]


async def test_the_next_input_brings_its_own_tools_or_none() -> None:
    guide = Guide()
    async with desk(MemoryEngine(), guide.agent) as at:
        asked = await asked_of(at)
        await at.command("continue", decisions=answer(asked, "Ulm"))
        await at.until("run.completed")
        await at.send("and now?")
        await at.until("run.completed", 2)
        assert [each.name for each in guide.model.requests[-1].tools] == ["look"]


@pytest.mark.parametrize(
    ("tools", "text"),
    [
        ([PLACE, PLACE], "two tools of the client's have the name 'place'"),
        ([PLACE | {"name": "look"}], "agent 'guide' has a tool 'look' of its own"),
        ([PLACE | {"name": "no good"}], "tools.0.name"),
        ([{"description": "x"}], "missing field `name`"),
    ],
)
async def test_tools_that_cannot_be_offered_are_refused(tools: list[Any], text: str) -> None:
    async with desk(MemoryEngine(), Guide().agent) as at:
        with pytest.raises(CommandMalformed, match=text):
            await at.send("hi", tools=tools)
        assert await at.types() == ["session.created"]


async def test_an_agent_that_is_a_node_of_a_graph_may_call_a_clients_tool() -> None:
    guide = Guide()
    graph = MessageGraph(name="tour").node("guide", guide.agent, END).start("guide").build()
    engine = MemoryEngine()
    async with desk(engine, graph) as at:
        asked = await asked_of(at, instructions="Be brief.")
        assert asked["path"] == ["tour", "guide", "guide"]
    async with desk(engine, graph) as at:
        await at.command("continue", decisions=answer(asked, "Ulm"))
        assert (await at.until("run.completed"))["output"] == "So: Ulm."
        assert guide.model.requests[-1].messages[0].content == "Be brief."


async def test_a_node_that_asked_a_client_before_the_server_died_has_asked_once() -> None:
    gate, guide, engine = asyncio.Event(), Guide(), MemoryEngine()

    async def work(view: View) -> None:
        await gate.wait()

    graph = (
        MessageGraph(name="tour")
        .node("guide", guide.agent, END)
        .node("work", work, END)
        .start("guide", "work")
        .build()
    )
    async with desk(engine, graph) as at:
        await at.send("where am I?", tools=[PLACE])
        asked = await at.until("approval.requested")
    async with desk(engine, graph) as at:
        gate.set()
        assert (await at.until("run.interrupted"))["pending"] == [asked["approval_id"]]
        assert [a.approval_id for a in (await at.manager.snapshot("s")).approvals] == [
            asked["approval_id"]
        ]
        await at.command("continue", decisions=answer(asked, "Ulm"))
        assert (await at.until("run.completed"))["output"] == "So: Ulm."
        assert len(guide.model.requests) == 2


async def test_what_a_node_had_asked_of_a_client_takes_no_result_once_its_run_was_cancelled() -> (
    None
):
    graph = MessageGraph(name="tour").node("guide", Guide().agent, END).start("guide").build()
    async with desk(MemoryEngine(), graph) as at:
        call_id = (await asked_of(at))["call_id"]
        await at.command("cancel")
        with pytest.raises(CommandMalformed, match=f"unanswered tool call '{call_id}'"):
            await at.command("send", result={"call_id": call_id, "content": "Ulm"})


async def test_an_agent_that_is_called_as_a_tool_knows_nothing_of_the_client() -> None:
    below = ScriptedModel([say("done")])
    worker = Agent("worker", below, instructions="Work.")
    boss = Agent(
        "boss",
        ScriptedModel(
            [call_tools(ToolCall(id="c", name="worker", arguments='{"input":"x"}')), say("ok")]
        ),
        tools=(worker.as_tool(),),
    )
    async with desk(MemoryEngine(), boss) as at:
        await at.send("hi", tools=[PLACE], instructions="Be brief.")
        await at.until("run.completed")
        (request,) = below.requests
        assert request.tools == ()
        assert request.messages[0].content == "Work."
