"""One agent hands the conversation to another, and the run goes on with that one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic import BaseModel

from runtime import (
    Agent,
    Message,
    ModelUnavailable,
    RetryPolicy,
    ScriptedModel,
    ToolCall,
    tool,
)
from runtime.agent import Handoff, Hooks, RunContext
from runtime.events import (
    AgentHandoff,
    MessageStarted,
    ModelStarted,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    ToolCompleted,
    ToolFailedEvent,
)
from runtime.models.base import ModelRequest
from runtime.models.scripted import call_tools, say
from runtime.runnable import Decision
from tests.runtime.support import Log, going_on, request, run


class Answer(BaseModel):
    text: str


@tool
async def look() -> str:
    return "seen"


@tool(needs_approval=True)
async def delete() -> str:
    return "deleted"


def call(name: str, call_id: str = "c1") -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments="{}")


TO_B = call("transfer_to_b")


@pytest.mark.rows("S46", "SX5", "W-S8")
async def test_the_run_goes_on_with_everything_that_is_the_targets() -> None:
    asked: list[str] = []
    spoken = ScriptedModel([call_tools(call("look", "c2")), say('{"text": "done"}')], name="m-b")
    target = Agent(
        "b",
        spoken,
        instructions="You are b.",
        tools=[look],
        output_type=Answer,
        description="Knows b.",
        hooks=Hooks(before_model=lambda told, _: asked.append(told.agent)),
        max_turns=1,
    )
    model = ScriptedModel([call_tools(TO_B)], name="m-a")
    source = Agent("a", model, instructions="You are a.", handoffs=[target], max_turns=3)
    log = await run(source)
    (offered,) = model.requests[0].tools
    assert offered.name == "transfer_to_b"
    assert offered.description == "Hand the conversation over to b. Knows b."
    assert source.tool_infos() == (offered,)
    assert log.one(AgentHandoff) == AgentHandoff(
        run_id="run_1", path=("a",), source="a", target="b"
    )
    assert [event.model for event in log.of(ModelStarted)] == ["m-a", "m-b", "m-b"]
    told = spoken.requests[0].messages
    assert [message.role for message in told] == ["system", "user", "assistant", "tool"]
    assert told[0].content == "You are b."
    assert told[-1].content == "the conversation was handed over to b"
    assert [info.name for info in spoken.requests[0].tools] == ["look"]
    assert asked == ["b", "b"]
    assert log.one(MessageStarted).agent == "b"
    assert {event.path for event in log.events} == {("a",)}
    end = log.one(RunCompleted)
    assert (end.last_agent, end.parsed, end.num_turns) == ("b", Answer(text="done"), 3)


async def test_the_targets_model_is_retried_as_the_target_says() -> None:
    patient = RetryPolicy(attempts=2, base=0.0)
    spoken = ScriptedModel([[ModelUnavailable("busy")], say("done")])
    target = Agent("b", spoken, retry=patient)
    source = Agent(
        "a",
        ScriptedModel([call_tools(TO_B)]),
        handoffs=[target],
        retry=RetryPolicy(attempts=1),
    )
    assert (await run(source)).one(RunCompleted).output == "done"


async def test_the_event_comes_before_the_answer_and_before_the_target_speaks() -> None:
    log = await run(
        Agent(
            "a", ScriptedModel([call_tools(TO_B)]), handoffs=[Agent("b", ScriptedModel([say("x")]))]
        )
    )
    start = log.types.index("agent.handoff")
    assert log.types[start : start + 3] == ["agent.handoff", "tool.completed", "model.started"]


@pytest.mark.rows("SX5")
@pytest.mark.parametrize("fails", [False, True])
async def test_a_handoff_that_is_not_allowed_is_told_to_the_model(*, fails: bool) -> None:
    async def allow(messages: Sequence[Message]) -> bool:
        assert messages[0].content == "hi"
        if fails:
            raise KeyError("secret")
        return False

    model = ScriptedModel([call_tools(TO_B), say("then I do it")])
    target = Agent("b", ScriptedModel([]))
    log = await run(Agent("a", model, handoffs=[Handoff(target, allow=allow)]))
    assert log.one(AgentHandoff).denied is True
    error = log.one(ToolFailedEvent).error
    assert (error.code, error.message) == ("handoff_denied", "handing over to b is not allowed")
    assert model.requests[1].messages[-1].content == f"error: {error.message}"
    assert log.one(RunCompleted).last_agent == "a"


async def test_the_target_sees_what_the_filter_leaves_and_what_is_said_from_then_on() -> None:
    spoken = ScriptedModel([call_tools(call("look", "c2")), say("done")])
    handoff = Handoff(Agent("b", spoken, tools=[look]), input_filter=lambda messages: messages[:1])
    log = await run(Agent("a", ScriptedModel([call_tools(TO_B)]), handoffs=[handoff]))
    assert [m.content for m in spoken.requests[0].messages] == ["hi"]
    assert [m.content for m in spoken.requests[1].messages] == ["hi", "", "seen"]
    assert log.one(RunCompleted).message_count == 6


async def test_only_the_first_handoff_of_an_answer_counts_and_other_calls_come_before_it() -> None:
    model = ScriptedModel(
        [call_tools(TO_B, call("look", "c2"), call("transfer_to_c", "c3"))], name="m-a"
    )
    others = [Agent(name, ScriptedModel([say(name)])) for name in ("b", "c")]
    log = await run(Agent("a", model, tools=[look], handoffs=others))
    assert [event.name for event in log.of(ToolCompleted)] == ["look", "transfer_to_b"]
    assert log.one(ToolFailedEvent).call_id == "c3"
    assert log.one(AgentHandoff).target == "b"
    assert log.one(RunCompleted).output == "b"


async def test_agents_that_hand_over_to_each_other_for_ever_are_stopped_by_max_turns() -> None:
    def back_and_forth(asked: ModelRequest) -> Sequence[object]:
        (info,) = asked.tools
        return call_tools(call(info.name, ""))

    agents: dict[str, Agent] = {}
    agents["a"] = Agent(
        "a",
        ScriptedModel(back_and_forth),  # type: ignore[arg-type]  # the cues of call_tools
        handoffs=[Handoff(lambda: agents["b"])],
        max_turns=5,
    )
    agents["b"] = Agent(
        "b",
        ScriptedModel(back_and_forth),  # type: ignore[arg-type]  # the cues of call_tools
        handoffs=[agents["a"]],
        max_turns=1,
    )
    log = await run(agents["a"])
    assert [event.target for event in log.of(AgentHandoff)] == ["b", "a", "b", "a", "b"]
    assert log.one(RunFailed).error.code == "step_limit_exceeded"
    await agents["a"].aclose()
    assert [agent.model.closed for agent in agents.values()] == [1, 1]  # type: ignore[attr-defined]  # both are scripted


async def interrupted(*, filtered: bool = False) -> tuple[Agent, ScriptedModel, Log]:
    """Run until the second agent wants to delete."""
    spoken = ScriptedModel([call_tools(call("delete", "c2")), say("done")])
    target = Agent("b", spoken, tools=[delete])
    handoff = Handoff(target, input_filter=(lambda m: m[-1:]) if filtered else None)
    agent = Agent("a", ScriptedModel([call_tools(TO_B)]), handoffs=[handoff])
    log = await run(agent)
    assert log.types[-2:] == ["approval.requested", "run.interrupted"]
    return agent, spoken, log


@pytest.mark.parametrize("filtered", [False, True])
async def test_a_run_that_goes_on_goes_on_with_the_agent_that_has_the_conversation(
    *, filtered: bool
) -> None:
    agent, spoken, log = await interrupted(filtered=filtered)
    rest = await run(agent, going_on(request(), log.events, decisions={"c2": Decision("approved")}))
    assert rest.one(ToolCompleted).result == "deleted"
    assert rest.one(RunCompleted).last_agent == "b"
    before, after = (asked.messages for asked in spoken.requests)
    assert after[: len(before)] == before
    assert after[-1].content == "deleted"


async def test_a_run_that_goes_on_after_several_handoffs_sees_what_it_saw_before() -> None:
    spoken = ScriptedModel([call_tools(call("delete", "c3")), say("done")])
    last = Agent("c", spoken, tools=[delete])
    middle = Agent("b", ScriptedModel([call_tools(call("transfer_to_c", "c2"))]), handoffs=[last])
    first = Handoff(middle, input_filter=lambda messages: messages[:1])
    agent = Agent("a", ScriptedModel([call_tools(TO_B)]), handoffs=[first])
    log = await run(agent)
    rest = await run(agent, going_on(request(), log.events, {"c3": Decision("approved")}))
    assert rest.one(RunCompleted).last_agent == "c"
    before, after = (asked.messages for asked in spoken.requests)
    assert [m.role for m in before] == ["user", "assistant", "tool"]
    assert after[: len(before)] == before


async def test_a_denied_handoff_does_not_count_when_the_run_goes_on() -> None:
    model = ScriptedModel([call_tools(TO_B), call_tools(call("delete", "c2")), say("done")])
    handoff = Handoff(Agent("b", ScriptedModel([])), allow=lambda _: False)
    agent = Agent("a", model, tools=[delete], handoffs=[handoff])
    log = await run(agent)
    rest = await run(agent, going_on(request(), log.events, {"c2": Decision("approved")}))
    assert rest.one(RunCompleted).last_agent == "a"
    assert len(model.requests) == 3


async def test_a_handoff_in_an_earlier_run_of_the_session_is_not_taken_for_this_ones() -> None:
    earlier = (
        Message(role="user", content="old"),
        Message(role="assistant", tool_calls=(call("transfer_to_b", "c0"),)),
        Message(role="tool", content="the conversation was handed over", tool_call_id="c0"),
        Message(role="user", content="new"),
    )
    spoken = ScriptedModel([call_tools(call("delete", "c2")), say("done")])
    handoff = Handoff(Agent("b", spoken, tools=[delete]), input_filter=lambda m: m[3:4])
    agent = Agent("a", ScriptedModel([call_tools(TO_B)]), handoffs=[handoff])
    asked = request(earlier)
    log = await run(agent, asked)
    await run(agent, going_on(asked, log.events, {"c2": Decision("approved")}))
    assert [m.content for m in spoken.requests[1].messages] == ["new", "", "deleted"]


async def test_a_crash_between_the_handoff_and_its_answer_loses_nothing() -> None:
    spoken = ScriptedModel([say("done")])
    agent = Agent("a", ScriptedModel([call_tools(TO_B)]), handoffs=[Agent("b", spoken)])
    log = await run(agent)
    crashed = log.events[: log.types.index("agent.handoff") + 1]
    spoken.requests.clear()
    rest = await run(agent, going_on(request(), crashed))
    assert rest.types[:2] == ["tool.completed", "model.started"]
    assert rest.of(AgentHandoff) == []
    assert spoken.requests[0].messages[-1].content == "the conversation was handed over to b"


async def test_after_such_a_crash_the_target_sees_what_the_filter_leaves() -> None:
    spoken = ScriptedModel(lambda _: say("done"))
    handoff = Handoff(Agent("b", spoken), input_filter=lambda messages: messages[:1])
    agent = Agent("a", ScriptedModel([call_tools(TO_B)]), handoffs=[handoff])
    log = await run(agent)
    await run(agent, going_on(request(), log.events[: log.types.index("agent.handoff") + 1]))
    assert spoken.requests[1].messages == spoken.requests[0].messages == request().history


@pytest.mark.parametrize("buffered", [False, True])
async def test_the_answer_is_checked_by_who_gives_it_and_the_end_told_to_whose_run_it_is(
    *, buffered: bool
) -> None:
    asked: list[str] = []

    def hooks(name: str) -> Hooks:
        return Hooks(after_run=lambda about, end: asked.append(f"{name} {end.last_agent}"))

    target = Agent(
        "b",
        ScriptedModel([say("done")]),
        output_guardrails=[lambda text: asked.append(f"b {text}")],
        hooks=hooks("b"),
        buffered=buffered,
    )
    source = Agent(
        "a",
        ScriptedModel([call_tools(TO_B)]),
        output_guardrails=[lambda text: asked.append(f"a {text}")],
        hooks=hooks("a"),
        handoffs=[target],
    )
    await run(source)
    assert asked == ["b done", "a b"]


async def test_handing_over_waits_until_the_calls_beside_it_are_answered() -> None:
    spoken = ScriptedModel([say("done")])
    model = ScriptedModel([call_tools(TO_B, call("delete", "c2"))])
    agent = Agent("a", model, tools=[delete], handoffs=[Agent("b", spoken)])
    log = await run(agent)
    assert log.of(AgentHandoff) == []
    assert isinstance(log.events[-1], RunInterrupted)
    rest = await run(agent, going_on(request(), log.events, {"c2": Decision("approved")}))
    assert [event.name for event in rest.of(ToolCompleted)] == ["delete", "transfer_to_b"]
    assert rest.one(RunCompleted).last_agent == "b"


async def test_a_target_that_is_gone_when_the_run_goes_on_fails_it_with_the_name() -> None:
    _, _, log = await interrupted()
    rest = await run(Agent("a", ScriptedModel([])), going_on(request(), log.events))
    assert "cannot hand over to 'b' any more" in rest.one(RunFailed).error.message


def test_two_handoffs_of_one_name_are_refused() -> None:
    agents = [Agent("b", ScriptedModel([])) for _ in range(2)]
    with pytest.raises(ValueError, match="two handoffs or tools have the same name"):
        Agent("a", ScriptedModel([]), handoffs=agents).tool_infos()


async def test_instructions_may_be_made_for_each_call() -> None:
    async def told(about: RunContext) -> str:
        return f"{about.agent} {about.turn} {len(about.messages)}"

    model = ScriptedModel([call_tools(call("look")), say("ok")])
    await run(Agent("a", model, instructions=told, tools=[look]))
    assert [asked.messages[0].content for asked in model.requests] == ["a 1 1", "a 2 3"]
    assert model.requests[0].messages[0].role == "system"
