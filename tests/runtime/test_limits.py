"""What a run may take: turns, tokens, money; and when a tool's result is enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runtime import Agent, ScriptedModel, ToolCall, ToolFailed, Usage, tool
from runtime.agent import Handoff, Prices
from runtime.errors import BudgetExceeded
from runtime.events import AgentHandoff, RunCompleted, RunFailed
from runtime.models.base import Finish
from runtime.models.scripted import Cue, call_tools, say
from runtime.runnable import Decision
from tests.runtime.support import going_on, request, run

EACH = Usage(prompt_tokens=60, completion_tokens=40, total_tokens=100)
PRICES = Prices(prompt_per_million=1_000.0, completion_per_million=2_000.0)
ONE_CALL = 60 * 0.001 + 40 * 0.002
"""USD."""


@tool
async def look(city: str = "Bern") -> str:
    if city == "nowhere":
        raise ToolFailed("no such city")
    return f"seen {city}"


@tool(needs_approval=True)
async def visit() -> str:
    return "been there"


def called(name: str = "look", arguments: str = "{}") -> tuple[Cue, ...]:
    call = ToolCall(id="", name=name, arguments=arguments)
    return (*call_tools(call)[:-1], Finish("tool_calls", EACH))


def answered(text: str = "ok") -> tuple[Cue, ...]:
    return (*say(text)[:-1], Finish("stop", EACH))


@pytest.mark.rows("SX8")
async def test_a_run_that_has_used_up_its_tokens_does_not_call_the_model_again() -> None:
    model = ScriptedModel(lambda _: called())
    log = await run(Agent("a", model, tools=[look], max_total_tokens=250))
    assert len(model.requests) == 3
    end = log.one(RunFailed)
    assert end.error.code == "budget_exceeded"
    assert end.error.message == "the run took 300 tokens; its limit is 250"
    assert isinstance(end.exception, BudgetExceeded)


async def test_an_answer_that_was_given_is_not_thrown_away_for_its_tokens() -> None:
    log = await run(Agent("a", ScriptedModel([answered()]), max_total_tokens=50))
    assert log.one(RunCompleted).usage == EACH


@pytest.mark.rows("SX8")
async def test_a_run_says_what_it_cost_and_is_stopped_by_its_budget() -> None:
    model = ScriptedModel([called(), answered()])
    log = await run(Agent("a", model, tools=[look], prices=PRICES))
    assert log.one(RunCompleted).cost_usd == pytest.approx(2 * ONE_CALL)
    model = ScriptedModel(lambda _: called())
    log = await run(Agent("a", model, tools=[look], prices=PRICES, max_cost_usd=ONE_CALL * 1.5))
    assert len(model.requests) == 2
    assert log.one(RunFailed).error.message == "the run took 0.28 USD; its limit is 0.21"


async def test_without_prices_nobody_says_what_it_cost() -> None:
    log = await run(Agent("a", ScriptedModel([answered()])))
    assert log.one(RunCompleted).cost_usd is None


@pytest.mark.rows("SX8")
def test_limits_that_cannot_be_kept_are_refused_when_the_agent_is_made() -> None:
    model = ScriptedModel([])
    with pytest.raises(ValueError, match="max_cost_usd needs prices"):
        Agent("a", model, max_cost_usd=1.0)
    with pytest.raises(ValueError, match="must be positive"):
        Agent("a", model, max_total_tokens=0)
    with pytest.raises(ValueError, match="must be positive"):
        Agent("a", model, max_cost_usd=-1.0, prices=PRICES)


async def test_tokens_and_money_include_agents_below_at_their_own_prices() -> None:
    dear = Prices(prompt_per_million=10_000.0, completion_per_million=20_000.0)
    child = Agent("child", ScriptedModel(lambda _: answered()), prices=dear)
    free = Agent("free", ScriptedModel(lambda _: answered()))
    model = ScriptedModel(
        [called("child", '{"input": "x"}'), called("free", '{"input": "x"}'), answered()]
    )
    agent = Agent("a", model, tools=[child.as_tool(), free.as_tool()], prices=PRICES)
    end = (await run(agent)).one(RunCompleted)
    assert end.usage.total_tokens == 500
    assert end.cost_usd == pytest.approx(3 * ONE_CALL + 10 * ONE_CALL)
    model = ScriptedModel(lambda _: called("child", '{"input": "x"}'))
    log = await run(replace(agent, model=model, max_total_tokens=200))
    assert len(model.requests) == 1
    assert log.one(RunFailed).error.code == "budget_exceeded"


async def test_after_a_handoff_the_target_is_paid_at_its_own_prices_within_the_runs_limits() -> (
    None
):
    dear = Prices(prompt_per_million=10_000.0, completion_per_million=20_000.0)
    target = Agent("b", ScriptedModel(lambda _: called()), tools=[look], prices=dear)
    agent = Agent(
        "a",
        ScriptedModel([called("transfer_to_b")]),
        handoffs=[Handoff(target)],
        prices=PRICES,
        max_cost_usd=ONE_CALL * 12,
    )
    log = await run(agent)
    error = log.one(RunFailed).exception
    assert isinstance(error, BudgetExceeded)
    assert error.used == pytest.approx(21 * ONE_CALL)


@pytest.mark.rows("W-S9")
async def test_a_run_that_goes_on_counts_tokens_and_money_on() -> None:
    model = ScriptedModel([called("visit"), answered()])
    agent = Agent("a", model, tools=[visit], prices=PRICES)
    log = await run(agent)
    asked = going_on(request(), log.events, {"call_x": Decision("approved")})
    (call,) = asked.history[-1].tool_calls
    asked = replace(asked, decisions={call.id: Decision("approved")})
    end = (await run(agent, asked)).one(RunCompleted)
    assert end.usage == EACH + EACH
    assert end.cost_usd == pytest.approx(2 * ONE_CALL)
    stopped = await run(replace(agent, max_total_tokens=100), asked)
    assert stopped.one(RunFailed).error.code == "budget_exceeded"
    for journal in ((), (AgentHandoff(run_id="run_1", path=("x",), source="x", target="y"),)):
        model = ScriptedModel([answered()])
        told_less = replace(asked, journal=journal)
        end = (await run(replace(agent, model=model), told_less)).one(RunCompleted)
        assert end.cost_usd == pytest.approx(2 * ONE_CALL)


@pytest.mark.rows("W-S9")
async def test_an_agent_below_that_goes_on_is_held_to_what_it_took_before() -> None:
    model = ScriptedModel([called("visit"), answered()])
    child = Agent("child", model, tools=[visit], max_total_tokens=100)
    top = ScriptedModel([called("child", '{"input": "x"}'), answered("never mind")])
    agent = Agent("a", top, tools=[child.as_tool()])
    log = await run(agent)
    asked = going_on(request(), log.events)
    (waiting,) = [e for e in log.events if e.type == "approval.requested"]
    assert waiting.call_id is not None
    rest = await run(agent, replace(asked, decisions={waiting.call_id: Decision("approved")}))
    assert len(model.requests) == 1
    assert "error: the run took 100 tokens" in top.requests[1].messages[-1].content
    assert rest.one(RunCompleted).usage.total_tokens == 300


@pytest.mark.rows("SX8")
@pytest.mark.parametrize("stop_at", [("*",), ("look",), ("visit", "l*")])
async def test_a_tools_result_may_be_the_answer(stop_at: tuple[str, ...]) -> None:
    model = ScriptedModel([called()])
    log = await run(Agent("a", model, tools=[look], stop_at_tools=stop_at))
    end = log.one(RunCompleted)
    assert (end.output, end.finish_reason, end.num_turns) == ("seen Bern", "tool_calls", 1)
    assert end.message_count == 3


async def test_a_tool_that_failed_or_is_another_one_is_no_answer() -> None:
    for calls, stop_at in (
        (called("look", '{"city": "nowhere"}'), ("*",)),
        (called(), ("visit",)),
    ):
        model = ScriptedModel([calls, answered()])
        log = await run(Agent("a", model, tools=[look], stop_at_tools=stop_at))
        assert log.one(RunCompleted).output == "ok"


async def test_a_tools_result_that_is_the_answer_is_read_as_the_output_type() -> None:
    @tool
    async def measure() -> Any:
        return {"degrees": 21}

    model = ScriptedModel([called("measure")])
    agent = Agent(
        "a", model, tools=[measure], stop_at_tools=["measure"], output_type=dict[str, float]
    )
    assert (await run(agent)).one(RunCompleted).parsed == {"degrees": 21.0}
