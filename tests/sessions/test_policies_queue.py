"""What waits is seen by all, and any client may change it; who comes too late is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import CommandMalformed, CommandRefused, NotQueued, RunUnknown, SessionClosed
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk


@dataclass
class Queue:
    """A session with a run at work and inputs behind it."""

    at: Desk
    gate: asyncio.Event
    runs: dict[str, str]
    active: str

    async def texts(self) -> list[str]:
        queue = (await self.at.manager.snapshot("s")).queue
        assert [item.position for item in queue] == list(range(1, len(queue) + 1))
        return [item.message.content for item in queue]

    def ids(self, *texts: str) -> list[str]:
        return [self.runs[text] for text in texts]


@asynccontextmanager
async def queue_of(*texts: str, engine: MemoryEngine | None = None) -> AsyncIterator[Queue]:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await gate.wait()
        await part.answer("ok", f"msg_{part.run_id}")

    async with desk(engine or MemoryEngine(), Puppet(play)) as at:
        active = await at.send("active")
        await at.until("run.started")
        runs = {text: str((await at.send(text)).run_id) for text in texts}
        yield Queue(at, gate, runs, str(active.run_id))


@pytest.mark.rule("queue.edit")
async def test_those_that_are_named_come_first_and_the_rest_keep_their_order() -> None:
    engine = MemoryEngine()
    async with queue_of("a", "b", "c", "d", engine=engine) as queue:
        ack = await queue.at.command("edit_queue", order=queue.ids("d", "b"))
        assert await queue.texts() == ["d", "b", "a", "c"]
        written = (await queue.at.events())[-1]
        assert written["type"] == "input.reordered"
        assert written["run_ids"] == queue.ids("d", "b", "a", "c")
        assert (written["command_id"], written["cursor"]) == (ack.id, ack.cursor)
        queue.gate.set()
        await queue.at.until("run.completed", 5)
        events = await queue.at.events()
        started = [e["run_id"] for e in events if e["type"] == "run.started"]
        assert started == [queue.active, *queue.ids("d", "b", "a", "c")]


@pytest.mark.rule("queue.edit", "run.one_end")
async def test_what_is_dropped_never_runs_and_ends_once() -> None:
    async with queue_of("a", "b", "c") as queue:
        ack = await queue.at.command("edit_queue", drop=queue.ids("c", "a"))
        assert await queue.texts() == ["b"]
        written = [e for e in await queue.at.events() if e["seq"] > 6]
        assert [(e["type"], e["run_id"], e.get("reason")) for e in written] == [
            ("input.dequeued", queue.runs["c"], "edited"),
            ("run.cancelled", queue.runs["c"], "cancel"),
            ("input.dequeued", queue.runs["a"], "edited"),
            ("run.cancelled", queue.runs["a"], "cancel"),
        ]
        assert written[0]["cursor"] == ack.cursor
        assert {e["command_id"] for e in written if e["type"] == "run.cancelled"} == {ack.id}
        queue.gate.set()
        await queue.at.until("run.completed", 2)
        users = [
            m.text for m in (await queue.at.manager.snapshot("s")).messages if m.role == "user"
        ]
        assert users == ["active", "b"]


@pytest.mark.rule("queue.edit")
async def test_dropping_and_ordering_go_together_and_nothing_happens_by_half() -> None:
    async with queue_of("a", "b", "c", "d") as queue:
        await queue.at.command("edit_queue", drop=queue.ids("b"), order=queue.ids("d"))
        assert await queue.texts() == ["d", "a", "c"]
        types = (await queue.at.types())[-3:]
        assert types == ["input.dequeued", "run.cancelled", "input.reordered"]
        before = await queue.at.types()
        with pytest.raises(RunUnknown) as unknown:
            await queue.at.command("edit_queue", drop=[*queue.ids("a"), "run_of_nobody"])
        assert (unknown.value.code, unknown.value.http_status) == ("run_unknown", 404)
        assert await queue.at.types() == before


@pytest.mark.rule("queue.edit")
@pytest.mark.parametrize("fields", [{}, {"drop": [], "order": []}, {"order": "same"}])
async def test_an_edit_that_changes_nothing_is_acknowledged_without_an_event(
    fields: dict[str, object],
) -> None:
    async with queue_of("a", "b") as queue:
        if fields:
            fields = {"order": queue.ids("a")}
        before = await queue.at.events()
        ack = await queue.at.command("edit_queue", **fields)
        assert await queue.at.events() == before
        assert (ack.cursor, ack.run_id) == (before[-1]["cursor"], None)


@pytest.mark.rule("queue.edit")
@pytest.mark.parametrize("left", ["started", "dropped", "cancelled", "active"])
async def test_who_names_a_run_that_waits_no_more_is_told_so(left: str) -> None:
    engine = MemoryEngine()
    async with queue_of("a", "b", engine=engine) as queue:
        named = queue.runs["a"]
        match left:
            case "started":
                await queue.at.command("cancel", run_id=queue.active)
            case "dropped":
                await queue.at.command("edit_queue", drop=[named])
            case "cancelled":
                await queue.at.command("cancel", run_id=named)
            case _:
                named = queue.active
        before = await queue.at.types()
        for fields in ({"drop": [named]}, {"order": [queue.runs["b"], named]}):
            with pytest.raises(NotQueued) as refused:
                await queue.at.command("edit_queue", **fields)
            assert (refused.value.code, refused.value.http_status) == ("not_queued", 409)
        assert await queue.at.types() == before
        assert await queue.texts() == (["a", "b"] if left == "active" else ["b"])


@pytest.mark.rule("queue.edit", "command.once")
async def test_of_two_clients_that_edit_at_once_each_sees_what_happened() -> None:
    async with queue_of("a", "b", "c") as queue:
        drop = {"drop": queue.ids("b")}
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_outcome(queue, {**drop, "id": name}))
                for name in ("one", "two", "one")
            ]
        outcomes = [task.result() for task in tasks]
        assert outcomes == ["done", "not_queued", "done"]
        assert (await queue.at.types()).count("input.dequeued") == 1
        assert await queue.texts() == ["a", "c"]


async def _outcome(queue: Queue, fields: dict[str, object]) -> str:
    try:
        await queue.at.command("edit_queue", **fields)
    except CommandRefused as refused:
        return refused.code
    return "done"


@pytest.mark.rule("queue.edit", "snapshot.fold")
async def test_the_order_outlives_the_process() -> None:
    engine = MemoryEngine()
    async with queue_of("a", "b", "c", engine=engine) as queue:
        await queue.at.command("edit_queue", order=queue.ids("c"), drop=queue.ids("a"))
        before = (await queue.at.manager.snapshot("s")).queue
        assert [item.message.content for item in before] == ["c", "b"]
    async with desk(engine, Puppet(lambda part: part.answer("ok", f"msg_{part.run_id}"))) as at:
        await at.until("run.completed", 3)
        users = [m.text for m in (await at.manager.snapshot("s")).messages if m.role == "user"]
        assert users == ["active", "c", "b"]


async def test_what_waits_for_the_next_step_can_be_dropped_and_moved_too() -> None:
    async with queue_of("a") as queue:
        steer = await queue.at.send("steer", policy="steer")
        await queue.at.command("edit_queue", order=[steer.run_id])
        snapshot = await queue.at.manager.snapshot("s")
        assert [item.policy for item in snapshot.queue] == ["steer", "enqueue"]
        await queue.at.command("edit_queue", drop=[steer.run_id])
        assert await queue.texts() == ["a"]


async def test_an_edit_that_contradicts_itself_is_malformed() -> None:
    async with queue_of("a") as queue:
        for fields in ({"drop": ["x"], "order": ["x"]}, {"order": ["x", "x"]}):
            with pytest.raises(CommandMalformed, match="named twice"):
                await queue.at.command("edit_queue", **fields)


async def test_cancelling_a_queued_run_twice_is_cancelling_it_once() -> None:
    async with queue_of("a") as queue:
        for _ in range(2):
            ack = await queue.at.command("cancel", run_id=queue.runs["a"])
            assert ack.run_id == queue.runs["a"]
        assert (await queue.at.types()).count("run.cancelled") == 1


async def test_a_closed_session_has_no_queue_to_edit() -> None:
    async with queue_of("a") as queue:
        session = await queue.at.manager._session("s")
        await session.close("done")
        with pytest.raises(SessionClosed):
            await queue.at.command("edit_queue", drop=queue.ids("a"))
