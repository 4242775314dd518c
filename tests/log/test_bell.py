"""The bell: who waits is woken, who leaves is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from gateway.log import bell as module
from gateway.log.bell import Bell
from tests.support.waiting import proven_blocked


async def test_a_ring_wakes_those_who_wait_for_that_session_only() -> None:
    bell = Bell()
    mine = [asyncio.create_task(bell.wait("a")) for _ in range(3)]
    other = asyncio.create_task(bell.wait("b"))
    await proven_blocked(*mine, other)
    bell.ring("a")
    done, _ = await asyncio.wait(mine, timeout=2)
    assert len(done) == 3
    await proven_blocked(other)
    bell.ring_all()
    async with asyncio.timeout(2):
        await other


async def test_the_bell_knows_for_whom_somebody_waits() -> None:
    bell = Bell()
    awaited = bell.awaited()
    assert "a" not in awaited
    rings = [bell.listen(name) for name in "aab"]
    assert set(awaited) == {"a", "b"}
    bell.leave("a", rings[0])
    bell.ring("b")
    assert set(awaited) == {"a"}
    bell.leave("a", rings[1])
    assert not awaited


async def test_a_ring_before_the_wait_is_not_kept() -> None:
    bell = Bell()
    bell.ring("a")
    waiting = asyncio.create_task(bell.wait("a"))
    await proven_blocked(waiting)
    waiting.cancel()


async def test_a_ring_while_listening_is_heard_later() -> None:
    bell = Bell()
    ring = bell.listen("a")
    bell.ring("a")
    async with asyncio.timeout(2):
        await ring
    bell.leave("a", ring)
    assert not bell._waiters


async def test_cancelled_waiters_leave_nothing_behind_not_even_the_ticker() -> None:
    bell = Bell()
    waiting = [asyncio.create_task(bell.wait(name)) for name in "aab"]
    await proven_blocked(*waiting)
    assert bell._ticker is not None
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
    assert not bell._waiters
    assert bell._ticker is None


async def test_a_waiter_cancelled_in_the_turn_of_the_ring_disturbs_nobody() -> None:
    bell = Bell()
    waiting = [asyncio.create_task(bell.wait("a")) for _ in range(3)]
    await proven_blocked(*waiting)
    waiting[0].cancel()
    bell.ring("a")
    waiting[1].cancel()
    await asyncio.wait(waiting, timeout=2)
    assert [task.cancelled() for task in waiting] == [True, True, False]
    assert not bell._waiters


async def test_who_waits_is_woken_in_any_case_by_one_ticker_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAIT_LIMIT", 0.1)
    bell = Bell()
    waiting = [asyncio.create_task(bell.wait(str(n % 7))) for n in range(50)]
    await proven_blocked(*waiting)
    ticker = bell._ticker
    assert ticker is not None
    done, _ = await asyncio.wait(waiting, timeout=5)
    assert len(done) == 50
    assert bell._ticker is None
    assert not bell._waiters


async def test_waking_a_reader_takes_one_step_of_the_loop_and_neither_a_task_nor_a_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bell = Bell()
    loop = asyncio.get_running_loop()
    counted: Counter[str] = Counter()

    def counting(name: str) -> None:
        plain = getattr(loop, name)

        def count(*args: Any, **options: Any) -> Any:
            counted[name] += 1
            return plain(*args, **options)

        monkeypatch.setattr(loop, name, count)

    async def reader() -> None:
        for _ in range(10):
            await bell.wait("a")

    readers = [asyncio.create_task(reader()) for _ in range(1000)]
    await proven_blocked(*readers)
    for name in ("call_soon", "call_at", "call_later", "create_task"):
        counting(name)
    for _ in range(10):
        bell.ring("a")
        # The readers are woken in one turn of the loop, and listen again in the same turn.
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn
    monkeypatch.undo()
    await asyncio.wait(readers, timeout=5)
    # Two more for each turn of the test itself: to end the turn, and to go on after it.
    assert counted == {"call_soon": 10 * (1000 + 2)}
