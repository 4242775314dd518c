"""Tool calls in a run: other ways to make tools, attempts, approvals that depend, what tools say."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel, Field

from runtime import (
    Agent,
    Event,
    RetryPolicy,
    ScriptedModel,
    Tool,
    ToolCall,
    ToolContext,
    ToolFailed,
    tool,
)
from runtime.events import (
    ApprovalRequested,
    Custom,
    ErrorInfo,
    RunCancelled,
    RunCompleted,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
)
from runtime.models.scripted import call_tools, say
from runtime.scope import current_scope, emit, get_stream_writer, write
from tests.runtime.support import (
    PATIENCE,
    Log,
    check_ended,
    fails_by_itself,
    request,
    run,
    stopped_at_once,
)

AT_ONCE = RetryPolicy(attempts=3, base=0.001, on=ConnectionError, roll=lambda: 1.0)


def calls(*tools: Tool | str, arguments: str = "{}") -> ScriptedModel:
    names = [ran if isinstance(ran, str) else ran.name for ran in tools]
    asked = [ToolCall(id=f"c{n}", name=name, arguments=arguments) for n, name in enumerate(names)]
    return ScriptedModel([call_tools(*asked), say("ok")])


async def made(ran: Tool, arguments: str = "{}") -> Log:
    """Run an agent that calls this tool once."""
    return await run(Agent("a", calls(ran, arguments=arguments), tools=[ran]))


# --- made of parts ---------------------------------------------------------------------------------


class City(BaseModel):
    city: str = Field(description="Name of the city.")
    days: int = 1


@pytest.mark.rows("S16", "S17")
async def test_a_tool_may_be_made_of_a_model_of_its_parameters_and_a_function() -> None:
    async def execute(context: ToolContext, args: City) -> str:
        await context.progress(args.days)
        return f"sunny in {args.city}"

    weather = tool(name="weather", description="Looks it up.", params=City, execute=execute)
    assert weather.info.description == "Looks it up."
    properties = weather.info.parameters["properties"]
    assert properties["city"] == {"description": "Name of the city.", "type": "string"}
    assert weather.info.parameters["required"] == ["city"]
    log = await made(weather, '{"city": "Bern", "days": 3}')
    assert log.one(ToolCompleted).result == "sunny in Bern"
    assert log.one(ToolProgress).data == 3
    for bad in ('{"days": 3}', '{"city":'):
        log = await made(weather, bad)
        assert log.one(ToolFailedEvent).error.code == "tool_arguments_invalid"
        assert log.one(RunCompleted).output == "ok"


async def test_a_tool_may_be_made_of_a_json_schema_and_a_function() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}

    def execute(_: ToolContext, args: dict[str, Any]) -> list[str]:
        return [threading.current_thread().name, args["city"]]

    weather = tool(name="weather", params=schema, execute=execute, timeout=5)
    assert weather.info.parameters == schema
    assert weather.timeout == 5
    bare = tool(name="bare", params={}, execute=execute)
    assert bare.info.parameters == {"type": "object", "properties": {}}
    log = await made(weather, '{"city": "Bern"}')
    assert log.one(ToolCompleted).result == ["tidegate-tool", "Bern"]


def test_parameters_without_a_function_are_refused() -> None:
    with pytest.raises(TypeError, match="belong together"):
        tool(name="weather", params=City)  # type: ignore[call-overload]  # what is refused
    with pytest.raises(TypeError, match="is no function"):
        tool(name="weather", params=City, execute=print)


# --- attempts --------------------------------------------------------------------------------------


@pytest.mark.rows("SX8", "W-S8")
async def test_a_tool_that_failed_is_tried_again_and_each_failure_is_in_the_log() -> None:
    keys: list[tuple[int, str]] = []

    @tool(retry=AT_ONCE)
    async def flaky(told: ToolContext) -> str:
        keys.append((told.attempt, told.idempotency_key))
        await told.progress(told.attempt)
        if told.attempt < 3:
            raise ConnectionError("cut off")
        return "done"

    log = await made(flaky)
    start = log.types.index("tool.started")
    assert log.types[start : start + 7] == [
        "tool.started",
        "tool.progress",
        "tool.failed",
        "tool.progress",
        "tool.failed",
        "tool.progress",
        "tool.completed",
    ]
    assert [event.will_retry for event in log.of(ToolFailedEvent)] == [True, True]
    assert log.of(ToolFailedEvent)[0].error.message == "ConnectionError: cut off"
    assert keys == [(n, "run_1:c0") for n in (1, 2, 3)]


async def test_after_the_last_attempt_the_failure_is_told() -> None:
    @tool(retry=AT_ONCE)
    def flaky() -> str:
        raise ConnectionError("cut off")

    log = await made(flaky)
    assert [event.will_retry for event in log.of(ToolFailedEvent)] == [True, True, False]
    assert log.one(RunCompleted).output == "ok"


async def test_what_the_policy_is_not_for_is_not_tried_again() -> None:
    @tool(retry=AT_ONCE)
    async def refuses() -> str:
        raise ToolFailed("no")

    @tool
    async def flaky() -> str:
        raise ConnectionError("cut off")

    for ran in (refuses, flaky):
        assert (await made(ran)).one(ToolFailedEvent).will_retry is False


@pytest.mark.rows("SX8")
async def test_a_call_that_was_cut_off_is_not_tried_again() -> None:
    @tool(timeout=0.01, retry=RetryPolicy(base=0.001, on=Exception))
    async def slow() -> None:
        await asyncio.sleep(60)

    failed = (await made(slow)).one(ToolFailedEvent)
    assert (failed.error.code, failed.will_retry) == ("tool_timeout", False)


async def test_a_guardrail_or_hook_that_fails_after_the_tool_does_not_run_it_again() -> None:
    ran: list[str] = []

    def broken(_: Any) -> bool:
        raise ConnectionError

    @tool(retry=RetryPolicy(base=0.001, on=Exception), output_guardrails=[broken])
    async def act() -> str:
        ran.append("act")
        return "done"

    log = await made(act)
    assert ran == ["act"]
    assert log.one(ToolFailedEvent).will_retry is False


@pytest.mark.rows("S40")
async def test_a_run_is_cancelled_while_a_tool_waits_for_its_next_attempt() -> None:
    @tool(retry=RetryPolicy(base=60, on=ConnectionError, roll=lambda: 1.0))
    async def flaky() -> str:
        raise ConnectionError("cut off")

    log = Log()
    task = asyncio.create_task(Agent("a", calls(flaky), tools=[flaky]).execute(request(), log.emit))
    await log.until(ToolFailedEvent)
    await stopped_at_once(task)
    check_ended(log)
    assert log.of(ToolFailedEvent)[-1].error.code == "cancelled"


@pytest.mark.rows("S40", "W-S2")
async def test_a_run_is_cancelled_at_once_although_its_tool_resists() -> None:
    reached, released = asyncio.Event(), asyncio.Event()
    was_over: list[bool] = []

    @tool
    async def stubborn(told: ToolContext) -> None:
        reached.set()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                was_over.append(told.over)

    log = Log()
    agent = Agent("a", calls(stubborn), tools=[stubborn])
    task = asyncio.create_task(agent.execute(request(), log.emit))
    async with asyncio.timeout(PATIENCE):
        await reached.wait()
    try:
        await stopped_at_once(task)
    finally:
        released.set()  # else a failure would hang: nothing can stop this tool
    check_ended(log)
    assert log.one(ToolFailedEvent).error == ErrorInfo(
        code="cancelled", message="the run was cancelled"
    )
    assert log.one(RunCancelled).reason == "cancel"
    assert was_over == [True]


# --- approvals that depend -------------------------------------------------------------------------


async def async_check(arguments: Any) -> bool:
    await asyncio.sleep(0)
    return bool(arguments.city == "Bern")


@pytest.mark.rows("SX4")
@pytest.mark.parametrize("check", [lambda arguments: arguments.city == "Bern", async_check])
@pytest.mark.parametrize(("city", "asked"), [("Bern", True), ("Rome", False)])
async def test_approval_may_depend_on_the_arguments(check: Any, city: str, *, asked: bool) -> None:
    @tool(needs_approval=check)
    async def visit(city: str) -> str:
        return city

    log = await made(visit, f'{{"city": "{city}"}}')
    assert bool(log.of(ApprovalRequested)) is asked
    assert bool(log.of(ToolCompleted)) is not asked


async def test_a_check_that_fails_asks_a_human(caplog: pytest.LogCaptureFixture) -> None:
    @tool(needs_approval=lambda arguments: arguments.nothing)
    async def visit(city: str) -> str:
        return city

    log = await made(visit, '{"city": "Rome"}')
    assert log.one(ApprovalRequested).tool == "visit"
    assert "AttributeError" in caplog.text


# --- what tools say --------------------------------------------------------------------------------


async def helper(n: int) -> None:
    write({"n": n})
    emit("from a task", n)


async def test_a_tool_and_all_that_it_calls_speak_in_order() -> None:
    @tool
    async def work(told: ToolContext) -> str:
        await told.progress("first")
        write({"n": 1})
        emit("named", lambda: [2])
        async with asyncio.TaskGroup() as group:
            group.create_task(helper(3))
        writer = get_stream_writer(told)
        assert writer is not None
        writer({"n": 4})
        await writer.send({"n": 5})
        await told.progress("last")
        write({"n": 6})
        scope = current_scope()
        assert scope is told.scope
        return "done"

    log = await made(work)
    said = [event for event in log.events if isinstance(event, ToolProgress | Custom)]
    assert {event.path for event in said} == {("a",)}
    assert {event.call_id for event in log.of(ToolProgress)} == {"c0"}
    data = [event.data if isinstance(event, ToolProgress) else event.payload for event in said]
    assert data == ["first", {"n": 1}, [2], {"n": 3}, 3, {"n": 4}, {"n": 5}, "last", {"n": 6}]
    assert log.types.index("tool.completed") > max(log.events.index(event) for event in said)


async def test_a_tool_in_a_thread_speaks_in_order() -> None:
    @tool
    def work(told: ToolContext) -> str:
        told.progress_from_thread(1)
        write({"n": 2})
        emit("named", 3)
        told.progress_from_thread(4)
        write({"n": 5})
        return "done"

    log = await made(work)
    said = [event for event in log.events if isinstance(event, ToolProgress | Custom)]
    data = [event.data if isinstance(event, ToolProgress) else event.payload for event in said]
    assert data == [1, {"n": 2}, 3, 4, {"n": 5}]


async def test_two_tools_at_once_speak_each_for_their_own_call() -> None:
    both = asyncio.Barrier(2)

    @tool
    async def work(told: ToolContext) -> str:
        async with asyncio.timeout(PATIENCE):
            await both.wait()
        await helper(0)
        return told.call_id

    log = await run(Agent("a", calls(work, work), tools=[work]))
    assert sorted(event.call_id for event in log.of(ToolProgress)) == ["c0", "c1"]


@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_tool_said_last_is_in_a_slow_log_before_its_end(*, fails: bool) -> None:
    @tool
    async def work() -> None:
        for n in range(3):
            write({"n": n})
        if fails:
            raise ToolFailed("no")

    log = Log()

    async def slow(event: Event) -> None:
        for _ in range(10):  # turns of the loop in which the tool could end too early
            await asyncio.sleep(0)
        await log.emit(event)

    await Agent("a", calls(work), tools=[work]).execute(request(), slow)
    check_ended(log)
    start = log.types.index("tool.started")
    end = "tool.failed" if fails else "tool.completed"
    assert log.types[start + 1 : start + 5] == [*["tool.progress"] * 3, end]


async def test_what_is_said_when_the_call_is_over_goes_nowhere() -> None:
    go_on = asyncio.Event()
    refused: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    @tool
    async def work(told: ToolContext) -> str:
        async def later() -> None:
            await go_on.wait()
            write({"too": "late"})
            with pytest.raises(ToolFailed, match="the call is over"):
                await told.progress("late")
            refused.append("refused")

        tasks.append(asyncio.create_task(later()))
        return "done"

    log = await made(work)
    go_on.set()
    async with asyncio.timeout(PATIENCE):
        await tasks[0]
    assert refused == ["refused"]
    assert log.of(ToolProgress) == []
    assert log.types[-1] == "run.completed"


async def test_a_log_that_fails_at_what_a_tool_wrote_without_waiting_stops_the_tool() -> None:
    stopped: list[bool] = []

    class LogIsGone(Exception):
        pass

    async def emit_event(event: Any) -> None:
        if isinstance(event, ToolProgress):
            raise LogIsGone

    @tool
    async def work() -> None:
        write({"n": 1})
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(True)

    await fails_by_itself(Agent("a", calls(work), tools=[work]), emit_event, LogIsGone)
    assert stopped == [True]


@pytest.mark.rows("W-S8")
async def test_every_event_says_of_which_run_it_is_and_tools_say_when_they_run() -> None:
    @tool
    async def work() -> str:
        return "done"

    log = await made(work)
    assert {(event.run_id, event.path) for event in log.events} == {("run_1", ("a",))}
    started, completed = log.one(ToolStarted), log.one(ToolCompleted)
    assert (started.name, completed.name) == ("work", "work")
    assert completed.duration_ms >= 0
