"""What the readers of a runner see, whenever they come and however slow they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.broker import Broker
from runtime.errors import NodeError
from runtime.events import RunCompleted
from runtime.graph import END, Graph, Key, View
from runtime.graph.memory_store import MemoryStore
from runtime.graph.recording import Clock
from runtime.graph.runner import Runner
from runtime.graph.store import CheckpointStore, Entry
from runtime.graph.stream_event import StreamEvent
from runtime.scope import emit
from tests.graph.running import (
    DONE,
    LINEAR,
    PATIENCE,
    STORES,
    N,
    Work,
    boom,
    collect,
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


@pytest.mark.rows("C22")
async def test_of_a_branch_only_what_was_taken_is_told() -> None:
    work = Work()
    graph = Graph(N, DONE, name="g")
    graph.node("a", work.node("a")).branch("a", lambda view: "left", "left", "right")
    graph.node("left", work.node("left"), END).node("right", work.node("right"), END)
    runner = Runner(graph.start("a").build())
    await runner.run("s")
    assert told(await read(runner)) == [
        "node_start a",
        "node_end a",
        "edge_transition left",
        "node_start left",
        "node_end left",
        "completed",
    ]


@pytest.mark.rows("C13", "C14")
@pytest.mark.parametrize("moment", ["before", "during", "after"])
async def test_readers_get_everything_from_the_first_event_whenever_they_come(
    store: CheckpointStore, moment: str
) -> None:
    work = Work()
    gate = work.gate("b")
    runner = Runner(linear(work), store)
    readers: list[asyncio.Task[list[StreamEvent]]] = []

    async def come(when: str) -> None:
        if when == moment:
            readers.extend(asyncio.create_task(read(runner)) for _ in range(2))
            readers.append(asyncio.create_task(read(runner, "s")))
            readers.append(asyncio.create_task(read(runner, "s", after=0)))
            await proven_blocked(*readers) if when != "after" else None

    await come("before")
    running = asyncio.create_task(runner.run("s"))
    await work.until("b")
    await come("during")
    gate.set()
    await running
    await come("after")
    heard = [await reader for reader in readers]
    assert types(heard[0]) == LINEAR
    assert [event.seq for event in heard[0]] == sorted({event.seq for event in heard[0]})
    assert all(events == heard[0] for events in heard)


@pytest.mark.rows("C23", "W-C7")
async def test_states_in_events_are_snapshots_and_times_never_go_back() -> None:
    live: list[dict[str, list[int]]] = []
    data = {"list": [1]}

    async def change(view: View) -> dict[str, Any]:
        live.append(data)
        return {"n": data}

    graph = Graph(Key("n", None), name="g").node("a", change, "b").node("b", change, END)
    runner = Runner(graph.start("a").build())
    state = await runner.run("s", {"n": {"list": [0]}})
    data["list"].append(2)
    first = await read(runner)
    assert [event.state for event in first if event.state is not None] == [
        {"n": {"list": [0]}},
        {"n": {"list": [1]}},
        {"n": {"list": [1]}},
        {"n": {"list": [1]}},
        {"n": {"list": [1]}},
    ]
    for event in first:
        if event.state is not None:
            event.state["n"]["list"].append(3)  # a reader that spoils its own copy
    again = await read(runner)
    assert again[-1].state == {"n": {"list": [1]}} == state.state
    times = [event.timestamp for event in first]
    assert times == sorted(times)
    assert all(time.utcoffset() is not None for time in times)


@pytest.mark.rows("C23")
async def test_the_json_of_an_event_has_these_keys_and_leaves_out_what_is_empty() -> None:
    runner = Runner(linear(Work()))
    await runner.run("s", {"n": 1})
    by_type = {event.type: json.loads(event.model_dump_json()) for event in await read(runner)}
    assert list(by_type["node_end"]) == ["type", "node_id", "state", "timestamp"]
    assert list(by_type["edge_transition"]) == ["type", "node_id", "timestamp"]
    assert list(by_type["completed"]) == ["type", "state", "timestamp"]
    assert by_type["completed"]["state"] == {"n": 3, "done": ["a", "b"]}
    again = StreamEvent.model_validate_json(json.dumps(by_type["node_end"]))
    assert again.node_id == "b"
    failing = Runner(Graph(N, name="g").node("bad", boom, END).start("bad").build())
    with pytest.raises(NodeError):
        await failing.run("s")
    error = json.loads((await read(failing))[-1].model_dump_json())
    assert list(error) == ["type", "node_id", "error", "timestamp"]


@pytest.mark.rows("W-C4", "C14")
async def test_who_reads_before_the_next_run_names_where_the_last_one_ended() -> None:
    runner = Runner(linear(Work()))
    first = await runner.run("s")
    reading = asyncio.create_task(read(runner, "s", after=first.seq))
    await proven_blocked(reading)
    second = await runner.run("s")
    assert {event.run_id for event in await reading} == {second.run_id}


@pytest.mark.rows("W-C4")
async def test_a_reader_that_comes_as_a_run_begins_sees_that_run_and_not_the_last(
    store: CheckpointStore,
) -> None:
    runner = Runner(linear(Work()), store)
    await runner.run("s")
    for session_id in ("s", "another"):
        running = asyncio.create_task(runner.run(session_id))
        readings = [asyncio.create_task(read(runner, name)) for name in (None, session_id)]
        state = await running
        for reading in readings:
            events = await reading
            assert types(events) == LINEAR
            assert {event.run_id for event in events} == {state.run_id}


async def test_without_a_session_the_run_that_was_begun_last_is_read() -> None:
    runner = Runner(linear(Work()))
    for session_id in ("s1", "s2", "s1"):
        state = await runner.run(session_id)
        assert {event.run_id for event in await read(runner)} == {state.run_id}


async def test_a_reader_that_sees_the_end_finds_the_session_free() -> None:
    work = Work()
    runner = Runner(linear(work, ask="b"))

    async def go_on() -> list[str]:
        async for event in runner.stream():
            if event.type == "interrupt":
                return [(await runner.resume("s")).status]
        raise AssertionError

    going_on = asyncio.create_task(go_on())
    await proven_blocked(going_on)
    await runner.run("s")
    assert await going_on == ["completed"]


@pytest.mark.rows("C13", "W-A4")
async def test_a_reader_that_does_not_read_delays_nobody() -> None:
    runner = Runner(linear(Work(), names="abcdefgh"), keep=5)
    lazy = runner.stream()
    waiting = asyncio.create_task(lazy.__anext__())
    await proven_blocked(waiting)
    async with asyncio.timeout(PATIENCE):
        await runner.run("s")
        first = await waiting
    rest = await collect(lazy)
    assert told([first, *rest])[0] == "node_start a"
    assert len([first, *rest]) == 8 * 3  # what left the memory came from the store


@pytest.mark.rows("W-C1")
async def test_a_slow_reader_gets_what_left_the_memory_while_the_run_goes_on() -> None:
    gate, spoken = asyncio.Event(), asyncio.Event()

    async def speak(view: View) -> None:
        for number in range(250):
            emit("word", number)
        spoken.set()
        await gate.wait()

    written = asyncio.Event()

    class Watched(MemoryStore):
        async def record(self, session_id: str, entries: Sequence[Entry]) -> None:
            await super().record(session_id, entries)
            if entries[-1].seq >= 200:
                written.set()

    graph = Graph(N, name="g").node("a", speak, END).start("a")
    runner = Runner(graph.build(), Watched(), keep=5)
    slow = runner.stream(modes=("custom", "updates"))
    first = asyncio.create_task(slow.__anext__())
    running = asyncio.create_task(runner.run("s"))
    async with asyncio.timeout(PATIENCE):
        await spoken.wait()
        assert (await first).type == "node_start"
        await written.wait()  # in batches, not only at the end
        said = [await anext(slow) for _ in range(250)]
        gate.set()
        await running
    assert [event.data["payload"] for event in said] == list(range(250))
    assert types(await collect(slow)) == ["node_end", "completed"]


async def test_an_end_is_not_read_from_the_store_before_the_session_is_free() -> None:
    ended, gate = asyncio.Event(), asyncio.Event()

    class Slow(MemoryStore):
        async def record(self, session_id: str, entries: Sequence[Entry]) -> None:
            await super().record(session_id, entries)
            if any(isinstance(entry.event, RunCompleted) for entry in entries):
                ended.set()
                await gate.wait()

    runner = Runner(linear(Work()), Slow())
    running = asyncio.create_task(runner.run("s"))
    await ended.wait()
    reading = asyncio.create_task(read(runner, "s", after=0))
    await proven_blocked(reading)
    gate.set()
    await running
    assert types(await reading) == LINEAR


def test_a_clock_that_is_set_back_gives_no_time_before_the_last() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    times = iter([noon, noon - timedelta(hours=1), noon + timedelta(hours=1)])
    clock = Clock(lambda: next(times))
    assert [clock(), clock(), clock()] == [noon, noon, noon + timedelta(hours=1)]


async def test_nodes_of_a_graph_in_a_node_are_named_with_the_node_that_they_are_in() -> None:
    inner = Graph(N, name="inner").node("x", speaking, END).start("x").build()
    graph = Graph(N, name="g").node("sub", inner, END).start("sub")
    runner = Runner(graph.build())
    await runner.run("s")
    events = await read(runner, modes=("updates", "custom"))
    assert told(events) == [
        "node_start sub",
        "node_start sub/x",
        "custom sub/x",
        "node_end sub/x",
        "node_end sub",
        "completed",
    ]


async def speaking(view: View) -> None:
    emit("word")


@pytest.mark.rows("C37", "CX3")
async def test_what_a_node_says_comes_between_its_start_and_its_end(
    store: CheckpointStore,
) -> None:
    async def speak(view: View) -> None:
        for word in ("one", "two"):
            emit("token", {"text": word})
        emit("lazy", lambda: 3)

    broker = Broker()
    listening = broker.subscribe("ui")
    graph = Graph(N, name="g").node("a", speak, "b").node("b", speak, END).start("a")
    runner = Runner(graph.build(), store, broker=broker)
    await runner.run("s")
    broker.close()
    words = ["token", "token", "lazy"]
    heard = [event async for event in listening]
    wanted = {"node_start", "node_end", "token", "lazy", "completed"}
    assert [event.type for event in heard if event.type in wanted] == [
        "node_start",
        *words,
        "node_end",
        "node_start",
        *words,
        "node_end",
        "completed",
    ]
    assert [event.data for event in heard if event.type in words][:3] == [
        {"text": "one"},
        {"text": "two"},
        3,
    ]
    starts = [event.data for event in heard if event.type == "node_start"]
    assert list(starts[0]) == ["type", "node_id", "timestamp"]
    assert starts[0]["node_id"] == "a"
    told_here = await read(runner, modes=("custom",))
    assert types(told_here) == ["custom"] * 6 + ["completed"]
    assert told_here[0].data == {"name": "token", "payload": {"text": "one"}}
    assert told_here[0].node_id == "a"


@pytest.mark.rows("CX3")
async def test_saying_something_outside_of_a_run_does_nothing() -> None:
    def never() -> object:
        raise AssertionError("nobody listens")

    emit("x", never)


@pytest.mark.rows("W-C8")
async def test_a_custom_name_cannot_break_a_line_of_the_broker() -> None:
    async def speak(view: View) -> None:
        emit("a\ndata: forged", 1)

    broker = Broker()
    listening = broker.subscribe("ui")
    graph = Graph(N, name="g").node("a", speak, END).start("a")
    assert (await Runner(graph.build(), broker=broker).run("s")).status == "completed"
    broker.close()
    assert "a data: forged" in [event.type async for event in listening]


@pytest.mark.rows("CX2")
async def test_modes_only_choose_what_is_seen() -> None:
    async def speak(view: View) -> dict[str, Any]:
        emit("word")
        return {"n": 1}

    graph = Graph(N, name="g").node("a", speak, END).start("a")
    runner = Runner(graph.build())
    await runner.run("s")
    everything = await read(runner, modes=("debug",))
    seqs = {event.seq: event for event in everything}
    assert sorted(seqs) == list(range(1, len(everything) + 1))
    expected = {
        ("values",): ["node_end", "completed"],
        ("updates",): ["node_start", "node_end", "completed"],
        ("custom",): ["custom", "completed"],
        ("custom", "values"): ["custom", "node_end", "completed"],
        (): ["completed"],
    }
    for modes, seen in expected.items():
        events = await read(runner, modes=modes)
        assert types(events) == seen
        assert all(seqs[event.seq] == event for event in events)
    assert types(everything) == [
        "run.started",
        "checkpoint",
        "superstep.started",
        "node_start",
        "custom",
        "node_end",
        "superstep.completed",
        "checkpoint",
        "completed",
    ]


@pytest.mark.rows("CX2")
async def test_who_reads_messages_sees_what_is_said_and_the_end() -> None:
    async def answer(view: View) -> dict[str, Any]:
        return {"answer": "hello"}

    graph = Graph(Key("answer", ""), name="g").node("a", answer, END).start("a")
    runner = Runner(graph.build())
    await runner.run("s")
    events = await read(runner, modes=("messages",))
    said = ["message.started", "message.delta", "message.completed"]
    assert types(events) == [*said, "completed"]


@pytest.mark.rows("CX4", "C14")
async def test_another_runner_replays_a_session_from_the_log(store: CheckpointStore) -> None:
    graph = linear(Work())
    first = Runner(graph, store)
    await first.run("s")
    seen = await read(first)
    assert await read(Runner(graph, store), "s", after=0) == seen
    assert types(await read(Runner(graph, store), "s", after=seen[1].seq)) == LINEAR[2:]


async def test_a_number_needs_a_session() -> None:
    with pytest.raises(ValueError, match="name it"):
        Runner(linear(Work())).stream(after=1)


async def test_closing_a_runner_ends_readers_that_wait_for_a_run() -> None:
    runner = Runner(linear(Work()))
    reading = asyncio.create_task(read(runner))
    await proven_blocked(reading)
    await runner.aclose()
    await runner.aclose()
    assert await reading == []
