"""Questions that are answered for many at once: nobody gets an answer that is older than the question."""

from __future__ import annotations

import asyncio

from gateway.engines.postgres.asking import Asking
from tests.support.waiting import proven_blocked


async def test_who_asks_before_it_is_found_out_shares_the_answer_and_who_asks_later_does_not() -> (
    None
):
    asking = Asking[int](30)
    early = [asyncio.create_task(asking.ask("a")) for _ in range(3)]
    await proven_blocked(*early)
    assert [*asking] == ["a"]
    asking.take("a")
    assert not asking
    late = asyncio.create_task(asking.ask("a"))
    await proven_blocked(late)
    asking.answer("a", 1)
    assert [await one for one in early] == [1, 1, 1]
    await proven_blocked(late)
    asking.take("a")
    asking.answer("a", 2)
    assert await late == 2


async def test_what_could_not_be_found_out_is_asked_still() -> None:
    asking = Asking[int](30)
    first = asyncio.create_task(asking.ask("a"))
    await proven_blocked(first)
    asking.take("a")
    second = asyncio.create_task(asking.ask("a"))
    await proven_blocked(first, second)
    asking.put_back("a")
    asking.answer("a", 1)
    await proven_blocked(first, second)
    asking.take("a")
    asking.answer("a", 2)
    assert [await first, await second] == [2, 2]


async def test_giving_up_answers_everybody_and_time_runs_out_for_one_alone() -> None:
    asking = Asking[int](30)
    taken, asked = (asyncio.create_task(asking.ask(name)) for name in "ab")
    await proven_blocked(taken, asked)
    asking.take("a")
    asking.give_up()
    assert [await taken, await asked] == [None, None]
    assert await Asking[int](0.01).ask("a") is None


async def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    asking = Asking[int](30)
    leaving, staying = (asyncio.create_task(asking.ask("a")) for _ in range(2))
    await proven_blocked(leaving, staying)
    leaving.cancel()
    await asyncio.wait([leaving])
    asking.take("a")
    asking.answer("a", 1)
    assert await staying == 1
