"""Guardrails: checks that may stop a run or a tool call."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import Agent, Message, ScriptedModel, ToolCall, tool
from runtime.errors import GuardrailTripwire
from runtime.events import (
    GuardrailTripped,
    MessageCompleted,
    ModelCompleted,
    RunCompleted,
    RunFailed,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
)
from runtime.models.base import Finish, ReasoningText, Text
from runtime.models.scripted import call_tools, say
from runtime.runnable import Decision
from runtime.tools import Trip
from tests.runtime.support import going_on, request, run, user

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


async def no_swearing(text: str) -> Trip | None:
    ran.append(text)
    return Trip("mind your words", {"word": "damn"}) if "damn" in text else None


def only_true(_: Any) -> bool:
    return True


def never(_: Any) -> bool:
    return False


def broken(_: Any) -> bool:
    raise KeyError("sk-secret")


@pytest.mark.rows("SX6", "W-S8")
async def test_an_input_that_is_refused_never_reaches_the_model() -> None:
    model = ScriptedModel([])
    agent = Agent("a", model, input_guardrails=[only_true, no_swearing])
    log = await run(agent, request("damn it"))
    assert log.types == ["run.started", "guardrail.tripped", "run.failed"]
    tripped = log.one(GuardrailTripped)
    assert (tripped.name, tripped.stage, tripped.info) == (
        "no_swearing",
        "input",
        {"word": "damn"},
    )
    end = log.one(RunFailed)
    assert (end.error.code, end.error.message) == ("guardrail_tripped", "mind your words")
    assert isinstance(end.exception, GuardrailTripwire)
    assert model.requests == []


async def test_the_input_is_what_the_user_said_since_anybody_else_spoke() -> None:
    agent = Agent("a", ScriptedModel([say("ok")]), input_guardrails=[no_swearing])
    earlier = (user("damn"), Message(role="assistant", content="well"))
    log = await run(agent, request((*earlier, user("one"), user("two"))))
    assert ran == ["one\n\ntwo"]
    assert log.types[-1] == "run.completed"
    agent = Agent("a", ScriptedModel([say("ok")]), input_guardrails=[no_swearing])
    log = await run(agent, request(earlier))  # which goes on with what was said
    assert ran == ["one\n\ntwo"]
    assert log.types[-1] == "run.completed"


@pytest.mark.rows("SX6", "W-S10")
async def test_an_output_that_is_refused_was_streamed_already_and_fails_the_run() -> None:
    model = ScriptedModel([say("well damn")])
    log = await run(Agent("a", model, output_guardrails=[no_swearing]))
    assert log.types[-4:] == [
        "message.completed",
        "model.completed",
        "guardrail.tripped",
        "run.failed",
    ]
    assert log.one(GuardrailTripped).stage == "output"
    assert ran == ["well damn"]


@pytest.mark.rows("W-S10")
async def test_a_buffered_output_that_is_refused_is_never_seen() -> None:
    model = ScriptedModel([[ReasoningText("hm"), Text("well "), Text("damn"), Finish("stop")]])
    agent = Agent("a", model, output_guardrails=[no_swearing], buffered=True)
    log = await run(agent)
    assert [kind for kind in log.types if not kind.startswith("reasoning")] == [
        "run.started",
        "model.started",
        "guardrail.tripped",
        "model.completed",
        "run.failed",
    ]
    assert "well" not in "".join(event.model_dump_json() for event in log.events)
    assert log.one(ModelCompleted).usage is not None
    assert log.one(RunFailed).error.code == "guardrail_tripped"


@pytest.mark.rows("W-S10")
async def test_a_buffered_output_that_passes_comes_after_its_check_with_all_its_pieces() -> None:
    seen_by_guardrail: list[list[str]] = []
    log_types: list[str] = []

    def note(_: str) -> None:
        seen_by_guardrail.append([kind for kind in log_types if kind.startswith("message")])

    async def emit(event: Any) -> None:
        log_types.append(event.type)

    model = ScriptedModel([say("all is well")])
    agent = Agent("a", model, output_guardrails=[note], buffered=True)
    await agent.execute(request(), emit)
    assert seen_by_guardrail == [[]]
    assert log_types[2:] == [
        "message.started",
        *["message.delta"] * 3,
        "message.completed",
        "model.completed",
        "run.completed",
    ]


async def test_what_a_buffered_agent_says_beside_its_calls_is_no_output() -> None:
    words = [Text("let me look"), *call_tools(ToolCall(id="c", name="look", arguments="{}"))]
    model = ScriptedModel([words, say("ok")])
    agent = Agent("a", model, tools=[look], output_guardrails=[no_swearing], buffered=True)
    log = await run(agent)
    assert ran == ["looked", "ok"]
    assert [event.text for event in log.of(MessageCompleted)] == ["let me look", "ok"]


@tool
async def look() -> str:
    ran.append("looked")
    return "a damn mess"


def agent_with(**guardrails: Any) -> tuple[Agent, ScriptedModel]:
    async def write(text: str) -> str:
        ran.append(text)
        return f"wrote {text}"

    call = ToolCall(id="c1", name="write", arguments='{"text":"damn"}')
    model = ScriptedModel([call_tools(call), say("ok")])
    return Agent("a", model, tools=[tool(write, **guardrails)]), model


def no_such_text(arguments: Any) -> Trip | None:
    return Trip("not this text") if arguments.text == "damn" else None


@pytest.mark.rows("SX6")
async def test_arguments_that_are_refused_are_not_used_and_the_model_is_told() -> None:
    agent, model = agent_with(input_guardrails=[only_true, no_such_text])
    log = await run(agent)
    assert log.of(ToolStarted) == []
    tripped = log.one(GuardrailTripped)
    assert (tripped.name, tripped.stage, tripped.info) == ("no_such_text", "tool_input", None)
    assert log.one(ToolFailedEvent).error.code == "guardrail_tripped"
    assert model.requests[1].messages[-1].content == "error: not this text"
    assert ran == []
    assert log.one(RunCompleted).output == "ok"


@pytest.mark.rows("SX6")
async def test_a_result_that_is_refused_is_replaced_by_why() -> None:
    agent, model = agent_with(output_guardrails=[no_swearing])
    log = await run(agent)
    assert log.one(GuardrailTripped).stage == "tool_output"
    assert log.one(ToolCompleted).result == "mind your words"
    assert model.requests[1].messages[-1].content == "mind your words"
    assert ran == ["damn", "wrote damn"]


async def test_a_guardrail_that_says_false_without_words_is_named() -> None:
    log = await run(Agent("a", ScriptedModel([]), input_guardrails=[never]))
    assert log.one(RunFailed).error.message == "the guardrail 'never' refused this input"


async def test_what_could_not_be_checked_does_not_pass() -> None:
    log = await run(Agent("a", ScriptedModel([]), input_guardrails=[broken]))
    assert log.one(RunFailed).error.message == "the guardrail 'broken' failed: KeyError"
    agent, _ = agent_with(input_guardrails=[broken])
    log = await run(agent)
    assert ran == []
    assert log.one(ToolFailedEvent).error.message == "the guardrail 'broken' failed: KeyError"
    agent, model = agent_with(output_guardrails=[broken])
    log = await run(agent)
    assert log.of(ToolCompleted) == []
    assert "wrote" not in model.requests[1].messages[-1].content


@pytest.mark.parametrize("verdict", [0, "", "bad words", {}])
async def test_what_is_no_verdict_does_not_pass(verdict: Any) -> None:
    def odd(_: Any) -> Any:
        return verdict

    log = await run(Agent("a", ScriptedModel([]), input_guardrails=[odd]))
    told = f"the guardrail 'odd' answered with {type(verdict).__name__}, which means nothing"
    assert log.one(RunFailed).error.message == told


@pytest.mark.rows("W-S9")
async def test_a_run_that_goes_on_has_its_guardrails_but_its_input_is_not_checked_again() -> None:
    agent, _ = agent_with(needs_approval=True, input_guardrails=[no_such_text])
    checked = Agent(
        "a",
        agent.model,
        tools=agent.tools,
        input_guardrails=[no_swearing],
        output_guardrails=[no_swearing],
    )
    log = await run(checked)
    assert ran == ["hi"]
    rest = await run(checked, going_on(request(), log.events, {"c1": Decision("approved")}))
    assert rest.one(ToolFailedEvent).error.code == "guardrail_tripped"
    assert ran == ["hi", "ok"]
