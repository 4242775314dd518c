"""Agents for the tests of the faces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TypeVar

from runtime import Agent, Event, ScriptedModel, Tool, ToolCall, tool
from runtime.boundaries import Boundaries
from runtime.models.scripted import Cue, call_tools, say
from tests.runtime.support import still_open

AT_ONCE = 0.5
"""Seconds: 0.1 are promised, and a busy machine gets some more. What is stopped would never end."""

T = TypeVar("T")
NYC = ToolCall(id="c1", name="get_weather", arguments='{"city": "New York"}')
LONDON = ToolCall(id="c2", name="get_weather", arguments='{"city": "London"}')


@tool
async def get_weather(city: str) -> str:
    """Look up the weather of a city."""
    return f"sunny in {city}"


def model(*answers: Iterable[Cue]) -> ScriptedModel:
    return ScriptedModel([tuple(answer) for answer in answers])


def agent(
    *answers: Iterable[Cue], tools: Iterable[Tool] = (get_weather,), instructions: str | None = None
) -> Agent:
    return Agent("assistant", model(*answers), instructions=instructions, tools=tuple(tools))


def weather_agent() -> Agent:
    """Asks for the weather of two cities, then answers."""
    answer = say("Sunny in both cities.")
    return agent(call_tools(NYC, LONDON), answer, instructions="You know the weather.")


async def gather_into(items: list[T], stream: AsyncIterable[T]) -> None:
    """Append what comes, so that it is there also when an error follows."""
    iterator = aiter(stream)
    while True:
        try:
            items.append(await anext(iterator))
        except StopAsyncIteration:
            return


async def until(reached: AsyncIterator[T], count: int) -> list[T]:
    """Take so many items."""
    return [await anext(reached) for _ in range(count)]


class Gated:
    """A place at which a run is, until it is let go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.left = asyncio.Event()

    async def stay(self) -> None:
        self.reached.set()
        try:
            await self.go_on.wait()
        finally:
            self.left.set()


def check_events(events: list[Event]) -> None:
    """Check that there is one end, that it is last, and that all is closed but what waits."""
    ends = [e for e in events if e.type.startswith("run.") and e.type.split(".")[1] in ENDS]
    assert ends == [events[-1]]
    boundaries = Boundaries()
    for event in events:
        boundaries.note(event)
    if events[-1].type == "run.interrupted":
        boundaries.approvals.clear()
        boundaries.tools.clear()  # the agents below that wait for a human
        boundaries.agents.clear()
    assert still_open(boundaries) == []


ENDS = {"completed", "failed", "cancelled", "interrupted"}
