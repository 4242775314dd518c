"""The loop of an agent: which events, in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pydantic import Field

from runtime import (
    Agent,
    Message,
    ModelRefused,
    RunOptions,
    RunRequest,
    ScriptedModel,
    ToolCall,
    ToolFailed,
    Usage,
    tool,
)
from runtime.events import (
    ErrorInfo,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ModelFailed,
    ModelStarted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RunCompleted,
    RunFailed,
    RunStarted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
)
from runtime.models.base import (
    Delta,
    Finish,
    ModelRequest,
    ReasoningText,
    Text,
    ToolCallFragment,
)
from runtime.models.scripted import Cue, Script, call_tools, say
from tests.runtime.support import PATIENCE, Log, check_ended, request, run, user

USAGE = Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7)
P = ("a",)
R = "run_1"


def call(call_id: str, name: str = "get_weather", arguments: str = '{"city":"Bern"}') -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=arguments)


@tool
async def get_weather(city: str) -> str:
    return f"sunny in {city}"


async def test_one_turn_is_reported_in_this_order() -> None:
    model = ScriptedModel(
        [[Text("Hel"), Text(""), Text("lo"), Finish("stop", USAGE, "m-1", "resp")]]
    )
    log = await run(Agent("a", model, instructions="Be kind."))
    message_id = log.one(MessageStarted).message_id
    assert message_id.startswith("msg_")
    assert log.events == [
        RunStarted(run_id=R, path=P, agent="a", attempt=1),
        ModelStarted(run_id=R, path=P, turn=1, model="scripted", message_count=2),
        MessageStarted(run_id=R, path=P, message_id=message_id, agent="a", turn=1),
        MessageDelta(run_id=R, path=P, message_id=message_id, text="Hel"),
        MessageDelta(run_id=R, path=P, message_id=message_id, text="lo"),
        MessageCompleted(run_id=R, path=P, message_id=message_id, text="Hello"),
        ModelCompleted(
            run_id=R,
            path=P,
            message_id=message_id,
            content="Hello",
            usage=USAGE,
            finish_reason="stop",
            model="m-1",
            response_id="resp",
            turn=1,
        ),
        RunCompleted(
            run_id=R,
            path=P,
            output="Hello",
            usage=USAGE,
            finish_reason="stop",
            last_agent="a",
            message_count=2,
            num_turns=1,
        ),
    ]
    assert model.requests[0].messages == (
        Message(role="system", content="Be kind."),
        user("hi"),
    )


@pytest.mark.rows("S8", "S9", "S10", "S11", "S15", "S42", "W-S4", "X1")
async def test_two_tool_calls_then_an_answer_come_in_this_order() -> None:
    script: Script = [
        call_tools(call("c1"), call("c2", arguments='{"city":"Rome"}'), pieces=2),
        say("Fine there"),
    ]
    log = await run(Agent("a", ScriptedModel(script), tools=[get_weather]))
    one_call = ["tool_call.started", "tool_call.delta", "tool_call.delta", "tool_call.ready"]
    assert log.types == [
        "run.started",
        "model.started",
        *one_call,
        *one_call,
        "model.completed",
        "tool.started",
        "tool.started",
        "tool.completed",
        "tool.completed",
        "model.started",
        "message.started",
        "message.delta",
        "message.delta",
        "message.completed",
        "model.completed",
        "run.completed",
    ]
    for call_id, arguments in (("c1", '{"city":"Bern"}'), ("c2", '{"city":"Rome"}')):
        pieces = [e.arguments for e in log.of(ToolCallDelta) if e.call_id == call_id]
        (ready,) = [e for e in log.of(ToolCallReady) if e.call_id == call_id]
        assert "".join(pieces) == ready.arguments == arguments
    first, last = log.of(ModelCompleted)
    assert first.tool_calls == (call("c1"), call("c2", arguments='{"city":"Rome"}'))
    assert (first.finish_reason, last.finish_reason) == ("tool_calls", "stop")
    assert first.usage is not None
    assert last.usage is not None
    assert log.one(RunCompleted).usage == first.usage + last.usage
    assert log.one(RunCompleted).num_turns == 2
    assert log.one(RunCompleted).message_count == 5


@pytest.mark.rows("S14")
async def test_the_five_kinds_of_model_events_come_in_exactly_the_order_of_s14() -> None:
    script: Script = [
        call_tools(call("c1"), call("c2", arguments='{"city":"Rome"}'), pieces=3),
        say("Fine in both"),
    ]
    log = await run(Agent("a", ScriptedModel(script), tools=[get_weather]))
    five = (ToolCallStarted, ToolCallDelta, ToolCallReady, MessageDelta, ModelCompleted)
    kinds = [event.type for event in log.events if isinstance(event, five)]
    one_call = ["tool_call.started", *["tool_call.delta"] * 3, "tool_call.ready"]
    assert kinds == [
        *one_call,
        *one_call,
        "model.completed",
        *["message.delta"] * 3,
        "model.completed",
    ]
    done = [n for n, event in enumerate(log.events) if isinstance(event, ModelCompleted)]
    ran = [
        n for n, event in enumerate(log.events) if isinstance(event, ToolStarted | ToolCompleted)
    ]
    assert len(ran) == 4
    assert done[0] < min(ran)
    assert max(ran) < done[1]


@pytest.mark.rows("S44", "S45", "S47", "L8")
async def test_every_model_call_is_told_and_the_end_sums_them_up() -> None:
    first, second = (
        Usage(prompt_tokens=100, completion_tokens=50, total_tokens=150),
        Usage(prompt_tokens=200, completion_tokens=80, total_tokens=280),
    )
    answer = (*call_tools(call("c1"))[:-1], Finish("tool_calls", first))
    model = ScriptedModel([answer, [Text("Fine"), Finish("length", second)]])
    log = await run(Agent("a", model, instructions="Be kind.", tools=[get_weather]))
    assert [(e.turn, e.usage) for e in log.of(ModelCompleted)] == [(1, first), (2, second)]
    end = log.one(RunCompleted)
    assert end.usage.total_tokens == 430
    assert (end.output, end.finish_reason, end.final_output) == ("Fine", "length", None)
    roles = [message.role for message in model.requests[1].messages]
    assert roles == ["system", "user", "assistant", "tool"]  # and the answer is the assistant's
    assert end.message_count == len(roles)  # the instructions are not part of the conversation


@pytest.mark.rows("S13")
async def test_results_go_to_the_model_in_call_order_whichever_is_done_first() -> None:
    second_done = asyncio.Event()

    @tool
    async def look(city: str) -> Any:
        if city == "first":
            await second_done.wait()
            return {"n": 1}
        second_done.set()
        return "two"

    calls = (call("c1", "look", '{"city":"first"}'), call("c2", "look", '{"city":"second"}'))
    model = ScriptedModel([call_tools(*calls), say("ok")])
    log = await run(Agent("a", model, tools=[look]))
    assert [event.call_id for event in log.of(ToolCompleted)] == ["c2", "c1"]
    asked = model.requests[1].messages
    assert [(m.role, m.content, m.tool_call_id) for m in asked[1:]] == [
        ("assistant", "", None),
        ("tool", '{"n":1}', "c1"),
        ("tool", "two", "c2"),
    ]
    assert asked[1].tool_calls == calls
    assert [info.name for info in model.requests[0].tools] == ["look"]


@pytest.mark.rows("S18")
async def test_calls_of_one_answer_run_at_the_same_time_and_one_failing_stops_no_other() -> None:
    gates = {"A": asyncio.Event(), "B": asyncio.Event()}
    running = {"A": asyncio.Event(), "B": asyncio.Event()}

    @tool
    async def look(city: str) -> str:
        running[city].set()
        await gates[city].wait()
        if city == "A":
            raise ToolFailed("no such city")
        return "sunny"

    calls = (call("c1", "look", '{"city":"A"}'), call("c2", "look", '{"city":"B"}'))
    model = ScriptedModel([call_tools(*calls), say("ok")])
    log = Log()
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(Agent("a", model, tools=[look]).execute(request(), log.emit))
        await running["A"].wait()
        await running["B"].wait()
        gates["A"].set()
        failed = await log.until(ToolFailedEvent)
        assert failed.error == ErrorInfo(code="tool_failed", message="no such city")
        gates["B"].set()
    check_ended(log)
    assert log.one(ToolCompleted).result == "sunny"
    assert [m.content for m in model.requests[1].messages[2:]] == ["error: no such city", "sunny"]


async def test_a_tool_starts_only_when_its_start_is_in_the_log() -> None:
    committed = asyncio.Event()
    ran_before_commit: list[bool] = []

    @tool
    async def act() -> str:
        ran_before_commit.append(not committed.is_set())
        return "done"

    log = Log()

    async def slow_log(event: Any) -> None:
        if isinstance(event, ToolStarted):
            for _ in range(10):  # turns of the loop in which a tool could start too early
                await asyncio.sleep(0)
            committed.set()
        await log.emit(event)

    model = ScriptedModel([call_tools(call("c1", "act", "{}")), say("ok")])
    await Agent("a", model, tools=[act]).execute(request(), slow_log)
    assert ran_before_commit == [False]
    assert log.one(ToolStarted).idempotency_key == "run_1:c1"


async def test_interleaved_fragments_of_two_calls_are_told_apart() -> None:
    script: Script = [
        [
            ToolCallFragment(0, id="c1", name="get_weather"),
            ToolCallFragment(1, id="c2", name="get_weather"),
            ToolCallFragment(0, arguments='{"city"'),
            ToolCallFragment(1, arguments='{"city":"Rome"}'),
            ToolCallFragment(0, arguments=':"Bern"}'),
            Finish("tool_calls"),
        ],
        say("ok"),
    ]
    log = await run(Agent("a", ScriptedModel(script), tools=[get_weather]))
    assert [(event.call_id, event.arguments) for event in log.of(ToolCallReady)] == [
        ("c2", '{"city":"Rome"}'),
        ("c1", '{"city":"Bern"}'),
    ]
    assert [event.result for event in log.of(ToolCompleted)] == ["sunny in Bern", "sunny in Rome"]


async def test_ids_that_repeat_or_are_missing_are_made_unique() -> None:
    answer: list[Cue] = [
        ToolCallFragment(0, id="call_0", name="get_weather", arguments='{"city":"A"}'),
        ToolCallFragment(1, name="get_weather", arguments='{"city":"B"}'),
        Finish("tool_calls"),
    ]
    model = ScriptedModel([answer, answer, say("ok")])
    log = await run(Agent("a", model, tools=[get_weather]))
    ids = [event.call_id for event in log.of(ToolCallStarted)]
    assert ids[0] == "call_0"
    assert len(set(ids)) == 4
    assert all(call_id.startswith("call_") for call_id in ids)
    assert ids == [event.call_id for event in log.of(ToolStarted)]
    answered = [m.tool_call_id for m in model.requests[2].messages if m.role == "tool"]
    assert answered == ids


async def test_reasoning_ends_before_the_answer_begins() -> None:
    script: Script = [[ReasoningText("let me "), ReasoningText("see"), Text("42"), Finish("stop")]]
    log = await run(Agent("a", ScriptedModel(script)))
    thought = log.one(ReasoningStarted).message_id
    assert log.events[2:6] == [
        ReasoningStarted(run_id=R, path=P, message_id=thought),
        ReasoningDelta(run_id=R, path=P, message_id=thought, text="let me "),
        ReasoningDelta(run_id=R, path=P, message_id=thought, text="see"),
        ReasoningCompleted(run_id=R, path=P, message_id=thought, text="let me see"),
    ]
    assert thought != log.one(MessageStarted).message_id
    assert log.one(RunCompleted).output == "42"


@pytest.mark.rows("S16")
@pytest.mark.parametrize(
    ("name", "arguments", "code", "text"),
    [
        ("get_weather", '{"city":', "tool_arguments_invalid", "no valid JSON"),
        ("get_weather", '{"town":"x"}', "tool_arguments_invalid", "city: Field required"),
        ("get_wether", "{}", "tool_unknown", "the tools are: broken, get_weather"),
        ("broken", "{}", "tool_error", "ZeroDivisionError: by zero"),
    ],
)
async def test_what_goes_wrong_with_a_call_is_told_to_the_model(
    name: str, arguments: str, code: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    @tool
    async def broken() -> None:
        raise ZeroDivisionError("by zero")

    model = ScriptedModel([call_tools(call("c1", name, arguments)), say("sorry")])
    log = await run(Agent("a", model, tools=[get_weather, broken]))
    failed = log.one(ToolFailedEvent)
    assert failed.error.code == code
    assert text in failed.error.message
    assert model.requests[1].messages[-1].content == f"error: {failed.error.message}"
    assert log.one(RunCompleted).output == "sorry"
    assert ("Traceback" in caplog.text) == (code == "tool_error")


async def test_a_run_that_never_comes_to_an_end_is_stopped_by_its_step_limit() -> None:
    model = ScriptedModel(lambda _: call_tools(call("c1")))
    log = await run(Agent("a", model, tools=[get_weather], max_turns=3))
    assert len(model.requests) == 3
    assert log.one(RunFailed).error == ErrorInfo(
        code="step_limit_exceeded", message="the run was not done after 3 model calls"
    )


async def test_a_run_that_goes_on_counts_turns_and_usage_on() -> None:
    model = ScriptedModel([[Text("ok"), Finish("stop", USAGE)]])
    asked = RunRequest(R, (user("hi"),), announce=False, turns=2, usage=USAGE, attempt=2)
    log = await run(Agent("a", model), asked)
    assert log.types[0] == "model.started"
    assert log.one(ModelStarted).turn == 3
    assert log.one(RunCompleted).usage == USAGE + USAGE
    assert log.one(RunCompleted).num_turns == 3
    log = await run(Agent("a", model, max_turns=2), asked)
    assert log.types == ["run.failed"]


@pytest.mark.rows("W-S5")
async def test_a_stream_that_is_cut_without_a_finish_is_a_failure() -> None:
    log = await run(Agent("a", ScriptedModel([[Text("half")]])))
    assert log.types[-4:] == ["message.delta", "model.failed", "message.completed", "run.failed"]
    assert log.one(ModelFailed).will_retry is False
    assert log.one(MessageCompleted).text == "half"
    assert log.one(MessageCompleted).incomplete is True
    assert log.one(RunFailed).error == ErrorInfo(
        code="model_stream_broken", message="the model's answer ended without a finish"
    )


@pytest.mark.rows("W-L4", "X1")
async def test_a_model_that_refuses_ends_the_run_with_its_words() -> None:
    error = ModelRefused("the provider refused the request: HTTP 401", status_code=401)
    log = await run(Agent("a", ScriptedModel([[error]])))
    assert log.types == ["run.started", "model.started", "model.failed", "run.failed"]
    assert log.one(RunFailed).error == ErrorInfo(
        code="model_refused",
        message="the provider refused the request: HTTP 401",
        status_code=401,
    )


async def test_an_unexpected_error_shows_its_class_and_hides_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = ScriptedModel([[Text("half"), KeyError("sk-secret")]])
    log = await run(Agent("a", model))
    error = ErrorInfo(code="internal_error", message="the agent failed unexpectedly: KeyError")
    assert log.one(RunFailed).error == log.one(ModelFailed).error == error
    assert "sk-secret" in caplog.text


@pytest.mark.parametrize("said", [None, "Hel", {"text": "Hel"}])
async def test_what_is_no_delta_is_not_passed_over_in_silence(said: Any) -> None:
    class Careless(ScriptedModel):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
            yield said
            yield Finish("stop")

    log = await run(Agent("a", Careless([])))
    told = f"the model gave {type(said).__name__}, which is no delta"
    assert log.one(RunFailed).error == ErrorInfo(code="model_stream_broken", message=told)


async def test_a_call_that_goes_on_after_it_was_complete_is_nonsense() -> None:
    script: Script = [
        [
            ToolCallFragment(0, id="c1", name="get_weather", arguments='{"city":"A"}'),
            ToolCallFragment(1, id="c2", name="get_weather", arguments='{"city":"B"}'),
            ToolCallFragment(0, arguments="\n"),
            ToolCallFragment(0, arguments="more"),
            Finish("tool_calls"),
        ]
    ]
    log = await run(Agent("a", ScriptedModel(script), tools=[get_weather]))
    assert log.one(RunFailed).error.code == "model_stream_broken"


class EchoOptions(RunOptions):
    interval_ms: int = Field(default=20, ge=0)


async def test_options_reach_the_model_and_the_log() -> None:
    model = ScriptedModel(lambda _: say("ok"))
    agent = Agent("a", model, options_type=EchoOptions)
    options = EchoOptions(temperature=0.5, interval_ms=5)
    log = await run(agent, RunRequest(R, (user("hi"),), options=options))
    assert model.requests[0].options == options
    assert log.one(RunStarted).options == {"temperature": 0.5, "interval_ms": 5}
    await run(agent, RunRequest(R, (user("hi"),), options=RunOptions(max_tokens=3)))
    assert model.requests[1].options == EchoOptions(max_tokens=3)


async def test_options_that_the_agent_does_not_take_fail_the_run() -> None:
    agent = Agent("a", ScriptedModel([]))
    asked = RunRequest(R, (user("hi"),), options=EchoOptions(interval_ms=5))
    log = await run(agent, asked)
    error = log.one(RunFailed).error
    assert error.code == "options_invalid"
    assert "interval_ms" in error.message


@pytest.mark.rows("S1")
def test_an_agent_that_cannot_work_is_refused_with_the_reason() -> None:
    model = ScriptedModel([])
    with pytest.raises(ValueError, match="agent 'a' has no model"):
        Agent("a", None)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(TypeError, match="decorate it with @tool"):
        Agent("a", model, tools=[print])  # type: ignore[list-item]  # what is refused
    with pytest.raises(ValueError, match="two tools have the same name"):
        Agent("a", model, tools=[get_weather, get_weather])
    with pytest.raises(ValueError, match="must be positive"):
        Agent("a", model, max_turns=0)
