"""Agents of pydantic-ai, run by the library itself with scripted models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.exceptions import ApprovalRequired, ModelHTTPError
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import (
    AgentInfo,
    DeltaThinkingPart,
    DeltaToolCall,
    FunctionModel,
)
from pydantic_ai.models.test import TestModel

from runtime import Event, Message, RunOptions
from runtime.adapters.pydantic_ai import PydanticAIAgent
from runtime.cancel import CancelToken
from runtime.events import (
    ApprovalRequested,
    MessageCompleted,
    MessageDelta,
    ModelCompleted,
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
from tests.adapters.support import asked, run, stopped
from tests.runtime.support import Log, going_on

Piece = str | dict[int, DeltaToolCall] | dict[int, DeltaThinkingPart] | asyncio.Event | Exception
Answer = Sequence[Piece]


class Script:
    """Plays answers, and keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.seen: list[list[ModelMessage]] = []
        self.infos: list[AgentInfo] = []
        self.left = 0

    @property
    def model(self) -> FunctionModel:
        return FunctionModel(stream_function=self._play, model_name="scripted")

    async def _play(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.seen.append(messages)
        self.infos.append(info)
        try:
            for piece in self.answers.pop(0):
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                elif isinstance(piece, Exception):
                    raise piece
                else:
                    yield piece
        finally:
            self.left += 1

    def parts(self, call: int) -> list[tuple[str, Any]]:
        return [
            (type(part).__name__, getattr(part, "content", getattr(part, "args", None)))
            for message in self.seen[call]
            for part in message.parts
        ]


def call(name: str, *pieces: str, call_id: str = "c1", index: int = 1) -> Answer:
    first = DeltaToolCall(name=name, json_args=pieces[0], tool_call_id=call_id)
    rest = [{index: DeltaToolCall(json_args=piece)} for piece in pieces[1:]]
    return [{index: first}, *rest]


def served(script: Script, **options: Any) -> tuple[PydanticAIAgent, Agent[Any, Any]]:
    agent: Agent[Any, Any] = Agent(script.model, name="helper", **options)

    @agent.tool_plain
    async def weather(city: str) -> dict[str, str]:
        """Look up the weather."""
        return {"weather": f"sunny in {city}"}

    @agent.tool_plain(requires_approval=True)
    async def launch(count: int) -> str:
        return f"launched {count}"

    return PydanticAIAgent(agent), agent


async def test_a_run_is_told_in_full() -> None:
    thought: Piece = {0: DeltaThinkingPart(content="hm, ")}
    more: Piece = {0: DeltaThinkingPart(content="weather")}
    script = Script(
        [thought, more, "let ", "me ", *call("weather", '{"ci', 'ty":"Oslo"}')], ["it is ", "sunny"]
    )
    runnable, _ = served(script)
    log = await run(runnable, asked("how is it?"))
    assert log.types == [
        "run.started",
        "model.started",
        "reasoning.started",
        "reasoning.delta",
        "reasoning.delta",
        "reasoning.completed",
        "message.started",
        "message.delta",
        "message.delta",
        "tool_call.started",
        "tool_call.delta",
        "tool_call.delta",
        "tool_call.ready",
        "message.completed",
        "model.completed",
        "tool.started",
        "tool.completed",
        "model.started",
        "message.started",
        "message.delta",
        "message.delta",
        "message.completed",
        "model.completed",
        "run.completed",
    ]
    assert log.one(ReasoningCompleted).text == "hm, weather"
    assert log.one(ToolCallReady).arguments == '{"city":"Oslo"}'
    assert log.one(ToolStarted).idempotency_key == "run_1:c1"
    assert log.one(ToolCompleted).result == {"weather": "sunny in Oslo"}
    assert [said.text for said in log.of(MessageCompleted)] == ["let me ", "it is sunny"]
    end = log.one(RunCompleted)
    assert (end.output, end.last_agent, end.num_turns) == ("it is sunny", "helper", 2)
    usages = [said.usage for said in log.of(ModelCompleted)]
    assert all(usage is not None and usage.completion_tokens > 0 for usage in usages)
    assert end.usage.total_tokens == sum(usage.total_tokens for usage in usages if usage)
    assert {said.model for said in log.of(ModelCompleted)} == {"scripted"}


async def test_earlier_turns_and_the_system_prompt_reach_the_model() -> None:
    script = Script(["fine"])
    runnable, _ = served(script, system_prompt="be kind")
    history = [
        Message(role="user", content="hi"),
        Message(role="assistant", content="hello"),
        Message(role="user", content="how are you?"),
    ]
    await run(runnable, asked(history))
    assert script.parts(0) == [
        ("SystemPromptPart", "be kind"),
        ("UserPromptPart", "hi"),
        ("TextPart", "hello"),
        ("UserPromptPart", "how are you?"),
    ]


async def test_options_reach_the_model() -> None:
    script = Script(["fine"], ["fine"])
    runnable, _ = served(script)
    await run(runnable, asked(options=RunOptions(temperature=0.5, stop_sequences=("x",))))
    await run(runnable, asked(options=RunOptions(max_tokens=9)))
    first, second = (info.model_settings for info in script.infos)
    assert first == {"temperature": 0.5, "stop_sequences": ["x"]}
    assert second == {"max_tokens": 9}


async def test_an_output_type_is_the_final_output() -> None:
    class Verdict(BaseModel):
        good: bool

    agent = Agent(TestModel(custom_output_args={"good": True}), name="judge", output_type=Verdict)
    log = await run(PydanticAIAgent(agent))
    end = log.one(RunCompleted)
    assert (end.output, end.final_output) == ('{"good":true}', {"good": True})


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
    script = Script(
        [*call("weather", '{"city":"X"}'), *call("launch", '{"count":1}', call_id="c2", index=2)],
        ["done"],
    )
    runnable, _ = served(script)
    first = await run(runnable)
    asking = first.one(ApprovalRequested)
    assert (asking.tool, asking.call_id, asking.arguments) == ("launch", "c2", '{"count":1}')
    assert first.one(RunInterrupted).pending == (asking.approval_id,)
    assert [started.name for started in first.of(ToolStarted)] == ["weather"]

    # Another object, as after a restart: the history is all that is needed.
    again, _ = served(script)
    log = await run(again, going_on(asked(), first.events, {"c2": decision}))
    said = [str(event.result) for event in log.of(ToolCompleted)]
    said += [f"{e.error.code}: {e.error.message}" for e in log.of(ToolFailedEvent)]
    assert said == [outcome]
    assert log.one(RunCompleted).output == "done"
    assert log.one(RunCompleted).num_turns == 2
    assert "run.started" not in log.types


async def test_a_tool_that_asks_while_it_runs_goes_on_too() -> None:
    script = Script(call("careful", "{}"), ["done"])
    runnable, agent = served(script)

    @agent.tool
    async def careful(context: RunContext[None]) -> str:
        if not context.tool_call_approved:
            raise ApprovalRequired
        return "did it"

    first = await run(runnable)
    assert first.types[-2:] == ["approval.requested", "run.interrupted"]
    log = await run(runnable, going_on(asked(), first.events, {"c1": Decision("approved")}))
    assert log.one(ToolCompleted).result == "did it"


async def test_a_call_that_had_started_when_the_run_died_is_not_made_again() -> None:
    script = Script(call("weather", '{"city":"X"}'), ["done"])
    runnable, _ = served(script)
    whole = await run(runnable)
    cut = whole.types.index("tool.completed")
    script.answers = [["done"]]
    log = await run(runnable, going_on(asked(), whole.events[:cut]))
    assert log.one(ToolUnknownOutcome).call_id == "c1"
    assert log.of(ToolStarted) == []
    assert "not known whether" in str(script.parts(-1)[-1])


async def test_what_no_human_was_asked_about_is_not_made_beside_what_was() -> None:
    script = Script(
        [*call("weather", '{"city":"X"}'), *call("launch", '{"count":1}', call_id="c2", index=2)],
        ["done"],
    )
    runnable, _ = served(script)
    first = await run(runnable)
    request = going_on(asked(), first.events, {"c2": Decision("approved")})
    lost = tuple(message for message in request.history if message.role != "tool")
    log = await run(runnable, replace(request, history=lost))
    assert log.one(ToolUnknownOutcome).call_id == "c1"
    assert log.one(ToolCompleted).result == "launched 1"


async def test_a_call_that_had_not_started_is_made() -> None:
    script = Script(call("weather", '{"city":"X"}'), ["done"])
    runnable, _ = served(script)
    whole = await run(runnable)
    cut = whole.types.index("tool.started")
    script.answers = [["done"]]
    log = await run(runnable, going_on(asked(), whole.events[:cut]))
    assert log.one(ToolCompleted).result == {"weather": "sunny in X"}


async def test_a_tool_that_wants_another_try_has_failed() -> None:
    script = Script(call("picky", "{}"), call("picky", "{}", call_id="c2"), ["done"])
    runnable, agent = served(script)
    tries: list[int] = []

    @agent.tool_plain
    async def picky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ModelRetry("say please")
        return "fine"

    log = await run(runnable)
    assert "say please" in log.one(ToolFailedEvent).error.message
    assert log.one(ToolCompleted).call_id == "c2"


async def test_cancelling_in_mid_answer_leaves_nothing_behind() -> None:
    script = Script(["half ", "of it", asyncio.Event()])
    runnable, _ = served(script)
    log = Log()
    async with stopped(runnable, log):
        await log.until(MessageDelta, 2)
    assert log.one(RunCancelled).partial_output == "half of it"
    assert log.one(MessageCompleted).incomplete
    assert script.left == 1


async def test_cancelling_in_a_tool_stops_the_tool() -> None:
    script = Script(call("hang", "{}"))
    runnable, agent = served(script)
    ends: list[str] = []

    @agent.tool_plain
    async def hang() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")
        return "never"

    log = Log()
    async with stopped(runnable, log):
        await log.until(ToolStarted)
    assert ends == ["cancelled"]
    assert log.one(ToolFailedEvent).error.code == "cancelled"


async def test_a_time_limit_ends_the_run() -> None:
    runnable, _ = served(Script(["half", asyncio.Event()]))
    log = await run(runnable, asked(timeout=0.1))
    assert log.one(RunCancelled).reason == "timeout"


async def test_a_run_can_be_asked_to_stop_after_its_step() -> None:
    script = Script(call("weather", '{"city":"X"}'), ["never"])
    runnable, _ = served(script)
    token = CancelToken()
    token.stop_after_step()
    log = await run(runnable, asked(cancel=token))
    assert log.types[-2:] == ["tool.completed", "run.cancelled"]
    assert len(script.seen) == 1


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ModelHTTPError(503, "m", {"secret": 1}), "model_unavailable", "status 503"),
        (ModelHTTPError(401, "m", {"secret": 1}), "model_refused", "status 401"),
        (RuntimeError("secret"), "internal_error", "RuntimeError"),
    ],
)
async def test_a_failure_is_told_without_secrets(error: Exception, code: str, text: str) -> None:
    runnable, _ = served(Script(["half ", error]))
    log = await run(runnable)
    end = log.one(RunFailed)
    assert end.error.code == code
    assert text in end.error.message
    assert "secret" not in end.error.message
    assert end.exception is error or end.exception.__cause__ is error  # type: ignore[union-attr] # not None
    assert "model.failed" in log.types


async def test_too_many_model_calls_are_a_failure() -> None:
    script = Script(*(call("weather", '{"city":"X"}', call_id=f"c{n}") for n in range(9)))
    agent = served(script)[1]
    log = await run(PydanticAIAgent(agent, max_turns=2))
    assert log.one(RunFailed).error.code == "step_limit_exceeded"
    assert len(script.seen) == 2
    log = await run(PydanticAIAgent(agent, max_turns=2), asked(turns=2))
    assert log.one(RunFailed).error.code == "step_limit_exceeded"
    assert len(script.seen) == 2


async def test_a_log_that_fails_ends_the_run_without_another_word() -> None:
    class DiskFull(Exception):
        pass

    told: list[Event] = []

    async def emit(event: Event) -> None:
        told.append(event)
        if event.type == "tool.started":
            raise DiskFull

    runnable, _ = served(Script(call("weather", '{"city":"X"}'), ["never"]))
    with pytest.raises(DiskFull):
        await runnable.execute(asked(), emit)
    assert told[-1].type == "tool.started"


def test_its_tools_are_shown() -> None:
    infos = served(Script())[0].tool_infos()
    assert [info.name for info in infos] == ["weather", "launch"]
    assert infos[0].description == "Look up the weather."
    assert infos[0].parameters["required"] == ["city"]


def test_an_agent_needs_a_name() -> None:
    with pytest.raises(ValueError, match="without a name"):
        PydanticAIAgent(Agent(TestModel()))
