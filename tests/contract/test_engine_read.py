"""`read`, `trim` and snapshots."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from gateway.errors import CursorInvalid, SessionGone, SessionUnknown
from gateway.log.engine import Engine, StoredSnapshot
from gateway.log.page import PAGE_BYTES
from gateway.log.position import NO_TAG, Position
from tests.support.logs import add, bodies, kept, make, start, tail

TEN = [b"%d" % n for n in range(1, 11)]


async def positions(engine: Engine) -> list[Position]:
    """Make a log of ten entries, each its own append; return its positions, from 0 on."""
    made = await make(engine)
    return [made.tail] + [(await add(engine, body)).tail for body in TEN]


async def reason(engine: Engine, after: Position) -> str:
    with pytest.raises(CursorInvalid) as caught:
        await engine.read("s", after, limit=10)
    return caught.value.reason


async def test_a_page_starts_right_after_any_position(engine: Engine) -> None:
    for seq, position in enumerate(await positions(engine)):
        assert bodies(await engine.read("s", position, limit=100)) == TEN[seq:]


@pytest.mark.parametrize("limit", [1, 2, 3, 9, 10, 11])
async def test_a_page_has_at_most_the_entries_asked_for(engine: Engine, limit: int) -> None:
    found = await positions(engine)
    assert bodies(await engine.read("s", found[0], limit=limit)) == TEN[:limit]
    assert bodies(await kept(engine, limit=limit)) == TEN


async def test_a_page_is_bounded_in_bytes_but_never_empty_before_the_tail(engine: Engine) -> None:
    large = [bytes([n]) * (PAGE_BYTES // 4) for n in range(6)]
    huge = b"h" * (PAGE_BYTES + 1)
    await make(engine, "s", *large, huge, huge, b"small")
    sizes = []
    position = await start(engine)
    while page := await engine.read("s", position, limit=100):
        sizes.append(len(page))
        position = page[-1].position
    assert sizes == [4, 2, 1, 1, 1]
    assert bodies(await kept(engine)) == [*large, huge, huge, b"small"]


async def test_at_the_tail_there_is_nothing(engine: Engine) -> None:
    made = await make(engine)
    assert list(await engine.read("s", made.tail, limit=10)) == []
    more = await add(engine, b"1")
    assert list(await engine.read("s", more.tail, limit=10)) == []


async def test_reading_nobody_and_reading_what_was_deleted_differ(engine: Engine) -> None:
    made = await make(engine, "s", b"1")
    with pytest.raises(SessionUnknown):
        await engine.read("nobody", made.tail, limit=10)
    await engine.delete("s")
    with pytest.raises(SessionGone):
        await engine.read("s", made.tail, limit=10)


async def test_a_position_of_another_epoch_is_refused_wherever_it_is(engine: Engine) -> None:
    for position in await positions(engine):
        assert await reason(engine, replace(position, epoch="other")) == "epoch_changed"
    other = (await make(engine, "t", *TEN)).tail
    assert await reason(engine, other) == "epoch_changed"


async def test_a_position_past_the_tail_is_refused(engine: Engine) -> None:
    last = (await positions(engine))[-1]
    assert await reason(engine, replace(last, seq=11)) == "cursor_ahead"
    assert await reason(engine, replace(last, seq=10**15)) == "cursor_ahead"


async def test_a_position_of_another_history_is_refused_at_every_place(engine: Engine) -> None:
    found = await positions(engine)
    for position in found:
        other = "ffffffff" if position.tag != "ffffffff" else "eeeeeeee"
        assert await reason(engine, replace(position, tag=other)) == "fork"
    for here, there in pairwise(found):
        assert await reason(engine, replace(here, tag=there.tag)) == "fork"


async def test_the_tag_of_an_append_is_that_of_each_of_its_entries(engine: Engine) -> None:
    appended = await make(engine, "s", *TEN)
    for seq in range(1, 11):
        position = replace(appended.tail, seq=seq)
        assert bodies(await engine.read("s", position, limit=100)) == TEN[seq:]
    assert await reason(engine, replace(appended.tail, seq=0)) == "fork"


async def test_after_a_trim_positions_before_it_are_refused_and_others_are_valid(
    engine: Engine,
) -> None:
    found = await positions(engine)
    await engine.trim("s", 4)
    head = await engine.head("s")
    assert (head.start, head.tail) == (found[4], found[10])
    for seq in range(4):
        assert await reason(engine, found[seq]) == "trimmed"
    for seq in range(4, 11):
        assert bodies(await engine.read("s", found[seq], limit=100)) == TEN[seq:]
    assert await reason(engine, replace(found[4], tag=NO_TAG)) == "fork"
    assert bodies(await kept(engine)) == TEN[4:]


async def test_trimming_the_same_or_less_again_changes_nothing(engine: Engine) -> None:
    found = await positions(engine)
    await engine.trim("s", 4)
    for through in (4, 3, 0, -1):
        await engine.trim("s", through)
        assert (await engine.head("s")).start == found[4]
    await engine.trim("s", 6)
    assert (await engine.head("s")).start == found[6]
    assert bodies(await kept(engine)) == TEN[6:]


@pytest.mark.parametrize("through", [9, 10, 11, 10**9])
async def test_the_last_entry_always_stays(engine: Engine, through: int) -> None:
    found = await positions(engine)
    await engine.trim("s", through)
    assert bodies(await kept(engine)) == TEN[9:]
    assert (await engine.head("s")).start == found[9]
    assert (await add(engine, b"11")).tail.seq == 11
    assert bodies(await kept(engine)) == [b"10", b"11"]


async def test_an_empty_log_can_be_trimmed(engine: Engine) -> None:
    made = await make(engine)
    await engine.trim("s", 5)
    assert (await engine.head("s")).start == made.tail


async def test_trimming_nobody_is_refused(engine: Engine) -> None:
    with pytest.raises(SessionUnknown):
        await engine.trim("nobody", 1)


async def test_a_reader_overtaken_by_a_trim_is_told(engine: Engine) -> None:
    found = await positions(engine)
    assert bodies(await engine.read("s", found[0], limit=2)) == TEN[:2]
    await engine.trim("s", 5)
    assert await reason(engine, found[2]) == "trimmed"


async def test_trims_beside_appends_and_readers_leave_a_log_without_holes(engine: Engine) -> None:
    await make(engine)

    async def write() -> None:
        for n in range(60):
            await add(engine, b"%d" % (n + 1))

    async def trim() -> None:
        for _ in range(20):
            await engine.trim("s", (await tail(engine)).seq - 3)

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        tasks.create_task(trim())
    entries = await kept(engine)
    assert [entry.seq for entry in entries] == list(range(entries[0].seq, 61))
    assert [int(entry.body) for entry in entries] == [entry.seq for entry in entries]


async def test_the_latest_snapshot_is_kept(engine: Engine) -> None:
    found = await positions(engine)
    assert await engine.load_snapshot("s") is None
    for seq in (3, 7):
        await engine.save_snapshot("s", StoredSnapshot(found[seq], b"state %d" % seq))
    assert await engine.load_snapshot("s") == StoredSnapshot(found[7], b"state 7")


async def test_a_snapshot_whose_position_is_not_in_the_log_is_not_there(engine: Engine) -> None:
    found = await positions(engine)
    for position in (
        replace(found[3], epoch="other"),
        replace(found[3], seq=11),
        replace(found[3], tag="ffffffff" if found[3].tag != "ffffffff" else "eeeeeeee"),
    ):
        await engine.save_snapshot("s", StoredSnapshot(position, b"state"))
        assert await engine.load_snapshot("s") is None


async def test_a_snapshot_is_good_as_long_as_the_log_goes_on_from_it(engine: Engine) -> None:
    found = await positions(engine)
    snapshot = StoredSnapshot(found[4], b"state")
    await engine.save_snapshot("s", snapshot)
    await engine.trim("s", 4)
    assert await engine.load_snapshot("s") == snapshot
    await engine.trim("s", 5)
    assert await engine.load_snapshot("s") is None


async def test_a_snapshot_goes_with_its_session(engine: Engine) -> None:
    found = await positions(engine)
    await engine.save_snapshot("s", StoredSnapshot(found[3], b"state"))
    await engine.delete("s")
    assert await engine.load_snapshot("s") is None
    assert await engine.load_snapshot("nobody") is None
    with pytest.raises(SessionGone):
        await engine.save_snapshot("s", StoredSnapshot(found[3], b"state"))
