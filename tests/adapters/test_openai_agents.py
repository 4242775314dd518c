"""Agents of the OpenAI Agents SDK, run by the SDK itself with its scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    RunConfig,
    Usage,
    function_tool,
    input_guardrail,
)
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.tracing import TracingProcessor, set_trace_processors
from openai.types.responses import ResponseReasoningSummaryTextDeltaEvent, ResponseTextDeltaEvent
from pydantic import BaseModel

from runtime import Event, Message, RunOptions
from runtime.adapters.openai_agents import OpenAIAgentsAgent
from runtime.cancel import CancelToken
from runtime.events import (
    AgentHandoff,
    ApprovalRequested,
    GuardrailTripped,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ReasoningCompleted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    ToolCallReady,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.runnable import Decision
from tests.adapters.support import PATIENCE, asked, run, stopped
from tests.runtime.support import Log, going_on

USAGE = Usage(requests=1, input_tokens=3, output_tokens=2, total_tokens=5)


class Gated(ScriptedModel):
    """A scripted model that thinks first, and then waits after each piece of text."""

    def __init__(self, steps: Any, gate: asyncio.Event | None = None) -> None:
        super().__init__(steps, default_usage=USAGE)
        self.gate = gate
        self.left = 0

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        try:
            async for event in super().stream_response(*args, **kwargs):
                if event.type == "response.output_item.added" and event.item.type == "message":
                    yield ResponseReasoningSummaryTextDeltaEvent(
                        delta="hm",
                        item_id="r",
                        output_index=0,
                        sequence_number=0,
                        summary_index=0,
                        type="response.reasoning_summary_text.delta",
                    )
                yield event
                if self.gate is not None and isinstance(event, ResponseTextDeltaEvent):
                    await self.gate.wait()
        finally:
            self.left += 1


@function_tool
async def weather(city: str) -> dict[str, str]:
    """Look up the weather."""
    return {"weather": f"sunny in {city}"}


@function_tool(needs_approval=True)
async def launch(count: int) -> str:
    return f"launched {count}"


def scripted(*steps: Any) -> ScriptedModel:
    return ScriptedModel(steps, default_usage=USAGE)


def helper(model: Any, *tools: Any, **options: Any) -> Agent[Any]:
    return Agent(name="helper", model=model, tools=[weather, launch, *tools], **options)


async def test_a_run_is_told_in_full() -> None:
    model = Gated(
        [
            [assistant_message("let me"), function_call("weather", {"city": "Oslo"}, call_id="c1")],
            [assistant_message("it is sunny")],
        ]
    )
    log = await run(OpenAIAgentsAgent(helper(model)), asked("how is it?"))
    assert log.types == [
        "run.started",
        "model.started",
        "reasoning.started",
        "reasoning.delta",
        "reasoning.completed",
        "message.started",
        "message.delta",
        "tool_call.started",
        "tool_call.delta",
        "tool_call.ready",
        "message.completed",
        "model.completed",
        "tool.started",
        "tool.completed",
        "model.started",
        "reasoning.started",
        "reasoning.delta",
        "reasoning.completed",
        "message.started",
        "message.delta",
        "message.completed",
        "model.completed",
        "run.completed",
    ]
    assert [thought.text for thought in log.of(ReasoningCompleted)] == ["hm", "hm"]
    assert log.one(ToolCallReady).arguments == '{"city":"Oslo"}'
    assert log.one(ToolStarted).arguments == '{"city":"Oslo"}'
    assert log.one(ToolCompleted).result == {"weather": "sunny in Oslo"}
    assert [said.text for said in log.of(MessageCompleted)] == ["let me", "it is sunny"]
    end = log.one(RunCompleted)
    assert (end.output, end.last_agent, end.num_turns) == ("it is sunny", "helper", 2)
    assert (end.usage.prompt_tokens, end.usage.total_tokens) == (6, 10)


async def test_earlier_turns_and_instructions_reach_the_model() -> None:
    model = scripted([assistant_message("fine")])
    history = [
        Message(role="user", content="hi"),
        Message(role="assistant", content="hello"),
        Message(role="user", content="how are you?"),
    ]
    await run(OpenAIAgentsAgent(helper(model, instructions="be kind")), asked(history))
    assert model.calls[0].system_instructions == "be kind"
    assert [(item["role"], item["content"]) for item in model.calls[0].input] == [
        ("user", "hi"),
        ("assistant", "hello"),
        ("user", "how are you?"),
    ]


async def test_options_reach_the_model() -> None:
    model = scripted([assistant_message("fine")])
    options = RunOptions(temperature=0.5, max_tokens=9, stop_sequences=("x",))
    await run(OpenAIAgentsAgent(helper(model)), asked(options=options))
    settings = model.calls[0].model_settings
    assert (settings.temperature, settings.max_tokens) == (0.5, 9)
    assert settings.extra_args == {"stop": ["x"]}


async def test_an_output_type_is_the_final_output() -> None:
    class Verdict(BaseModel):
        good: bool

    model = scripted([assistant_message('{"good": true}')])
    log = await run(OpenAIAgentsAgent(helper(model, output_type=Verdict)))
    assert log.one(RunCompleted).final_output == {"good": True}


async def test_a_handoff_is_told() -> None:
    other = Agent(name="other", model=scripted([assistant_message("I am the other")]))
    model = scripted([function_call("transfer_to_other", {}, call_id="c1")])
    log = await run(OpenAIAgentsAgent(helper(model, handoffs=[other]), name="front"))
    handoff = log.one(AgentHandoff)
    assert (handoff.source, handoff.target) == ("helper", "other")
    assert log.one(ToolCompleted).name == "transfer_to_other"
    assert log.one(MessageStarted).agent == "other"
    assert log.one(RunCompleted).last_agent == "other"


def approving() -> ScriptedModel:
    return scripted(
        [
            function_call("weather", {"city": "X"}, call_id="c1"),
            function_call("launch", {"count": 1}, call_id="c2"),
        ],
        [assistant_message("done")],
    )


@pytest.mark.parametrize(
    ("decision", "outcome"),
    [
        (Decision("approved"), "launched 1"),
        (Decision("edited", arguments='{"count": 5}'), "launched 5"),
        (Decision("rejected", message="no"), "rejected: a human rejected this call: no"),
        (Decision("expired"), "rejected: nobody approved this call in time"),
    ],
)
async def test_a_run_waits_for_a_human_and_goes_on(decision: Decision, outcome: str) -> None:
    model = approving()
    runnable = OpenAIAgentsAgent(helper(model))
    first = await run(runnable)
    asking = first.one(ApprovalRequested)
    assert (asking.tool, asking.call_id, asking.arguments) == ("launch", "c2", '{"count":1}')
    assert first.one(RunInterrupted).pending == (asking.approval_id,)
    assert [started.name for started in first.of(ToolStarted)] == ["weather"]

    log = await run(runnable, going_on(asked(), first.events, {"c2": decision}))
    said = [str(event.result) for event in log.of(ToolCompleted)]
    said += [f"{e.error.code}: {e.error.message}" for e in log.of(ToolFailedEvent)]
    assert said == [outcome]
    assert log.one(RunCompleted).output == "done"
    assert log.one(RunCompleted).num_turns == 2
    assert outcome.removeprefix("rejected: ") in str(model.calls[-1].input)
    assert runnable._states == {}


async def test_a_restart_with_durable_states_goes_on() -> None:
    states: dict[str, Any] = {}  # stands for any mapping that outlives the process
    model = approving()
    first = await run(OpenAIAgentsAgent(helper(model), states=states))
    again = OpenAIAgentsAgent(helper(model), states=states)
    log = await run(again, going_on(asked(), first.events, {"c2": Decision("approved")}))
    assert log.one(ToolCompleted).result == "launched 1"


async def test_a_restart_without_them_says_what_is_missing() -> None:
    first = await run(OpenAIAgentsAgent(helper(approving())))
    again = OpenAIAgentsAgent(helper(approving()))
    log = await run(again, going_on(asked(), first.events, {"c2": Decision("approved")}))
    error = log.one(RunFailed).error
    assert error.code == "checkpoint_unknown"
    assert "states=" in error.message


async def test_a_call_that_had_started_when_the_run_died_is_not_made_again() -> None:
    model = scripted(
        [function_call("weather", {"city": "X"}, call_id="c1")], [assistant_message("done")]
    )
    whole = await run(OpenAIAgentsAgent(helper(model)))
    model.enqueue([assistant_message("again")])
    cut = whole.types.index("tool.completed")
    log = await run(OpenAIAgentsAgent(helper(model)), going_on(asked(), whole.events[:cut]))
    assert log.one(ToolUnknownOutcome).call_id == "c1"
    assert "not known whether" in str(model.calls[-1].input)
    assert log.one(RunCompleted).output == "again"


async def test_an_approved_call_that_had_started_is_not_made_again() -> None:
    model = approving()
    runnable = OpenAIAgentsAgent(helper(model))
    first = await run(runnable)
    again = going_on(asked(), first.events, {"c2": Decision("approved")})
    log = await run(runnable, replace(again, started=frozenset({"c2"})))
    assert log.one(ToolUnknownOutcome).call_id == "c2"
    assert log.of(ToolStarted) == []


async def test_a_slow_log_hears_a_tool_after_the_answer_that_called_it() -> None:
    model = scripted(
        [function_call("weather", {"city": "X"}, call_id="c1")], [assistant_message("done")]
    )
    log = Log()

    async def slowly(event: Event) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        await log.emit(event)

    async with asyncio.timeout(PATIENCE):
        await OpenAIAgentsAgent(helper(model)).execute(asked(), slowly)
    assert log.types.index("tool.started") == log.types.index("model.completed") + 1


async def test_cancelling_in_mid_answer_leaves_nothing_behind() -> None:
    model = Gated([[assistant_message("half of it")]], asyncio.Event())
    log = Log()
    async with stopped(OpenAIAgentsAgent(helper(model)), log):
        await log.until(MessageDelta)
    assert log.one(RunCancelled).partial_output == "half of it"
    assert log.one(MessageCompleted).incomplete
    assert model.left == 1


async def test_cancelling_in_a_tool_stops_the_tool() -> None:
    ends: list[str] = []

    @function_tool
    async def hang() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")
        return "never"

    log = Log()
    model = scripted([function_call("hang", {}, call_id="c1")])
    async with stopped(OpenAIAgentsAgent(helper(model, hang)), log):
        await log.until(ToolStarted)
    assert ends == ["cancelled"]
    assert log.one(ToolFailedEvent).error.code == "cancelled"


async def test_a_time_limit_ends_the_run() -> None:
    model = Gated([[assistant_message("half of it")]], asyncio.Event())
    log = await run(OpenAIAgentsAgent(helper(model)), asked(timeout=0.2))
    assert log.one(RunCancelled).reason == "timeout"


async def test_a_run_can_be_asked_to_stop_after_its_step() -> None:
    model = scripted(
        [function_call("weather", {"city": "X"}, call_id="c1")], [assistant_message("never")]
    )
    token = CancelToken()
    token.stop_after_step()
    log = await run(OpenAIAgentsAgent(helper(model)), asked(cancel=token))
    assert log.types[-2:] == ["tool.completed", "run.cancelled"]
    assert model.remaining_steps == 1


def status(code: int) -> openai.APIStatusError:
    response = httpx2.Response(code, request=httpx2.Request("POST", "http://x"))
    return openai.APIStatusError("secret", response=response, body=None)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (status(503), "model_unavailable", "status 503"),
        (status(401), "model_refused", "status 401"),
        (RuntimeError("secret"), "internal_error", "RuntimeError"),
    ],
)
async def test_a_failure_is_told_without_secrets(error: Exception, code: str, text: str) -> None:
    log = await run(OpenAIAgentsAgent(helper(scripted(ModelStep.raise_error(error)))))
    end = log.one(RunFailed)
    assert end.error.code == code
    assert text in end.error.message
    assert "secret" not in end.error.message
    assert end.exception is not None


async def test_too_many_model_calls_are_a_failure() -> None:
    calls = [[function_call("weather", {"city": "X"}, call_id=f"c{n}")] for n in range(9)]
    model = scripted(*calls)
    log = await run(OpenAIAgentsAgent(helper(model), max_turns=2))
    assert log.one(RunFailed).error.code == "step_limit_exceeded"
    assert len(model.calls) == 2


async def test_a_guardrail_that_says_no_is_told() -> None:
    @input_guardrail
    async def polite(context: Any, agent: Any, text: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    model = scripted([assistant_message("fine")])
    log = await run(OpenAIAgentsAgent(helper(model, input_guardrails=[polite])))
    tripped = log.one(GuardrailTripped)
    assert (tripped.name, tripped.stage) == ("polite", "input")
    assert log.one(RunFailed).error.code == "guardrail_tripped"


class Tracing(TracingProcessor):
    """Counts traces, as the SDK's own exporter would send them."""

    def __init__(self) -> None:
        self.traces = 0

    def on_trace_start(self, trace: Any) -> None:
        self.traces += 1

    def on_trace_end(self, trace: Any) -> None: ...

    def on_span_start(self, span: Any) -> None: ...

    def on_span_end(self, span: Any) -> None: ...

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...


async def test_nothing_is_traced_unless_asked_for() -> None:
    tracing = Tracing()
    set_trace_processors([tracing])  # instead of the one that sends them to OpenAI
    model = scripted([assistant_message("fine")], [assistant_message("fine")])
    await run(OpenAIAgentsAgent(helper(model)))
    assert tracing.traces == 0
    await run(OpenAIAgentsAgent(helper(model), run_config=RunConfig()))
    assert tracing.traces == 1


def test_its_tools_are_shown() -> None:
    infos = OpenAIAgentsAgent(helper(scripted())).tool_infos()
    assert [info.name for info in infos] == ["weather", "launch"]
    assert infos[0].description == "Look up the weather."
