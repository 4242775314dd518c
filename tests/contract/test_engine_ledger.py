"""The ledger: session list, deletion, subscriptions, checkpoints; and closing."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import EngineClosed, SessionGone, SessionUnknown
from gateway.log.engine import Checkpoint, Engine, StoredSnapshot, Write
from tests.support.logs import FIRST, NEW, SetClock, add, answer, make


async def listed(engine: Engine, *, limit: int = 100, after: str | None = None) -> list[str]:
    return [record.session_id for record in await engine.sessions(limit=limit, after=after)]


async def test_sessions_are_listed_newest_first_also_within_one_millisecond(
    engine: Engine, clock: SetClock
) -> None:
    assert await listed(engine) == []
    for name in "dacb":
        await make(engine, name)
    clock.now -= 1000
    await make(engine, "e")
    await add(engine, b"1", session_id="d")
    assert await listed(engine) == ["e", "b", "c", "a", "d"]


async def test_pages_of_sessions_join_without_hole_or_repetition(engine: Engine) -> None:
    names = [f"s{n}" for n in range(10)]
    for name in names:
        await make(engine, name)
    found: list[str] = []
    while page := await listed(engine, limit=3, after=found[-1] if found else None):
        found += page
        await make(engine, f"later{len(found)}")
    assert found == names[::-1]


async def test_a_page_after_an_unknown_or_deleted_session_is_empty(engine: Engine) -> None:
    await make(engine, "a")
    await make(engine, "b")
    assert await listed(engine, after="b") == ["a"]
    assert await listed(engine, after="nobody") == []
    await engine.delete("b")
    assert await listed(engine, after="b") == []
    assert await listed(engine) == ["a"]


async def test_a_listed_session_is_as_its_record(engine: Engine) -> None:
    await engine.append(Write("s", [b"1"], create=NEW, claim=FIRST, status="running", title="t"))
    assert list(await engine.sessions(limit=1, after=None)) == [await engine.session("s")]


async def test_the_record_of_nobody_and_of_what_was_deleted_differ(engine: Engine) -> None:
    with pytest.raises(SessionUnknown):
        await engine.session("nobody")
    await make(engine)
    await engine.delete("s")
    with pytest.raises(SessionGone):
        await engine.session("s")


async def test_deleting_takes_all_about_a_session_and_nothing_of_others(engine: Engine) -> None:
    for name in "ab":
        made = await engine.append(Write(name, [b"1"], create=NEW, claim=FIRST, answer=answer()))
        await engine.save_snapshot(name, StoredSnapshot(made.tail, b"state"))
        await engine.subscribe("tab", name, "0")
    await engine.delete("a")
    assert await engine.answer("a", "c1") is None
    assert await engine.load_snapshot("a") is None
    assert await engine.subscriptions("tab") == {"b": "0"}
    assert await listed(engine) == ["b"]
    assert await engine.answer("b", "c1") is not None
    assert await engine.load_snapshot("b") is not None
    assert (await engine.head("b")).tail.seq == 1


async def test_a_session_made_after_a_deletion_inherits_nothing(engine: Engine) -> None:
    made = await engine.append(Write("a", [b"1"], create=NEW, claim=FIRST, answer=answer()))
    await engine.save_snapshot("a", StoredSnapshot(made.tail, b"state"))
    await engine.delete("a")
    await make(engine, "b")
    assert await engine.answer("b", "c1") is None
    assert await engine.load_snapshot("b") is None
    appended = await engine.append(Write("b", [b"2"], answer=answer(digest="b2")))
    assert (appended.tail.seq, appended.repeated) == (1, False)
    assert appended.tail.epoch != made.tail.epoch


async def test_deleting_twice_is_no_error_and_deleting_nobody_is(engine: Engine) -> None:
    await make(engine)
    await engine.delete("s")
    await engine.delete("s")
    with pytest.raises(SessionUnknown):
        await engine.delete("nobody")


async def test_subscriptions_are_kept_by_client_and_the_latest_cursor_counts(
    engine: Engine,
) -> None:
    await engine.subscribe("tab", "a", "0")
    await engine.subscribe("tab", "b", "$")
    await engine.subscribe("phone", "a", "e.1.00000000")
    await engine.subscribe("tab", "a", "e.2.00000000")
    assert await engine.subscriptions("tab") == {"a": "e.2.00000000", "b": "$"}
    assert await engine.subscriptions("phone") == {"a": "e.1.00000000"}
    assert await engine.subscriptions("nobody") == {}


async def test_unsubscribing_twice_is_no_error(engine: Engine) -> None:
    await engine.subscribe("tab", "a", "0")
    for _ in range(2):
        await engine.unsubscribe("tab", "a")
        assert await engine.subscriptions("tab") == {}
    await engine.unsubscribe("nobody", "a")


async def test_a_checkpoint_is_found_by_its_client_only(engine: Engine) -> None:
    checkpoint = Checkpoint("k1", {"a": "e.1.00000000", "b": "0"})
    await engine.save_checkpoint("tab", checkpoint)
    assert await engine.load_checkpoint("tab", "k1") == checkpoint
    assert await engine.load_checkpoint("phone", "k1") is None
    assert await engine.load_checkpoint("tab", "k2") is None


async def test_a_checkpoint_saved_again_takes_the_place_of_the_first(engine: Engine) -> None:
    await engine.save_checkpoint("tab", Checkpoint("k1", {"a": "0"}))
    await engine.save_checkpoint("tab", Checkpoint("k1", {"a": "$"}))
    assert await engine.load_checkpoint("tab", "k1") == Checkpoint("k1", {"a": "$"})


async def test_the_latest_sixteen_checkpoints_of_each_client_are_kept(engine: Engine) -> None:
    await engine.save_checkpoint("phone", Checkpoint("k0", {}))
    for n in range(40):
        await engine.save_checkpoint("tab", Checkpoint(f"k{n}", {"n": str(n)}))
    for n in range(24, 40):
        assert await engine.load_checkpoint("tab", f"k{n}") == Checkpoint(f"k{n}", {"n": str(n)})
    assert await engine.load_checkpoint("tab", "k0") is None
    assert await engine.load_checkpoint("phone", "k0") == Checkpoint("k0", {})


async def test_closing_finishes_what_was_accepted_and_may_be_done_twice(engine: Engine) -> None:
    await make(engine)
    appends = [asyncio.create_task(add(engine, b"%d" % n)) for n in range(20)]
    await asyncio.sleep(0)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.aclose())
        tasks.create_task(engine.aclose())
    await engine.aclose()
    done, _ = await asyncio.wait(appends, timeout=5)
    assert sorted(task.result().tail.seq for task in done) == list(range(1, 21))


async def test_a_closed_engine_says_so(engine: Engine) -> None:
    made = await make(engine, "s", b"1")
    await engine.aclose()
    for use in (
        add(engine, b"2"),
        make(engine, "t"),
        engine.head("s"),
        engine.read("s", made.tail, limit=1),
        engine.trim("s", 1),
        engine.save_snapshot("s", StoredSnapshot(made.tail, b"")),
        engine.load_snapshot("s"),
        engine.session("s"),
        engine.sessions(limit=1, after=None),
        engine.heartbeat({"s": FIRST}),
        engine.orphans(),
        engine.attend(["s"], by="a", seconds=1),
        engine.alone("s", but="a"),
        engine.delete("s"),
        engine.answer("s", "c1"),
        engine.subscribe("tab", "s", "0"),
        engine.unsubscribe("tab", "s"),
        engine.subscriptions("tab"),
        engine.save_checkpoint("tab", Checkpoint("k1", {})),
        engine.load_checkpoint("tab", "k1"),
    ):
        with pytest.raises(EngineClosed):
            await use
