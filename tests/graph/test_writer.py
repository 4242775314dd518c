"""What nodes say while they work: in order, from tasks and threads, without touching the state."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from runtime.events import Custom, NodeUpdate
from runtime.graph import END, CompiledGraph, Graph, Key, ListKey, NodeContext, View, collect
from runtime.outbox import LIMIT
from runtime.scope import current_scope, emit, get_stream_writer, write
from tests.graph.graphs import all_results, asked, final_state, run
from tests.runtime.support import PATIENCE, Log

COUNT = Key("count", 0)
VERBOSE = Key("verbose", False)
ITEMS: ListKey[str] = ListKey("items", str)


def single(node: Any, *keys: Key[Any], name: str = "work") -> CompiledGraph:
    return Graph(*(keys or (COUNT,))).node(name, node, END).start(name).build()


@pytest.mark.rows("A20", "A18", "W-A1")
async def test_ten_updates_arrive_in_order_then_the_node_then_the_output() -> None:
    async def count(context: NodeContext, view: View) -> Mapping[str, int]:
        writer = get_stream_writer(context)
        assert writer is not None
        for step in range(10):
            writer({"progress": step * 10, "step": step})
        return {"count": 10}

    results = await all_results(single(count).run({"count": 3}))

    assert [r.updates for r in results[:10]] == [
        {"progress": step * 10, "step": step} for step in range(10)
    ]
    assert all(r.partial and r.output is None and r.node == "work" for r in results[:10])
    assert [(r.node, r.updates, r.output, r.partial) for r in results[10:]] == [
        ("work", {"count": 10}, None, False),
        ("work", None, 10, False),
    ]


@pytest.mark.rows("AX2", "A21")
async def test_updates_do_not_touch_the_state() -> None:
    async def work(view: View) -> None:
        write({"count": 99})
        assert view[COUNT] == 1

    results = await all_results(single(work).run({"count": 1}))

    assert [result.get(COUNT) for result in results] == [1, 1, 1]
    assert results[-1].output == 1


@pytest.mark.rows("A18", "AX7")
async def test_the_writer_is_found_by_context_and_without_it_wherever_the_call_goes() -> None:
    async def deeper(name: str) -> None:
        write({"at": name})

    def in_thread() -> None:
        write({"at": "thread"})
        writer = get_stream_writer()
        assert writer is not None
        writer({"at": "thread again"})

    async def work(context: NodeContext, view: View) -> None:
        context.writer({"at": "context"})
        await deeper("call")
        async with asyncio.TaskGroup() as group:
            group.create_task(deeper("task"))
        await asyncio.to_thread(in_thread)
        await context.writer.send({"at": "sent"})

    results = await all_results(single(work).run())

    assert [(r.updates or {})["at"] for r in results if r.partial] == [
        "context",
        "call",
        "task",
        "thread",
        "thread again",
        "sent",
    ]


@pytest.mark.rows("A18")
async def test_a_thread_may_be_the_first_to_speak() -> None:
    def sync_node(view: View) -> Mapping[str, int]:
        write({"from": "sync"})
        return {"count": 1}

    async def async_node(view: View) -> None:
        await asyncio.to_thread(write, {"from": "thread"})

    for node, said in ((sync_node, "sync"), (async_node, "thread")):
        results = await all_results(single(node).run())
        assert [r.updates for r in results if r.partial] == [{"from": said}]


@pytest.mark.rows("A19")
async def test_outside_a_run_there_is_no_writer_and_nothing_is_said() -> None:
    made: list[str] = []

    async def work(view: View) -> Mapping[str, int]:
        if writer := get_stream_writer():
            writer({"progress": 1})
        write({"progress": 2})
        emit("metric", lambda: made.append("made"))
        return {"count": 1}

    assert await work(View({}, {})) == {"count": 1}
    assert get_stream_writer() is None
    assert current_scope() is None
    assert made == []
    results = await all_results(single(work).run())
    assert [r.updates for r in results if r.partial] == [{"progress": 1}, {"progress": 2}]
    assert made == ["made"]


@pytest.mark.rows("A26", "W-A1")
async def test_two_nodes_tell_their_stages_and_the_second_sees_what_the_first_wrote() -> None:
    async def fetch(context: NodeContext, view: View) -> Mapping[str, Any]:
        for place in range(3):
            context.writer({"stage": "fetching", "progress": (place + 1) / 3})
        return {"items": ["a", "b", "c"]}

    async def process(context: NodeContext, view: View) -> Mapping[str, Any]:
        found = view[ITEMS]
        for place, item in enumerate(found):
            context.writer({"stage": item, "progress": (place + 1) / len(found)})
        return {"items": ["done"]}

    graph = Graph(ITEMS).node("fetch", fetch, "process").node("process", process, END)

    results = await all_results(graph.start("fetch").build().run())
    partials = [(r.node, r.updates) for r in results if r.partial]

    assert partials == [
        ("fetch", {"stage": "fetching", "progress": 1 / 3}),
        ("fetch", {"stage": "fetching", "progress": 2 / 3}),
        ("fetch", {"stage": "fetching", "progress": 1.0}),
        ("process", {"stage": "a", "progress": 1 / 3}),
        ("process", {"stage": "b", "progress": 2 / 3}),
        ("process", {"stage": "c", "progress": 1.0}),
    ]
    assert results[-1].output == ["a", "b", "c", "done"]


@pytest.mark.rows("A46")
async def test_a_node_may_speak_only_if_it_is_asked_to() -> None:
    async def work(context: NodeContext, view: View) -> None:
        for place in range(3):
            if view[VERBOSE]:
                context.writer({"place": place})

    graph = single(work, COUNT, VERBOSE)

    assert [r.partial for r in await all_results(graph.run())].count(True) == 0
    results = await all_results(graph.run({"verbose": True}))
    assert [r.updates for r in results if r.partial] == [{"place": place} for place in range(3)]


class Found(BaseModel):
    """A model of the tests."""

    when: dt.datetime


@pytest.mark.rows("A32", "A45", "A47")
async def test_updates_pass_with_their_types_and_others_become_what_json_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    at = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)

    async def work(context: NodeContext, view: View) -> Mapping[str, int]:
        context.writer({"operation": "query", "rows_fetched": 10, "duration_ms": 1.5})
        context.writer({"event_type": "metric", "timestamp": at, "id": uuid.UUID(int=1)})
        context.writer({"found": Found(when=at), "warning": None})
        context.writer({"handle": object()})
        return {"count": 1}

    results = await all_results(single(work).run())

    assert [r.updates for r in results if r.partial] == [
        {"operation": "query", "rows_fetched": 10, "duration_ms": 1.5},
        {
            "event_type": "metric",
            "timestamp": "2026-01-02T03:04:05Z",
            "id": "00000000-0000-0000-0000-000000000001",
        },
        {"found": {"when": "2026-01-02T03:04:05Z"}, "warning": None},
        {"handle": "<object>"},
    ]
    assert "gave a object, which is no JSON" in caplog.text
    assert results[-1].output == 1


async def test_custom_events_have_the_path_of_their_node() -> None:
    async def work(view: View) -> None:
        emit("metric", {"value": 1})

    log = await run(single(work))

    assert (log.one(Custom).path, log.one(Custom).name) == (("graph", "work"), "metric")


@pytest.mark.rows("W-C12")
async def test_nothing_of_a_node_comes_after_its_end() -> None:
    gate = asyncio.Event()
    said = asyncio.Event()
    stray: list[asyncio.Task[None]] = []

    async def late() -> None:
        await gate.wait()
        write({"late": True})
        said.set()

    async def work(view: View) -> None:
        write({"on time": True})
        stray.append(asyncio.create_task(late()))

    async def silent(view: View) -> None:
        stray.append(asyncio.create_task(late()))

    async def after(view: View) -> None:
        gate.set()
        async with asyncio.timeout(PATIENCE):
            await said.wait()

    graph = Graph(COUNT).node("work", work, "silent").node("silent", silent, "after")
    log = await run(graph.node("after", after, END).start("work").build())
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(stray)

    assert [event.updates for event in log.of(NodeUpdate)] == [{"on time": True}]
    assert log.types.index("node.update") < log.types.index("node.completed")


@pytest.mark.rows("A42", "W-A3")
async def test_eight_tasks_say_a_thousand_things_each_in_order() -> None:
    async def speak(context: NodeContext, who: int) -> None:
        for number in range(1000):
            context.writer({"who": who, "number": number})
            if number % 100 == 0:
                await asyncio.sleep(0)

    async def work(context: NodeContext, view: View) -> None:
        async with asyncio.TaskGroup() as group:
            for who in range(8):
                group.create_task(speak(context, who))

    consumer = asyncio.current_task()
    partials = []
    async with asyncio.timeout(PATIENCE):
        async for result in single(work).run():
            assert asyncio.current_task() is consumer
            if result.partial:
                partials.append(result.updates or {})

    assert len(partials) == 8000
    for who in range(8):
        assert [p["number"] for p in partials if p["who"] == who] == list(range(1000))


@pytest.mark.rows("A42")
async def test_four_threads_say_a_thousand_things_each_in_order() -> None:
    def speak(context: NodeContext, who: int) -> None:
        for number in range(1000):
            context.writer({"who": who, "number": number})

    def work(context: NodeContext, view: View) -> None:
        threads = [threading.Thread(target=speak, args=(context, who)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    async with asyncio.timeout(30):
        partials = [r.updates or {} for r in await collect(single(work).run()) if r.partial]

    for who in range(4):
        assert [p["number"] for p in partials if p["who"] == who] == list(range(1000))


@pytest.mark.rows("A30", "A39")
@pytest.mark.timeout(120)
async def test_a_million_updates_keep_neither_memory_nor_the_result() -> None:
    async def work(context: NodeContext, view: View) -> Mapping[str, int]:
        for number in range(1_000_000):
            context.writer({"number": number})
        peaks.append(context.scope.outbox.peak)
        return {"count": 1_000_000}

    peaks: list[int] = []
    stream = single(work).run()
    numbers: list[int] = []
    output = None
    async with asyncio.timeout(110):
        async for result in stream:
            if result.partial:
                numbers.append((result.updates or {})["number"])
            output = result.output

    assert peaks == [LIMIT]
    assert stream.peak <= 100
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (0, 999_999)
    assert output == 1_000_000


@pytest.mark.rows("A39")
async def test_a_slow_consumer_holds_the_run_back() -> None:
    async def work(context: NodeContext, view: View) -> None:
        for number in range(1000):
            await context.writer.send({"number": number})
            sent.append(number)

    sent: list[int] = []
    stream = single(work).run()

    first = await anext(stream)
    for _ in range(1000):
        await asyncio.sleep(0)

    assert (first.updates or {})["number"] == 0
    assert len(sent) <= 101
    assert stream.peak <= 100
    rest = await all_results(stream)
    assert len(rest) == 1001


@pytest.mark.rows("A47")
async def test_updates_that_cannot_be_written_do_not_stop_the_node() -> None:
    async def work(context: NodeContext, view: View) -> Mapping[str, Any]:
        loop: dict[str, Any] = {}
        loop["loop"] = loop
        context.writer(loop)
        context.writer({"warning": "went on"})
        return {"count": 2}

    log = await run(single(work), asked())

    assert [event.updates for event in log.of(NodeUpdate)] == [
        {"updates": "<dict>"},
        {"warning": "went on"},
    ]
    assert final_state(log) == {"count": 2}


async def test_when_the_log_fails_a_node_that_only_writes_is_stopped() -> None:
    stopped = asyncio.Event()
    log = Log()

    async def emit_until_update(event: Any) -> None:
        if isinstance(event, NodeUpdate):
            raise ConnectionError("the log is gone")
        await log.emit(event)

    async def work(view: View) -> None:
        write({"first": 1})
        try:
            await asyncio.sleep(PATIENCE * 2)
        finally:
            stopped.set()

    async with asyncio.timeout(PATIENCE) as clock:
        with pytest.raises(ConnectionError):
            await single(work).execute(asked(), emit_until_update)

    assert not clock.expired()
    assert stopped.is_set()
    assert log.types == ["run.started", "superstep.started", "node.started"]
