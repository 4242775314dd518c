"""Leases: who still works on a run, by the store's clock, and which runs nobody works on."""

from __future__ import annotations

import pytest

from gateway.errors import Fenced
from gateway.log.engine import LEASE_SECONDS, Engine, Fence, Orphan, SessionStatus, Write
from tests.support.logs import FIRST, NEW, SECOND, SetClock, add, make

LEASE = round(LEASE_SECONDS * 1000)


async def claim(engine: Engine, session_id: str = "s", fence: Fence = FIRST) -> None:
    await engine.append(Write(session_id, (), create=NEW, claim=fence, status="running"))


async def test_a_claim_holds_for_one_lease_and_then_its_run_is_an_orphan(
    engine: Engine, clock: SetClock
) -> None:
    await claim(engine)
    clock.now += LEASE - 1
    assert list(await engine.orphans()) == []
    clock.now += 1
    assert list(await engine.orphans()) == [Orphan("s", FIRST, "lease_expired")]


async def test_a_heartbeat_renews_a_claim_from_now_on(engine: Engine, clock: SetClock) -> None:
    await claim(engine)
    clock.now += LEASE - 1
    assert await engine.heartbeat({"s": FIRST}) == {"s"}
    clock.now += LEASE - 1
    assert list(await engine.orphans()) == []
    clock.now += 1
    assert len(await engine.orphans()) == 1


@pytest.mark.fault("F3", holds=("I12",))
async def test_after_a_pause_longer_than_the_lease_a_heartbeat_still_has_what_nobody_took(
    engine: Engine, clock: SetClock
) -> None:
    await claim(engine)
    clock.now += 10 * LEASE
    assert await engine.heartbeat({"s": FIRST}) == {"s"}
    assert list(await engine.orphans()) == []


@pytest.mark.fault("F3", "F4", holds=("I5",))
async def test_who_was_taken_over_gets_neither_a_heartbeat_nor_an_append(
    engine: Engine, clock: SetClock
) -> None:
    await claim(engine)
    clock.now += LEASE
    (orphan,) = await engine.orphans()
    await engine.append(Write("s", [b"taken"], fence=orphan.claim, claim=SECOND))
    assert await engine.heartbeat({"s": FIRST}) == set()
    clock.now += LEASE - 1
    assert list(await engine.orphans()) == [], "what was refused renews nothing"
    clock.now += 1
    assert list(await engine.orphans()) == [Orphan("s", SECOND, "lease_expired")]
    with pytest.raises(Fenced):
        await engine.append(Write("s", [b"zombie"], fence=FIRST))
    assert (await engine.head("s")).tail.seq == 1


@pytest.mark.fault("F4", holds=("I5",))
@pytest.mark.parametrize(
    "old",
    [Fence("run_1", 1, "n0"), Fence("run_1", 2, "n1"), Fence("run_2", 1, "n1")],
    ids=["nonce", "attempt", "run"],
)
async def test_a_claim_is_its_run_its_attempt_and_its_nonce(engine: Engine, old: Fence) -> None:
    """The same worker that claims its own run again is another one: the old nonce is worth nothing."""
    await claim(engine)
    assert await engine.heartbeat({"s": old}) == set()
    with pytest.raises(Fenced):
        await engine.append(Write("s", [b"x"], fence=old))


async def test_a_heartbeat_answers_for_each_session_by_itself(
    engine: Engine, clock: SetClock
) -> None:
    for name in "abc":
        await claim(engine, name)
    await engine.append(Write("b", (), fence=FIRST, claim=SECOND))
    await engine.delete("c")
    claims = dict.fromkeys(["a", "b", "c", "nobody"], FIRST)
    clock.now += LEASE
    assert await engine.heartbeat(claims) == {"a"}
    assert list(await engine.orphans()) == [Orphan("b", SECOND, "lease_expired")]
    assert await engine.heartbeat({}) == set()


async def test_a_heartbeat_with_no_lease_lets_others_take_over_at_once(engine: Engine) -> None:
    await claim(engine)
    assert await engine.heartbeat({"s": FIRST}, lease=0) == {"s"}
    assert list(await engine.orphans()) == [Orphan("s", FIRST, "lease_expired")]


async def test_a_run_that_was_released_is_an_orphan_at_once_until_it_is_claimed(
    engine: Engine,
) -> None:
    await claim(engine)
    await engine.append(Write("s", [b"released"], fence=FIRST, release=True))
    assert list(await engine.orphans()) == [Orphan("s", None, "handed_over")]
    await engine.append(Write("s", [b"taken"], claim=SECOND))
    assert list(await engine.orphans()) == []


@pytest.mark.parametrize("status", ["idle", "interrupted", "closed"])
async def test_a_session_whose_run_is_not_at_work_has_no_orphan(
    engine: Engine, clock: SetClock, status: SessionStatus
) -> None:
    await claim(engine)
    await engine.append(Write("s", (), fence=FIRST, release=True, status=status))
    clock.now += LEASE
    assert list(await engine.orphans()) == []


async def test_orphans_come_longest_waiting_first_whatever_made_them_so(
    engine: Engine, clock: SetClock
) -> None:
    for name in "dacbe":
        await claim(engine, name)
    await engine.append(Write("e", (), fence=FIRST, release=True))
    await engine.append(Write("b", (), fence=FIRST, release=True, status="idle"))
    clock.now += LEASE
    await engine.heartbeat({"d": FIRST}, lease=0.001)
    clock.now += 1
    await engine.append(Write("a", (), fence=FIRST, release=True))
    await engine.append(Write("e", [b"said"]))
    clock.now += 1
    await engine.append(Write("b", (), status="running"))
    assert [orphan.session_id for orphan in await engine.orphans()] == ["e", "c", "d", "a", "b"]
    await engine.append(Write("e", (), status="running"))
    assert [orphan.session_id for orphan in await engine.orphans()] == ["c", "d", "a", "b", "e"]


async def test_an_append_of_the_run_does_not_stand_for_a_heartbeat(
    engine: Engine, clock: SetClock
) -> None:
    await claim(engine)
    clock.now += LEASE
    await engine.append(Write("s", [b"1"], fence=FIRST))
    await add(engine, b"2")
    assert len(await engine.orphans()) == 1


async def test_a_run_that_was_deleted_has_no_orphan(engine: Engine, clock: SetClock) -> None:
    await make(engine, "kept")
    await claim(engine)
    await engine.delete("s")
    clock.now += LEASE
    assert list(await engine.orphans()) == []
