"""What the tests of graphs share: how to run one and keep what it reports, and gates."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runtime.cancel import CancelToken
from runtime.events import Event, NodeCompleted, RunCompleted, RunFailed
from runtime.graph import CompiledGraph, ExecutionResult, View, collect
from runtime.journal import JOURNALED
from runtime.messages import Message
from runtime.run_stream import RunStream
from runtime.runnable import Decision, RunRequest
from tests.runtime.support import PATIENCE, Log, check_ended

__all__ = [
    "Meeting",
    "all_results",
    "asked",
    "committed",
    "failure",
    "final_state",
    "going_on",
    "proven_blocked",
    "run",
]


def asked(
    state: Mapping[Any, Any] | None = None,
    history: Sequence[Message] = (),
    *,
    timeout: float | None = None,
    cancel: CancelToken | None = None,
) -> RunRequest:
    """Return a request for a run with first values, or with a conversation."""
    given = {} if state is None and not history else state
    return RunRequest(
        run_id="run_1", history=tuple(history), state=given, timeout=timeout, cancel=cancel
    )


def going_on(
    request: RunRequest, events: Sequence[Event], decisions: Mapping[str, Decision] | None = None
) -> RunRequest:
    """Return the request that goes on after these events."""
    return replace(
        request,
        announce=False,
        attempt=request.attempt + 1,
        journal=tuple(event for event in events if isinstance(event, JOURNALED)),
        decisions={**request.decisions, **(decisions or {})},
    )


async def run(graph: CompiledGraph, request: RunRequest | None = None) -> Log:
    """Run to the end, and check what holds for every run."""
    log = Log()
    async with asyncio.timeout(PATIENCE):
        await graph.execute(request or asked(), log.emit)
    check_ended(log)
    return log


async def all_results(results: RunStream[ExecutionResult[Any]]) -> list[ExecutionResult[Any]]:
    async with asyncio.timeout(PATIENCE):
        return await collect(results)


async def failure(results: RunStream[ExecutionResult[Any]]) -> Exception:
    """Return what a run raises."""
    try:
        await all_results(results)
    except Exception as error:  # noqa: BLE001 - the caller looks at it
        return error
    raise AssertionError("nothing was raised")


def final_state(log: Log) -> Mapping[str, Any]:
    end = log.events[-1]
    assert isinstance(end, RunCompleted), end
    return end.state or {}


def failed(log: Log) -> RunFailed:
    end = log.events[-1]
    assert isinstance(end, RunFailed), end
    return end


def committed(log: Log) -> dict[str, Any]:
    """Return what each node wrote, by its name."""
    return {event.node: dict(event.updates or {}) for event in log.of(NodeCompleted)}


async def proven_blocked(*waiting: asyncio.Future[Any]) -> None:
    """Fail unless all of them are still waiting after the loop had time to run them."""
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done


class Meeting:
    """A place where nodes wait until all of them are there."""

    def __init__(self, size: int) -> None:
        self.there: list[str] = []
        self._size = size
        self._all = asyncio.Event()

    async def arrive(self, name: str) -> None:
        self.there.append(name)
        if len(self.there) == self._size:
            self._all.set()
        async with asyncio.timeout(PATIENCE):
            await self._all.wait()

    def node(self, name: str, answer: Any = None) -> Callable[[View], Awaitable[Any]]:
        async def work(view: View) -> Any:
            await self.arrive(name)
            return answer

        return work
