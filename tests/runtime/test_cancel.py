"""A run can be stopped whatever it is doing, and ends cleanly whatever stops it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Any

import pytest

from runtime import (
    Agent,
    Event,
    ModelUnavailable,
    RetryPolicy,
    ScriptedModel,
    ToolCall,
    ToolContext,
    tool,
)
from runtime.agent import Handoff, Hooks, RunContext
from runtime.errors import RuntimeFault
from runtime.events import (
    Custom,
    ErrorInfo,
    MessageCompleted,
    MessageDelta,
    ModelRetrying,
    ModelStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    ToolCallDelta,
    ToolCompleted,
    ToolFailedEvent,
    ToolProgress,
    ToolStarted,
)
from runtime.models.base import Delta, Finish, ModelRequest, Text, ToolCallFragment
from runtime.models.scripted import Cue, Pause, call_tools, say
from runtime.scope import current_scope
from tests.runtime.support import PATIENCE, Log, check_ended, fails_by_itself, request, run

CANCELLED = ErrorInfo(code="cancelled", message="the run was cancelled")
WORK = ToolCall(id="c1", name="work", arguments="{}")
AT_ONCE = 0.1
"""Seconds: the bound of row S40."""


def model(*answers: Iterable[Cue]) -> ScriptedModel:
    return ScriptedModel(list(answers))


async def cancelled(
    agent: Agent, when: Any, *, count: int = 1, reached: asyncio.Event | None = None
) -> Log:
    """Run, cancel at the `count`-th event of a type, and check the end.

    `emit` never waits here, so a run that has emitted an event is at its next wait when the test
    goes on. A tool runs in a task of its own and says itself that it was `reached`.
    """
    log = Log()
    task = asyncio.create_task(agent.execute(request(), log.emit))
    await log.until(when, count)
    async with asyncio.timeout(PATIENCE):
        if reached is not None:
            await reached.wait()
        assert not task.done()
        before = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert time.monotonic() - before < AT_ONCE
    check_ended(log)
    assert log.one(RunCancelled).reason == "cancel"
    return log


async def test_while_the_model_opens_its_stream() -> None:
    log = await cancelled(Agent("a", model([Pause(60)])), ModelStarted)
    assert log.types == ["run.started", "model.started", "run.cancelled"]
    assert log.one(RunCancelled).partial_output is None


@pytest.mark.rows("S40")
async def test_in_the_middle_of_the_models_text() -> None:
    log = await cancelled(
        Agent("a", model([Text("Hel"), Text("lo"), Pause(60), Finish("stop")])),
        MessageDelta,
        count=2,
    )
    assert log.types[-2:] == ["message.completed", "run.cancelled"]
    said = log.one(MessageCompleted)
    assert (said.text, said.incomplete) == ("Hello", True)
    assert log.one(RunCancelled).partial_output == "Hello"


async def test_the_models_stream_is_closed() -> None:
    closed: list[bool] = []

    class Watched(ScriptedModel):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
            try:
                async for delta in super().stream(request):
                    yield delta
            finally:
                closed.append(True)

    await cancelled(Agent("a", Watched([[Text("Hel"), Pause(60)]])), MessageDelta)
    assert closed == [True]


async def test_in_the_middle_of_a_tool_calls_arguments() -> None:
    half: list[Cue] = [ToolCallFragment(0, id="c1", name="work", arguments='{"a'), Pause(60)]
    log = await cancelled(Agent("a", model(half)), ToolCallDelta)
    assert log.types[-2:] == ["tool_call.ready", "run.cancelled"]


@pytest.mark.rows("S40", "W-S2", "X1")
async def test_while_an_async_tool_runs() -> None:
    cleaned_up: list[bool] = []
    reached = asyncio.Event()

    @tool
    async def work() -> None:
        reached.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned_up.append(True)

    agent = Agent("a", model(call_tools(WORK)), tools=[work])
    log = await cancelled(agent, ToolStarted, reached=reached)
    assert log.types[-2:] == ["tool.failed", "run.cancelled"]
    assert log.one(ToolFailedEvent).error == CANCELLED
    assert cleaned_up == [True]


@pytest.mark.rows("S40")
async def test_while_a_sync_tool_runs_in_its_thread() -> None:
    released, reached = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    threads: list[threading.Thread] = []

    @tool
    def work() -> str:
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(reached.set)
        released.wait(PATIENCE)
        return "late"

    agent = Agent("a", model(call_tools(WORK)), tools=[work])
    try:
        log = await cancelled(agent, ToolStarted, reached=reached)
    finally:
        released.set()
    assert log.types[-2:] == ["tool.failed", "run.cancelled"]
    await asyncio.to_thread(threads[0].join, PATIENCE)
    assert not threads[0].is_alive()  # so its late result has come, and was ignored
    assert log.types[-2:] == ["tool.failed", "run.cancelled"]


@pytest.mark.rows("S40")
async def test_while_it_waits_to_call_the_model_again() -> None:
    patient = RetryPolicy(base=60, roll=lambda: 1.0)
    agent = Agent("a", model([ModelUnavailable("busy")]), retry=patient)
    log = await cancelled(agent, ModelRetrying)
    assert log.types[-2:] == ["model.retrying", "run.cancelled"]


@pytest.mark.rows("S40")
async def test_between_two_turns_while_a_hook_thinks() -> None:
    reached, stopped = asyncio.Event(), asyncio.Event()

    async def think(about: RunContext, asked: ModelRequest) -> None:
        if about.turn == 2:
            reached.set()
            try:
                await asyncio.sleep(60)
            finally:
                stopped.set()

    @tool
    async def work() -> str:
        return "done"

    agent = Agent("a", model(call_tools(WORK)), tools=[work], hooks=Hooks(before_model=think))
    log = await cancelled(agent, ToolCompleted, reached=reached)
    assert log.types[-2:] == ["tool.completed", "run.cancelled"]
    assert stopped.is_set()


async def test_cancelling_again_while_it_ends_changes_nothing() -> None:
    log = Log()
    ending, go_on = asyncio.Event(), asyncio.Event()

    async def slow_to_end(event: Event) -> None:
        if isinstance(event, MessageCompleted):
            ending.set()
            await go_on.wait()
        await log.emit(event)

    agent = Agent("a", model([Text("Hel"), Pause(60)]))
    task = asyncio.create_task(agent.execute(request(), slow_to_end))
    await log.until(MessageDelta)
    task.cancel()
    async with asyncio.timeout(PATIENCE):
        await ending.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    check_ended(log)
    assert log.types[-2:] == ["message.completed", "run.cancelled"]


@pytest.mark.rule("run.one_end")
async def test_cancelling_while_the_end_is_reported_does_not_make_a_second_one() -> None:
    log = Log()
    ending, go_on = asyncio.Event(), asyncio.Event()

    async def slow_to_end(event: Event) -> None:
        if isinstance(event, RunCompleted):
            ending.set()
            await go_on.wait()
        await log.emit(event)

    task = asyncio.create_task(Agent("a", model(say("ok"))).execute(request(), slow_to_end))
    async with asyncio.timeout(PATIENCE):
        await ending.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    check_ended(log)
    assert log.types[-1] == "run.completed"


async def test_a_run_that_takes_too_long_is_cancelled_by_itself_and_returns() -> None:
    stuck: list[Cue] = [Text("Hel"), Pause(60)]
    for agent, asked in (
        (Agent("a", model(stuck), timeout=0.05), request()),
        (Agent("a", model(stuck)), request(timeout=0.05)),
        (Agent("a", model(stuck), timeout=0.05), request(timeout=60)),
    ):
        log = await run(agent, asked)
        assert log.types[-2:] == ["message.completed", "run.cancelled"]
        end = log.one(RunCancelled)
        assert (end.reason, end.partial_output) == ("timeout", "Hel")


async def test_a_run_that_takes_too_long_in_a_tool_says_so() -> None:
    @tool
    async def work() -> None:
        await asyncio.sleep(60)

    log = await run(Agent("a", model(call_tools(WORK)), tools=[work], timeout=0.05))
    assert log.one(ToolFailedEvent).error.code == "timeout"
    assert log.one(RunCancelled).reason == "timeout"


async def test_a_timeout_inside_the_model_is_no_timeout_of_the_run() -> None:
    log = await run(Agent("a", model([TimeoutError("the provider's own")])))
    assert log.one(RunFailed).error.code == "internal_error"


class LogIsGone(Exception):
    """What a log that was taken away raises."""


class LogIsFull(RuntimeFault):
    """What a log may raise that is itself a part of the runtime."""


async def broken_at(agent: Agent, kind: Any) -> list[str]:
    """Run with a log that fails at an event of a type; return all that it was given."""
    given: list[str] = []

    async def emit(event: Event) -> None:
        given.append(event.type)
        await asyncio.sleep(0)
        if isinstance(event, kind):
            raise LogIsGone

    await fails_by_itself(agent, emit, LogIsGone)
    return given


async def test_when_the_log_fails_in_the_models_text_the_run_ends_without_a_word() -> None:
    given = await broken_at(Agent("a", model(say("ok"))), MessageDelta)
    assert given[-1] == "message.delta"


async def test_when_the_log_fails_at_the_end_the_run_ends_without_a_word() -> None:
    assert (await broken_at(Agent("a", model(say("ok"))), RunCompleted))[-1] == "run.completed"
    assert (await broken_at(Agent("a", model([Text("half")])), RunFailed))[-1] == "run.failed"


@pytest.mark.parametrize("kind", [ToolStarted, ToolProgress])
async def test_when_the_log_fails_in_a_tool_the_other_tools_are_stopped(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stopped: list[str] = []

    @tool
    async def other() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append("other")

    @tool
    async def work(told: ToolContext) -> None:
        while True:
            try:
                await told.progress("half")
            except Exception:  # noqa: BLE001 - a tool that swallows what it should not
                stopped.append("swallowed")

    calls = (ToolCall(id="c2", name="other", arguments="{}"), WORK)
    given = await broken_at(Agent("a", model(call_tools(*calls)), tools=[work, other]), kind)
    assert given.count("tool.failed") == 0
    assert caplog.text == ""  # the tool is not blamed
    assert "run.failed" not in given
    assert "swallowed" not in stopped
    if kind is ToolProgress:  # by then the other one had begun
        assert stopped == ["other"]


@pytest.mark.parametrize("where", ["allow", "before_tool", "guardrail", "needs_approval", "tool"])
async def test_a_log_that_fails_at_a_word_of_the_author_is_not_taken_for_the_authors_failure(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def speak(*_: Any) -> bool:
        scope = current_scope()
        assert scope is not None
        await scope.outbox.send(scope.custom("word", where))
        return True

    async def idle(*_: Any) -> bool:
        return False

    async def full(event: Event) -> None:
        given.append(event.type)
        if isinstance(event, Custom):
            raise LogIsFull

    def at(name: str) -> Any:
        return speak if where == name else idle

    @tool(
        needs_approval=at("needs_approval"),
        input_guardrails=[speak] if where == "guardrail" else [],
    )
    async def work() -> bool:
        return await at("tool")()  # type: ignore[no-any-return]  # one of the above

    given: list[str] = []
    hook: Any = speak if where == "before_tool" else None
    name = "transfer_to_b" if where == "allow" else "work"
    agent = Agent(
        "a",
        model(call_tools(ToolCall(id="c1", name=name, arguments="{}"))),
        tools=[work],
        handoffs=[Handoff(Agent("b", model()), allow=at("allow"))],
        hooks=Hooks(before_tool=hook),
    )
    await fails_by_itself(agent, full, LogIsFull)
    assert given[-1] == "custom"
    assert caplog.text == ""


async def test_a_log_that_is_cancelled_itself_is_a_log_that_fails() -> None:
    given: list[str] = []

    async def emit(event: Event) -> None:
        given.append(event.type)
        if isinstance(event, MessageDelta):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Agent("a", model(say("ok"))).execute(request(), emit)
    assert given[-1] == "message.delta"
