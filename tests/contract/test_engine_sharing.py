"""What several processes on one store need: to notice each other, and to stay out of each other's way."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import CommandConflict, Fenced, LogMoved
from gateway.log.engine import LEASE_SECONDS, Engine, Orphan, Write
from tests.support.logs import FIRST, NEW, SECOND, SetClock, add, answer, kept, make
from tests.support.waiting import proven_blocked

LEASE = round(LEASE_SECONDS * 1000)
SOON = 2.0
"""Seconds; below the limit after which waiters look again by themselves."""


async def test_a_write_that_was_decided_on_before_others_wrote_is_refused_and_writes_nothing(
    engine: Engine,
) -> None:
    made = await make(engine, "s", b"1")
    await add(engine, b"2")
    with pytest.raises(LogMoved):
        await engine.append(Write("s", [b"3"], expect=made.tail, status="closed", title="no"))
    assert [entry.body for entry in await kept(engine)] == [b"1", b"2"]
    record = await engine.session("s")
    assert (record.status, record.title) == ("idle", None)


async def test_a_write_that_knows_the_tail_is_done(engine: Engine) -> None:
    made = await make(engine, "s", b"1")
    appended = await engine.append(Write("s", [b"2"], expect=made.tail))
    assert appended.tail.seq == 2
    assert (await engine.append(Write("s", (), expect=appended.tail))).tail == appended.tail


async def test_of_many_that_know_the_same_tail_one_writes(engine: Engine) -> None:
    made = await make(engine, "s", b"1")
    writes = [
        asyncio.create_task(engine.append(Write("s", [b"%d" % n], expect=made.tail)))
        for n in range(8)
    ]
    await asyncio.wait(writes, timeout=SOON)
    assert sum(isinstance(write.exception(), LogMoved) for write in writes) == 7
    assert len(await kept(engine)) == 2


async def test_a_repeated_command_and_a_lost_claim_are_told_before_a_moved_log(
    engine: Engine,
) -> None:
    made = await engine.append(Write("s", [b"1"], create=NEW, claim=FIRST))
    said = Write("s", [b"2"], fence=FIRST, expect=made.tail, answer=answer())
    await engine.append(said)
    assert (await engine.append(said)).repeated
    with pytest.raises(CommandConflict):
        await engine.append(Write("s", (), expect=made.tail, answer=answer(digest="b2")))
    with pytest.raises(Fenced):
        await engine.append(Write("s", [b"3"], expect=made.tail, fence=SECOND))


async def test_a_record_has_the_tail_that_belongs_to_its_claim(engine: Engine) -> None:
    made = await engine.append(Write("s", [b"1", b"2"], create=NEW, claim=FIRST))
    record = await engine.session("s")
    assert (record.claim, record.tail) == (FIRST, made.tail)
    (listed,) = await engine.sessions(limit=1, after=None)
    assert listed == record


async def test_a_run_that_was_reserved_is_given_to_nobody_else_for_that_long(
    engine: Engine, clock: SetClock
) -> None:
    for name in "abc":
        await engine.append(Write(name, (), create=NEW, claim=FIRST, status="running"))
    clock.now += LEASE
    first = await engine.orphans(limit=2, reserve=3)
    assert list(first) == [Orphan(name, FIRST, "lease_expired") for name in "ab"]
    assert [orphan.session_id for orphan in await engine.orphans(limit=2, reserve=3)] == ["c"]
    assert list(await engine.orphans(limit=2, reserve=3)) == []
    assert len(await engine.orphans()) == 3, "who only looks sees all"
    assert len(await engine.orphans(limit=2)) == 2
    clock.now += 3000
    assert len(await engine.orphans(limit=9, reserve=3)) == 3


async def test_a_reservation_ends_when_the_run_is_taken_over(
    engine: Engine, clock: SetClock
) -> None:
    await engine.append(Write("s", (), create=NEW, claim=FIRST, status="running"))
    clock.now += LEASE
    assert len(await engine.orphans(limit=1, reserve=3600)) == 1
    await engine.append(Write("s", (), fence=FIRST, claim=SECOND))
    await engine.append(Write("s", (), fence=SECOND, release=True))
    assert list(await engine.orphans(limit=1, reserve=3600)) == [Orphan("s", None, "handed_over")]
    assert not await engine.orphans(limit=1, reserve=3600)
    await engine.append(Write("s", (), claim=FIRST))
    await engine.append(Write("s", (), fence=FIRST, release=True, status="idle"))
    await engine.append(Write("s", (), status="running"))
    assert len(await engine.orphans(limit=1, reserve=3600)) == 1


async def test_a_run_that_is_let_go_of_or_begun_for_others_wakes_who_looks_for_work(
    engine: Engine,
) -> None:
    await engine.append(Write("s", (), create=NEW, claim=FIRST, status="running"))
    await make(engine, "t")
    for write in (
        Write("s", (), fence=FIRST, release=True),
        Write("t", [b"1"], status="running"),
    ):
        waiting = asyncio.create_task(engine.wait_orphans())
        await proven_blocked(waiting)
        await engine.append(write)
        async with asyncio.timeout(SOON):
            await waiting


async def test_a_change_of_subscriptions_wakes_the_client_s_streams(engine: Engine) -> None:
    known: dict[str, str] = {}
    for change in ("subscribe", "unsubscribe"):
        waiting = [
            asyncio.create_task(engine.wait_subscriptions(name, known if name == "tab" else {}))
            for name in ("tab", "other")
        ]
        await proven_blocked(*waiting)
        if change == "subscribe":
            await engine.subscribe("tab", "s", "0")
        else:
            await engine.unsubscribe("tab", "s")
        async with asyncio.timeout(SOON):
            await waiting[0]
        assert not waiting[1].done()
        waiting[1].cancel()
        known = dict(await engine.subscriptions("tab"))


async def test_waiting_for_a_change_of_subscriptions_that_has_come_returns_at_once(
    engine: Engine,
) -> None:
    await engine.subscribe("tab", "s", "0")
    async with asyncio.timeout(SOON):
        await engine.wait_subscriptions("tab", {})


async def test_nobody_but_the_one_who_asks_has_controllers(engine: Engine) -> None:
    await engine.append(Write("s", (), create=NEW, judged=True))
    await engine.attend(["s", "unknown"], by="here", seconds=10)
    assert await engine.alone("s", but="here") is None
    assert await engine.alone("unknown", but="here") is None
