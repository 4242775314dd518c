"""Runs in sessions, and what their readers see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runtime import ScriptedModel
from runtime.cancel import CancelToken
from runtime.errors import NodeError, RunAborted, RunTimeout, SessionBusy, UpdateInvalid
from runtime.graph import END, Command, Graph, View
from runtime.graph.memory_store import MemoryStore
from runtime.graph.runner import Runner
from runtime.graph.sqlite_store import SqliteStore
from runtime.graph.store import CheckpointStore, Entry
from runtime.messages import Message
from runtime.models import ModelRequest
from runtime.models.base import Text
from runtime.scope import emit
from tests.graph.running import (
    DONE,
    LINEAR,
    PATIENCE,
    STORES,
    N,
    Work,
    boom,
    linear,
    read,
    told,
    types,
)
from tests.support.waiting import proven_blocked


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CheckpointStore]:
    store = STORES[request.param](tmp_path)
    yield store
    await store.aclose()


@pytest.mark.rows("C12", "C15", "C21", "C36")
async def test_a_run_returns_how_it_ended(store: CheckpointStore) -> None:
    runner = Runner(linear(Work()), store)
    state = await runner.run("s", {"n": 5})
    assert (state.session_id, state.status) == ("s", "completed")
    assert state.run_id
    assert state.state == {"n": 7, "done": ["a", "b"]}
    assert state == await runner.state("s")
    assert state.seq == (await store.events("s"))[-1].seq
    with pytest.raises(AttributeError):
        state.status = "failed"  # type: ignore[misc]  # it is frozen


@pytest.mark.rows("C1", "C18", "C22", "C24")
async def test_a_linear_graph_tells_exactly_this(store: CheckpointStore) -> None:
    runner = Runner(linear(Work()), store)
    await runner.run("s")
    events = await read(runner)
    assert types(events) == LINEAR
    assert told(events) == [
        "node_start a",
        "node_end a",
        "edge_transition b",
        "node_start b",
        "node_end b",
        "completed",
    ]


@pytest.mark.rows("C16", "C17")
async def test_a_start_is_told_before_the_node_runs_and_an_end_after_it_with_its_state() -> None:
    runner: Runner
    seen: list[list[str]] = []

    async def look(view: View) -> Command:
        stream = runner.stream()
        found = [await anext(stream)]
        while found[-1].node_id != f"n{view.get(N) + 1}":
            found.append(await anext(stream))
        seen.append(told(found))
        await stream.aclose()
        return Command().set(N, view.get(N) + 1)

    graph = Graph(N, name="g").node("n1", look, "n2").node("n2", look, END).start("n1")
    runner = Runner(graph.build())
    async with asyncio.timeout(PATIENCE):
        await runner.run("s")
    assert seen[0] == ["node_start n1"]
    assert seen[1][-1] == "edge_transition n2"
    events = await read(runner)
    assert [(e.type, e.state) for e in events if e.type.startswith("node")] == [
        ("node_start", {}),
        ("node_end", {"n": 1}),
        ("node_start", {"n": 1}),
        ("node_end", {"n": 2}),
    ]
    assert events[-1].state == {"n": 2}


@pytest.mark.rows("C20", "C38", "C15", "W-C3")
async def test_a_node_that_fails_ends_the_run_with_one_error_and_raises() -> None:
    work = Work()
    graph = Graph(N, DONE, name="g").node("a", work.node("a"), "bad").node("bad", boom, END)
    store = MemoryStore()
    runner = Runner(graph.start("a").build(), store)
    reading = asyncio.create_task(read(runner))
    await proven_blocked(reading)
    with pytest.raises(NodeError, match="'bad' failed: ValueError") as raised:
        await runner.run("s")
    assert isinstance(raised.value.__cause__, ValueError)
    events = await reading
    assert told(events) == [
        "node_start a",
        "node_end a",
        "edge_transition bad",
        "node_start bad",
        "error bad",
    ]
    assert events[-1].error == "node 'bad' failed: ValueError"
    assert all(event.error is None for event in events[:-1])
    state = await runner.state("s")
    assert state.status == "failed"
    assert state.state == {"n": 1, "done": ["a"]}


@pytest.mark.rows("C20", "W-C3")
async def test_two_nodes_that_fail_at_once_are_one_error() -> None:
    both = asyncio.Barrier(2)

    async def fail(view: View) -> None:
        await both.wait()
        raise ValueError

    graph = Graph(N, name="g").node("a", fail, END).node("b", fail, END).start("a", "b")
    runner = Runner(graph.build())
    with pytest.raises(NodeError):
        await runner.run("s")
    assert sorted(types(await read(runner))) == ["error", "node_start", "node_start"]


@pytest.mark.rows("W-C4", "C24")
async def test_one_runner_does_many_runs_one_after_the_other(store: CheckpointStore) -> None:
    runner = Runner(linear(Work()), store)
    first = await runner.run("s")
    second = await runner.run("s", {"n": 10})
    assert first.run_id != second.run_id
    assert second.state["n"] == 12
    latest = await read(runner, "s")
    assert types(latest) == LINEAR
    assert {event.run_id for event in latest} == {second.run_id}
    assert {event.run_id for event in await read(runner, "s", after=0)} == {first.run_id}
    assert await read(runner, "s", after=first.seq) == latest
    assert latest[0].seq > first.seq


@pytest.mark.rows("W-C4")
async def test_runs_of_different_sessions_go_on_side_by_side_and_are_read_apart() -> None:
    work = Work()
    gate = work.gate("a")
    runner = Runner(linear(work))
    readings = [asyncio.create_task(read(runner, name)) for name in ("s1", "s2")]
    running = [asyncio.create_task(runner.run(name)) for name in ("s1", "s2")]
    await proven_blocked(*running, *readings)
    assert work.ran == ["a", "a"]  # both are in their first node
    gate.set()
    for name, task, reading in zip(("s1", "s2"), running, readings, strict=True):
        state = await task
        events = await reading
        assert types(events) == LINEAR
        assert {(event.session_id, event.run_id) for event in events} == {(name, state.run_id)}


async def test_a_session_has_one_run_at_a_time() -> None:
    work = Work()
    gate = work.gate("a")
    runner = Runner(linear(work))
    running = asyncio.create_task(runner.run("s"))
    await work.until("a")
    for doing in (
        runner.run("s"),
        runner.resume("s"),
        runner.replay("s", "c"),
        runner.update_state("s", {}),
        runner.fork("c", "s"),
    ):
        with pytest.raises(SessionBusy):
            await doing
    gate.set()
    assert (await running).status == "completed"
    assert types(await read(runner)) == LINEAR


@pytest.mark.rows("CX4")
async def test_the_store_has_a_checkpoint_after_each_step_and_the_whole_log(
    store: CheckpointStore,
) -> None:
    runner = Runner(linear(Work()), store)
    state = await runner.run("s")
    history = await runner.history("s")
    assert [(one.superstep, one.next, one.state.get("n")) for one in history] == [
        (0, ("a",), None),
        (1, ("b",), 1),
        (2, (), 2),
    ]
    assert [one.parent_id for one in history] == [None, *(one.checkpoint_id for one in history[:2])]
    assert state.checkpoint_id == history[-1].checkpoint_id
    entries = await store.events("s")
    everything = await read(runner, "s", after=0, modes=("debug",))
    assert [event.seq for event in everything] == [entry.seq for entry in entries]
    assert [event.timestamp for event in everything] == [entry.at for entry in entries]


# --- stopping -------------------------------------------------------------------------------------


async def test_an_aborted_run_raises_and_its_readers_see_the_end() -> None:
    work = Work()
    work.gate("b")
    runner, token = Runner(linear(work)), CancelToken()
    running = asyncio.create_task(runner.run("s", cancel=token))
    await work.until("b")
    token.abort("enough")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RunAborted):
            await running
    events = await read(runner)
    assert types(events)[-1] == "error"
    assert events[-1].error == "the run was cancelled"
    assert (await runner.state("s")).status == "cancelled"


async def test_a_run_that_was_aborted_before_it_began_ends_as_cancelled() -> None:
    work = Work()
    runner, token = Runner(linear(work)), CancelToken()
    token.abort()
    with pytest.raises(RunAborted):
        await runner.run("s", cancel=token)
    assert types(await read(runner)) == ["error"]
    assert (await runner.state("s")).status == "cancelled"
    assert work.ran == []


async def test_a_run_that_is_stopped_after_a_step_is_returned_as_cancelled() -> None:
    work = Work()
    gate = work.gate("a")
    runner, token = Runner(linear(work)), CancelToken()
    running = asyncio.create_task(runner.run("s", cancel=token))
    await work.until("a")
    token.stop_after_step()
    gate.set()
    state = await running
    assert state.status == "cancelled"
    assert state.state == {"n": 1, "done": ["a"]}
    assert work.ran == ["a"]


async def test_cancelling_the_task_of_a_run_ends_the_run_and_frees_the_session() -> None:
    work = Work()
    gate = work.gate("a")
    runner = Runner(linear(work))
    running = asyncio.create_task(runner.run("s"))
    await work.until("a")
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert (await runner.state("s")).status == "cancelled"
    assert types(await read(runner))[-1] == "error"
    gate.set()
    assert (await runner.run("s")).status == "completed"


async def test_a_run_that_is_not_done_in_time_raises_and_says_so() -> None:
    work = Work()
    work.gate("a")
    runner = Runner(linear(work))
    with pytest.raises(RunTimeout):
        await runner.run("s", timeout=0.2)
    assert (await read(runner))[-1].error == "the run was not done in time"
    assert (await runner.state("s")).status == "cancelled"


async def test_a_first_state_that_does_not_fit_fails_the_run() -> None:
    runner = Runner(linear(Work()))
    with pytest.raises(UpdateInvalid):
        await runner.run("s", {"unknown": 1})
    assert types(await read(runner)) == ["error"]
    assert (await runner.state("s")).status == "failed"


async def test_a_run_that_cannot_be_kept_ends_for_its_readers_too(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    one, other = SqliteStore(path), SqliteStore(path)
    work = Work()
    gate = work.gate("b")
    runner = Runner(linear(work), one)
    running = asyncio.create_task(runner.run("s"))
    reading = asyncio.create_task(read(runner))
    await work.until("b")
    last = (await other.events("s"))[-1]  # as another process would:
    await other.record("s", [Entry(last.seq + 1, last.at, last.event)])
    gate.set()
    with pytest.raises(SessionBusy):
        await running
    events = await reading
    assert types(events)[-1] == "error"
    assert events[-1].error == "what the run did could not be kept"
    await one.aclose()
    await other.aclose()


# --- models in nodes ------------------------------------------------------------------------------


@pytest.mark.rows("C35")
async def test_a_node_streams_a_model_and_cancelling_the_run_cancels_the_model() -> None:
    reached, released = asyncio.Event(), asyncio.Event()

    class Watched(ScriptedModel):
        async def stream(self, request: ModelRequest) -> Any:
            try:
                async for delta in super().stream(request):
                    yield delta
                    reached.set()
            finally:
                released.set()

    model = Watched([["one", "two", asyncio.Event(), "three"]])

    async def ask(view: View) -> None:
        request = ModelRequest(messages=(Message(role="user", content="hi"),))
        async for delta in model.stream(request):
            if isinstance(delta, Text):
                emit("token", delta.text)

    token = CancelToken()
    runner = Runner(Graph(N, name="g").node("a", ask, END).start("a").build())
    running = asyncio.create_task(runner.run("s", cancel=token))
    async with asyncio.timeout(PATIENCE):
        await reached.wait()
        token.abort()
        with pytest.raises(RunAborted):
            await running
        await released.wait()
    said = [e.data["payload"] for e in await read(runner, modes=("custom",)) if e.data]
    assert said[0] == "one"
