"""Runs that end when nobody is there, where their controllers may be connected to any node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import EngineUnavailable
from gateway.log.engine import Appended, Write
from gateway.sessions import presence
from tests.sessions.test_controllers import Clock, come, ends
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk

pytestmark = pytest.mark.rule("disconnect.cancel_after")

BEAT = 5.0
CERTAIN = BEAT + presence.MARGIN_SECONDS
"""After so many seconds all nodes have said who is there of a session that is judged."""


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def pass_time(clock: Clock, seconds: float) -> None:
    """Let time pass for all nodes, in steps in which no lease is over."""
    while seconds > 0:
        await clock.passes(min(seconds, 1.0))
        seconds -= 1.0


class Strict(MemoryEngine):
    """A store that, as it may, forgets who attends a session that was not told to be judged."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(shared=True, clock=lambda: round(loop.time() * 1000))
        self.judged: set[str] = set()
        self.said: list[tuple[float, tuple[str, ...]]] = []
        self.is_away = False
        self.is_deaf = False  # it answers, and still takes nothing

    async def append(self, write: Write) -> Appended:
        appended = await super().append(write)
        if write.judged is not None:
            (self.judged.add if write.judged else self.judged.discard)(write.session_id)
        return appended

    async def attend(self, session_ids: Collection[str], *, by: str, seconds: float) -> None:
        if self.is_away or self.is_deaf:
            raise EngineUnavailable
        self.said.append((seconds, tuple(session_ids)))
        await super().attend(self.judged & set(session_ids), by=by, seconds=seconds)

    async def alone(self, session_id: str, *, but: str) -> float | None:
        if self.is_away:
            raise EngineUnavailable
        return await super().alone(session_id, but=but)


async def _works(part: Part) -> None:
    await part.begin()
    await asyncio.Event().wait()


@asynccontextmanager
async def two_nodes(engine: MemoryEngine) -> AsyncIterator[tuple[Desk, Desk]]:
    """Run two nodes on one store."""
    async with (
        desk(engine, Puppet(_works), heartbeat=BEAT) as one,
        desk(engine, Puppet(_works), heartbeat=BEAT) as other,
    ):
        yield one, other


async def test_a_run_is_kept_by_who_is_connected_to_another_node(clock: Clock) -> None:
    async with two_nodes(Strict()) as (one, other):
        there = come(other)
        sent = await one.send("hi", on_disconnect={"cancel_after": 30})
        await pass_time(clock, 100)
        assert await ends(one) == []
        there.close()
        await pass_time(clock, 29)
        assert await ends(one) == []
        await pass_time(clock, 3)
        assert await ends(one) == [(sent.run_id, "disconnect")]


async def test_a_node_that_had_somebody_there_before_the_run_has_time_to_say_so(
    clock: Clock,
) -> None:
    async with two_nodes(Strict()) as (one, other):
        there = come(other)
        await pass_time(clock, BEAT / 2)  # its next beat is some time away
        sent = await one.send("hi", on_disconnect={"cancel_after": 0})
        await pass_time(clock, 60)
        assert await ends(one) == []
        there.close()
        await pass_time(clock, BEAT + 1)  # it looks once in each beat
        assert await ends(one) == [(sent.run_id, "disconnect")]


async def test_with_nobody_anywhere_a_run_lasts_until_that_is_certain_and_no_longer(
    clock: Clock,
) -> None:
    async with two_nodes(Strict()) as (one, _):
        sent = await one.send("hi", on_disconnect={"cancel_after": 0})
        await pass_time(clock, CERTAIN - 1)
        assert await ends(one) == []
        await pass_time(clock, 2)
        assert await ends(one) == [(sent.run_id, "disconnect")]


async def test_once_it_is_certain_a_run_ends_at_once_when_the_last_one_leaves(clock: Clock) -> None:
    async with two_nodes(Strict()) as (one, _):
        there = come(one)
        sent = await one.send("hi", on_disconnect={"cancel_after": 0})
        await pass_time(clock, 20)
        assert await ends(one) == []
        there.close()
        await clock.passes(0.1)
        assert await ends(one) == [(sent.run_id, "disconnect")]


async def test_who_changes_nodes_in_time_keeps_the_run_and_has_a_whole_grace_again(
    clock: Clock,
) -> None:
    async with two_nodes(Strict()) as (one, other):
        await one.send("hi", on_disconnect={"cancel_after": 20})
        for _ in range(3):
            with come(one):
                await pass_time(clock, 10)
            await pass_time(clock, 18)
            with come(other):
                await pass_time(clock, 10)
            await pass_time(clock, 18)
        assert await ends(one) == []
        await pass_time(clock, 4)
        assert len(await ends(one)) == 1


async def test_a_node_that_died_with_its_clients_counts_for_a_while_and_then_no_more(
    clock: Clock,
) -> None:
    engine = Strict()
    async with AsyncExitStack() as nodes:
        one = await nodes.enter_async_context(desk(engine, Puppet(_works), heartbeat=BEAT))
        async with desk(engine, Puppet(_works), heartbeat=BEAT) as other:
            there = come(other)
            await one.send("hi", on_disconnect={"cancel_after": 3})
            await pass_time(clock, 20)
        there.close()  # its connection was cut, and nobody was left to say so
        await pass_time(clock, 2 * BEAT)
        assert await ends(one) == []
        await pass_time(clock, 2 * BEAT)
        assert len(await ends(one)) == 1


async def test_a_node_that_stops_cuts_its_clients_and_has_nobody_ended_by_that(
    clock: Clock,
) -> None:
    async with two_nodes(Strict()) as (one, other):
        there = come(other)
        await one.send("hi", on_disconnect={"cancel_after": 0})
        await pass_time(clock, 20)
        await other.manager.hand_over(0)
        there.close()
        await pass_time(clock, BEAT)
        there = come(one)  # as a client does that was told to come back
        await pass_time(clock, 30)
        assert await ends(one) == []
        there.close()


async def test_while_the_store_is_away_nobody_is_ended_and_then_all_nodes_have_time_to_say_who_is_there(
    clock: Clock,
) -> None:
    engine = Strict()
    async with two_nodes(engine) as (one, other):
        with come(other):
            await one.send("hi", on_disconnect={"cancel_after": 1})
            await pass_time(clock, 20)
            engine.is_away = True
            await pass_time(clock, 120)  # what was said before is long over
            engine.is_away, engine.is_deaf = False, True  # other nodes find it back a little later
            await pass_time(clock, 3)
            engine.is_deaf = False
            await pass_time(clock, 60)
            assert await ends(one) == []
        await pass_time(clock, BEAT + 2)
        assert len(await ends(one)) == 1


async def test_a_run_that_waited_for_a_human_is_judged_anew_when_it_goes_on(clock: Clock) -> None:
    engine = Strict()
    async with two_nodes(engine) as (one, _):
        with come(one):
            sent = await one.send("one", on_disconnect={"cancel_after": 30})
            assert engine.judged == {"s"}
            await one.send("two")
            assert engine.judged == {"s"}
            await one.command("cancel", run_id=sent.run_id)
            assert engine.judged == set(), "the run that begins goes on for ever"
            await one.send("three", on_disconnect={"cancel_after": 30})
            assert engine.judged == {"s"}, "one that waits in the queue counts"
            queued = (await one.manager.snapshot("s")).queue[0].run_id
            await one.command("edit_queue", drop=[queued])
            assert engine.judged == set()


async def test_a_command_that_comes_and_goes_is_said_once_and_who_stays_at_every_beat(
    clock: Clock,
) -> None:
    engine = Strict()
    async with desk(engine, Puppet(_works), heartbeat=BEAT) as one:
        await one.send("hi", on_disconnect={"cancel_after": 30})
        await pass_time(clock, 2)
        assert engine.said == [(0, ("s",))]
        lasting = 2 * BEAT + presence.MARGIN_SECONDS
        with come(one):
            await pass_time(clock, 2)
            assert engine.said[1:] == [(lasting, ("s",))]
            await pass_time(clock, 3 * BEAT)
            assert engine.said[1:] == [(lasting, ("s",))] * 4
        await pass_time(clock, 2)
        assert engine.said[5:] == [(0, ("s",))]


async def test_where_no_other_node_is_nothing_is_said(clock: Clock) -> None:
    engine = Strict()
    engine.shared = False
    async with desk(engine, Puppet(_works), heartbeat=BEAT) as one:
        sent = await one.send("hi", on_disconnect={"cancel_after": 0})
        with come(one):
            await pass_time(clock, 20)
        await clock.passes(0.1)
        assert len(await ends(one)) == 1, sent
        assert engine.said == []
