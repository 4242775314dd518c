"""The feed: an ordered log in memory with cursors instead of queues."""

from __future__ import annotations

import asyncio
import threading

import pytest

from runtime.feed import Cursor, Feed, Gap
from tests.support.waiting import proven_blocked

PATIENCE = 30.0


async def rest(cursor: Cursor[str]) -> list[tuple[int, str] | Gap]:
    async with asyncio.timeout(PATIENCE):
        return [found async for found in cursor]


def feed_of(count: int, keep: int = 100) -> Feed[str]:
    feed: Feed[str] = Feed(keep)
    for number in range(1, count + 1):
        feed.append(f"item {number}")
    return feed


async def test_a_reader_gets_what_is_kept_and_then_what_comes_in_order() -> None:
    feed = feed_of(2)
    cursor = feed.follow()
    assert await anext(cursor) == (1, "item 1")
    assert await anext(cursor) == (2, "item 2")
    waiting = asyncio.create_task(cursor.__anext__())
    await proven_blocked(waiting)
    assert feed.append("late") == 3
    async with asyncio.timeout(PATIENCE):
        assert await waiting == (3, "late")


async def test_a_reader_begins_after_the_number_that_it_names() -> None:
    feed = feed_of(3)
    feed.close()
    assert await rest(feed.follow(after=2)) == [(3, "item 3")]


async def test_a_reader_ahead_of_the_feed_gets_only_what_comes_after_its_number() -> None:
    feed = feed_of(1)
    cursor = feed.follow(after=2)
    feed.append("2")
    feed.append("3")
    feed.close()
    assert await rest(cursor) == [(3, "3")]


async def test_a_reader_that_fell_out_of_the_window_gets_one_gap_with_the_exact_range() -> None:
    feed = feed_of(4, keep=3)
    cursor = feed.follow(after=1)
    assert await anext(cursor) == (2, "item 2")
    for number in range(5, 11):
        feed.append(f"item {number}")
    feed.close()
    found = await rest(cursor)
    assert found == [
        (3, "item 3"),  # it had them in its hand already
        (4, "item 4"),
        Gap(5, 7),
        (8, "item 8"),
        (9, "item 9"),
        (10, "item 10"),
    ]


async def test_readers_do_not_disturb_each_other() -> None:
    feed = feed_of(2)
    slow, quick = feed.follow(), feed.follow()
    assert await anext(quick) == (1, "item 1")
    assert await anext(quick) == (2, "item 2")
    assert await anext(slow) == (1, "item 1")


async def test_all_who_wait_are_woken_by_one_item() -> None:
    feed = feed_of(0)
    waiting = [asyncio.create_task(feed.follow().__anext__()) for _ in range(3)]
    await proven_blocked(*waiting)
    feed.append("news")
    async with asyncio.timeout(PATIENCE):
        assert [await task for task in waiting] == [(1, "news")] * 3


async def test_a_reader_that_is_cancelled_while_it_waits_takes_nothing_with_it() -> None:
    feed = feed_of(0)
    cursor = feed.follow()
    waiting = asyncio.create_task(cursor.__anext__())
    await proven_blocked(waiting)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert feed._waiting == set()
    feed.append("news")
    assert await anext(cursor) == (1, "news")


async def test_closing_ends_readers_after_what_is_there() -> None:
    feed = feed_of(1)
    behind, waits = feed.follow(), feed.follow(after=1)
    waiting = asyncio.create_task(rest(waits))
    await proven_blocked(waiting)
    feed.close()
    feed.close()
    assert await waiting == []
    assert await rest(behind) == [(1, "item 1")]
    assert feed.append("too late") == 1
    assert await rest(feed.follow()) == [(1, "item 1")]


async def test_ending_one_reader_gives_it_what_is_there_and_leaves_the_others() -> None:
    feed = feed_of(1)
    ended, waits, stays = feed.follow(), feed.follow(after=1), feed.follow()
    waiting = asyncio.create_task(rest(waits))
    await proven_blocked(waiting)
    for cursor in (ended, waits):
        cursor.end()
    assert await waiting == []
    feed.append("more")
    assert await rest(ended) == [(1, "item 1")]
    feed.close()
    assert await rest(stays) == [(1, "item 1"), (2, "more")]


async def test_a_reader_that_ended_is_not_told_of_a_gap_beyond_its_end() -> None:
    feed = feed_of(2, keep=2)
    cursor = feed.follow()
    cursor.end()
    for _ in range(5):
        feed.append("more")
    assert await rest(cursor) == [Gap(1, 2)]


async def test_items_from_many_threads_get_distinct_numbers_and_wake_the_reader() -> None:
    feed: Feed[str] = Feed()
    cursor = feed.follow()
    waiting = asyncio.create_task(cursor.__anext__())
    await proven_blocked(waiting)
    threads = [
        threading.Thread(target=lambda: [feed.append("x") for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(PATIENCE):
        seqs = [(await waiting)]
        while len(seqs) < 2000:
            seqs.append(await anext(cursor))
    assert seqs == [(number, "x") for number in range(1, 2001)]
    for thread in threads:
        await asyncio.to_thread(thread.join)


def test_a_feed_outlives_an_event_loop_with_readers_on_it() -> None:
    feed = feed_of(0)

    async def wait_in_vain() -> None:
        async with asyncio.timeout(0.01):
            await anext(feed.follow())

    with pytest.raises(TimeoutError):
        asyncio.run(wait_in_vain())
    feed.append("from no loop")
    assert asyncio.run(feed.follow().__anext__()) == (1, "from no loop")


def test_a_reader_whose_loop_is_gone_does_not_disturb_who_appends() -> None:
    feed = feed_of(0)

    async def begin_to_wait() -> object:
        return feed._news(0)

    waiter = asyncio.run(begin_to_wait())
    assert feed._waiting == {waiter}
    assert feed.append("item 1") == 1


async def test_who_looked_just_before_an_item_came_does_not_go_to_sleep() -> None:
    feed = feed_of(1)
    assert feed._news(0) is None
    feed.close()
    assert feed._news(1) is None


async def test_an_item_from_a_thread_wakes_a_loop_in_which_nothing_else_happens() -> None:
    asyncio.get_running_loop().set_debug(True)  # refuses calls from a wrong thread
    feed = feed_of(0)
    waiting = asyncio.create_task(feed.follow().__anext__())
    await proven_blocked(waiting)
    thread = threading.Thread(target=feed.append, args=("news",))
    thread.start()
    async with asyncio.timeout(PATIENCE):
        assert await waiting == (1, "news")
    await asyncio.to_thread(thread.join)


async def test_a_reader_with_much_to_read_lets_others_run() -> None:
    feed = feed_of(1000, keep=1000)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    feed.close()
    found = await rest(feed.follow())
    task.cancel()
    await asyncio.wait([task])
    assert len(found) == 1000
    assert turns > 1


def test_a_feed_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Feed(0)
