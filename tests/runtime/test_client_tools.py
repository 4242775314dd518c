"""Tools whose calls the client carries out, and instructions for one run, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from runtime import (
    Agent,
    Event,
    Message,
    ScriptedModel,
    ToolCall,
    create_session,
    stream,
    tool,
)
from runtime.agent import Change, Deny, Hooks, Replace, RunContext, ToolUse
from runtime.errors import ToolsRefused
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    ToolCompleted,
    ToolFailedEvent,
)
from runtime.graph import END, MessageGraph
from runtime.messages import ClientTool
from runtime.models.scripted import call_tools, say
from runtime.runnable import Decision, RunRequest
from tests.runtime.support import Log, going_on, request, run, user

PLACE = ClientTool(
    name="place",
    description="Where the user is.",
    parameters={"type": "object", "$defs": {"x": {}}, "properties": {"exact": {"const": True}}},
)
WHERE = ToolCall(id="c1", name="place", arguments='{"exact":true}')
LOOK = ToolCall(id="c2", name="look", arguments="{}")


@tool
async def look() -> str:
    return "trees"


def asked(text: str | Sequence[Message] = "hi", **more: Any) -> RunRequest:
    return replace(request(text), tools=(PLACE,), **more)


async def answered(
    agent: Agent, first: Log, before: RunRequest, *events: Event, **said: Decision
) -> Log:
    return await run(agent, going_on(before, [*first.events, *events], said))


async def test_a_call_is_asked_about_when_all_else_is_done_and_is_not_started() -> None:
    model = ScriptedModel([call_tools(WHERE, LOOK)])
    log = await run(Agent("a", model, tools=[look]), asked())
    assert log.types[-4:] == [
        "tool.started",
        "tool.completed",
        "approval.requested",
        "run.interrupted",
    ]
    question = log.one(ApprovalRequested)
    assert question.approval_id.startswith("apr_")
    assert (question.call_id, question.tool) == ("c1", "place")
    assert (question.arguments, question.wants) == (WHERE.arguments, "result")
    assert question.reason == "client tool"
    end = log.one(RunInterrupted)
    assert (end.reason, end.pending) == ("client tool", (question.approval_id,))


async def test_the_model_is_offered_the_tool_as_it_was_given_beside_the_agents_own() -> None:
    model = ScriptedModel([say("hello")])
    await run(Agent("a", model, tools=[look]), asked())
    own, given = model.requests[0].tools
    assert own.name == "look"
    assert (given.name, given.description) == (PLACE.name, PLACE.description)
    assert given.parameters == PLACE.parameters


async def test_the_result_is_the_tools_and_the_model_is_told() -> None:
    model = ScriptedModel([call_tools(WHERE), say("So Ulm.")])
    agent, before = Agent("a", model), asked()
    first = await run(agent, before)
    log = await answered(agent, first, before, c1=Decision("answered", result={"city": "Ulm"}))
    assert log.types[:2] == ["tool.completed", "model.started"]
    completed = log.one(ToolCompleted)
    assert (completed.name, completed.result) == ("place", {"city": "Ulm"})
    assert model.requests[-1].messages[-1].content == '{"city":"Ulm"}'
    assert [each.name for each in model.requests[-1].tools] == ["place"]


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        (Decision("rejected", message="no GPS here"), "no GPS here"),
        (Decision("rejected"), "the client did not carry out this call"),
    ],
)
async def test_a_call_that_the_client_rejects_has_failed(decision: Decision, text: str) -> None:
    model = ScriptedModel([call_tools(WHERE), say("oh")])
    agent, before = Agent("a", model), asked()
    log = await answered(agent, await run(agent, before), before, c1=decision)
    failed = log.one(ToolFailedEvent)
    assert (failed.error.code, failed.error.message) == ("rejected", text)
    assert model.requests[-1].messages[-1].content == f"error: {text}"


async def test_a_result_from_a_program_is_written_as_json() -> None:
    agent, before = Agent("a", ScriptedModel([call_tools(WHERE), say("ok")])), asked()
    given = Decision("answered", result={"on": date(2026, 11, 21), "at": ("Ulm",)})
    log = await answered(agent, await run(agent, before), before, c1=given)
    assert log.one(ToolCompleted).result == {"on": "2026-11-21", "at": ["Ulm"]}


@pytest.mark.parametrize("arguments", ["[1]", "{", '"x"'])
async def test_a_call_whose_arguments_are_no_object_never_reaches_the_client(
    arguments: str,
) -> None:
    wrong = WHERE.model_copy(update={"arguments": arguments})
    log = await run(Agent("a", ScriptedModel([call_tools(wrong), say("oh")])), asked())
    assert log.one(ToolFailedEvent).error.code == "tool_arguments_invalid"
    assert log.of(ApprovalRequested) == []


async def test_a_tool_that_nobody_has_is_told_with_all_that_there_are() -> None:
    unknown = WHERE.model_copy(update={"name": "sing"})
    model = ScriptedModel([call_tools(unknown), say("oh")])
    log = await run(Agent("a", model, tools=[look]), asked())
    assert "the tools are: look, place" in log.one(ToolFailedEvent).error.message


async def test_a_result_may_be_the_answer() -> None:
    agent = Agent("a", ScriptedModel([call_tools(WHERE)]), stop_at_tools=("place",))
    before = asked()
    log = await answered(agent, await run(agent, before), before, c1=Decision("answered", result=7))
    assert log.one(RunCompleted).output == "7"


# --- hooks ----------------------------------------------------------------------------------------


async def test_hooks_are_called_around_a_clients_tool_too() -> None:
    used: list[tuple[str, dict[str, Any]]] = []

    async def before_tool(use: ToolUse) -> Change | None:
        used.append((use.name, dict(use.arguments)))
        return Change({"exact": False})

    async def after_tool(use: ToolUse, result: Any) -> Replace:
        used.append((use.name, dict(use.arguments)))
        return Replace(f"<{result}>")

    model = ScriptedModel([call_tools(WHERE), say("oh")])
    agent = Agent("a", model, hooks=Hooks(before_tool=before_tool, after_tool=after_tool))
    before = asked()
    first = await run(agent, before)
    assert first.one(ApprovalRequested).arguments == '{"exact":false}'
    log = await answered(agent, first, before, c1=Decision("answered", result="Ulm"))
    assert log.one(ToolCompleted).result == "<Ulm>"
    assert used == [("place", {"exact": True}), ("place", {"exact": False})]


async def test_a_hook_may_keep_a_call_from_the_client() -> None:
    async def before_tool(use: ToolUse) -> Deny:
        return Deny("not now")

    model = ScriptedModel([call_tools(WHERE), say("oh")])
    log = await run(Agent("a", model, hooks=Hooks(before_tool=before_tool)), asked())
    assert log.one(ToolFailedEvent).error.message == "not now"


async def test_a_hook_that_fails_about_a_result_makes_the_call_fail() -> None:
    async def after_tool(use: ToolUse, result: Any) -> None:
        raise ValueError("secret")

    agent = Agent(
        "a", ScriptedModel([call_tools(WHERE), say("oh")]), hooks=Hooks(after_tool=after_tool)
    )
    before = asked()
    log = await answered(agent, await run(agent, before), before, c1=Decision("answered", result=1))
    assert "secret" not in log.one(ToolFailedEvent).error.message


# --- who is offered them --------------------------------------------------------------------------


async def test_an_agent_that_is_handed_the_conversation_has_the_clients_tools() -> None:
    over = ToolCall(id="c0", name="transfer_to_other", arguments="{}")
    other = Agent("other", ScriptedModel([call_tools(WHERE), say("So Ulm.")]), instructions="O.")
    model = ScriptedModel([call_tools(over)])
    agent = Agent("a", model, handoffs=[other], instructions="A.")
    before = asked(instructions="Be brief.")
    first = await run(agent, before)
    assert first.one(ApprovalRequested).tool == "place"
    log = await answered(agent, first, before, c1=Decision("answered", result="Ulm"))
    assert log.one(RunCompleted).output == "So Ulm."
    assert isinstance(other.model, ScriptedModel)
    (told, *_), _ = (each.messages for each in other.model.requests)
    assert told.content == "O.\n\nBe brief."


async def test_handing_over_waits_for_the_client() -> None:
    over = ToolCall(id="c0", name="transfer_to_other", arguments="{}")
    other = Agent("other", ScriptedModel([say("done")]))
    agent = Agent("a", ScriptedModel([call_tools(over, WHERE)]), handoffs=[other])
    before = asked()
    first = await run(agent, before)
    assert "agent.handoff" not in first.types
    log = await answered(agent, first, before, c1=Decision("answered", result="Ulm"))
    assert log.types[:3] == ["tool.completed", "agent.handoff", "tool.completed"]


async def test_an_agent_below_a_tool_is_offered_none_and_told_nothing() -> None:
    below = ScriptedModel([say("done")])
    worker = Agent("worker", below)
    call = ToolCall(id="c", name="worker", arguments='{"input":"x"}')
    boss = Agent("boss", ScriptedModel([call_tools(call), say("ok")]), tools=[worker.as_tool()])
    await run(boss, asked(instructions="Be brief."))
    (seen,) = below.requests
    assert seen.tools == ()
    assert [message.role for message in seen.messages] == ["user"]


def _agents() -> dict[str, Any]:
    @tool
    async def place() -> str:
        return "here"

    model = ScriptedModel([])
    own = Agent("own", model, tools=[place])
    return {
        "own": own,
        "handed": Agent("a", model, handoffs=[Agent("b", model, handoffs=[own])]),
        "node": MessageGraph(name="g").node("n", own, END).start("n").build(),
    }


@pytest.mark.parametrize("which", ["own", "handed", "node"])
def test_a_name_that_an_agent_of_the_conversation_has_is_refused(which: str) -> None:
    with pytest.raises(ToolsRefused, match="agent 'own' has a tool 'place' of its own"):
        stream(_agents()[which], "hi", tools=[PLACE])


def test_a_name_that_only_an_agent_below_a_tool_has_is_free() -> None:
    boss = Agent("boss", ScriptedModel([]), tools=[_agents()["own"].as_tool()])
    stream(boss, "hi", tools=[PLACE])


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ToolsRefused, match="two tools of the client's have the name 'place'"):
        stream(Agent("a", ScriptedModel([])), "hi", tools=[PLACE, PLACE])


async def test_a_run_of_an_agent_that_has_got_such_a_tool_meanwhile_fails() -> None:
    log = await run(_agents()["own"], asked())
    assert log.one(RunFailed).error.code == "tools_refused"


# --- instructions ---------------------------------------------------------------------------------


async def by_run(context: RunContext) -> str:
    return "Own."


@pytest.mark.parametrize(
    ("own", "more", "told"),
    [
        ("Own.", "More.", ["Own.\n\nMore."]),
        (by_run, "More.", ["Own.\n\nMore."]),
        (None, "More.", ["More."]),
        ("Own.", None, ["Own."]),
        (None, None, []),
    ],
)
async def test_instructions_of_a_run_come_after_the_agents_own(
    own: Any, more: str | None, told: list[str]
) -> None:
    model = ScriptedModel([say("hello")])
    await run(Agent("a", model, instructions=own), replace(request(), instructions=more))
    assert [m.content for m in model.requests[0].messages if m.role == "system"] == told


# --- stream and resume ----------------------------------------------------------------------------


async def test_a_program_answers_its_own_tools_with_resume() -> None:
    model = ScriptedModel([call_tools(WHERE), say("So Ulm.")])
    handle = stream(Agent("a", model), "where am I?", tools=[PLACE], instructions="Be brief.")
    (question,) = (await handle.drain()).interrupted
    assert question.wants == "result"
    given = {question.approval_id: Decision("answered", result=["Ulm"])}
    again = handle.resume(given)
    events = [event async for event in again.events]
    resolved = events[0]
    assert isinstance(resolved, ApprovalResolved)
    assert (resolved.decision, resolved.result) == ("answered", ["Ulm"])
    assert (await again.result).output == "So Ulm."
    assert [m.content for m in model.requests[-1].messages] == [
        "Be brief.",
        "where am I?",
        "",
        '["Ulm"]',
    ]


@pytest.mark.parametrize("decision", [Decision("approved"), Decision("edited", arguments="{}")])
async def test_what_wants_a_result_takes_no_consent_and_waits_on(decision: Decision) -> None:
    handle = stream(Agent("a", ScriptedModel([call_tools(WHERE), say("ok")])), "hi", tools=[PLACE])
    (question,) = (await handle.drain()).interrupted
    with pytest.raises(ValueError, match="it is answered or rejected, and cannot be"):
        handle.resume({question.approval_id: decision})
    again = handle.resume({question.approval_id: Decision("answered")})
    assert (await again.drain()).output == "ok"


async def test_a_call_that_is_asked_about_again_keeps_its_approval() -> None:
    other = WHERE.model_copy(update={"id": "c3"})
    model = ScriptedModel([call_tools(WHERE, other), say("ok")])
    handle = stream(Agent("a", model), "hi", tools=[PLACE])
    one, two = (await handle.drain()).interrupted
    again = handle.resume({two.approval_id: Decision("answered", result=2)})
    events = [event async for event in again.events]
    assert [e.approval_id for e in events if isinstance(e, ApprovalRequested)] == [one.approval_id]
    (waits,) = (await again.result).interrupted
    assert waits.approval_id == one.approval_id
    last = again.resume({one.approval_id: Decision("answered", result=1)})
    assert (await last.drain()).output == "ok"
    assert [m.content for m in model.requests[-1].messages if m.role == "tool"] == ["1", "2"]


async def test_what_wants_consent_takes_no_result() -> None:
    @tool(needs_approval=True)
    async def place() -> str:
        return "here"

    call = WHERE.model_copy(update={"arguments": "{}"})
    handle = stream(Agent("a", ScriptedModel([call_tools(call)]), tools=[place]), "hi")
    (question,) = (await handle.drain()).interrupted
    with pytest.raises(ValueError, match="waits for a decision, not a result"):
        handle.resume({question.approval_id: Decision("answered", result=1)})


async def test_a_graphs_agent_may_call_them_in_a_program_too() -> None:
    agent = Agent("guide", ScriptedModel([call_tools(WHERE), say("So Ulm.")]))
    graph = MessageGraph(name="g").node("n", agent, END).start("n").build()
    handle = stream(graph, [user("where?")], tools=[PLACE])
    (question,) = (await handle.drain()).interrupted
    again = handle.resume({question.approval_id: Decision("answered", result="Ulm")})
    assert (await again.drain()).output == "So Ulm."


async def test_an_attempt_that_died_has_asked_already_and_the_next_one_waits_for_the_same() -> None:
    other = WHERE.model_copy(update={"id": "c3"})
    agent, before = Agent("a", ScriptedModel([call_tools(WHERE, other), say("ok")])), asked()
    first = await run(agent, before)
    questions = first.of(ApprovalRequested)
    died = Log()
    died.events = first.events[: first.events.index(questions[1])]  # between the two questions
    second = await run(agent, going_on(before, died.events))
    assert second.types == ["approval.requested", "run.interrupted"]
    later = second.one(ApprovalRequested)
    assert later.call_id == "c3"
    assert second.one(RunInterrupted).pending == (questions[0].approval_id, later.approval_id)


async def test_a_session_in_one_process_offers_them_for_one_turn() -> None:
    model = ScriptedModel([call_tools(WHERE), say("So Ulm."), say("bye")])
    session = create_session(Agent("a", model))
    with pytest.raises(ToolsRefused):
        await session.prompt("hi", tools=[PLACE, PLACE])
    first = await session.prompt("where?", tools=[PLACE], instructions="Be brief.")
    (question,) = first.interrupted
    async for _ in session.resume({question.approval_id: Decision("answered", result="Ulm")}):
        pass
    assert session.result.output == "So Ulm."
    session.send("bye")
    async for _ in session.stream():
        pass
    assert model.requests[1].messages[0].content == "Be brief."
    assert [len(request.tools) for request in model.requests] == [1, 1, 0]
    assert model.requests[2].messages[0].role == "user"
