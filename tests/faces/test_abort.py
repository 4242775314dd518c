"""A run can be stopped from anywhere, at once, and always says `RunAborted`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable

import pytest

from runtime import (
    Agent,
    Message,
    ModelRequest,
    ModelUnavailable,
    RetryPolicy,
    ScriptedModel,
    ToolCall,
    tool,
)
from runtime.cancel import CancelToken
from runtime.errors import RunAborted, ToolFailed
from runtime.events import Event, RunCancelled
from runtime.models.base import Delta, Text
from runtime.models.scripted import call_tools, say
from runtime.streaming import RunHandle, run, stream
from tests.faces.support import AT_ONCE, Gated, agent, check_events, gather_into
from tests.runtime.support import PATIENCE
from tests.support.waiting import quickest

WORK = ToolCall(id="c1", name="work", arguments="{}")


class Held:
    """A model that says a word and then waits; it knows when its stream was closed."""

    name = "held"

    def __init__(self, place: Gated, *, opening: bool = False) -> None:
        self.place = place
        self.opening = opening

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        if not self.opening:
            yield Text("Once ")
        await self.place.stay()

    async def aclose(self) -> None:
        pass


def in_model(place: Gated) -> Agent:
    return Agent("a", Held(place))


def opening_model(place: Gated) -> Agent:
    return Agent("a", Held(place, opening=True))


def in_tool(place: Gated) -> Agent:
    @tool
    async def work() -> str:
        """Work."""
        await place.stay()
        return "done"

    return agent(call_tools(WORK), say("never"), tools=[work])


def in_thread(place: Gated) -> Agent:
    loop = asyncio.get_running_loop()

    @tool
    def work() -> str:
        """Work."""
        loop.call_soon_threadsafe(place.reached.set)
        while not place.go_on.is_set():
            time.sleep(0.001)
        return "done"

    return agent(call_tools(WORK), say("never"), tools=[work])


def in_agent_below(place: Gated) -> Agent:
    below = Agent("helper", Held(place))
    call = ToolCall(id="h1", name="helper", arguments='{"input": "x"}')
    return agent(call_tools(call), say("never"), tools=[below.as_tool()])


def in_back_off(place: Gated) -> Agent:
    policy = RetryPolicy(attempts=9, base=60, roll=lambda: 1.0)

    def fail(request: ModelRequest) -> list[ModelUnavailable]:
        place.reached.set()
        return [ModelUnavailable("busy")]

    return Agent("a", ScriptedModel(fail), retry=policy)


PLACES: list[Callable[[Gated], Agent]] = [
    opening_model,
    in_model,
    in_tool,
    in_thread,
    in_agent_below,
    in_back_off,
]


async def at_the_place(place: Gated) -> None:
    async with asyncio.timeout(PATIENCE):
        await place.reached.wait()
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.rows("S36", "S37", "S38", "S40", "W-S2", "W-S3", "X1")
@pytest.mark.parametrize("build", PLACES)
@pytest.mark.parametrize("by", ["task", "timer", "thread"])
async def test_wherever_the_run_is_it_ends_at_once_with_the_same_error(
    build: Callable[[Gated], Agent], by: str
) -> None:
    assert await quickest(lambda: aborted(build, by), bound=AT_ONCE) < AT_ONCE


async def aborted(build: Callable[[Gated], Agent], by: str) -> float:
    """Abort a run, and return the seconds until its reader was told."""
    place, token = Gated(), CancelToken()
    handle = stream(build(place), "hi", cancel=token)
    events: list[Event] = []
    reading = asyncio.create_task(gather_into(events, handle.events))
    await at_the_place(place)
    assert not reading.done()
    loop = asyncio.get_running_loop()
    began = loop.time()
    if by == "task":
        token.abort("enough")
    elif by == "timer":
        loop.call_later(0, token.abort, "enough")
    else:
        threading.Thread(target=token.abort, args=("enough",)).start()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RunAborted, match="enough") as raised:
            await reading
    seconds = loop.time() - began
    with pytest.raises(RunAborted) as again:
        await handle.result
    assert again.value is raised.value
    place.go_on.set()  # a thread cannot be stopped; nobody waits for it
    check_events(events)
    assert isinstance(events[-1], RunCancelled)
    return seconds


@pytest.mark.rows("S40", "S41")
@pytest.mark.parametrize("build", [opening_model, in_model, in_tool, in_agent_below])
async def test_what_was_running_has_cleaned_up_when_the_stream_has_ended(
    build: Callable[[Gated], Agent],
) -> None:
    place, token = Gated(), CancelToken()
    handle = stream(build(place), "hi", cancel=token)
    reading = asyncio.create_task(handle.drain())
    await at_the_place(place)
    token.abort()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RunAborted):
            await reading
    assert place.left.is_set()


@pytest.mark.rows("S41")
async def test_when_its_reader_is_gone_the_model_is_closed_with_no_token_in_flight() -> None:
    place = Gated()
    handle = stream(in_model(place), "hi")
    reading = asyncio.create_task(handle.drain())
    await at_the_place(place)
    reading.cancel()
    async with asyncio.timeout(PATIENCE):
        await place.left.wait()
        with pytest.raises(asyncio.CancelledError):
            await reading


@pytest.mark.rows("W-S2")
async def test_a_tool_that_makes_a_failure_of_the_abort_does_not_delay_it() -> None:
    place, token = Gated(), CancelToken()

    @tool
    async def work() -> str:
        """Work."""
        try:
            await place.stay()
        except asyncio.CancelledError:
            raise ToolFailed("I was disturbed") from None
        return "done"

    assistant = agent(call_tools(WORK), say("never"), tools=[work])
    reading = asyncio.create_task(run(assistant, "hi", cancel=token))
    await at_the_place(place)
    token.abort()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RunAborted):
            await reading
    scripted = assistant.model
    assert isinstance(scripted, ScriptedModel)
    assert len(scripted.requests) == 1


@pytest.mark.rows("S36")
async def test_one_token_stops_several_runs_and_those_that_begin_later() -> None:
    token = CancelToken()
    places = [Gated() for _ in range(3)]
    runs = [asyncio.create_task(run(in_model(place), "hi", cancel=token)) for place in places]
    for place in places:
        await at_the_place(place)
    token.abort()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(runs)
    assert all(isinstance(task.exception(), RunAborted) for task in runs)
    with pytest.raises(RunAborted):
        await run(agent(say("never")), "hi", cancel=token)


async def test_what_was_said_until_then_is_in_the_conversation() -> None:
    place, token = Gated(), CancelToken()
    handle = stream(in_model(place), "hi", cancel=token)
    reading = asyncio.create_task(handle.drain())
    await at_the_place(place)
    token.abort()
    with pytest.raises(RunAborted):
        await reading
    assert [(m.role, m.content) for m in handle.messages] == [
        ("user", "hi"),
        ("assistant", "Once "),
    ]


async def stopped_in_tool(token: CancelToken) -> tuple[RunHandle, Agent]:
    place = Gated()
    assistant = in_tool(place)
    handle = stream(assistant, "hi", cancel=token)
    reading = asyncio.create_task(handle.drain())
    await at_the_place(place)
    token.stop_after_step()
    place.go_on.set()
    async with asyncio.timeout(PATIENCE):
        await reading
    return handle, assistant


async def test_a_stop_after_the_step_finishes_it_and_is_no_error() -> None:
    handle, assistant = await stopped_in_tool(CancelToken())
    result = await handle.result
    assert result.stopped
    assert result.num_turns == 1
    assert [m.role for m in result.messages] == ["user", "assistant", "tool"]
    assert result.messages[-1] == Message(role="tool", content="done", tool_call_id="c1")
    scripted = assistant.model
    assert isinstance(scripted, ScriptedModel)
    assert len(scripted.requests) == 1


async def test_a_stop_after_the_step_lets_an_agent_below_finish_its_work() -> None:
    place, token = Gated(), CancelToken()
    inner = ToolCall(id="c9", name="work", arguments="{}")

    @tool
    async def work() -> str:
        """Work."""
        await place.stay()
        return "done"

    below = Agent("helper", ScriptedModel([call_tools(inner), say("all done")]), tools=[work])
    call = ToolCall(id="h1", name="helper", arguments='{"input": "x"}')
    boss = agent(call_tools(call), say("never"), tools=[below.as_tool()])
    reading = asyncio.create_task(run(boss, "hi", cancel=token))
    await at_the_place(place)
    token.stop_after_step()
    place.go_on.set()
    async with asyncio.timeout(PATIENCE):
        result = await reading
    assert result.stopped
    assert result.messages[-1].content == "all done"
