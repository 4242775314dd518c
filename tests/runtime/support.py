"""What the runtime's tests share: a log that can be waited on, and how to ask an agent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from runtime import Agent, Emit, Event, Message, RunRequest
from runtime.boundaries import Boundaries
from runtime.events import EventBase, RunInterrupted
from runtime.journal import JOURNALED
from runtime.runnable import Decision
from runtime.transcript import Transcript

PATIENCE = 30.0
"""Seconds after which a test that waits has failed."""

E = TypeVar("E", bound=EventBase)


class Log:
    """Keeps what an agent emits; `until` waits for an event of a type."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Event()

    async def emit(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def one(self, kind: type[E]) -> E:
        (event,) = self.of(kind)
        return event

    async def until(self, kind: type[E], count: int = 1) -> E:
        async with asyncio.timeout(PATIENCE):
            while len(self.of(kind)) < count:
                self._news.clear()
                await self._news.wait()
        return self.of(kind)[-1]


def user(text: str) -> Message:
    return Message(role="user", content=text)


def request(
    text: str | Sequence[Message] = "hi",
    *,
    decisions: dict[str, Decision] | None = None,
    started: frozenset[str] = frozenset(),
    announce: bool = True,
    turns: int = 0,
    timeout: float | None = None,
) -> RunRequest:
    return RunRequest(
        run_id="run_1",
        history=(user(text),) if isinstance(text, str) else tuple(text),
        decisions=decisions or {},
        started=started,
        announce=announce,
        turns=turns,
        timeout=timeout,
    )


def going_on(
    asked: RunRequest, events: Sequence[Event], decisions: dict[str, Decision] | None = None
) -> RunRequest:
    """Return the request that goes on from what a run has reported."""
    done = Transcript.of(events, history=asked.history)
    return replace(
        asked,
        history=tuple(done.messages),
        announce=False,
        attempt=asked.attempt + 1,
        turns=done.turns,
        usage=done.usage,
        started=frozenset(done.started),
        decisions=decisions or {},
        journal=tuple(event for event in events if isinstance(event, JOURNALED)),
    )


async def run(agent: Agent, asked: RunRequest | None = None) -> Log:
    """Run to the end and check what holds for every run."""
    log = Log()
    async with asyncio.timeout(PATIENCE):
        await agent.execute(asked or request(), log.emit)
    check_ended(log)
    return log


async def stopped_at_once(task: asyncio.Task[None]) -> None:
    """Cancel a run and check that it is over within the bound of row S40."""
    task.cancel()
    for _ in range(10):  # looks of 10 ms: time in which the whole machine stood still takes one
        if not task.done():
            await asyncio.wait((task,), timeout=0.01)
    assert task.done()
    assert task.cancelled()


async def fails_by_itself(agent: Agent, emit: Emit, error: type[Exception]) -> None:
    """Run with a log that fails, and check that the run ends with that, and nobody has to stop it.

    Not with `asyncio.timeout`: being cancelled, too, makes such a run end with the log's error.
    """
    task = asyncio.create_task(agent.execute(request(), emit))
    done, _ = await asyncio.wait((task,), timeout=PATIENCE)
    task.cancel()
    assert done
    assert isinstance(task.exception(), error)


def check_ended(log: Log) -> None:
    """Check that there is one end, that it is last, and that all is closed."""
    ends = [
        event.type
        for event in log.events
        if event.type in {"run.completed", "run.failed", "run.cancelled", "run.interrupted"}
    ]
    assert len(ends) == 1
    assert log.types[-1] == ends[0]
    boundaries = Boundaries()
    for event in log.events:
        boundaries.note(event)
    if isinstance(log.events[-1], RunInterrupted):
        boundaries.approvals.clear()
        # Agents below that wait for a human, and the tools that they are, wait too.
        boundaries.tools.clear()
        boundaries.agents.clear()
    assert still_open(boundaries) == []
    assert {event.run_id for event in log.events} == {"run_1"}


def still_open(boundaries: Boundaries) -> list[object]:
    return [
        *boundaries.messages,
        *boundaries.reasoning,
        *boundaries.tool_calls,
        *boundaries.tools,
        *boundaries.approvals,
        *boundaries.nodes,
        *boundaries.supersteps,
        *boundaries.agents,
    ]
