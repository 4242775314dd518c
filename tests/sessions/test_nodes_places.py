"""Which node does which run: roles, places, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.log.engine import LEASE_SECONDS, Fence, Write
from gateway.sessions.room import Room
from tests.support.logs import SetClock
from tests.support.nodes import node, until
from tests.support.puppet import Part
from tests.support.tasks import no_task_left
from tests.support.waiting import proven_blocked

__all__ = ["no_task_left"]

LEASE = round(LEASE_SECONDS * 1000)


async def answer(part: Part) -> None:
    await part.answer("ok", f"msg_{part.run_id}")


async def never(part: Part) -> None:
    raise AssertionError("this node does no runs")


class Gates:
    """Runs that each wait until they are let go."""

    def __init__(self) -> None:
        self.at_work: list[str] = []
        self.most = 0
        self._gates: dict[str, asyncio.Event] = {}

    async def play(self, part: Part) -> None:
        self.at_work.append(part.run_id)
        self.most = max(self.most, len(self.at_work))
        try:
            await part.begin(f"msg_{part.run_id}")
            await self._gates.setdefault(part.run_id, asyncio.Event()).wait()
            self.at_work.remove(part.run_id)
            await part.end()
        finally:
            if part.run_id in self.at_work:
                self.at_work.remove(part.run_id)

    def let_go(self, run_id: str) -> None:
        self._gates.setdefault(run_id, asyncio.Event()).set()


async def test_a_run_that_an_edge_begins_is_done_by_a_worker_at_its_first_attempt() -> None:
    engine = MemoryEngine(shared=True)
    async with node(engine, never, places=0) as edge:
        run_id = (await edge.send("hi")).run_id
        snapshot = await edge.manager.snapshot("s")
        assert snapshot.status == "running"
        async with node(engine, answer) as worker:
            await edge.until("run.completed", run_id=run_id)
            assert worker.puppet.played[0].request.attempt == 1
            assert "run.attempt_started" not in await edge.types()
            await edge.send("more")
            await edge.until("run.completed", 2)
            assert (await engine.session("s")).claim is None


@pytest.mark.rule("cancel.bounded")
async def test_an_edge_cancels_and_queues_for_a_worker_that_begins_what_follows() -> None:
    gates, engine = Gates(), MemoryEngine(shared=True)
    async with (
        node(engine, never, places=0) as edge,
        node(engine, gates.play, heartbeat=3600) as worker,
    ):
        await edge.send("first")
        await edge.until("message.started")
        await edge.send("second")
        await edge.command("cancel")
        await edge.until("message.started", 2)
        await until(lambda: len(worker.puppet.played) == 2 and len(gates.at_work) == 1)
        assert (await edge.types()).count("run.cancelled") == 1


async def test_a_run_that_waits_for_a_worker_can_be_cancelled_and_never_begins() -> None:
    engine = MemoryEngine(shared=True)
    async with node(engine, never, places=0) as edge:
        await edge.send("hi")
        await edge.command("cancel")
        assert await engine.orphans() == []
        async with node(engine, never):
            await edge.send("next")
            await edge.command("cancel")
            assert (await edge.types()).count("run.cancelled") == 2


@pytest.mark.fault("F34", holds=("I6", "I10"))
async def test_a_cancel_ends_a_run_also_if_a_worker_took_it_a_moment_ago() -> None:
    engine = MemoryEngine(shared=True)
    async with node(engine, never, places=0) as edge:
        run_id = str((await edge.send("hi")).run_id)
        edge.line.held = asyncio.Event()
        cancelling = asyncio.create_task(edge.command("cancel"))
        await proven_blocked(cancelling)
        taken = Fence(run_id, 1, "of a worker")
        await engine.append(Write("s", (), claim=taken))
        edge.line.held.set()
        await cancelling
        record = await engine.session("s")
        assert (record.claim, record.status) == (None, "idle")


async def test_a_deploy_while_a_run_waits_for_a_place_costs_no_attempt() -> None:
    clock = SetClock()
    engine = MemoryEngine(clock=clock, shared=True)
    async with node(engine, never, places=0) as edge:
        await edge.send("hi")
        await edge.manager.hand_over(0)
    clock.now += LEASE
    async with node(engine, answer) as worker:
        await worker.until("run.completed")
        assert worker.puppet.played[0].request.attempt == 1


async def test_a_run_that_was_handed_over_and_then_waits_is_another_attempt() -> None:
    gates, engine = Gates(), MemoryEngine(shared=True)
    async with node(engine, gates.play) as first:
        await first.send("hi")
        await first.until("message.started")
        await first.manager.hand_over(0)
    async with node(engine, answer) as second:
        assert (await second.until("run.attempt_started"))["attempt"] == 2
        await second.until("run.completed")


async def test_a_full_node_leaves_runs_to_whoever_has_room_and_takes_them_when_it_has() -> None:
    gates, engine = Gates(), MemoryEngine(shared=True)
    async with node(engine, gates.play, places=1) as a:
        first = (await a.send("first")).run_id
        await a.until("message.started")
        second, third = a.at("s2"), a.at("s3")
        for at in (second, third):
            await at.make()
            await at.send("waits")
        waiting = asyncio.create_task(second.until("message.started"))
        await proven_blocked(waiting)
        async with node(engine, gates.play, places=1) as b:
            await waiting
            assert (len(a.puppet.played), len(b.puppet.played)) == (1, 1)
            gates.let_go(str(first))
            await third.until("message.started")
            assert (len(a.puppet.played), len(b.puppet.played)) == (2, 1)
            for run_id in [*gates.at_work]:
                gates.let_go(run_id)
            await second.until("run.completed")
            await third.until("run.completed")
    assert gates.most == 2


async def test_a_node_with_places_of_its_own_store_does_what_waits_one_after_the_other() -> None:
    most = active = 0

    async def play(part: Part) -> None:
        nonlocal most, active
        active += 1
        most = max(most, active)
        await part.begin(f"msg_{part.run_id}")
        active -= 1
        await part.end()

    engine = MemoryEngine()
    async with node(engine, play, places=2) as a:
        for n in range(10):
            at = a.at(f"q{n}")
            await at.make()
            await at.send("hi")
            await at.send("more")
        for n in range(10):
            await a.at(f"q{n}").until("run.completed", 2)
    assert most <= 2


async def test_a_session_with_a_long_queue_gives_its_place_to_those_who_wait() -> None:
    order: list[str] = []

    async def play(part: Part) -> None:
        order.append(part.request.history[0].content.split()[0])
        await part.begin(f"msg_{part.run_id}")
        if len(order) == 1:
            await go_on.wait()
        await asyncio.sleep(0)
        await part.end()

    go_on = asyncio.Event()
    engine = MemoryEngine(shared=True)
    async with node(engine, play, places=1) as a:
        for _ in range(6):
            await a.send("greedy")
        await a.until("message.started")
        others = [a.at(f"modest-{n}") for n in range(3)]
        for at in others:
            await at.make()
            await at.send(at.session_id)
        await until(lambda: a.manager._room.others_wait)
        go_on.set()
        await a.until("run.completed", 6)
        for at in others:
            await at.until("run.completed")
    assert order[0] == "greedy"
    assert set(order[1:5]) > {"modest-0", "modest-1", "modest-2"}
    assert Counter(order)["greedy"] == 6


async def test_nobody_waits_for_a_place_longer_than_all_that_came_later() -> None:
    gates = Gates()
    clock = SetClock()
    engine = MemoryEngine(clock=clock, shared=True)
    async with node(engine, never, places=0, session_id="z-old") as edge:
        runs = []
        for name in ("b", "a", "z-old", "c"):
            at = edge.at(name)
            if name != "z-old":
                await at.make()
            runs.append((await at.send("hi")).run_id)
            clock.now += 1
        async with node(engine, gates.play, places=1):
            for run_id in runs:
                await until(lambda run_id=run_id: gates.at_work == [run_id])  # type: ignore[misc]
                gates.let_go(str(run_id))


def test_a_place_is_for_who_waited_and_for_what_follows_in_it() -> None:
    freed: list[int] = []
    room = Room(2)
    room.call_when_free(lambda: freed.append(1))
    assert room.take()
    assert room.take()
    assert (room.free, room.take(), room.take(waited=True)) == (0, False, False)
    assert room.take(follows=True)
    room.leave()
    assert freed == []
    room.leave()
    assert (freed, room.free) == ([1], 1)
    room.others_wait = True
    assert not room.take()
    assert not room.take(follows=True)
    assert room.take(waited=True)
    assert not Room(0).open
    assert Room().take()
