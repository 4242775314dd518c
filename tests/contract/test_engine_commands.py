"""`append`: creating, remembered answers, claims and fences."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.errors import CommandConflict, Fenced, SessionConflict
from gateway.log.engine import Engine, Fence, Write
from tests.support.logs import FIRST, NEW, SECOND, add, answer, bodies, kept, make, tail


async def test_a_session_is_created_with_all_parts_of_the_write(engine: Engine) -> None:
    made = await engine.append(
        Write(
            "s",
            [b"1"],
            create=NEW,
            claim=FIRST,
            answer=answer(),
            status="running",
            title="Weather",
        )
    )
    record = await engine.session("s")
    assert (record.session_id, record.agent, record.metadata) == ("s", "echo", {"team": "blue"})
    assert (record.digest, record.created_at) == ("d1", 1_700_000_000_000)
    assert (record.claim, record.status, record.title) == (FIRST, "running", "Weather")
    assert made.answer == replace(answer(), position=made.entries[0].position)


async def test_a_new_session_is_idle_untitled_and_unclaimed(engine: Engine) -> None:
    await make(engine)
    record = await engine.session("s")
    assert (record.status, record.title, record.claim) == ("idle", None, None)


async def test_creating_again_with_the_same_body_is_a_repetition(engine: Engine) -> None:
    made = await make(engine, "s", b"1")
    again = await engine.append(Write("s", [b"1"], create=NEW, claim=FIRST, title="b"))
    assert again.repeated
    assert (again.entries, again.tail) == ((), made.tail)
    record = await engine.session("s")
    assert (record.claim, record.title) == (None, None)
    assert bodies(await kept(engine)) == [b"1"]


async def test_creating_again_gives_the_answer_that_was_given_first(engine: Engine) -> None:
    write = Write("s", [b"1"], create=NEW, answer=answer())
    made = await engine.append(write)
    again = await engine.append(write)
    assert again.repeated
    assert again.answer == made.answer is not None


async def test_creating_again_with_another_body_is_a_conflict(engine: Engine) -> None:
    await make(engine, "s", b"1")
    with pytest.raises(SessionConflict):
        await engine.append(Write("s", [b"2"], create=replace(NEW, digest="d2")))
    assert bodies(await kept(engine)) == [b"1"]


async def test_of_many_that_create_one_session_at_once_one_does(engine: Engine) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(make(engine, "s", b"%d" % n)) for n in range(20)]
    results = [task.result() for task in made]
    assert [result.repeated for result in results].count(False) == 1
    assert len(await kept(engine)) == 1


@pytest.mark.rule("command.once")
async def test_a_command_has_one_effect_and_gets_its_first_answer_again(engine: Engine) -> None:
    await make(engine, "s", b"0")
    first = await engine.append(Write("s", [b"1", b"2"], answer=answer()))
    await add(engine, b"3")
    other_run = replace(answer(), run_id="run_2")
    again = await engine.append(Write("s", [b"1", b"2"], answer=other_run, title="b"))
    assert first.answer == replace(answer(), position=first.entries[0].position)
    assert (again.repeated, again.entries, again.answer) == (True, (), first.answer)
    assert again.tail == await tail(engine)
    assert (await engine.session("s")).title is None
    assert bodies(await kept(engine)) == [b"0", b"1", b"2", b"3"]
    assert await engine.answer("s", "c1") == first.answer


async def test_a_command_that_appended_nothing_took_effect_at_the_tail(engine: Engine) -> None:
    made = await make(engine, "s", b"1")
    nothing = await engine.append(Write("s", (), answer=answer()))
    assert nothing.answer == replace(answer(), position=made.tail)
    await add(engine, b"2")
    assert await engine.answer("s", "c1") == nothing.answer


async def test_a_command_without_a_run_is_remembered_as_such(engine: Engine) -> None:
    await make(engine)
    await engine.append(Write("s", [b"1"], answer=replace(answer(), run_id=None)))
    remembered = await engine.answer("s", "c1")
    assert remembered is not None
    assert remembered.run_id is None


@pytest.mark.rule("command.once")
async def test_a_command_of_another_body_is_a_conflict_and_writes_nothing(engine: Engine) -> None:
    await make(engine)
    first = await engine.append(Write("s", [b"1"], answer=answer()))
    with pytest.raises(CommandConflict):
        await engine.append(Write("s", [b"2"], answer=answer(digest="b2"), title="b"))
    assert bodies(await kept(engine)) == [b"1"]
    assert await engine.answer("s", "c1") == first.answer
    assert (await engine.session("s")).title is None


async def test_commands_are_told_apart_by_session(engine: Engine) -> None:
    await make(engine, "a")
    await make(engine, "b")
    await engine.append(Write("a", [b"1"], answer=answer()))
    other = await engine.append(Write("b", [b"1"], answer=answer(digest="b2")))
    assert not other.repeated
    assert await engine.answer("b", "c1") == other.answer
    assert await engine.answer("b", "c2") is None
    assert await engine.answer("nobody", "c1") is None


async def test_of_many_retries_at_once_one_takes_effect(engine: Engine) -> None:
    await make(engine)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tries = [
            tasks.create_task(engine.append(Write("s", [b"%d" % n], answer=answer())))
            for n in range(20)
        ]
    results = [task.result() for task in tries]
    assert [result.repeated for result in results].count(False) == 1
    assert len({result.answer for result in results}) == 1
    assert len(await kept(engine)) == 1


async def test_a_repeated_command_is_answered_even_if_its_run_has_another_owner(
    engine: Engine,
) -> None:
    await engine.append(Write("s", (), create=NEW, claim=FIRST))
    first = await engine.append(Write("s", [b"1"], fence=FIRST, answer=answer()))
    await engine.append(Write("s", (), fence=FIRST, claim=SECOND))
    again = await engine.append(Write("s", [b"1"], fence=FIRST, answer=answer()))
    assert again.repeated
    assert again.answer == first.answer


async def test_only_the_current_claim_may_write_behind_a_fence(engine: Engine) -> None:
    await engine.append(Write("s", (), create=NEW, claim=FIRST))
    await engine.append(Write("s", [b"1"], fence=FIRST))
    for other in (SECOND, Fence("run_1", 1, "n2"), Fence("run_1", 2, "n1"), Fence("r", 1, "n1")):
        with pytest.raises(Fenced):
            await engine.append(Write("s", [b"2"], fence=other))
    await engine.append(Write("s", [b"2"], fence=FIRST))
    assert bodies(await kept(engine)) == [b"1", b"2"]


async def test_a_fence_without_any_claim_refuses(engine: Engine) -> None:
    await make(engine)
    with pytest.raises(Fenced):
        await engine.append(Write("s", [b"1"], fence=FIRST))
    with pytest.raises(Fenced):
        await engine.append(Write("s", [b"1"], fence=FIRST, claim=SECOND))
    assert (await engine.session("s")).claim is None


async def test_a_write_without_a_fence_is_not_fenced(engine: Engine) -> None:
    await engine.append(Write("s", (), create=NEW, claim=FIRST))
    await add(engine, b"1")
    assert bodies(await kept(engine)) == [b"1"]
    assert (await engine.session("s")).claim == FIRST


async def test_a_claim_can_be_taken_over_only_by_who_names_it(engine: Engine) -> None:
    await engine.append(Write("s", (), create=NEW))
    await engine.append(Write("s", (), claim=FIRST))
    for write in (
        Write("s", [b"x"], claim=SECOND),
        Write("s", [b"x"], claim=FIRST),
        Write("s", [b"x"], fence=SECOND, claim=SECOND),
    ):
        with pytest.raises(Fenced):
            await engine.append(write)
        assert (await engine.session("s")).claim == FIRST
    await engine.append(Write("s", [b"1"], fence=FIRST, claim=SECOND))
    assert (await engine.session("s")).claim == SECOND
    with pytest.raises(Fenced):
        await engine.append(Write("s", [b"x"], fence=FIRST))
    assert bodies(await kept(engine)) == [b"1"]


async def test_a_released_claim_is_gone_and_another_may_follow(engine: Engine) -> None:
    await engine.append(Write("s", (), create=NEW, claim=FIRST))
    await engine.append(Write("s", [b"1"], fence=FIRST, release=True))
    assert (await engine.session("s")).claim is None
    with pytest.raises(Fenced):
        await engine.append(Write("s", [b"x"], fence=FIRST))
    await engine.append(Write("s", (), claim=SECOND))
    assert (await engine.session("s")).claim == SECOND


async def test_a_claim_can_be_handed_over_in_one_write(engine: Engine) -> None:
    await engine.append(Write("s", (), create=NEW, claim=FIRST))
    await engine.append(Write("s", (), fence=FIRST, release=True, claim=SECOND))
    assert (await engine.session("s")).claim == SECOND


async def test_of_many_that_claim_at_once_one_does(engine: Engine) -> None:
    await make(engine)

    async def claim(n: int) -> bool:
        try:
            await engine.append(Write("s", [b"%d" % n], claim=Fence("run_1", n, f"n{n}")))
        except Fenced:
            return False
        return True

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        claims = [tasks.create_task(claim(n)) for n in range(20)]
    winners = [n for n, task in enumerate(claims) if task.result()]
    assert len(winners) == 1
    assert (await engine.session("s")).claim == Fence("run_1", winners[0], f"n{winners[0]}")
    assert bodies(await kept(engine)) == [b"%d" % winners[0]]


async def test_status_and_title_stay_until_they_are_given_anew(engine: Engine) -> None:
    await make(engine)
    await engine.append(Write("s", (), status="running", title="a"))
    await add(engine, b"1")
    record = await engine.session("s")
    assert (record.status, record.title) == ("running", "a")
    await engine.append(Write("s", (), title=""))
    record = await engine.session("s")
    assert (record.status, record.title) == ("running", "")
