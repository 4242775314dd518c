"""What keeps a store bounded: states that logs begin with, excess, forgetting, lifetimes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engines.memory import MemoryEngine
from gateway.errors import CursorInvalid, SessionGone, SessionUnknown
from gateway.log.engine import Checkpoint, Engine, StoredSnapshot, Write
from gateway.log.position import Position
from gateway.log.upkeep import Excess, Lifetimes
from tests.support.logs import (
    FIRST,
    NEW,
    SetClock,
    add,
    answer,
    bodies,
    kept,
    make,
    start,
    tail,
)
from tests.support.waiting import proven_blocked

TEN = [b"%d" % number for number in range(1, 11)]
DAY = 24 * 60 * 60 * 1000
LIVES = Lifetimes(answers=DAY, clients=30 * DAY, tombstones=7 * DAY)


async def positions(engine: Engine, session_id: str = "s") -> list[Position]:
    """Make a log of ten entries, each with a tag of its own; return the position before each."""
    made = await make(engine, session_id)
    return [
        made.tail,
        *[(await add(engine, body, session_id=session_id)).tail for body in TEN],
    ]


async def excess(engine: Engine, **asked: int | str | None) -> list[Excess]:
    wanted = {"events": 3, "age_ms": 0, "after": None, "limit": 100} | asked
    return list(await engine.excess(**wanted))  # type: ignore[arg-type] # checked by the engine


async def prune_all(engine: Engine, lives: Lifetimes = LIVES) -> None:
    while await engine.prune(lives):
        continue


# --- the state that a log begins with ----------------------------------------------------------


async def test_a_log_that_is_trimmed_begins_with_the_state_that_was_given(engine: Engine) -> None:
    found = await positions(engine)
    await engine.trim("s", 4, b"four")
    assert await start(engine) == found[4]
    assert bodies(await kept(engine)) == TEN[4:]
    assert await engine.load_snapshot("s") == StoredSnapshot(found[4], b"four")


async def test_the_latest_state_and_the_first_are_both_kept(engine: Engine) -> None:
    found = await positions(engine)
    await engine.save_snapshot("s", StoredSnapshot(found[6], b"six"))
    await engine.trim("s", 4, b"four")
    assert await engine.load_snapshot("s") == StoredSnapshot(found[6], b"six")
    await engine.save_snapshot("s", StoredSnapshot(found[9], b"nine"))
    for through, expected in {None: 9, 10: 9, 9: 9, 8: 4, 4: 4}.items():
        stored = await engine.load_snapshot("s", through)
        assert stored is not None
        assert stored.position == found[expected]
    assert await engine.load_snapshot("s", 3) is None
    await engine.trim("s", 9, b"nine")
    assert await engine.load_snapshot("s", 8) is None
    assert await engine.load_snapshot("s", 9) == StoredSnapshot(found[9], b"nine")


async def test_a_state_that_was_saved_late_does_not_hide_the_one_that_the_log_begins_with(
    engine: Engine,
) -> None:
    found = await positions(engine)
    await engine.trim("s", 4, b"four")
    await engine.save_snapshot("s", StoredSnapshot(found[2], b"two"))
    assert await engine.load_snapshot("s") == StoredSnapshot(found[4], b"four")


@pytest.mark.parametrize("through", [-1, 0, 4, 10, 11, 10**9])
async def test_a_state_of_no_entry_that_can_be_dropped_changes_nothing(
    engine: Engine, through: int
) -> None:
    found = await positions(engine)
    await engine.trim("s", 4, b"four")
    await engine.trim("s", through, b"wrong")
    assert await start(engine) == found[4]
    assert await engine.load_snapshot("s") == StoredSnapshot(found[4], b"four")


# --- what is too much --------------------------------------------------------------------------


async def test_too_many_are_entries_that_are_neither_among_the_last_nor_young(
    engine: Engine, clock: SetClock
) -> None:
    await make(engine, "s", *TEN[:4])
    clock.now += 1000
    await add(engine, *TEN[4:])
    assert await excess(engine, events=3) == [Excess("s", 0, 7, active=False)]
    assert await excess(engine, events=10) == []
    assert await excess(engine, events=9) == [Excess("s", 0, 1, active=False)]
    assert await excess(engine, events=3, age_ms=1000) == [Excess("s", 0, 4, active=False)]
    assert await excess(engine, events=8, age_ms=1000) == [Excess("s", 0, 2, active=False)]
    assert await excess(engine, events=3, age_ms=1001) == []
    await engine.trim("s", 2)
    assert await excess(engine, events=3, age_ms=1000) == [Excess("s", 2, 4, active=False)]
    await engine.trim("s", 4)
    assert await excess(engine, events=3, age_ms=1000) == []


async def test_excess_is_told_page_by_page_oldest_session_first(engine: Engine) -> None:
    for name in "dacbe":
        await make(engine, name, *TEN[: 10 if name != "c" else 3])
    await engine.append(Write("b", (), status="running"))
    await engine.append(Write("e", (), status="interrupted"))
    assert await excess(engine, limit=2) == [
        Excess("d", 0, 7, active=False),
        Excess("a", 0, 7, active=False),
    ]
    assert await excess(engine, after="a") == [
        Excess("b", 0, 7, active=True),
        Excess("e", 0, 7, active=True),
    ]
    assert await excess(engine, after="e") == []
    assert await excess(engine, after="nobody") == []


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=8),
    st.integers(1, 6),
    st.integers(0, 6),
    st.integers(0, 12),
)
async def test_excess_is_what_one_would_count_by_hand(
    appends: list[tuple[int, int]], events: int, age: int, trimmed: int
) -> None:
    clock = SetClock()
    engine = MemoryEngine(clock=clock)
    await make(engine)
    for wait, number in appends:
        clock.now += wait
        await add(engine, *TEN[:number])
    await engine.trim("s", trimmed)
    entries = await kept(engine)
    old = [entry.seq for entry in entries[:-events] if entry.at <= clock.now - age]
    told = await excess(engine, events=events, age_ms=age)
    assert [found.through for found in told] == old[-1:]


# --- what nobody uses --------------------------------------------------------------------------


async def test_sessions_that_nobody_used_for_so_long_are_deleted(
    engine: Engine, clock: SetClock
) -> None:
    for name in ("old", "claimed", "left", "used"):
        await make(engine, name, b"1")
    await engine.append(Write("claimed", (), claim=FIRST))
    await engine.append(Write("left", (), status="running"))  # a process let go of its run
    clock.now += 1000
    await add(engine, b"2", session_id="used")
    await make(engine, "new")
    assert await engine.forget(age_ms=1001, limit=10) == []
    assert await engine.forget(age_ms=1000, limit=10) == ["old"]
    assert await engine.forget(age_ms=1000, limit=10) == []
    with pytest.raises(SessionGone):
        await add(engine, b"late", session_id="old")
    names = [record.session_id for record in await engine.sessions(limit=9, after=None)]
    assert names == ["new", "used", "left", "claimed"]


@pytest.mark.usefixtures("no_ticker")
async def test_sessions_are_forgotten_a_few_at_a_time_and_their_readers_are_woken(
    engine: Engine, clock: SetClock
) -> None:
    for name in "abc":
        await make(engine, name, b"1")
    clock.now += 5
    waiting = asyncio.create_task(engine.wait("b", await tail(engine, "b")))
    await proven_blocked(waiting)
    assert await engine.forget(age_ms=5, limit=2) == ["a", "b"]
    async with asyncio.timeout(30):
        await waiting
    assert await engine.forget(age_ms=5, limit=2) == ["c"]


# --- what has outlived its time ----------------------------------------------------------------


async def test_answers_are_kept_for_their_time_and_no_longer(
    engine: Engine, clock: SetClock
) -> None:
    await make(engine)
    await engine.append(Write("s", [b"1"], answer=answer("old")))
    clock.now += DAY - 1
    await engine.append(Write("s", [b"2"], answer=answer("new")))
    await prune_all(engine)
    assert await engine.answer("s", "old") is not None
    clock.now += 1
    await prune_all(engine)
    assert await engine.answer("s", "old") is None
    assert await engine.answer("s", "new") is not None
    again = await engine.append(Write("s", [b"3"], answer=answer("old", "other body")))
    assert not again.repeated


async def test_a_client_that_does_not_come_back_is_forgotten_whole(
    engine: Engine, clock: SetClock
) -> None:
    for client in ("gone", "resubscribed", "reading"):
        await engine.subscribe(client, "s", "0")
        await engine.save_checkpoint(client, Checkpoint("first", {"s": "1"}))
    clock.now += 30 * DAY - 1
    await engine.subscribe("resubscribed", "other", "0")
    await engine.save_checkpoint("reading", Checkpoint("second", {"s": "2"}))
    await prune_all(engine)
    assert await engine.subscriptions("gone") == {"s": "0"}
    clock.now += 1
    await prune_all(engine)
    assert await engine.subscriptions("gone") == {}
    assert await engine.load_checkpoint("gone", "first") is None
    assert await engine.subscriptions("resubscribed") == {"s": "0", "other": "0"}
    assert await engine.load_checkpoint("resubscribed", "first") is not None
    assert await engine.load_checkpoint("reading", "second") is not None


async def test_a_tombstone_holds_its_id_for_its_time_and_then_the_id_begins_anew(
    engine: Engine, clock: SetClock
) -> None:
    before = (await make(engine, "s", b"1")).tail
    await engine.delete("s")
    clock.now += 7 * DAY - 1
    await prune_all(engine)
    with pytest.raises(SessionGone):
        await make(engine, "s")
    clock.now += 1
    await prune_all(engine)
    with pytest.raises(SessionUnknown):
        await engine.session("s")
    after = await make(engine, "s", b"1")
    assert (after.repeated, after.tail.seq) == (False, 1)
    with pytest.raises(CursorInvalid) as refused:
        await engine.read("s", before, limit=1)
    assert refused.value.reason == "epoch_changed"


async def test_a_session_made_after_one_was_deleted_has_nothing_of_it(engine: Engine) -> None:
    await make(engine, "old", *TEN)
    await engine.save_snapshot("old", StoredSnapshot(await tail(engine, "old"), b"old"))
    deleting = asyncio.create_task(engine.delete("old"))
    made = asyncio.create_task(engine.append(Write("new", TEN[:2], create=NEW)))
    await asyncio.wait([deleting, made])
    assert bodies(await kept(engine, "new")) == TEN[:2]
    await prune_all(engine)
    assert bodies(await kept(engine, "new")) == TEN[:2]
    assert await engine.load_snapshot("new") is None


async def test_upkeep_beside_writers_and_readers_loses_nothing(
    engine: Engine, clock: SetClock
) -> None:
    await make(engine)

    async def write() -> None:
        for number in range(1, 61):
            await add(engine, b"%d" % number)

    async def sweep() -> None:
        for _ in range(30):
            for found in await excess(engine, events=5):
                await engine.trim("s", found.through, b"%d" % found.through)
            await engine.prune(LIVES)

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        tasks.create_task(sweep())
    for found in await excess(engine, events=5):
        await engine.trim("s", found.through, b"%d" % found.through)
    entries = await kept(engine)
    assert [int(entry.body) for entry in entries] == [56, 57, 58, 59, 60]
    first = await start(engine)
    assert await engine.load_snapshot("s") == StoredSnapshot(first, b"55")
    assert replace(first, tag="") == Position(first.epoch, 55, "")
