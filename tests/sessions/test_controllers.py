"""Runs that are cancelled when nobody who controls their session is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway.commands import Role
from gateway.engines.memory import MemoryEngine
from gateway.errors import EngineUnavailable
from gateway.log.engine import Appended, Write
from gateway.sessions.controllers import COME_BACK_SECONDS
from runtime.events import ApprovalRequested, RunInterrupted
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk

pytestmark = pytest.mark.rule("disconnect.cancel_after")

LEAVE = {"on_disconnect": {"cancel_after": 30}}


class Clock:
    """The loop's clock, which a test sets forward; it knows the timers that were set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real, call_at = loop.time, loop.call_at
        self._ahead = 0.0
        self._timers: list[tuple[float, asyncio.TimerHandle]] = []

        def noted(when: float, *args: Any, **more: Any) -> asyncio.TimerHandle:
            handle = call_at(when, *args, **more)
            self._timers.append((when - loop.time(), handle))
            return handle

        monkeypatch.setattr(loop, "time", lambda: real() + self._ahead)
        monkeypatch.setattr(loop, "call_at", noted)

    def timers_of(self, seconds: float) -> int:
        """Count the timers that were set to about so many seconds, and that still run."""
        near = [handle for delay, handle in self._timers if abs(delay - seconds) < 1]
        return sum(not handle.cancelled() for handle in near)

    def set_forward(self, seconds: float) -> None:
        """Let time pass; timers that are due run when the loop has its next turn."""
        self._ahead += seconds

    async def passes(self, seconds: float) -> None:
        """Let time pass, and everything happen that it brings about."""
        self.set_forward(seconds)
        await settled()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def settled() -> None:
    """Give the loop more turns than anything in memory needs."""
    for _ in range(50):
        await asyncio.sleep(0)


class HeldEngine(MemoryEngine):
    """Appends only while `open` is set; `waiting` is set when an append waits for that."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = asyncio.Event()
        self.failures = 0

    async def append(self, write: Write) -> Appended:
        if not self.open.is_set():
            self.waiting.set()
            await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise EngineUnavailable
        return await super().append(write)


class Stage:
    """A session whose runs work until they are told to end."""

    def __init__(self) -> None:
        self.engine = HeldEngine()
        self.puppet = Puppet(self._play)
        self.ends = asyncio.Semaphore(0)  # released once for each run that is to end

    async def _play(self, part: Part) -> None:
        await part.begin()
        await part.say("Hel")
        await self.ends.acquire()
        await part.end("done")

    @asynccontextmanager
    async def set(self) -> AsyncIterator[Desk]:
        async with desk(self.engine, self.puppet) as at:
            yield at


def come(at: Desk, role: Role = "controller") -> ExitStack:
    """Enter a session; close what is returned to leave."""
    there = ExitStack()
    there.enter_context(at.manager.attending("s", role))
    return there


async def ends(at: Desk) -> list[tuple[str, str]]:
    """Return the runs that were cancelled, and why."""
    events = await at.events()
    return [(e["run_id"], e["reason"]) for e in events if e["type"] == "run.cancelled"]


async def test_the_run_ends_when_the_last_one_has_been_gone_for_so_long(clock: Clock) -> None:
    async with Stage().set() as at:
        first, second = come(at), come(at)
        sent = await at.send("hi", **LEAVE)
        await at.until("message.delta")
        first.close()
        await clock.passes(100)
        assert await ends(at) == []
        second.close()
        await clock.passes(29.9)
        assert await ends(at) == []
        await clock.passes(0.2)
        assert await ends(at) == [(sent.run_id, "disconnect")]
        cancelled = (await at.events())[-1]
        assert (cancelled["type"], cancelled["partial_output"]) == ("run.cancelled", "Hel")
        await clock.passes(100)
        assert len(await ends(at)) == 1


async def test_whoever_comes_back_in_time_keeps_the_run_and_has_a_whole_grace_again(
    clock: Clock,
) -> None:
    async with Stage().set() as at:
        there = come(at)
        await at.send("hi", **LEAVE)
        for _ in range(5):  # a client that flaps
            there.close()
            await clock.passes(29)
            there = come(at)
            await clock.passes(29)
        assert await ends(at) == []
        there.close()
        await clock.passes(31)
        assert len(await ends(at)) == 1


async def test_observers_neither_keep_a_run_nor_end_it(clock: Clock) -> None:
    async with Stage().set() as at:
        with at.manager.attending("s", "observer"):
            there = come(at)
            await at.send("hi", **LEAVE)
            come(at, "observer").close()
            await clock.passes(31)
            assert await ends(at) == []
            there.close()
            await clock.passes(20)
            come(at, "observer").close()
            await clock.passes(11)
            assert len(await ends(at)) == 1


async def test_a_command_alone_begins_the_grace_and_every_command_begins_it_anew(
    clock: Clock,
) -> None:
    async with Stage().set() as at:
        await at.send("hi", **LEAVE)
        await clock.passes(20)
        await at.send("and", policy="enqueue")
        await clock.passes(20)
        assert await ends(at) == []
        await clock.passes(11)
        assert len(await ends(at)) == 1


@pytest.mark.rule("disconnect.not_cancel")
@pytest.mark.parametrize("policy", [{}, {"on_disconnect": "continue"}])
async def test_without_that_wish_a_run_goes_on_for_ever(
    clock: Clock, policy: dict[str, Any]
) -> None:
    async with Stage().set() as at:
        there = come(at)
        await at.send("hi", **policy)
        there.close()
        await clock.passes(1e6)
        assert await ends(at) == []


async def test_there_is_a_timer_only_while_a_run_that_asked_for_it_is_alone(clock: Clock) -> None:
    stage = Stage()
    async with stage.set() as at:
        there = come(at)
        await at.send("goes on")
        there.close()
        there = come(at)
        await at.send("does not", on_disconnect={"cancel_after": 12_345})
        assert clock.timers_of(12_345) == 0
        for _ in range(3):
            there.close()
            assert clock.timers_of(12_345) == 1
            there = come(at)
            assert clock.timers_of(12_345) == 0
        there.close()
        stage.ends.release()
        await at.until("run.completed")
        assert clock.timers_of(12_345) == 1
        stage.ends.release()
        await at.until("run.completed", 2)
        await settled()
        assert clock.timers_of(12_345) == 0


async def test_it_is_the_controllers_of_that_session_that_count(clock: Clock) -> None:
    async with Stage().set() as at:
        with at.manager.attending("another"):
            await at.send("hi", **LEAVE)
            await clock.passes(31)
            assert len(await ends(at)) == 1


# --- the very moment -----------------------------------------------------------------------------


async def test_who_is_back_before_the_timer_has_its_turn_keeps_the_run(clock: Clock) -> None:
    async with Stage().set() as at:
        await at.send("hi", **LEAVE)
        await at.until("message.delta")
        clock.set_forward(30)  # the timer is due, and has not had its turn
        there = come(at)
        await settled()
        assert await ends(at) == []
        there.close()


async def test_a_command_that_is_being_obeyed_counts(clock: Clock) -> None:
    stage = Stage()
    async with stage.set() as at:
        there = come(at)
        await at.send("hi", **LEAVE)
        await at.until("message.delta")
        stage.engine.open.clear()
        sending = asyncio.create_task(at.send("later"))
        await stage.engine.waiting.wait()
        there.close()
        await clock.passes(31)
        with pytest.raises(EngineUnavailable):  # it is told to ask again; the command goes on
            await sending
        stage.engine.open.set()
        await at.until("input.queued")
        await settled()
        await clock.passes(29)
        assert await ends(at) == []
        await clock.passes(2)
        assert len(await ends(at)) == 1


@pytest.mark.parametrize("stays", [True, False])
async def test_the_end_is_decided_when_its_turn_comes_and_not_when_the_timer_rings(
    clock: Clock, *, stays: bool
) -> None:
    stage = Stage()
    async with stage.set() as at:
        await at.send("hi", **LEAVE)
        await at.until("message.delta")
        stage.engine.open.clear()
        saying = asyncio.create_task(stage.puppet.played[0].say("lo"))  # the writer is busy
        await stage.engine.waiting.wait()
        await clock.passes(31)  # the timer has rung; its end waits behind that
        there = come(at)
        if not stays:
            there.close()
        stage.engine.open.set()
        await saying
        await settled()
        assert await ends(at) == []
        there.close()
        await clock.passes(29)
        assert await ends(at) == []
        await clock.passes(2)
        assert len(await ends(at)) == 1


async def test_a_store_that_fails_puts_the_end_off_and_does_not_forget_it(clock: Clock) -> None:
    stage = Stage()
    async with stage.set() as at:
        await at.send("hi", **LEAVE)
        await at.until("message.delta")
        stage.engine.failures = 1
        await clock.passes(31)
        assert await ends(at) == []
        await clock.passes(2)
        assert len(await ends(at)) == 1


# --- what waits ----------------------------------------------------------------------------------


async def test_what_waits_in_the_queue_ends_too_and_is_not_begun_for_that(clock: Clock) -> None:
    stage = Stage()
    async with stage.set() as at:
        there = come(at)
        first = await at.send("one", **LEAVE)
        second = await at.send("two", **LEAVE)
        third = await at.send("three")
        fourth = await at.send("four", on_disconnect={"cancel_after": 50})
        there.close()
        await clock.passes(31)
        assert await ends(at) == [(second.run_id, "disconnect"), (first.run_id, "disconnect")]
        started = [e["run_id"] for e in await at.events() if e["type"] == "run.started"]
        assert started == [first.run_id, third.run_id]
        await clock.passes(20)
        assert (await ends(at))[2:] == [(fourth.run_id, "disconnect")]
        stage.ends.release()
        assert (await at.until("run.completed"))["run_id"] == third.run_id


async def test_a_queued_run_that_begins_alone_has_what_is_left_of_its_grace(clock: Clock) -> None:
    stage = Stage()
    async with stage.set() as at:
        await at.send("one")
        second = await at.send("two", **LEAVE)
        await clock.passes(20)
        stage.ends.release()
        await at.until("run.started", 2)
        await clock.passes(9)
        assert await ends(at) == []
        await clock.passes(2)
        assert await ends(at) == [(second.run_id, "disconnect")]


async def _asks(part: Part) -> None:
    if len(part.request.decisions) == 0:
        asked = ApprovalRequested(run_id=part.run_id, approval_id="apr_1", node="n")
        await part.emit(asked)
        await part.emit(RunInterrupted(run_id=part.run_id, reason="r", pending=("apr_1",)))
        return
    await asyncio.Event().wait()


YES = [{"approval_id": "apr_1", "decision": "approve"}]


async def test_a_run_that_waits_for_a_human_is_waited_for(clock: Clock) -> None:
    async with desk(MemoryEngine(), Puppet(_asks)) as at:
        await at.send("hi", **LEAVE)
        await at.until("run.interrupted")
        await clock.passes(1000)
        assert await ends(at) == []
        assert (await at.manager.snapshot("s")).status == "interrupted"


@pytest.mark.parametrize("again", [True, False])
async def test_who_answers_says_anew_what_happens_when_nobody_is_there(
    clock: Clock, *, again: bool
) -> None:
    async with desk(MemoryEngine(), Puppet(_asks)) as at:
        await at.send("hi", **LEAVE)
        await at.until("run.interrupted")
        await at.command("continue", decisions=YES, **(LEAVE if again else {}))
        await at.until("run.resumed")
        await clock.passes(31)
        assert len(await ends(at)) == again


async def test_so_does_who_lets_a_cancelled_run_go_on(clock: Clock) -> None:
    async with Stage().set() as at:
        await at.send("hi", **LEAVE)
        await clock.passes(31)
        await at.command("continue")
        await clock.passes(100)
        assert len(await ends(at)) == 1
        await at.command("cancel")
        await at.command("continue", **LEAVE)
        await clock.passes(31)
        assert [reason for _, reason in await ends(at)] == ["disconnect", "cancel", "disconnect"]


# --- servers that stop and die -------------------------------------------------------------------


async def test_a_server_that_stops_ends_nothing(clock: Clock) -> None:
    stage = Stage()
    async with stage.set() as at:
        there = come(at)
        await at.send("hi", **LEAVE)
        await at.until("message.delta")
        there.close()
        there = come(at)
        clock.set_forward(29)
        there.close()
    await clock.passes(100)
    assert await ends(at) == []


@pytest.mark.parametrize("seconds", [0, 30])
async def test_after_a_take_over_the_grace_is_a_whole_one_and_long_enough_to_come_back(
    clock: Clock, seconds: int
) -> None:
    stage = Stage()
    async with stage.set() as at:
        there = come(at)
        await at.send("hi", on_disconnect={"cancel_after": seconds})
        await at.until("message.delta")
    there.close()
    await clock.passes(1000)
    async with stage.set() as at:
        await at.until("run.attempt_started")
        await clock.passes(max(seconds, COME_BACK_SECONDS) - 1)
        assert await ends(at) == []
        await clock.passes(2)
        assert [reason for _, reason in await ends(at)] == ["disconnect"]


async def test_who_came_back_after_a_take_over_has_no_more_than_it_asked_for(clock: Clock) -> None:
    stage = Stage()
    async with stage.set() as at:
        come(at)  # and be cut by the server
        await at.send("hi", on_disconnect={"cancel_after": 1})
        await at.until("message.delta")
    async with stage.set() as at:
        await at.until("run.attempt_started")
        come(at).close()
        await clock.passes(2)
        assert [reason for _, reason in await ends(at)] == ["disconnect"]
