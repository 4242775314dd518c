"""Ending a run before it is done, at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from runtime.cancel import CancelToken
from runtime.errors import RunAborted
from runtime.events import (
    Event,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunCancelled,
    RunCompleted,
)
from runtime.graph import END, CompiledGraph, Graph, Key, View, collect
from runtime.retry import RetryPolicy
from runtime.runnable import RunRequest
from runtime.scope import write
from tests.graph.graphs import all_results, asked, going_on, proven_blocked, run
from tests.runtime.support import PATIENCE, Log, check_ended

COUNT = Key("count", 0)
PROMPT = 10.0
"""Seconds within which a cancelled run is over on a busy machine; what it cuts off takes far longer."""


async def nothing(view: View) -> None:
    """A node that does nothing."""


class Waiting:
    """Nodes that wait for ever, and know when they were left."""

    def __init__(self) -> None:
        self.there: list[str] = []
        self.left: list[str] = []
        self._news = asyncio.Event()

    def node(self, name: str) -> Any:
        async def work(view: View) -> None:
            self.there.append(name)
            self._news.set()
            write({"waiting": name})
            try:
                await asyncio.Event().wait()
            finally:
                self.left.append(name)

        return work

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.there) < count:
                self._news.clear()
                await self._news.wait()


def single(node: Any, **settings: Any) -> CompiledGraph:
    return Graph(COUNT).node("work", node, END, **settings).start("work").build()


async def cancelled(graph: CompiledGraph, there: Any, request: RunRequest | None = None) -> Log:
    """Cancel a run when it is `there`, and check that it ended at once and properly."""
    log = Log()
    task = asyncio.create_task(graph.execute(request or asked(), log.emit))
    await there()
    await proven_blocked(task)
    task.cancel()
    async with asyncio.timeout(PROMPT):
        await asyncio.wait((task,))
    assert task.cancelled()
    check_ended(log)
    assert log.one(RunCancelled).reason == "cancel"
    return log


@pytest.mark.rows("A41", "W-C12", "W-A4")
@pytest.mark.parametrize("width", [1, 3])
async def test_a_cancelled_run_stops_its_nodes_and_closes_everything(width: int) -> None:
    waiting = Waiting()
    names = [f"n{place}" for place in range(width)]
    graph = Graph(COUNT)
    for name in names:
        graph.node(name, waiting.node(name), END)

    log = await cancelled(graph.start(*names).build(), lambda: waiting.until(width))

    assert sorted(waiting.left) == names
    assert {e.node: e.error.code for e in log.of(NodeFailed)} == dict.fromkeys(names, "cancelled")
    assert log.types[-2:] == ["superstep.completed", "run.cancelled"]


@pytest.mark.rows("A41")
async def test_a_cancelled_subgraph_closes_everything_once() -> None:
    waiting = Waiting()
    middle = Graph(COUNT, name="middle").node("deep", single(waiting.node("deep")), END)
    graph = single(middle.start("deep").build())

    log = await cancelled(graph, lambda: waiting.until(1))

    assert [(e.node, len(e.path)) for e in log.of(NodeFailed)] == [
        ("work", 5),
        ("deep", 3),
        ("work", 1),
    ]
    assert waiting.left == ["deep"]


@pytest.mark.rows("A41")
async def test_a_run_is_cancelled_while_it_waits_to_try_again() -> None:
    log = Log()

    async def broken(view: View) -> None:
        raise ConnectionError

    slow = RetryPolicy(on=Exception, base=PATIENCE * 4, roll=lambda: 1.0)
    task = asyncio.create_task(single(broken, retry=slow).execute(asked(), log.emit))
    await log.until(NodeFailed)
    await proven_blocked(task)
    task.cancel()
    async with asyncio.timeout(PROMPT):
        await asyncio.wait((task,))

    check_ended(log)
    assert [e.will_retry for e in log.of(NodeFailed)] == [True, False]


@pytest.mark.rows("A41")
@pytest.mark.parametrize("settings", [{}, {"timeout": PATIENCE}])
@pytest.mark.parametrize("width", [1, 2])
async def test_a_node_that_does_not_want_to_stop_is_left_behind(
    settings: dict[str, Any], width: int, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()
    there = asyncio.Event()
    gone = asyncio.Event()

    async def stubborn(view: View) -> Mapping[str, int]:
        there.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        write({"too": "late"})
        gone.set()
        return {"count": 1}

    async def patient(view: View) -> None:
        await asyncio.sleep(PATIENCE * 2)

    graph = Graph(COUNT).node("stubborn", stubborn, END, **settings).node("other", patient, END)
    names = ["stubborn", "other"][:width]
    if width == 1:
        graph = Graph(COUNT).node("stubborn", stubborn, END, **settings)

    log = await cancelled(graph.start(*names).build(), there.wait)
    reported = list(log.events)
    release.set()
    async with asyncio.timeout(PATIENCE):
        await gone.wait()
    for _ in range(10):
        await asyncio.sleep(0)

    assert log.events == reported
    assert "did not stop within 0.05 s" in caplog.text


@pytest.mark.rows("A41")
async def test_a_sync_node_is_left_behind_in_its_thread() -> None:
    there = asyncio.Event()
    release = threading.Event()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def hang(view: View) -> None:
        loop.call_soon_threadsafe(there.set)
        release.wait(PATIENCE)
        write({"too": "late"})
        loop.call_soon_threadsafe(ended.set)

    log = await cancelled(single(hang), there.wait)
    reported = list(log.events)
    release.set()
    async with asyncio.timeout(PATIENCE):
        await ended.wait()

    assert log.events == reported


@pytest.mark.rows("A40", "A29")
async def test_a_consumer_that_leaves_ends_the_run_and_no_further_node_starts() -> None:
    started: list[str] = []
    waiting = Waiting()

    async def first(view: View) -> None:
        started.append("first")

    async def second(view: View) -> None:
        await waiting.node("second")(view)

    async def third(view: View) -> None:
        started.append("third")

    graph = Graph(COUNT).node("first", first, "second").node("second", second, "third")
    compiled = graph.node("third", third, END).start("first").build()
    before = asyncio.all_tasks()

    stream = compiled.run()
    async for _ in stream:
        break
    await waiting.until(1) if not stream.over and not waiting.there else None
    await stream.aclose()
    assert asyncio.all_tasks() == before

    async with compiled.run() as results:
        await anext(results)
    assert asyncio.all_tasks() == before

    stream = compiled.run()
    assert (await anext(stream)).node == "first"
    await stream.aclose()
    assert asyncio.all_tasks() == before
    assert started == ["first"] * 3
    assert len(waiting.left) == len(waiting.there)


@pytest.mark.rows("A29")
async def test_an_error_in_the_consumers_loop_ends_the_run() -> None:
    waiting = Waiting()
    graph = single(waiting.node("work"))
    stream = graph.run()

    async def fail_in_between() -> None:
        async with stream:
            async for _ in stream:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_in_between()

    assert waiting.left == ["work"]
    assert stream.over


@pytest.mark.rows("W-C12")
async def test_a_run_that_is_to_stop_finishes_its_superstep_and_can_go_on_later() -> None:
    token = CancelToken()
    ran: list[str] = []

    def node(name: str) -> Any:
        async def work(view: View) -> Mapping[str, int]:
            ran.append(name)
            token.stop_after_step()
            await asyncio.sleep(0)
            return {"count": view[COUNT] + 1}

        return work

    graph = Graph(COUNT).node("a", node("a"), "b").node("b", node("b"), END).start("a").build()

    log = await run(graph, asked(cancel=token))
    assert ran == ["a"]
    assert log.types[-3:] == ["superstep.completed", "edge.taken", "run.cancelled"]
    assert log.one(RunCancelled).reason == "cancel"

    again = await run(graph, replace(going_on(asked(), log.events), cancel=None))
    assert ran == ["a", "b"]
    assert again.one(RunCompleted).output == "2"


async def test_a_run_that_is_to_stop_but_is_done_is_completed() -> None:
    token = CancelToken()

    async def work(view: View) -> None:
        token.stop_after_step()

    stream = single(work).run(cancel=token)

    assert (await all_results(stream))[-1].output == 0
    assert isinstance(stream.end, RunCompleted)


@pytest.mark.rows("A28", "A41", "W-A2", "W-C12")
async def test_a_run_can_be_cancelled_at_every_event_and_ends_exactly_once() -> None:
    async def work(view: View) -> Mapping[str, int]:
        write({"progress": 1})
        await asyncio.sleep(0)
        return {"count": view[COUNT] + 1}

    inner = Graph(COUNT, name="inner").node("x", work, END).start("x").build()
    graph = Graph(COUNT).node("a", work, "b", "c").node("b", inner, END)
    compiled = graph.node("c", nothing, END).start("a").build()
    whole = await run(compiled)

    for count in range(1, len(whole.events)):
        log = Log()
        reached = asyncio.Event()

        async def emit(
            event: Event, log: Log = log, count: int = count, reached: asyncio.Event = reached
        ) -> None:
            await log.emit(event)
            if len(log.events) == count:
                reached.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(compiled.execute(asked(), emit))
        await reached.wait()
        task.cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait((task,))

        assert task.cancelled()
        check_ended(log)
        assert log.types[-1] == "run.cancelled"


@pytest.mark.rows("W-A2")
async def test_a_run_that_is_cancelled_while_it_says_its_last_word_has_said_it() -> None:
    log = Log()
    gate = asyncio.Event()

    async def emit(event: Event) -> None:
        await log.emit(event)
        if isinstance(event, RunCompleted):
            await gate.wait()

    task = asyncio.create_task(single(nothing).execute(asked(), emit))
    await log.until(RunCompleted)
    task.cancel()
    await proven_blocked(task)
    task.cancel()
    gate.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait((task,))

    assert task.cancelled()
    check_ended(log)


@pytest.mark.rows("A28", "A40", "W-A2")
async def test_two_hundred_runs_are_aborted_without_a_leak_or_a_silent_end() -> None:
    waiting = Waiting()
    graph = Graph(COUNT).node("a", waiting.node("a"), END).node("b", waiting.node("b"), END)
    compiled = graph.start("a", "b").build()
    before = asyncio.all_tasks()

    for number in range(200):
        token = CancelToken()
        task = asyncio.create_task(collect(compiled.run(cancel=token)))
        await waiting.until(2 * number + 2)
        token.abort()
        with pytest.raises(RunAborted):
            async with asyncio.timeout(PATIENCE):
                await task
        assert asyncio.all_tasks() == before
    assert len(waiting.left) == 400


@pytest.mark.rows("W-A4")
async def test_a_slow_log_of_one_node_does_not_delay_the_others() -> None:
    log = Log()
    gate = asyncio.Event()
    b_done = asyncio.Event()

    async def emit(event: Event) -> None:
        await log.emit(event)
        if isinstance(event, NodeStarted) and event.node == "a":
            await gate.wait()

    async def b(view: View) -> None:
        await asyncio.sleep(0)
        b_done.set()

    graph = Graph(COUNT).node("a", b, END).node("b", b, END).start("a", "b").build()
    task = asyncio.create_task(graph.execute(asked(), emit))
    async with asyncio.timeout(PATIENCE):
        await b_done.wait()
        await log.until(NodeCompleted)
        gate.set()
        await task

    assert [event.node for event in log.of(NodeCompleted)] == ["b", "a"]


@pytest.mark.rows("A49")
async def test_a_run_goes_on_while_nobody_looks_and_its_progress_can_be_read_later() -> None:
    log = Log()
    half = asyncio.Event()

    async def work(view: View) -> Mapping[str, int]:
        write({"progress": 0.5})
        await half.wait()
        write({"progress": 1.0})
        return {"count": 1}

    task = asyncio.create_task(single(work).execute(asked(), log.emit))
    await log.until(NodeStarted)
    half.set()
    async with asyncio.timeout(PATIENCE):
        await task

    said = [getattr(e, "updates", None) for e in log.events if e.type == "node.update"]
    assert said == [{"progress": 0.5}, {"progress": 1.0}]
