"""Hooks: what an author may see, change and forbid around runs, models and tools."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from runtime import Agent, Message, ScriptedModel, ToolCall, tool
from runtime.agent import Allow, Change, Deny, Hooks, Replace, RunContext, ToolUse
from runtime.errors import RuntimeFault
from runtime.events import (
    ApprovalRequested,
    Custom,
    ModelCompleted,
    RunCompleted,
    RunFailed,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
)
from runtime.models.base import ModelRequest
from runtime.models.scripted import call_tools, say
from runtime.runnable import Decision
from runtime.scope import emit
from tests.runtime.support import going_on, request, run

LOOK = ToolCall(id="c1", name="look", arguments='{"city":"Bern"}')


@tool
async def look(city: str) -> str:
    return f"seen {city}"


@tool(needs_approval=True)
async def visit(city: str) -> str:
    return f"in {city}"


def agent(hooks: Any, call: ToolCall = LOOK) -> tuple[Agent, ScriptedModel]:
    model = ScriptedModel([call_tools(call), say("ok")])
    return Agent("a", model, tools=[look, visit], hooks=hooks), model


class Diary:
    """Writes down when each of its hooks is called."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def hooks(self, name: str) -> Hooks:
        async def before_run(about: RunContext) -> None:
            await asyncio.sleep(0)
            self.lines.append(f"{name} before run, {len(about.messages)} messages")

        def after_run(about: RunContext, end: RunCompleted) -> None:
            self.lines.append(f"{name} after run: {end.output}")

        def before_model(about: RunContext, asked: ModelRequest) -> None:
            self.lines.append(f"{name} before model {about.turn}")

        async def after_model(about: RunContext, said: ModelCompleted) -> None:
            await asyncio.sleep(0)
            self.lines.append(f"{name} after model {about.turn}: {len(said.tool_calls)} calls")

        def before_tool(use: ToolUse) -> Allow:
            self.lines.append(f"{name} before {use.name} {use.arguments['city']}")
            return Allow()

        async def after_tool(use: ToolUse, result: Any) -> None:
            await asyncio.sleep(0)
            self.lines.append(f"{name} after {use.name}: {result}")

        return Hooks(before_run, after_run, before_model, after_model, before_tool, after_tool)


@pytest.mark.rows("SX7")
async def test_hooks_before_are_called_in_order_and_hooks_after_in_reverse() -> None:
    diary = Diary()
    log = await run(agent([diary.hooks("A"), diary.hooks("B")])[0])
    assert diary.lines == [
        "A before run, 1 messages",
        "B before run, 1 messages",
        "A before model 1",
        "B before model 1",
        "B after model 1: 1 calls",
        "A after model 1: 1 calls",
        "A before look Bern",
        "B before look Bern",
        "B after look: seen Bern",
        "A after look: seen Bern",
        "A before model 2",
        "B before model 2",
        "B after model 2: 0 calls",
        "A after model 2: 0 calls",
        "B after run: ok",
        "A after run: ok",
    ]
    assert log.one(RunCompleted).output == "ok"


async def test_the_request_may_be_changed_for_the_model_alone() -> None:
    def shout(about: RunContext, asked: ModelRequest) -> ModelRequest:
        extra = Message(role="user", content="LOUD")
        return replace(asked, messages=(*asked.messages, extra))

    asking, model = agent(Hooks(before_model=shout))
    log = await run(asking)
    assert [asked.messages[-1].content for asked in model.requests] == ["LOUD", "LOUD"]
    assert log.one(RunCompleted).message_count == 4


async def test_a_denied_call_is_not_made_and_the_model_is_told() -> None:
    asking, model = agent(Hooks(before_tool=lambda use: Deny("not today")))
    log = await run(asking)
    assert log.of(ToolStarted) == []
    error = log.one(ToolFailedEvent).error
    assert (error.code, error.message) == ("denied", "not today")
    assert model.requests[1].messages[-1].content == "error: not today"


async def test_changed_arguments_are_used_by_the_hooks_after_and_by_the_tool() -> None:
    seen: list[Any] = []
    hooks = [
        Hooks(before_tool=lambda use: Change({"city": "Rome"})),
        Hooks(before_tool=lambda use: seen.append(use.arguments)),
    ]
    log = await run(agent(hooks)[0])
    assert seen == [{"city": "Rome"}]
    assert log.one(ToolStarted).arguments == '{"city":"Rome"}'
    assert log.one(ToolCompleted).result == "seen Rome"


async def test_changed_arguments_that_do_not_fit_are_told_and_nothing_runs() -> None:
    log = await run(agent(Hooks(before_tool=lambda use: Change({"town": "Rome"})))[0])
    assert log.of(ToolStarted) == []
    assert log.one(ToolFailedEvent).error.code == "tool_arguments_invalid"


async def test_a_result_may_be_replaced() -> None:
    hooks = Hooks(after_tool=lambda use, result: Replace({"was": result}))
    asking, model = agent([hooks, hooks])
    log = await run(asking)
    assert log.one(ToolCompleted).result == {"was": {"was": "seen Bern"}}
    assert model.requests[1].messages[-1].content == '{"was":{"was":"seen Bern"}}'


@pytest.mark.parametrize(("tools", "denied"), [("lo*", True), ("look", True), ("visit", False)])
async def test_tool_hooks_may_be_for_some_tools_only(tools: str, *, denied: bool) -> None:
    log = await run(agent(Hooks(before_tool=lambda use: Deny(), tools=tools))[0])
    assert bool(log.of(ToolFailedEvent)) is denied


async def test_a_human_is_shown_the_changed_arguments_and_those_are_used() -> None:
    cities = iter(["Rome", "Oslo"])

    def change(use: ToolUse) -> Change | None:
        return Change({"city": next(cities)}) if use.arguments["city"] == "Bern" else None

    call = ToolCall(id="c1", name="visit", arguments='{"city":"Bern"}')
    asking, _ = agent(Hooks(before_tool=change), call)
    log = await run(asking)
    assert log.one(ApprovalRequested).arguments == '{"city":"Rome"}'
    rest = await run(asking, going_on(request(), log.events, {"c1": Decision("approved")}))
    assert rest.one(ToolCompleted).result == "in Rome"


async def test_a_denied_call_does_not_bother_a_human() -> None:
    call = ToolCall(id="c1", name="visit", arguments='{"city":"Bern"}')
    log = await run(agent(Hooks(before_tool=lambda use: Deny()), call)[0])
    assert log.of(ApprovalRequested) == []


@pytest.mark.rows("W-S9")
async def test_a_run_that_goes_on_has_its_hooks() -> None:
    diary = Diary()
    call = ToolCall(id="c1", name="visit", arguments='{"city":"Bern"}')
    asking, _ = agent(diary.hooks("A"), call)
    log = await run(asking)
    diary.lines.clear()
    await run(asking, going_on(request(), log.events, {"c1": Decision("approved")}))
    assert diary.lines == [
        "A before run, 2 messages",
        "A before visit Bern",
        "A after visit: in Bern",
        "A before model 2",
        "A after model 2: 0 calls",
        "A after run: ok",
    ]


def broken(*_: Any) -> Any:
    raise KeyError("sk-secret")


@pytest.mark.parametrize("name", ["before_run", "after_run", "before_model", "after_model"])
async def test_a_hook_that_raises_around_a_run_or_a_model_fails_the_run_and_is_named(
    name: str,
) -> None:
    hooks: Any = {name: broken}
    log = await run(agent(Hooks(**hooks))[0])
    end = log.one(RunFailed)
    assert end.error.message == f"the hook '{name}' failed: KeyError"
    assert isinstance(end.exception, RuntimeFault)
    assert isinstance(end.exception.__cause__, KeyError)


@pytest.mark.parametrize(("name", "started"), [("before_tool", 0), ("after_tool", 1)])
async def test_a_hook_that_raises_around_a_tool_fails_the_call_and_the_run_goes_on(
    name: str, started: int, caplog: pytest.LogCaptureFixture
) -> None:
    hooks: Any = {name: broken}
    log = await run(agent(Hooks(**hooks))[0])
    assert len(log.of(ToolStarted)) == started
    assert log.one(ToolFailedEvent).error.message == f"the hook '{name}' failed: KeyError"
    assert log.one(RunCompleted).output == "ok"
    assert "sk-secret" in caplog.text


@pytest.mark.parametrize(("name", "started"), [("before_tool", 0), ("after_tool", 1)])
@pytest.mark.parametrize("answer", [False, "no", {"city": "Rome"}])
async def test_an_answer_that_means_nothing_is_no_leave_for_a_call(
    name: str, started: int, answer: Any
) -> None:
    hooks: Any = {name: lambda *_: answer}
    log = await run(agent(Hooks(**hooks))[0])
    assert len(log.of(ToolStarted)) == started
    assert log.of(ToolCompleted) == []
    kind = type(answer).__name__
    told = f"the hook '{name}' answered with {kind}, which means nothing"
    assert log.one(ToolFailedEvent).error.message == told


async def test_a_fault_that_a_hook_raises_is_told_as_it_is() -> None:
    class OutOfOffice(RuntimeFault):
        code = "out_of_office"

    def before_run(_: RunContext) -> None:
        raise OutOfOffice("come back at nine")

    error = (await run(agent(Hooks(before_run=before_run))[0])).one(RunFailed).error
    assert (error.code, error.message) == ("out_of_office", "come back at nine")


async def test_what_a_hook_says_is_reported_before_what_it_was_called_for() -> None:
    def told(*_: Any) -> None:
        emit("hook", len(told_at))
        told_at.append("")

    told_at: list[str] = []
    log = await run(agent(Hooks(before_model=told, before_tool=told, after_run=told))[0])
    assert [event.payload for event in log.of(Custom)] == [0, 1, 2, 3]
    follows = [log.types[n + 1] for n, kind in enumerate(log.types) if kind == "custom"]
    assert follows == ["model.started", "tool.started", "model.started", "run.completed"]


async def test_what_a_hook_said_before_it_failed_is_reported() -> None:
    def told(*_: Any) -> None:
        emit("hook", "careful")
        raise KeyError("sk-secret")

    log = await run(agent(Hooks(before_run=told))[0])
    assert log.types == ["run.started", "custom", "run.failed"]


async def test_a_hook_that_waits_is_stopped_with_the_run() -> None:
    stopped: list[bool] = []

    async def wait(_: RunContext) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(True)

    log = await run(agent(Hooks(before_run=wait))[0], request(timeout=0.02))
    assert log.types == ["run.started", "run.cancelled"]
    assert stopped == [True]
