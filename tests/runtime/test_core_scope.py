"""Code inside a run finds the run, from tasks and threads; outside, what is said goes nowhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from runtime.errors import RunAborted
from runtime.events import Custom, Event, NodeUpdate, ToolProgress
from runtime.outbox import Outbox
from runtime.runnable import RunRequest
from runtime.scope import Scope, current_scope, emit, get_stream_writer, write

REQUEST = RunRequest(run_id="run_1", history=())


class Taken:
    """A scope, and what was said in it."""

    def __init__(self, *path: str, node: str | None = None, call_id: str | None = None) -> None:
        self.events: list[Event] = []
        self.outbox = Outbox(self.take)
        self.scope = Scope(REQUEST, path, self.outbox, node=node, call_id=call_id)

    async def take(self, event: Event) -> None:
        self.events.append(event)

    async def one(self) -> Event:
        await self.outbox.flush()
        (event,) = self.events
        self.events.clear()
        return event


async def test_outside_a_run_there_is_no_scope_and_nothing_happens() -> None:
    def never() -> Any:
        raise AssertionError("made for nobody")

    assert current_scope() is None
    assert get_stream_writer() is None
    assert get_stream_writer(object()) is None
    write({"a": 1})
    emit("name", {"a": 1})
    emit("name", never)


async def test_what_is_said_depends_on_who_says_it() -> None:
    node = Taken("graph", "fetch", node="fetch")
    with node.scope.active():
        write({"progress": 1})
    said = await node.one()
    assert isinstance(said, NodeUpdate)
    assert (said.path, said.node, said.updates) == (("graph",), "fetch", {"progress": 1})

    call = Taken("agent", call_id="c1")
    with call.scope.active():
        write({"progress": 1})
    said = await call.one()
    assert isinstance(said, ToolProgress)
    assert (said.path, said.call_id, said.data) == (("agent",), "c1", {"progress": 1})

    bare = Taken("agent")
    with bare.scope.active():
        write({"progress": 1})
    said = await bare.one()
    assert isinstance(said, Custom)
    assert (said.path, said.name, said.payload) == (("agent",), "update", {"progress": 1})


async def test_custom_events_are_said_under_their_name_and_made_only_when_wanted() -> None:
    taken = Taken("agent", call_id="c1")
    with taken.scope.active():
        emit("found", lambda: {"pages": 3})
    said = await taken.one()
    assert isinstance(said, Custom)
    assert (said.name, said.payload, said.run_id) == ("found", {"pages": 3}, "run_1")


class Place(BaseModel):
    city: str


@dataclass
class Pair:
    left: int


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (Place(city="Paris"), {"city": "Paris"}),
        (Pair(1), {"left": 1}),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (b"\x00", "AA=="),
        (float("nan"), None),
        ({1, 2}, [1, 2]),
        (threading.Lock(), "<lock>"),
    ],
)
async def test_any_value_becomes_plain_data_when_it_is_said(value: Any, data: Any) -> None:
    taken = Taken("graph", "n", node="n")
    with taken.scope.active():
        write({"value": value})
    said = await taken.one()
    assert isinstance(said, NodeUpdate)
    assert said.updates == {"value": data}


async def test_what_was_said_does_not_change_with_the_value_later() -> None:
    taken = Taken("graph", "n", node="n")
    value = [1]
    with taken.scope.active():
        write({"value": value})
        emit("v", value)
    value.append(2)
    await taken.outbox.flush()
    update, custom = taken.events
    assert isinstance(update, NodeUpdate)
    assert isinstance(custom, Custom)
    assert update.updates == {"value": [1]}
    assert custom.payload == [1]


async def test_the_scope_follows_into_tasks_and_threads_and_not_back_out() -> None:
    taken = Taken("graph", "n", node="n")

    async def in_task() -> None:
        write({"from": "task"})

    with taken.scope.active():
        await asyncio.create_task(in_task())
        await asyncio.to_thread(write, {"from": "thread"})
    assert current_scope() is None
    await taken.outbox.flush()
    said = [event.updates for event in taken.events if isinstance(event, NodeUpdate)]
    assert said == [{"from": "task"}, {"from": "thread"}]


async def test_scopes_side_by_side_and_inside_each_other_do_not_mix() -> None:
    outer, inner = Taken("graph", "n", node="n"), Taken("graph", "n", "agent", call_id="c1")
    both = asyncio.Barrier(2)

    async def speak(taken: Taken, text: str) -> None:
        with taken.scope.active():
            await both.wait()
            write({"text": text})
            await both.wait()
            assert current_scope() is taken.scope

    async with asyncio.TaskGroup() as group:
        group.create_task(speak(outer, "outer"))
        group.create_task(speak(inner, "inner"))
    assert isinstance(await outer.one(), NodeUpdate)
    assert isinstance(await inner.one(), ToolProgress)
    with outer.scope.active():
        with inner.scope.active():
            assert current_scope() is inner.scope
        assert current_scope() is outer.scope


async def test_a_writer_works_where_the_scope_does_not_reach() -> None:
    taken = Taken("graph", "n", node="n")

    class Context:
        scope = taken.scope

    writer = get_stream_writer(Context())
    assert writer is not None
    thread = threading.Thread(target=writer, args=({"from": "bare thread"},))
    thread.start()
    await asyncio.to_thread(thread.join)
    said = await taken.one()
    assert isinstance(said, NodeUpdate)
    assert said.updates == {"from": "bare thread"}


async def test_sending_waits_until_it_is_reported_and_loses_nothing() -> None:
    gate = asyncio.Event()
    events: list[Event] = []

    async def take(event: Event) -> None:
        await gate.wait()
        events.append(event)

    outbox = Outbox(take, limit=2)
    scope = Scope(REQUEST, ("graph", "n"), outbox, node="n")
    with scope.active():
        writer = get_stream_writer()
    assert writer is not None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(writer.send({"i": i})) for i in range(20)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        gate.set()
    assert [e.updates["i"] for e in events if isinstance(e, NodeUpdate)] == list(range(20))
    await outbox.aclose()
    writer({"late": 1})
    with pytest.raises(RunAborted):
        await writer.send({"late": 1})
    assert len(events) == 20


async def test_speaking_never_fails_whatever_the_report_does() -> None:
    async def fail(event: Event) -> None:
        raise OSError("disk full")

    outbox = Outbox(fail)
    ways: list[Callable[[], None]] = [lambda: write({"a": 1}), lambda: emit("a")]
    with Scope(REQUEST, ("agent",), outbox).active():
        for way in ways * 2:
            way()
            await asyncio.sleep(0)
    with pytest.raises(OSError, match="disk full"):
        await outbox.flush()
