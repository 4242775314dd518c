"""Nodes that fail: what is told, what is kept, what is tried again."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from runtime.errors import ModelUnavailable, NodeError, NodeTimedOut
from runtime.events import (
    Event,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunCompleted,
    RunFailed,
)
from runtime.graph import END, CompiledGraph, Graph, Key, ListKey, NodeContext, View
from runtime.retry import RetryPolicy
from runtime.scope import write
from tests.graph.graphs import all_results, asked, failed, failure, final_state, run
from tests.runtime.support import PATIENCE, Log

COUNT = Key("count", 0)
ITEMS: ListKey[str] = ListKey("items", str)
AT_ONCE = RetryPolicy(attempts=3, on=Exception, roll=lambda: 0.0)


async def nothing(view: View) -> None:
    """A node that does nothing."""


def single(node: Any, **settings: Any) -> CompiledGraph:
    return Graph(COUNT, ITEMS).node("work", node, END, **settings).start("work").build()


@pytest.mark.rows("A48", "A9", "C38", "A38")
async def test_a_node_that_raises_ends_the_run_once_with_its_name_and_cause() -> None:
    problem = ValueError("the password is 1234")

    async def ok(view: View) -> Mapping[str, int]:
        return {"count": 1}

    async def broken(view: View) -> None:
        raise problem

    graph = Graph(COUNT).node("ok", ok, "broken").node("broken", broken, "never")
    compiled = graph.node("never", nothing, END).start("ok").build()

    error = await failure(compiled.run())
    log = await run(compiled)

    assert isinstance(error, NodeError)
    assert (error.node, error.__cause__) == ("broken", problem)
    assert str(error) == "node 'broken' failed: ValueError"
    assert [e.node for e in log.of(NodeStarted)] == ["ok", "broken"]
    assert [e.node for e in log.of(NodeCompleted)] == ["ok"]
    info = failed(log).error
    assert (info.code, info.node, info.cause) == ("node_failed", "broken", ("ValueError",))
    assert "1234" not in failed(log).model_dump_json()
    assert log.one(NodeFailed).error == info
    assert log.types[-3:] == ["node.failed", "superstep.completed", "run.failed"]
    assert len(log.of(RunFailed)) == 1


@pytest.mark.rows("C38", "A48")
async def test_what_a_failing_node_said_is_heard_and_what_it_wrote_is_not_committed() -> None:
    async def broken(view: View) -> None:
        write({"progress": 1})
        raise ValueError

    async def partial(view: View) -> Mapping[str, Any]:
        return {"count": 1, "items": [2]}

    stream = single(broken).run({"count": 5})
    heard = []

    async def listen() -> None:
        async for result in stream:
            heard.append((result.updates, result.get(COUNT)))  # noqa: PERF401 - it is cut short

    with pytest.raises(NodeError):
        await listen()
    assert heard == [({"progress": 1}, 5)]
    log = await run(single(partial))
    assert log.of(NodeCompleted) == []
    assert "key 'items'" in failed(log).error.message


@pytest.mark.rows("A48", "AX7")
async def test_the_others_of_the_superstep_are_stopped_and_told_so() -> None:
    there = asyncio.Event()
    cleaned: list[str] = []

    async def slow(view: View) -> None:
        there.set()
        try:
            await asyncio.sleep(PATIENCE * 2)
        finally:
            cleaned.append("slow")

    async def broken(view: View) -> None:
        await there.wait()
        raise ValueError

    graph = Graph(COUNT).node("begin", nothing, "slow", "broken")
    graph.node("slow", slow, END).node("broken", broken, END).start("begin")

    log = await run(graph.build())

    assert cleaned == ["slow"]
    assert {e.node: e.error.code for e in log.of(NodeFailed)} == {
        "broken": "node_failed",
        "slow": "cancelled",
    }
    assert failed(log).error.node == "broken"


@pytest.mark.rows("AX7")
async def test_of_two_that_fail_at_once_the_first_declared_is_the_cause() -> None:
    barrier = asyncio.Event()

    def broken(error: Exception) -> Any:
        async def node(view: View) -> None:
            await barrier.wait()
            raise error

        return node

    async def opener(view: View) -> None:
        barrier.set()

    graph = Graph(COUNT).node("begin", nothing, "a", "b", "open")
    graph.node("a", broken(KeyError()), END).node("b", broken(ValueError()), END)
    log = await run(graph.node("open", opener, END).start("begin").build())

    assert failed(log).error.node == "a"
    assert [(e.node, e.error.cause) for e in log.of(NodeFailed)] == [
        ("a", ("KeyError",)),
        ("b", ("ValueError",)),
    ]


async def test_a_failure_of_a_model_keeps_its_hints_for_clients() -> None:
    async def broken(view: View) -> None:
        raise ModelUnavailable("overloaded", status_code=503, retry_after=2.0)

    info = failed(await run(single(broken))).error

    assert (info.retryable, info.status_code, info.retry_after) == (True, 503, 2.0)
    assert info.message == "node 'work' failed: overloaded"
    assert info.cause == ("model_unavailable",)


@pytest.mark.rows("AX6", "AX7")
async def test_a_node_that_fails_twice_is_tried_a_third_time() -> None:
    attempts: list[int] = []

    async def shaky(context: NodeContext, view: View) -> Mapping[str, Any]:
        attempts.append(context.attempt)
        context.writer({"attempt": context.attempt})
        if len(attempts) < 3:
            raise ConnectionError
        return {"count": 1, "items": ["once"]}

    log = await run(single(shaky, retry=AT_ONCE))

    assert attempts == [1, 2, 3]
    assert [e.will_retry for e in log.of(NodeFailed)] == [True, True]
    assert final_state(log) == {"count": 1, "items": ["once"]}
    assert [t for t in log.types if t.startswith("node.")] == [
        "node.started",
        "node.update",
        "node.failed",
        "node.update",
        "node.failed",
        "node.update",
        "node.completed",
    ]


@pytest.mark.rows("AX6")
async def test_what_is_not_worth_it_is_not_tried_again_and_attempts_run_out() -> None:
    async def broken(view: View) -> None:
        raise ConnectionError

    once = await run(single(broken, retry=RetryPolicy(on=KeyError)))
    thrice = await run(single(broken, retry=AT_ONCE))

    assert [e.will_retry for e in once.of(NodeFailed)] == [False]
    assert [e.will_retry for e in thrice.of(NodeFailed)] == [True, True, False]
    assert failed(thrice).error.node == "work"


@pytest.mark.rows("AX7")
async def test_a_node_that_takes_too_long_is_stopped_and_named() -> None:
    cleaned = asyncio.Event()

    async def slow(context: NodeContext, view: View) -> None:
        assert context.deadline is not None
        try:
            await asyncio.sleep(PATIENCE * 2)
        finally:
            cleaned.set()

    error = await failure(single(slow, timeout=0.01).run())

    assert isinstance(error, NodeError)
    assert isinstance(error.__cause__, NodeTimedOut)
    assert cleaned.is_set()
    assert str(error) == "node 'work' failed: it was not done within 0.01 seconds"
    log = await run(single(slow, timeout=0.01, retry=RetryPolicy(attempts=2, roll=lambda: 0.0)))
    assert [e.will_retry for e in log.of(NodeFailed)] == [True, False]
    assert failed(log).error.retryable


async def test_a_node_with_time_to_spare_is_not_disturbed() -> None:
    async def quick(view: View) -> Mapping[str, int]:
        await asyncio.sleep(0)
        return {"count": 1}

    async def own(view: View) -> None:
        raise TimeoutError

    assert final_state(await run(single(quick, timeout=PATIENCE))) == {"count": 1}
    assert failed(await run(single(own, timeout=PATIENCE))).error.cause == ("TimeoutError",)


@pytest.mark.parametrize("sync", [True, False])
async def test_what_a_node_does_to_its_process_stays_in_the_run(sync: bool) -> None:
    def leave(view: View) -> None:
        sys.exit(3)

    async def cancel_myself(view: View) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(PATIENCE)

    log = await run(single(leave if sync else cancel_myself))

    assert failed(log).error.node == "work"


async def test_a_node_that_cancelled_itself_may_be_tried_again_as_if_it_had_not() -> None:
    async def shaky(context: NodeContext, view: View) -> Mapping[str, int]:
        task = asyncio.current_task()
        assert task is not None
        if context.attempt == 1:
            task.cancel()
            await asyncio.sleep(PATIENCE)
        return {"count": task.cancelling()}

    assert final_state(await run(single(shaky, retry=AT_ONCE))) == {"count": 0}


async def test_a_node_whose_own_task_was_cancelled_fails() -> None:
    async def wait_for_nobody(view: View) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    for settings in ({}, {"timeout": PATIENCE}):
        log = await run(single(wait_for_nobody, **settings))
        assert failed(log).error.message == "node 'work' failed: it cancelled itself"


@pytest.mark.rows("W-A4", "A38")
async def test_when_the_log_fails_the_run_ends_with_that_and_says_no_more() -> None:
    async def broken(view: View) -> None:
        raise ValueError

    for node in (nothing, broken):
        whole = (await run(single(node))).events
        for stop_at in range(len(whole)):
            log = Log()

            async def emit(event: Any, log: Log = log, stop_at: int = stop_at) -> None:
                if len(log.events) == stop_at:
                    raise ConnectionError("the log is gone")
                await log.emit(event)

            with pytest.raises(ConnectionError):
                await single(node).execute(asked(), emit)
            assert log.types == [event.type for event in whole[:stop_at]]


async def test_failures_are_logged_with_their_cause(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(view: View) -> None:
        raise ValueError("secret")

    with caplog.at_level(logging.WARNING):
        await run(single(broken))

    assert "run run_1 failed: node 'work' failed: ValueError" in caplog.text
    assert "secret" in caplog.text


@pytest.mark.rows("A48")
async def test_what_was_done_before_the_failure_reaches_the_consumer_first() -> None:
    async def ok(view: View) -> Mapping[str, int]:
        return {"count": 1}

    async def broken(view: View) -> None:
        raise ValueError

    graph = Graph(COUNT).node("ok", ok, "broken").node("broken", broken, END).start("ok").build()
    nodes = []

    async def listen() -> None:
        async for result in graph.run():
            nodes.append(result.node)  # noqa: PERF401 - it is cut short

    with pytest.raises(NodeError):
        await listen()

    assert nodes == ["ok"]
    with pytest.raises(NodeError):
        await all_results(graph.run())


async def test_a_node_with_a_limit_that_fails_by_itself_is_not_taken_for_one_that_was_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(view: View) -> None:
        raise ValueError

    await run(single(broken, timeout=PATIENCE))
    assert "cleaned up" not in caplog.text


async def test_a_last_report_that_is_refused_while_the_run_is_cancelled_bothers_nobody() -> None:
    reporting, go_on = asyncio.Event(), asyncio.Event()
    complaints: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))

    async def ok(view: View) -> None:
        return None

    async def emit(event: Event) -> None:
        if isinstance(event, RunCompleted):
            reporting.set()
            await go_on.wait()
            raise OSError("the run has a new owner")

    task = asyncio.create_task(single(ok).execute(asked(), emit))
    await reporting.wait()
    task.cancel()
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    gc.collect()  # what nobody asked for is complained of when it is thrown away
    assert complaints == []
