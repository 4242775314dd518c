"""A run goes from node to node: by hand-over, by a crash, by a node that slept."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import Fenced
from gateway.log.engine import LEASE_SECONDS, Write
from gateway.log.serde import dump
from runtime.events import Custom
from tests.support.logs import SetClock
from tests.support.nodes import node, until
from tests.support.puppet import Part
from tests.support.tasks import no_task_left

__all__ = ["no_task_left"]

LEASE = round(LEASE_SECONDS * 1000)


async def finish(part: Part) -> None:
    await part.answer("ok", f"msg_{part.request.attempt}")


async def hang(part: Part) -> None:
    await part.begin(f"msg_{part.request.attempt}")
    await asyncio.Event().wait()


@pytest.mark.rule("run.taken_over")
@pytest.mark.parametrize("deaf", [False, True])
async def test_what_a_node_hands_over_goes_on_on_another_at_once(deaf: bool) -> None:
    engine = MemoryEngine(shared=True)
    async with node(engine, hang) as a, node(engine, finish, deaf=deaf) as b:
        await a.send("hi")
        await a.until("message.started")
        await a.manager.hand_over(0)
        taken = await b.until("run.attempt_started")
        assert (taken["attempt"], taken["reason"]) == (2, "handed_over")
        await b.until("run.completed")
        assert (len(a.puppet.played), len(b.puppet.played)) == (1, 1)


async def test_a_node_that_stops_lets_go_of_its_own_runs_and_of_no_other_s() -> None:
    engine = MemoryEngine(shared=True)
    async with node(engine, hang) as a:
        await a.send("hi")
        await a.until("message.started")
        claim = (await engine.session("s")).claim
        async with node(engine, finish) as b:
            await b.manager.snapshot("s")
            await b.manager.hand_over(0)
        assert (await engine.session("s")).claim == claim
        assert await engine.orphans() == []
        assert "run.attempt_released" not in await a.types()


@pytest.mark.fault("F3", "F4", holds=("I5", "I6"))
async def test_a_zombie_that_wakes_after_its_run_was_finished_elsewhere_can_write_nothing() -> None:
    wake, woken = asyncio.Event(), asyncio.Event()
    said: list[str] = []

    async def play(part: Part) -> None:
        await part.begin("msg_1")
        await wake.wait()
        try:
            await part.say("zombie", "msg_1")
            said.append("zombie")
        finally:
            woken.set()

    clock = SetClock()
    engine = MemoryEngine(clock=clock, shared=True)
    async with node(engine, play, heartbeat=3600) as a:
        a.line.asleep = True
        await a.send("hi")
        await a.until("message.started")
        old = (await engine.session("s")).claim
        clock.now += LEASE
        async with node(engine, finish) as b:
            taken = await b.until("run.attempt_started")
            assert (taken["attempt"], taken["reason"]) == (2, "lease_expired")
            await b.until("run.completed")
            before = await b.types()
            wake.set()
            async with asyncio.timeout(30):
                await woken.wait()
            assert not said
            body = dump(Custom(name="zombie"))
            with pytest.raises(Fenced):
                await engine.append(Write("s", [body], fence=old))
            assert await b.types() == before
            snapshot = await a.manager.snapshot("s")
            assert snapshot.as_json() == (await b.manager.snapshot("s")).as_json()
            await a.send("again")
            await until(lambda: len(a.puppet.played) == 2)


async def test_of_many_nodes_one_takes_a_run_over() -> None:
    clock = SetClock()
    engine = MemoryEngine(clock=clock, shared=True)
    async with node(engine, hang, heartbeat=3600) as dead:
        await dead.send("hi")
        await dead.until("message.started")
        dead.kill()
        clock.now += LEASE
        async with node(engine, finish) as a, node(engine, finish) as b, node(engine, finish) as c:
            await a.until("run.completed")
            assert sum(len(each.puppet.played) for each in (a, b, c)) == 1
            assert (await a.types()).count("run.attempt_started") == 1


@pytest.mark.rule("cancel.bounded")
@pytest.mark.fault("F34", holds=("I6", "I10"))
async def test_a_cancel_is_a_commit_also_while_the_run_s_node_is_dead() -> None:
    engine = MemoryEngine(shared=True)
    async with node(engine, hang, heartbeat=3600) as dead, node(engine, finish) as b:
        await dead.send("hi")
        await dead.until("message.started")
        await dead.send("next")
        dead.kill()
        await b.command("cancel")
        assert (await b.types()).count("run.cancelled") == 1
        await b.until("run.completed")
        assert len(b.puppet.played) == 1, "what waited begins where the cancel was"


@pytest.mark.rule("cancel.after_step")
async def test_a_run_that_was_asked_to_stop_and_then_taken_over_stops_there() -> None:
    async def play(part: Part) -> None:
        assert part.request.cancel is not None
        assert part.request.cancel.stopping
        await part.end("stopped")

    clock = SetClock()
    engine = MemoryEngine(clock=clock, shared=True)
    async with node(engine, hang, heartbeat=3600) as dead:
        await dead.send("hi")
        await dead.until("message.started")
        dead.kill()
        async with node(engine, play) as b:
            await b.command("cancel", mode="after_step")
            clock.now += LEASE
            await b.until("run.completed")
