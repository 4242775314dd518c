"""`append`: order, atomicity, time, many writers, callers that go away."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from gateway.errors import Fenced, SessionGone, SessionUnknown
from gateway.log.engine import Engine, Write
from gateway.log.position import NO_TAG, Position
from tests.support.logs import (
    FIRST,
    NEW,
    SECOND,
    SetClock,
    add,
    answer,
    bodies,
    kept,
    make,
    same,
    start,
    tail,
)
from tests.support.waiting import proven_blocked


@pytest.mark.rule("log.order")
async def test_entries_are_numbered_from_one_without_holes_in_the_order_of_appends(
    engine: Engine,
) -> None:
    await make(engine, "s", b"1")
    await add(engine, b"2", b"3", b"4")
    await add(engine)
    await add(engine, b"5")
    entries = await kept(engine)
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert bodies(entries) == [b"1", b"2", b"3", b"4", b"5"]


@pytest.mark.rule("log.commit")
async def test_what_append_returns_is_readable_at_once_and_the_same(engine: Engine) -> None:
    made = await make(engine, "s", b"1")
    more = await add(engine, b"2", b"3")
    assert same(await kept(engine), made.entries + more.entries)
    assert more.tail == more.entries[-1].position == await tail(engine)
    assert not more.repeated
    assert more.answer is None


@pytest.mark.rule("cursor.form")
async def test_one_append_has_one_tag_and_the_next_another(engine: Engine) -> None:
    await make(engine)
    tags = [
        {entry.position.tag for entry in (await add(engine, b"a", b"b", b"c")).entries}
        for _ in range(20)
    ]
    assert all(len(each) == 1 for each in tags)
    assert len(set.union(*tags)) == 20


async def test_each_log_has_an_epoch_of_its_own_and_keeps_it(engine: Engine) -> None:
    for n in range(20):
        await make(engine, f"s{n}", b"1")
        await add(engine, b"2", session_id=f"s{n}")
    epochs = [{entry.position.epoch for entry in await kept(engine, f"s{n}")} for n in range(20)]
    assert all(len(each) == 1 for each in epochs)
    assert len(set.union(*epochs)) == 20


async def test_every_position_survives_its_text_form(engine: Engine) -> None:
    appended = await make(engine, "s", b"1", b"2")
    for position in (await start(engine), *(entry.position for entry in appended.entries)):
        assert Position.parse(str(position)) == position


async def test_time_never_goes_backwards_in_a_log(engine: Engine, clock: SetClock) -> None:
    await make(engine, "s", b"1")
    moments = []
    for step in (5, -3_600_000, 0, 1, 7_200_000, -1):
        clock.now += step
        moments.append((await add(engine, b"x")).entries[0].at)
    assert all(earlier <= later for earlier, later in pairwise(moments))
    assert moments[0] == 1_700_000_000_005
    assert moments[-1] == moments[-2] == 1_700_000_000_006 + 3_600_000
    assert [entry.at for entry in await kept(engine)][1:] == moments


async def test_a_write_without_events_moves_nothing(engine: Engine) -> None:
    before = (await make(engine, "s", b"1")).tail
    written = await engine.append(Write("s", (), status="running", title="Weather"))
    assert (written.entries, written.tail) == ((), before)
    assert await tail(engine) == before
    record = await engine.session("s")
    assert (record.status, record.title) == ("running", "Weather")


async def test_a_new_log_begins_at_zero(engine: Engine) -> None:
    made = await make(engine)
    assert made.entries == ()
    assert (made.tail.seq, made.tail.tag) == (0, NO_TAG)
    head = await engine.head("s")
    assert head.start == head.tail == made.tail


async def test_bodies_are_kept_byte_for_byte(engine: Engine) -> None:
    odd = [b"", b"\x00\xff\r\n", "ü\u2028".encode(), b"x" * 300_000]
    await make(engine, "s", *odd)
    assert bodies(await kept(engine)) == odd


async def test_an_append_larger_than_any_page_is_one_append(engine: Engine) -> None:
    many = [b"%d" % n for n in range(1000)]
    appended = await make(engine, "s", *many)
    entries = await kept(engine, limit=7)
    assert bodies(entries) == many
    assert {entry.position.tag for entry in entries} == {appended.tail.tag}


async def test_appending_to_nothing_is_refused(engine: Engine) -> None:
    with pytest.raises(SessionUnknown):
        await add(engine, b"1", session_id="nobody")
    with pytest.raises(SessionUnknown):
        await engine.head("nobody")


async def test_a_fenced_write_leaves_no_trace_of_any_of_its_parts(engine: Engine) -> None:
    await engine.append(Write("s", [b"1"], create=NEW, claim=SECOND, status="running", title="a"))
    before = await engine.session("s")
    with pytest.raises(Fenced):
        await engine.append(
            Write(
                "s",
                [b"2", b"3"],
                fence=FIRST,
                claim=FIRST,
                answer=answer(),
                status="interrupted",
                title="b",
            )
        )
    assert await engine.session("s") == before
    assert await engine.answer("s", "c1") is None
    assert bodies(await kept(engine)) == [b"1"]
    assert (await add(engine, b"2")).tail.seq == 2


@pytest.mark.rule("log.order")
async def test_concurrent_appends_are_all_there_whole_and_without_holes(engine: Engine) -> None:
    sessions = ["a", "b", "c"]
    for session_id in sessions:
        await make(engine, session_id)

    async def writer(name: int) -> None:
        for n in range(10):
            body = b"%d.%d" % (name, n)
            session_id = sessions[(name + n) % 3]
            written = await add(engine, body + b"x", body + b"y", session_id=session_id)
            assert bodies(written.entries) == [body + b"x", body + b"y"]
            assert written.entries[1].seq == written.entries[0].seq + 1

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for name in range(20):
            tasks.create_task(writer(name))

    found: list[bytes] = []
    for session_id in sessions:
        entries = await kept(engine, session_id)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        for first, second in zip(entries[::2], entries[1::2], strict=True):
            assert first.body[:-1] == second.body[:-1]
            assert first.position.tag == second.position.tag
        found += bodies(entries)
    assert sorted(found) == sorted(
        b"%d.%d%c" % (name, n, x) for name in range(20) for n in range(10) for x in b"xy"
    )


async def test_the_appends_of_one_task_keep_their_order_also_if_not_awaited_one_by_one(
    engine: Engine,
) -> None:
    await make(engine)
    expected = [b"%d" % n for n in range(100)]
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for body in expected:
            tasks.create_task(add(engine, body))
    assert bodies(await kept(engine)) == expected


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 50])
async def test_a_caller_that_is_cancelled_at_any_moment_breaks_nothing(
    engine: Engine, turns: int
) -> None:
    made = await make(engine)
    reader = asyncio.create_task(engine.wait("s", made.tail))
    for n in range(20):
        caller = asyncio.create_task(add(engine, b"%d" % n))
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
    async with asyncio.timeout(30):
        last = await add(engine, b"last")
        await reader
    entries = await kept(engine)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[-1].body == b"last"
    assert entries[-1].position == last.tail
    numbers = [int(body) for body in bodies(entries)[:-1]]
    assert numbers == sorted(set(numbers))


@pytest.mark.usefixtures("no_ticker")
async def test_a_reader_is_woken_by_an_append_whose_caller_went_away(engine: Engine) -> None:
    made = await make(engine)
    reader = asyncio.create_task(engine.wait("s", made.tail))
    await proven_blocked(reader)
    caller = asyncio.create_task(add(engine, b"1"))
    await asyncio.sleep(0)
    caller.cancel()
    async with asyncio.timeout(30):
        await reader
    assert bodies(await kept(engine)) == [b"1"]


@pytest.mark.rule("log.immutable")
async def test_committed_entries_never_change(engine: Engine) -> None:
    await make(engine, "s", b"1", b"2")
    first = await kept(engine)
    await add(engine, b"3")
    await engine.append(Write("s", (), status="closed"))
    assert same((await kept(engine))[:2], first)


async def test_a_deleted_session_takes_no_append_and_its_id_stays_taken(engine: Engine) -> None:
    await make(engine, "s", b"1")
    await engine.delete("s")
    with pytest.raises(SessionGone):
        await add(engine, b"2")
    with pytest.raises(SessionGone):
        await make(engine, "s", b"1")
    with pytest.raises(SessionGone):
        await engine.head("s")
