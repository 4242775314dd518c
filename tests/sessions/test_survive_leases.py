"""Every run that is not over is at work somewhere, waits its turn, or waits for a human."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.engines.sqlite import SqliteEngine
from gateway.errors import EngineUnavailable, Fenced
from gateway.log.engine import LEASE_SECONDS, Engine, Fence, Orphan, Write
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.sessions.manager import SessionManager
from runtime.registry import Registry
from tests.support.logs import NEW, SetClock, make
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk
from tests.support.waiting import proven_blocked

LEASE = round(LEASE_SECONDS * 1000)
BEAT = 0.005
"""Seconds between the heartbeats of these tests."""


class Flaky(MemoryEngine):
    """A store that is away for as long as a test says."""

    looks = 0
    stale: Sequence[Orphan] = ()
    reads: asyncio.Event | None = None
    away: frozenset[str] = frozenset()

    async def orphans(self, *, limit: int | None = None, reserve: float = 0.0) -> Sequence[Orphan]:
        self.looks += 1
        if "orphans" in self.away:
            raise EngineUnavailable
        return self.stale or await super().orphans(limit=limit, reserve=reserve)

    async def heartbeat(
        self, claims: Mapping[str, Fence], *, lease: float = LEASE_SECONDS
    ) -> frozenset[str]:
        if "heartbeat" in self.away:
            raise EngineUnavailable
        return await super().heartbeat(claims, lease=lease)

    async def read(self, session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
        if session_id == "torn":
            raise RuntimeError("the log of this session is torn")
        if "read" in self.away:
            raise EngineUnavailable
        if self.reads is not None:
            await self.reads.wait()
        return await super().read(session_id, after, limit=limit)

    async def looked(self, times: int) -> None:
        """Return when somebody has looked for orphans so many times from now."""
        enough = self.looks + times
        async with asyncio.timeout(30):
            await until(lambda: self.looks >= enough)


async def until(fact: Callable[[], bool]) -> None:
    """Return when something is so."""
    while not fact():  # noqa: ASYNC110 - counted by parts that know no event
        await asyncio.sleep(BEAT)


async def _work_forever(part: Part) -> None:
    await part.begin(f"msg_{part.request.attempt}")
    await asyncio.Event().wait()


async def beaten(engine: Engine) -> None:
    """Wait until a heartbeat has renewed all claims."""
    async with asyncio.timeout(30):
        while await engine.orphans():  # noqa: ASYNC110 - as above
            await asyncio.sleep(BEAT)


async def attempts(at: Desk) -> int:
    return 1 + (await at.types()).count("run.attempt_started")


@pytest.mark.rule("run.taken_over")
async def test_a_run_whose_task_died_without_a_word_goes_on_after_its_lease() -> None:
    async def play(part: Part) -> None:
        await part.begin(f"msg_{part.request.attempt}")
        if part.request.attempt == 1:
            raise asyncio.CancelledError
        await part.finish_step("done", message_id="msg_2")
        await part.end("done")

    clock = SetClock()
    async with desk(MemoryEngine(clock=clock), Puppet(play), heartbeat=BEAT) as at:
        await at.send("hi")
        await at.until("message.started")
        async with asyncio.timeout(30):  # until then a heartbeat renews its claim
            await until(lambda: not at.manager._sessions["s"].at_work)
        going_on = asyncio.create_task(at.until("run.attempt_started"))
        clock.now += LEASE - 1
        await proven_blocked(going_on)
        clock.now += 1
        taken = await going_on
        assert (taken["attempt"], taken["reason"]) == (2, "lease_expired")
        await at.until("run.completed")
        assert (await at.types()).count("run.completed") == 1


@pytest.mark.fault("F3", holds=("I5", "I12"))
async def test_a_process_that_slept_longer_than_its_leases_goes_on_with_its_runs() -> None:
    clock = SetClock()
    engine, puppet = MemoryEngine(clock=clock), Puppet(_work_forever)
    async with desk(engine, puppet, heartbeat=BEAT) as at:
        await at.send("hi")
        await at.until("message.started")
        for _ in range(5):
            clock.now += 3 * LEASE
            assert await engine.orphans(), "the lease was over"
            await beaten(engine)
        assert await attempts(at) == 1
        await puppet.played[0].say("still here", "msg_1")


@pytest.mark.fault("F3", "F4", holds=("I5", "I6"))
async def test_a_process_that_was_taken_over_while_it_slept_can_write_nothing_more() -> None:
    async def play(part: Part) -> None:
        await part.begin(f"msg_{part.request.attempt}")
        await wake.wait()
        await part.say("zombie" if part.request.attempt == 1 else "alive")

    wake, clock = asyncio.Event(), SetClock()
    engine, puppet = MemoryEngine(clock=clock), Puppet(play)
    async with desk(engine, puppet, heartbeat=3600) as asleep:
        await asleep.send("hi")
        await asleep.until("message.started")
        clock.now += LEASE
        async with desk(engine, puppet, heartbeat=BEAT) as at:
            taken = await at.until("run.attempt_started")
            assert taken["attempt"] == 2
            await at.until("message.started", 2)
            with pytest.raises(Fenced):
                await puppet.played[0].begin("msg_9")
            wake.set()
            assert (await at.until("message.delta"))["text"] == "alive"
            assert "zombie" not in [event.get("text") for event in await at.events()]


async def test_a_process_stops_a_run_that_it_lost_and_knows_the_session_anew() -> None:
    stopped = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    engine = MemoryEngine()
    async with desk(engine, Puppet(play), heartbeat=BEAT) as at:
        await at.send("hi")
        await at.until("message.started")
        claim = (await engine.session("s")).claim
        assert claim is not None
        thief = Fence(claim.run_id, claim.attempt, "of another process")
        async with asyncio.timeout(30):
            told = b'{"type":"custom","name":"taken"}'
            await engine.append(Write("s", [told], fence=claim, claim=thief))
            await stopped.wait()
            tail = str((await engine.head("s")).tail)
            while (await at.manager.snapshot("s")).cursor != tail:  # noqa: ASYNC110 - as above
                await asyncio.sleep(BEAT)  # the run has ended, but not yet its session's old state
        assert (await engine.session("s")).claim == thief


async def test_a_session_that_cannot_be_loaded_keeps_nobody_from_going_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, puppet = Flaky(), Puppet(_work_forever)
    await engine.append(Write("torn", [b"1"], create=NEW, status="running"))
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("message.started")
    caplog.clear()
    async with desk(engine, puppet) as at:
        await at.until("message.started", 2)
        assert await attempts(at) == 2
    (record,) = _failures(caplog)
    assert record.__dict__["session_id"] == "torn"


async def test_a_session_that_cannot_be_loaded_is_tried_again_ever_less_often(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Flaky()
    await engine.append(Write("torn", [b"1"], create=NEW, status="running"))
    async with desk(engine, Puppet(_work_forever), heartbeat=BEAT):
        async with asyncio.timeout(30):
            await until(lambda: len(_failures(caplog)) == 4)
        times = [record.created for record in _failures(caplog)]
        assert times[3] - times[2] >= 6 * BEAT
        assert times[1] - times[0] >= BEAT


def _failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [r for r in caplog.records if "could not be taken over" in r.message]


@pytest.mark.parametrize("call", ["orphans", "read"])
async def test_a_take_over_that_failed_because_the_store_was_away_is_done_when_it_is_back(
    call: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine, puppet = Flaky(), Puppet(_work_forever)
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("message.started")
    engine.away = frozenset({call})
    manager = SessionManager(engine, Registry(puppet), heartbeat=BEAT)
    await manager.start()
    await engine.looked(3)
    assert len(puppet.played) == 1
    puppet.came.clear()
    engine.away = frozenset()
    async with asyncio.timeout(30):
        await puppet.came.wait()
    assert puppet.played[1].request.attempt == 2
    assert not _failures(caplog), "that was no fault of the session"
    await manager.aclose()


async def test_heartbeats_that_fail_are_made_up_for() -> None:
    clock = SetClock()
    engine, puppet = Flaky(clock=clock), Puppet(_work_forever)
    async with desk(engine, puppet, heartbeat=BEAT) as at:
        await at.send("hi")
        await at.until("message.started")
        engine.away = frozenset({"heartbeat"})
        clock.now += LEASE
        await engine.looked(3)
        assert await attempts(at) == 1, "what is at work here is not taken over here"
        engine.away = frozenset()
        await beaten(engine)


@pytest.mark.fault("F34", holds=("I6", "I10"))
@pytest.mark.rule("cancel.bounded")
async def test_a_run_that_was_cancelled_before_its_take_over_is_not_taken_over() -> None:
    engine, puppet = Flaky(), Puppet(_work_forever)
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.send("next")
        await at.until("message.started")
        await at.manager.hand_over(0)
    engine.away = frozenset({"orphans"})
    async with desk(engine, puppet, heartbeat=BEAT) as at:
        await at.command("cancel")
        engine.away = frozenset()
        await engine.looked(3)
        types = await at.types()
        assert types.count("run.cancelled") == 1
        assert "run.attempt_started" not in types
        assert types.count("run.started") == 2, "the next one begins, once"


async def test_an_orphan_that_was_seen_too_late_is_left_alone() -> None:
    engine, puppet = Flaky(), Puppet(_work_forever)
    async with desk(engine, puppet, heartbeat=BEAT) as at:
        await at.send("hi")
        await at.until("message.started")
        claim = (await engine.session("s")).claim
        assert claim is not None
        other = Fence(claim.run_id, claim.attempt, "of an earlier claim")
        for seen in (Orphan("s", None, "handed_over"), Orphan("s", other, "lease_expired")):
            engine.stale = [seen]
            await engine.looked(3)
        assert await attempts(at) == 1


async def test_a_command_that_is_under_way_is_done_before_the_hand_over() -> None:
    engine, puppet = Flaky(), Puppet(_work_forever)
    await make(engine, "t", b'{"type":"custom","name":"x"}')
    async with desk(engine, puppet) as at:
        other = Desk(engine, at.manager, "t")
        engine.reads = asyncio.Event()
        sending = asyncio.create_task(other.send("hi", agent="puppet"))
        await proven_blocked(sending)
        handing = asyncio.create_task(at.manager.hand_over(0))
        await proven_blocked(sending, handing)
        engine.reads.set()
        await sending
        await handing
        assert (await other.types())[-1] == "run.attempt_released"
        assert [orphan.why for orphan in await engine.orphans()] == ["handed_over"]


async def test_what_waits_or_is_over_is_no_orphan() -> None:
    async def play(part: Part) -> None:
        await part.answer("ok", f"msg_{part.run_id}")

    clock = SetClock()
    engine = MemoryEngine(clock=clock)
    async with desk(engine, Puppet(play), heartbeat=BEAT) as at:
        await at.send("hi")
        await at.until("run.completed")
        clock.now += LEASE
        assert await engine.orphans() == []


@pytest.mark.rule("run.taken_over")
async def test_a_restart_waits_for_no_lease(tmp_path: Path) -> None:
    puppet = Puppet(_work_forever)
    engine = await SqliteEngine.open(tmp_path)
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("message.started")
        await engine.aclose()  # before the manager could drop its claims: as in a crash
    engine = await SqliteEngine.open(tmp_path)
    async with desk(engine, puppet) as at:
        taken = await at.until("run.attempt_started")
        assert (taken["attempt"], taken["reason"]) == (2, "restart")
    await engine.aclose()
