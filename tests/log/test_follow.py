"""`follow`: pace, silence, and what it hands on. `tests/contract` has it over every engine."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import CursorInvalid, EngineClosed, EngineUnavailable, SessionUnknown
from gateway.log import bell, outage
from gateway.log import follow as module
from gateway.log.entry import Entry
from gateway.log.follow import StoreAway, follow
from gateway.log.outage import in_time, outlasting
from gateway.log.position import Position
from tests.support.logs import add, bodies, make, start
from tests.support.waiting import proven_blocked


async def test_batches_have_at_most_the_entries_asked_for() -> None:
    engine = MemoryEngine()
    await make(engine, "s", *[b"%d" % n for n in range(7)])
    sizes = []
    async with asyncio.timeout(30):
        async for batch in follow(engine, "s", await start(engine), limit=3):
            sizes.append(len(batch))
            if sum(sizes) == 7:
                break
    assert sizes == [3, 3, 1]


async def test_silence_is_reported_again_and_again_and_ends_with_the_next_entry() -> None:
    engine = MemoryEngine()
    made = await make(engine)
    batches: list[list[bytes]] = []
    async with asyncio.timeout(30):
        async for batch in follow(engine, "s", made.tail, idle=0.05):
            batches.append(bodies(batch))
            if len(batches) == 3:
                await add(engine, b"1")
            if batch:
                break
    assert batches == [[], [], [], [b"1"]]


async def test_a_silence_longer_than_the_wait_limit_is_measured_from_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bell, "WAIT_LIMIT", 0.02)
    monkeypatch.setattr(module, "WAIT_LIMIT", 0.02)
    engine = MemoryEngine()
    made = await make(engine)
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.timeout(30):
        async for batch in follow(engine, "s", made.tail, idle=0.2):
            assert not batch
            break
    assert loop.time() - started >= 0.2


async def test_a_follower_in_a_busy_log_hears_of_no_silence() -> None:
    engine = MemoryEngine()
    made = await make(engine)
    found: list[bytes] = []

    async def read() -> None:
        async for batch in follow(engine, "s", made.tail, idle=1.0):
            assert batch
            found.extend(bodies(batch))
            if len(found) == 20:
                return

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        for n in range(20):
            await add(engine, b"%d" % n)
            await asyncio.sleep(0.01)
    assert found == [b"%d" % n for n in range(20)]


async def test_a_follower_that_is_slow_to_take_a_batch_gets_the_rest_in_one() -> None:
    engine = MemoryEngine()
    made = await make(engine)
    reader = follow(engine, "s", made.tail)
    first = asyncio.create_task(anext(reader))
    await proven_blocked(first)
    await add(engine, b"1")
    assert bodies(await first) == [b"1"]
    for n in range(2, 100):
        await add(engine, b"%d" % n)
    assert bodies(await anext(reader)) == [b"%d" % n for n in range(2, 100)]
    await reader.aclose()


async def test_nobody_and_a_wrong_position_cannot_be_followed() -> None:
    engine = MemoryEngine()
    made = await make(engine)
    with pytest.raises(SessionUnknown):
        await anext(follow(engine, "nobody", made.tail))
    with pytest.raises(CursorInvalid):
        await anext(follow(engine, "s", Position(made.tail.epoch, 7, made.tail.tag)))


class Away(MemoryEngine):
    """A store that cannot be read for so many questions."""

    failures = 0

    async def read(self, session_id: str, after: Position, *, limit: int) -> list[Entry]:
        if self.failures:
            self.failures -= 1
            raise EngineUnavailable
        return list(await super().read(session_id, after, limit=limit))


@pytest.mark.rule("store.away", "resume.exact")
async def test_a_store_that_is_away_is_waited_for_and_then_it_goes_on_exactly() -> None:
    engine = Away()
    await make(engine, "s", b"1")
    found: list[bytes] = []
    async with asyncio.timeout(30):
        async for batch in follow(engine, "s", await start(engine), idle=60):
            found += bodies(batch)
            if len(found) == 4:
                break
            engine.failures = 3
            await add(engine, b"%d" % (len(found) + 1))
    assert found == [b"1", b"2", b"3", b"4"]


async def test_a_store_that_stays_away_is_reported_soon_and_the_silence_goes_on_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outage, "AWAY_SECONDS", 0.1)
    engine = Away()
    made = await make(engine)
    engine.failures = 1_000_000
    loop = asyncio.get_running_loop()
    began, at = loop.time(), list[float]()
    async with asyncio.timeout(30):
        async for batch in follow(engine, "s", made.tail, idle=0.4):
            assert isinstance(batch, StoreAway)
            assert not batch
            at.append(loop.time() - began)
            if len(at) == 3:
                break
    assert at[0] >= 0.1
    assert at[1] >= 0.4
    assert at[2] >= 0.8


async def test_a_store_that_was_closed_is_not_waited_for() -> None:
    engine = Away()
    made = await make(engine)
    await engine.aclose()
    with pytest.raises(EngineClosed):
        await anext(follow(engine, "s", made.tail))


async def test_what_is_asked_of_a_store_that_is_away_is_asked_again_but_not_for_ever() -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise EngineUnavailable
        return asked

    assert await outlasting(ask) == 4

    async def never() -> int:
        raise EngineUnavailable

    with pytest.raises(EngineUnavailable, match="in time"):
        await in_time(0.2, outlasting(never))


class Replaced(MemoryEngine):
    """An engine whose log is put back to another history while somebody follows it."""

    replaced = False

    async def read(self, session_id: str, after: Position, *, limit: int) -> list[Entry]:
        if self.replaced:
            after = Position(after.epoch, after.seq, "ffffffff")
        return list(await super().read(session_id, after, limit=limit))


async def test_a_log_that_was_replaced_under_a_follower_is_noticed_at_the_next_read() -> None:
    engine = Replaced()
    await make(engine, "s", b"1")
    reader = follow(engine, "s", await start(engine))
    assert bodies(await anext(reader)) == [b"1"]
    engine.replaced = True
    with pytest.raises(CursorInvalid) as caught:
        await anext(reader)
    assert caught.value.reason == "fork"
