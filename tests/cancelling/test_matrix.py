"""Wherever a run is, and however it is ended: it ends at once, says so once, and leaves nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from runtime import Agent, Message, RunRequest, ScriptedModel, ToolCall, tool
from runtime.boundaries import Boundaries
from runtime.cancel import CancelToken
from runtime.errors import RunAborted, RunTimeout
from runtime.events import Event, RunInterrupted
from runtime.history import legal
from runtime.models import call_tools
from runtime.run_stream import RunStream
from runtime.transcript import Transcript
from tests.cancelling.scenes import SCENES, Scene
from tests.runtime.support import still_open
from tests.support.waiting import quickest

REPEATS = int(os.environ.get("TIDEGATE_REPEATS", "3"))
"""How often each cell is run; 200 shows leaks that 3 do not."""

BOUND = 0.1
"""Seconds in which a run must be over. A machine that is busy gets three chances."""

LIMIT = 0.15
"""Seconds that a run may take in the cells of the time limit; enough to be at the place by then."""

PATIENCE = 5.0
ENDS = {"run.completed", "run.failed", "run.cancelled", "run.interrupted"}


class Watched:
    """A run, everything that it reports, and when it was ended and over."""

    def __init__(self, scene: Scene, *, timeout: float | None = None) -> None:
        self.scene = scene
        self.token = CancelToken()
        self.events: list[Event] = []
        self.last_said = asyncio.Event()
        self.history = (Message(role="user", content="hi"),)
        request = RunRequest(run_id="run_1", history=self.history, timeout=timeout)
        self.stream: RunStream[Event] = RunStream(
            scene.runnable, request, self.note, cancel=self.token
        )

    def note(self, event: Event) -> Event:
        self.events.append(event)
        if event.type == self.scene.last:
            self.last_said.set()
        return event

    async def at_the_place(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.scene.there.wait()
            await self.last_said.wait()

    async def consume(self) -> None:
        async for _ in self.stream:
            pass


async def by_token(watched: Watched) -> float:
    consumer = asyncio.create_task(watched.consume())
    await watched.at_the_place()
    began = asyncio.get_running_loop().time()
    watched.token.abort("enough")
    with pytest.raises(RunAborted, match="enough"):
        await consumer
    return asyncio.get_running_loop().time() - began


async def by_task_cancel(watched: Watched) -> float:
    consumer = asyncio.create_task(watched.consume())
    await watched.at_the_place()
    began = asyncio.get_running_loop().time()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    return asyncio.get_running_loop().time() - began


async def by_break(watched: Watched) -> float:
    left = asyncio.Event()

    async def consume() -> None:
        async for event in watched.stream:
            if event.type == watched.scene.last:
                await watched.at_the_place()
                break
        left.set()
        await watched.stream.wait()

    consumer = asyncio.create_task(consume())
    async with asyncio.timeout(PATIENCE):
        await left.wait()
    began = asyncio.get_running_loop().time()
    await consumer
    return asyncio.get_running_loop().time() - began


async def by_timeout(watched: Watched) -> float:
    consumer = asyncio.create_task(watched.consume())
    began = asyncio.get_running_loop().time()
    await watched.at_the_place()
    with pytest.raises(RunTimeout):
        await consumer
    return asyncio.get_running_loop().time() - began - LIMIT


WAYS: dict[str, Callable[[Watched], Awaitable[float]]] = {
    "token": by_token,
    "timeout": by_timeout,
    "break": by_break,
    "task cancel": by_task_cancel,
}


async def end_once(place: str, way: str) -> float:
    """Run one cell once, check all but the time, and return the seconds that ending it took."""
    async with SCENES[place]() as scene, asyncio.timeout(PATIENCE):
        watched = Watched(scene, timeout=LIMIT if way == "timeout" else None)
        seconds = await WAYS[way](watched)
        assert scene.there.is_set()
        if scene.gone is not None:
            await scene.gone.wait()
        check(watched, "timeout" if way == "timeout" else "cancel")
    return seconds


def check(watched: Watched, reason: str) -> None:
    ends = [event for event in watched.events if event.type in ENDS]
    assert [event.type for event in ends] == ["run.cancelled"]
    assert ends[0] is watched.events[-1]
    assert getattr(ends[0], "reason", None) == reason
    boundaries = Boundaries()
    for event in watched.events:
        boundaries.note(event)
    assert still_open(boundaries) == []
    said = Transcript.of(watched.events, history=watched.history).messages
    answered = legal(said)
    assert answered[-1].role != "assistant" or not answered[-1].tool_calls


@pytest.mark.timeout(60 + REPEATS)
@pytest.mark.rows("A28", "A40", "A41", "S37", "S40", "X1", "W-A2", "W-S2", "W-S3", "W-C12")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", SCENES)
async def test_a_run_ends_at_once_wherever_it_is_and_however_it_is_ended(
    place: str, way: str
) -> None:
    for _ in range(REPEATS):
        took = await quickest(lambda: end_once(place, way), bound=BOUND, chances=3)
        assert took <= BOUND


@pytest.mark.parametrize("way", WAYS)
async def test_a_run_that_waits_for_approval_has_let_go_of_everything(way: str) -> None:
    @tool(needs_approval=True)
    async def act() -> str:
        """Act."""
        raise AssertionError

    model = ScriptedModel([call_tools(ToolCall(id="c1", name="act", arguments="{}"))])
    scene = Scene(Agent("a", model, tools=[act]), "run.interrupted")
    watched = Watched(scene, timeout=LIMIT)
    before = asyncio.all_tasks()
    await watched.consume()
    assert isinstance(watched.stream.end, RunInterrupted)
    assert asyncio.all_tasks() == before
    match way:  # nothing is left that any of them could end, and nothing is said any more
        case "token":
            watched.token.abort()
        case "timeout":
            await asyncio.sleep(LIMIT)
        case _:
            await watched.stream.aclose()
    assert [event.type for event in watched.events if event.type in ENDS] == ["run.interrupted"]
