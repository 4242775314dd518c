"""Agents and graphs inside a run: their events, their ends, and how they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Literal

import pytest

from runtime import Agent, Decision, RunOptions, ScriptedModel, ToolCall, tool
from runtime.cancel import CancelToken
from runtime.errors import RunAborted, RunFault, RuntimeFault
from runtime.events import (
    AgentCompleted,
    AgentStarted,
    ApprovalRequested,
    Custom,
    ErrorInfo,
    Event,
    ModelCompleted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
)
from runtime.journal import JOURNALED
from runtime.messages import Message, Usage
from runtime.models.scripted import call_tools, say
from runtime.nested import Paused, run_below
from runtime.outbox import Outbox
from runtime.runnable import Emit, RunRequest, ToolInfo
from runtime.scope import Scope
from tests.runtime.support import PATIENCE

USER = (Message(role="user", content="look"),)
OUTER = RunRequest(run_id="run_1", history=(), timeout=5, options=RunOptions(max_tokens=9))
Work = Callable[[RunRequest, Emit], Awaitable[None]]


class Child:
    """A runnable that does what it is told."""

    name = "child"
    description = ""
    options_type = RunOptions

    def __init__(self, work: Work, *, kind: Literal["agent", "graph"] = "agent") -> None:
        self.work = work
        self.kind: Literal["agent", "graph"] = kind
        self.requests: list[RunRequest] = []

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        return ()

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        self.requests.append(request)
        await self.work(request, emit)

    async def aclose(self) -> None:
        pass


def ending(kind: type[Any] | None, **fields: Any) -> Work:
    async def work(request: RunRequest, emit: Emit) -> None:
        await emit(Custom(run_id=request.run_id, path=request.path, name="working"))
        if kind is not None:
            await emit(kind(run_id=request.run_id, path=request.path, **fields))

    return work


def completing(output: str = "done") -> Work:
    return ending(RunCompleted, output=output, usage=Usage(), message_count=1, num_turns=1)


class Outside:
    """The run outside: its scope, and what it reports."""

    def __init__(self, request: RunRequest = OUTER) -> None:
        self.events: list[Event] = []
        self.scope = Scope(request, ("boss",), Outbox(self.take), call_id="c1")

    async def take(self, event: Event) -> None:
        self.events.append(event)

    async def run(self, child: Any, **how: Any) -> RunCompleted:
        async with asyncio.timeout(PATIENCE):
            return await run_below(child, USER, self.scope, **how)


async def test_its_events_have_a_longer_path_and_its_end_is_what_is_returned() -> None:
    outside = Outside()
    end = await outside.run(Child(completing("found")), part="c1:child")
    assert end.output == "found"
    started, working, completed = outside.events
    assert isinstance(started, AgentStarted)
    assert isinstance(working, Custom)
    assert isinstance(completed, AgentCompleted)
    assert completed.output == "found"
    assert {event.path for event in outside.events} == {("boss", "c1:child")}
    assert {event.run_id for event in outside.events} == {"run_1"}


async def test_a_graph_below_says_nothing_of_being_an_agent() -> None:
    outside = Outside()
    await outside.run(Child(completing(), kind="graph"))
    assert [event.type for event in outside.events] == ["custom"]
    assert outside.events[0].path == ("boss", "child")


async def test_what_it_is_asked_is_its_own_and_the_rest_is_the_outer_run_s() -> None:
    token = CancelToken()
    decision = {"c9": Decision("approved")}
    outside = Outside(replace(OUTER, decisions=decision, cancel=token, attempt=3, turns=7))
    child = Child(completing())
    await outside.run(child, state={"n": 1})
    (request,) = child.requests
    assert request.history == USER
    assert request.options == RunOptions()  # its own defaults, not those of the outer run
    assert (request.run_id, request.attempt, request.decisions) == ("run_1", 3, decision)
    assert (request.announce, request.turns, request.timeout) == (False, 0, None)
    assert (request.state, request.checkpoint, request.save) == ({"n": 1}, None, None)
    assert request.cancel is None  # a step of the outer run is finished
    await outside.run(child, options=RunOptions(max_tokens=3))
    assert child.requests[-1].options.max_tokens == 3


async def test_what_made_it_fail_is_raised_as_it_was_after_the_agent_is_closed() -> None:
    error = LookupError("not there")
    failed = RunFailed(
        run_id="run_1", path=("x",), error=ErrorInfo(code="internal_error", message="m")
    )

    async def work(request: RunRequest, emit: Emit) -> None:
        await emit(failed.caused_by(error))

    outside = Outside()
    with pytest.raises(LookupError) as raised:
        await outside.run(Child(work))
    assert raised.value is error
    assert [event.type for event in outside.events] == ["agent.started", "agent.completed"]


async def test_a_failure_of_which_only_words_are_known_keeps_them() -> None:
    info = ErrorInfo(code="model_refused", message="no", retryable=True)
    with pytest.raises(RunFault, match="no") as raised:
        await Outside().run(Child(ending(RunFailed, error=info)))
    assert (raised.value.code, raised.value.retryable) == ("model_refused", True)


async def test_its_own_time_limit_is_a_failure() -> None:
    with pytest.raises(RunFault, match="not done in time") as raised:
        await Outside().run(Child(ending(RunCancelled, reason="timeout")))
    assert raised.value.code == "timeout"


@pytest.mark.parametrize(
    "work", [ending(None), ending(RunCancelled, reason="cancel")], ids=["mute", "cancelled"]
)
async def test_an_end_that_nobody_asked_for_is_no_success(work: Work) -> None:
    with pytest.raises(RuntimeFault, match="without saying how"):
        await Outside().run(Child(work))


async def test_waiting_for_a_human_pauses_all_above_and_keeps_the_agent_open() -> None:
    outside = Outside()
    with pytest.raises(Paused) as raised:
        await outside.run(Child(ending(RunInterrupted, reason="approval", pending=("apr_1",))))
    assert (raised.value.approvals, raised.value.reason) == (("apr_1",), "approval")
    assert not isinstance(raised.value, Exception)
    assert [event.type for event in outside.events] == ["agent.started", "custom"]


async def test_cancelling_reaches_it_and_passes_through() -> None:
    reached, cleaned = asyncio.Event(), asyncio.Event()

    async def work(request: RunRequest, emit: Emit) -> None:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    running = asyncio.create_task(Outside().run(Child(work)))
    async with asyncio.timeout(PATIENCE):
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert cleaned.is_set()


async def test_when_nobody_listens_outside_any_more_it_ends() -> None:
    outside = Outside()
    await outside.scope.outbox.aclose()
    with pytest.raises(RunAborted):
        await outside.run(Child(completing()))


class Counting:
    """An agent with a tool that asks a human first, and one that does not."""

    def __init__(self) -> None:
        self.did: list[str] = []

        @tool
        async def look() -> str:
            """Look."""
            self.did.append("look")
            return "seen"

        @tool(needs_approval=True)
        async def act() -> str:
            """Act."""
            self.did.append("act")
            return "acted"

        calls = [ToolCall(id=f"{n}1", name=n, arguments="{}") for n in ("look", "act")]
        self.model = ScriptedModel([call_tools(*calls), say("All done.")])
        self.agent = Agent("child", self.model, tools=[look, act])


async def test_what_it_did_before_an_interrupt_is_not_done_again() -> None:
    child = Counting()
    first = Outside()
    with pytest.raises(Paused):
        await first.run(child.agent, part="c1:child")
    assert child.did == ["look"]
    journal = tuple(event for event in first.events if isinstance(event, JOURNALED))
    (asked,) = [event for event in first.events if isinstance(event, ApprovalRequested)]
    assert asked.call_id is not None
    again = replace(OUTER, journal=journal, decisions={asked.call_id: Decision("approved")})
    second = Outside(again)
    end = await second.run(child.agent, part="c1:child")
    assert end.output == "All done."
    assert child.did == ["look", "act"]
    assert len(child.model.requests) == 2
    assert [m.role for m in child.model.requests[1].messages] == [
        "user",
        "assistant",
        "tool",
        "tool",
    ]


async def test_what_others_did_in_the_same_run_is_not_taken_for_its_own() -> None:
    other = Counting()
    first = Outside()
    with pytest.raises(Paused):
        await first.run(other.agent, part="c0:child")
    journal = tuple(event for event in first.events if isinstance(event, JOURNALED))
    child = Child(completing())
    await Outside(replace(OUTER, journal=journal)).run(child, part="c1:child")
    (request,) = child.requests
    assert (request.history, request.journal, request.turns) == (USER, (), 0)


async def test_its_turns_go_on_and_its_usage_begins_anew_because_the_outer_run_has_counted_it() -> (
    None
):
    said = ModelCompleted(
        run_id="run_1", path=("boss", "child"), usage=Usage(total_tokens=9), turn=1
    )
    child = Child(completing())
    await Outside(replace(OUTER, journal=(said,))).run(child)
    (request,) = child.requests
    assert (request.turns, request.usage) == (1, Usage())


async def test_a_run_that_died_after_its_last_word_only_ends() -> None:
    model = ScriptedModel([say("Said.")])
    first = Outside()
    await first.run(Agent("child", model))
    journal = tuple(event for event in first.events if isinstance(event, JOURNALED))
    end = await Outside(replace(OUTER, journal=journal, attempt=2)).run(Agent("child", model))
    assert end.output == "Said."
    assert len(model.requests) == 1
