"""The Postgres engine's leases: by the database's clock, behind nobody, and to one process each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from gateway.engines.postgres import leases
from gateway.log.engine import Fence, Orphan, Write
from tests.engines.postgres import LIMIT, Store, store, until
from tests.support.logs import FIRST, NEW, SECOND
from tests.support.postgres import empty_database, shared
from tests.support.waiting import proven_blocked


@pytest.fixture
async def opened() -> AsyncIterator[Store]:
    async with store(await empty_database()) as opened:
        yield opened


async def claimed(opened: Store, *names: str) -> None:
    for name in names:
        await opened.append(Write(name, (), create=NEW, claim=FIRST, status="running"))


async def expire(opened: Store) -> None:
    """Let all leases be over, oldest claim first."""
    await opened.look.execute("UPDATE session SET claim_until = number")


@pytest.mark.fault("F18", holds=("I12",))
async def test_heartbeats_go_on_while_all_connections_for_reading_are_busy(opened: Store) -> None:
    await claimed(opened, "s")
    private = opened.connections.private("heartbeat")
    async with AsyncExitStack() as busy:
        for _ in range(8):
            await busy.enter_async_context(opened.connections.reading())
        async with asyncio.timeout(LIMIT), private.using() as db:
            assert await leases.heartbeat(db, {"s": FIRST}, None, 20) == {"s"}


@pytest.mark.fault("F18", holds=("I12",))
async def test_the_first_heartbeat_of_a_connection_asks_the_server_for_nothing_else(
    opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await claimed(opened, "s")
    asked: list[object] = []

    async def noted(*types: object) -> None:
        asked.append(types)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", noted)
    async with opened.connections.private("heartbeat").using() as db:
        assert await leases.heartbeat(db, {"s": FIRST}, None, 20) == {"s"}
    assert not asked


@pytest.mark.fault("F19", holds=("I12",))
async def test_a_lease_is_given_renewed_and_over_by_the_clock_of_the_database(
    opened: Store,
) -> None:
    await claimed(opened, "s")
    left = (
        "SELECT claim_until - extract(epoch FROM clock_timestamp()) * 1000 FROM session"
        " WHERE session_id = 's'"
    )
    assert 0 < await opened.look.fetchval(left) < 21_000
    assert await leases.heartbeat(opened.look, {"s": FIRST}, None, 100) == {"s"}
    assert 21_000 < await opened.look.fetchval(left) < 101_000
    assert await leases.orphans(opened.look, None, None, 0) == []
    assert await leases.heartbeat(opened.look, {"s": FIRST}, None, 0) == {"s"}

    async def is_orphaned() -> bool:
        found = await leases.orphans(opened.look, None, None, 0)
        return found == [Orphan("s", FIRST, "lease_expired")]

    await until(is_orphaned)


async def test_a_heartbeat_answers_for_many_claims_at_once(opened: Store) -> None:
    await claimed(opened, "a", "b", "c")
    await opened.append(Write("b", (), fence=FIRST, claim=SECOND))
    asked = dict.fromkeys(["c", "b", "a", "nobody"], FIRST)
    assert await leases.heartbeat(opened.look, asked, None, 20) == {"a", "c"}
    other = {"a": Fence("run_2", 1, "n1"), "c": Fence("run_1", 2, "n1")}
    assert await leases.heartbeat(opened.look, other, None, 20) == set()
    assert await leases.heartbeat(opened.look, {}, None, 20) == set()


async def test_who_waits_longest_comes_first(opened: Store) -> None:
    await claimed(opened, "a", "b", "c")
    await expire(opened)
    await opened.append(Write("a", (), fence=FIRST, release=True))
    found = await leases.orphans(opened.look, None, None, 0)
    assert found == [
        Orphan("b", FIRST, "lease_expired"),
        Orphan("c", FIRST, "lease_expired"),
        Orphan("a", None, "handed_over"),
    ]
    assert await leases.orphans(opened.look, None, 2, 0) == found[:2]


async def test_no_two_processes_are_given_the_same_run_to_take_over(opened: Store) -> None:
    names = {f"s{n}" for n in range(40)}
    await claimed(opened, *names)
    await expire(opened)
    given: list[str] = []

    async def take() -> None:
        db: asyncpg.Connection = await asyncpg.connect(opened.connections.url)
        while len(given) < len(names):
            found = await leases.orphans(db, None, 3, 3600)
            given.extend(orphan.session_id for orphan in found)
        await db.close()

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(take())
    assert sorted(given) == sorted(names)
    assert await leases.orphans(opened.look, None, 99, 3600) == []
    assert len(await leases.orphans(opened.look, None, 99, 0)) == len(names)


async def test_a_run_that_is_being_taken_over_holds_nobody_up_who_looks_for_one(
    opened: Store,
) -> None:
    await claimed(opened, "a", "b")
    await expire(opened)
    async with opened.held("a"), asyncio.timeout(LIMIT):
        found = await leases.orphans(opened.look, None, 1, 3600)
        assert [orphan.session_id for orphan in found] == ["b"]


async def test_a_reservation_is_over_when_the_run_is_claimed_released_or_its_time_is_up(
    opened: Store,
) -> None:
    await claimed(opened, "a", "b", "c")
    await expire(opened)
    assert len(await leases.orphans(opened.look, None, 3, 3600)) == 3
    await opened.append(Write("a", (), fence=FIRST, release=True))
    await opened.append(Write("b", (), fence=FIRST, claim=SECOND))
    await opened.look.execute("UPDATE session SET claim_until = 0 WHERE session_id = 'b'")
    await opened.append(Write("c", [b"1"], fence=FIRST))
    found = await leases.orphans(opened.look, None, 3, 3600)
    assert {orphan.session_id for orphan in found} == {"a", "b"}
    later = 1_000 * await opened.look.fetchval("SELECT extract(epoch FROM now())::bigint + 7200")
    assert len(await leases.orphans(opened.look, later, 3, 3600)) == 3


async def test_heartbeats_and_appends_to_the_same_sessions_do_not_wait_in_a_circle() -> None:
    names = [f"s{n}" for n in range(9)]
    async with store(await empty_database(), writers=1) as opened:
        await claimed(opened, "gate", *names)
        beating: asyncpg.Connection = await asyncpg.connect(opened.connections.url)
        async with opened.held("s4"):  # so that each has locked all that it can before it
            async with opened.held("gate"):
                appends = opened.begin(Write("gate", [b"1"]))
                await until(lambda: opened.waiting_for("transactionid"))
                appends += opened.begin(*(Write(name, [b"1"], fence=FIRST) for name in names))
                await proven_blocked(*appends)
            await until(appends[0].done)
            await until(lambda: opened.waiting_for("transactionid"))
            claims = dict.fromkeys(reversed(names), FIRST)
            beat = asyncio.create_task(leases.heartbeat(beating, claims, None, 20))
            event = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
            await until(lambda: opened.look.fetchval(event, beating.get_server_pid()))
        async with asyncio.timeout(LIMIT):
            assert await beat == set(names)
            await asyncio.wait(appends)
        await beating.close()
    assert "deadlock detected" not in shared().log.read_text(errors="replace")


async def test_who_has_controllers_is_said_for_judged_sessions_and_seen_by_the_others(
    opened: Store,
) -> None:
    db = opened.look
    await opened.append(Write("s", (), create=NEW, judged=True))
    await opened.append(Write("t", (), create=NEW))
    await leases.attend(db, ["s", "t", "nobody"], "here", 20, None)
    assert await leases.alone(db, "s", "there", None) == 0
    assert await leases.alone(db, "s", "here", None) is None
    assert await leases.alone(db, "t", "there", None) is None
    await leases.attend(db, ["s"], "here", 0, None)
    gone = await leases.alone(db, "s", "there", None)
    assert gone is not None

    async def is_longer_ago() -> bool:
        since = await leases.alone(db, "s", "there", None)
        return since is not None and since > gone

    await until(is_longer_ago)
    await leases.attend(db, ["s"], "elsewhere", 20, None)
    assert await leases.alone(db, "s", "there", None) == 0
