"""`wait`: it blocks, it is woken, it is never late; and `follow` on top of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import product

import pytest

from gateway.errors import EngineUnavailable, SessionGone
from gateway.log.engine import Engine
from gateway.log.entry import Entry
from gateway.log.follow import follow
from gateway.log.position import Position
from tests.support.interleaving import Interleaved, followed
from tests.support.logs import add, bodies, make, start
from tests.support.waiting import proven_blocked

SOON = 2.0
"""Seconds; below the limit after which waiters look again by themselves."""


async def test_a_waiting_reader_blocks_until_an_append_wakes_it(engine: Engine) -> None:
    made = await make(engine, "s", b"1")
    waiting = asyncio.create_task(engine.wait("s", made.tail))
    await proven_blocked(waiting)
    await add(engine, b"2")
    async with asyncio.timeout(SOON):
        await waiting
    assert bodies(await engine.read("s", made.tail, limit=10)) == [b"2"]


async def test_all_readers_are_woken(engine: Engine) -> None:
    made = await make(engine)
    waiting = [asyncio.create_task(engine.wait("s", made.tail)) for _ in range(50)]
    await proven_blocked(*waiting)
    await add(engine, b"1")
    done, _ = await asyncio.wait(waiting, timeout=SOON)
    assert len(done) == 50


async def test_waiting_behind_the_tail_returns_at_once(engine: Engine) -> None:
    made = await make(engine)
    await add(engine, b"1")
    more = await add(engine, b"2")
    async with asyncio.timeout(SOON):
        await engine.wait("s", made.tail)
        await engine.wait("s", Position(made.tail.epoch, 1, "00000000"))
    waiting = asyncio.create_task(engine.wait("s", more.tail))
    await proven_blocked(waiting)
    waiting.cancel()


async def test_what_was_appended_before_the_wait_began_is_not_missed(engine: Engine) -> None:
    position = (await make(engine)).tail
    async with asyncio.timeout(30):
        for n in range(50):
            assert list(await engine.read("s", position, limit=10)) == []
            appending = asyncio.create_task(add(engine, b"%d" % n))
            for _ in range(n % 5):
                await asyncio.sleep(0)
            async with asyncio.timeout(SOON):
                while not (page := await engine.read("s", position, limit=10)):
                    await engine.wait("s", position)
            position = page[-1].position
            await appending
    assert position.seq == 50


async def test_cancelled_waits_leave_the_others_waiting(engine: Engine) -> None:
    made = await make(engine)
    leaving = [asyncio.create_task(engine.wait("s", made.tail)) for _ in range(10)]
    staying = asyncio.create_task(engine.wait("s", made.tail))
    await proven_blocked(*leaving, staying)
    for one in leaving:
        one.cancel()
    await asyncio.wait(leaving)
    await proven_blocked(staying)
    await add(engine, b"1")
    async with asyncio.timeout(SOON):
        await staying


async def test_deleting_wakes_the_readers_and_they_learn_why(engine: Engine) -> None:
    made = await make(engine)
    waiting = asyncio.create_task(engine.wait("s", made.tail))
    await proven_blocked(waiting)
    await engine.delete("s")
    async with asyncio.timeout(SOON):
        await waiting
        await engine.wait("s", made.tail)
    with pytest.raises(SessionGone):
        await engine.read("s", made.tail, limit=1)


async def test_closing_wakes_the_readers_and_they_learn_why(engine: Engine) -> None:
    made = await make(engine)
    waiting = asyncio.create_task(engine.wait("s", made.tail))
    await proven_blocked(waiting)
    await engine.aclose()
    async with asyncio.timeout(SOON):
        await waiting
        await engine.wait("s", made.tail)
    with pytest.raises(EngineUnavailable):
        await engine.read("s", made.tail, limit=1)


async def collect(engine: Engine, after: Position, count: int) -> list[Entry]:
    found: list[Entry] = []
    async for batch in follow(engine, "s", after):
        found += batch
        if len(found) >= count:
            break
    return found


@pytest.mark.rule("resume.no_hole")
async def test_a_follower_gets_what_is_kept_and_then_what_comes(engine: Engine) -> None:
    await make(engine, "s", b"1", b"2", b"3")
    following = asyncio.create_task(collect(engine, await start(engine), 5))
    await proven_blocked(following)
    await add(engine, b"4")
    await proven_blocked(following)
    await add(engine, b"5")
    async with asyncio.timeout(SOON):
        assert bodies(await following) == [b"1", b"2", b"3", b"4", b"5"]


async def test_followers_of_one_session_share_the_entries_that_come(engine: Engine) -> None:
    begin = (await make(engine, "s")).tail
    found: list[list[Entry]] = [[] for _ in range(5)]
    begun = asyncio.Event()

    async def collect_three(entries: list[Entry]) -> None:
        async for batch in follow(engine, "s", begin):
            entries += batch
            if all(found):
                begun.set()
            if len(entries) >= 3:
                break

    readers = [asyncio.create_task(collect_three(entries)) for entries in found]
    await proven_blocked(*readers)
    await add(engine, b"1")
    async with asyncio.timeout(SOON):
        await begun.wait()
        await proven_blocked(*readers)
        await add(engine, b"2", b"3")
        for reader in readers:
            await reader
    for others in found[1:]:
        # A reader that has just begun may have the first one from the store.
        assert all(mine is theirs for mine, theirs in zip(found[0][1:], others[1:], strict=True))


async def test_a_follower_of_a_deleted_session_ends_with_the_reason(engine: Engine) -> None:
    made = await make(engine, "s", b"1")
    following = asyncio.create_task(collect(engine, made.tail, 1))
    await proven_blocked(following)
    await engine.delete("s")
    async with asyncio.timeout(SOON):
        with pytest.raises(SessionGone):
            await following


@pytest.mark.rule("resume.no_hole")
async def test_no_interleaving_of_appends_with_a_follower_loses_or_repeats_an_entry(
    engine: Engine,
) -> None:
    plans: list[Sequence[int]] = list(product((0, 1, 3), (0, 1), (0, 1), (0, 1, 2), (0, 1), (0, 1)))
    for number, plan in enumerate(plans):
        session_id = f"s{number}"
        await make(engine, session_id)
        log = Interleaved(engine, session_id, plan)
        found = await followed(engine, log, session_id, sum(plan) + 2)
        assert found == log.appended[: len(found)], plan
        assert found == [b"%d" % n for n in range(len(found))], plan
