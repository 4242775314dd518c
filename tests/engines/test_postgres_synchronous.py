"""Appends that wait for a standby: whatever happens to their callers, nobody sees what it does not have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from gateway.errors import EngineUnavailable
from gateway.log.engine import Write
from tests.engines.postgres import LIMIT, Store, store, until
from tests.support.logs import NEW
from tests.support.postgres import empty_database, shared
from tests.support.waiting import proven_blocked


@asynccontextmanager
async def without_its_standby(opened: Store) -> AsyncIterator[None]:
    """Let commits wait for a standby that is not there, for the length of a block."""
    cluster = shared()
    probe: asyncpg.Connection = await asyncpg.connect(opened.connections.url)
    asked: list[asyncio.Task[str]] = []
    cluster.configure(synchronous_standby_names="absent")
    try:

        async def waits() -> bool:
            if not asked or asked[-1].done():
                asked.append(
                    asyncio.create_task(probe.execute("SELECT settle_writes(1, '{}', '{}', '{}')"))
                )
            event = "SELECT wait_event FROM pg_stat_activity WHERE pid = $1"
            found = await opened.look.fetchval(event, probe.get_server_pid())
            return bool(found == "SyncRep")

        await until(waits)
        yield
    finally:
        cluster.configure(synchronous_standby_names="")
        await asyncio.wait(asked, timeout=LIMIT)
        await probe.close()


@asynccontextmanager
async def waiting(*, patience: float = LIMIT) -> AsyncIterator[tuple[Store, asyncio.Task[object]]]:
    """Give a store in which an append waits for its standby, which is absent until the block ends."""
    async with store(await empty_database(), patience=patience) as opened:
        await opened.append(Write("s", [b"0"], create=NEW))
        async with without_its_standby(opened):
            (appending,) = opened.begin(Write("s", [b"1"]))
            await until(lambda: opened.waiting_for("SyncRep"))
            yield opened, appending
        await until(lambda: _is_written(opened))


async def _is_written(opened: Store) -> bool:
    return await opened.bodies() == [b"0", b"1"]


async def still_waits(opened: Store) -> None:
    """Fail unless the server still waits, and readers do not see what it has not got."""
    await asyncio.sleep(0.1)  # time in which a request to cancel would arrive
    assert await opened.waiting_for("SyncRep")
    assert await opened.bodies() == [b"0"]
    assert len(opened.committed) == 1


@pytest.mark.fault("F14", holds=("I1", "I2"))
async def test_an_append_waits_for_its_standby_without_end_and_is_done_when_that_is_back() -> None:
    async with waiting(patience=0.2) as (opened, appending):
        with pytest.raises(EngineUnavailable):
            await opened.appender.append(Write("s", [b"behind it"]))
        assert await opened.connections.read(lambda db: db.fetchval("SELECT 1")) == 1
        await still_waits(opened)
        assert not appending.done()
    await asyncio.wait([appending], timeout=LIMIT)
    assert [len(done.appended.entries) for done in opened.committed] == [1, 1]


@pytest.mark.fault("F14", holds=("I2",))
async def test_a_caller_that_goes_away_does_not_make_visible_what_no_standby_has() -> None:
    async with waiting() as (opened, appending):
        appending.cancel()
        await asyncio.wait([appending])
        await still_waits(opened)
    await until(lambda: len(opened.committed) == 2)


@pytest.mark.fault("F14", holds=("I2",))
async def test_closing_does_not_make_visible_what_no_standby_has() -> None:
    async with waiting(patience=0.2) as (opened, appending):
        async with asyncio.timeout(LIMIT):
            await opened.appender.aclose()
        assert isinstance(appending.exception(), EngineUnavailable)
        await still_waits(opened)


@pytest.mark.fault("F14", holds=("I2",))
async def test_an_event_loop_that_is_shut_down_does_not_make_visible_what_no_standby_has() -> None:
    async with store(await empty_database()) as opened:
        await opened.append(Write("s", [b"0"], create=NEW))

        async def ends_in_the_middle() -> None:
            async with store(opened.connections.url) as other:
                other.begin(Write("s", [b"1"]))
                await until(lambda: other.waiting_for("SyncRep"))
                rest = asyncio.all_tasks() - {asyncio.current_task()}
                for task in rest:  # as `asyncio.run` does
                    task.cancel()
                await asyncio.wait(rest, timeout=LIMIT)
                assert all(task.done() for task in rest)

        async with without_its_standby(opened):
            await asyncio.to_thread(asyncio.run, ends_in_the_middle())
            await still_waits(opened)
        await until(lambda: _is_written(opened))


@pytest.mark.fault("F14", holds=("I1",))
async def test_a_commit_that_an_administrator_cuts_short_is_told_only_when_the_standby_has_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with waiting() as (opened, appending):
        seen: set[int] = set()

        async def another_waits() -> bool:
            return bool(set(await opened.waiting_for("SyncRep")) - seen)

        with caplog.at_level(logging.WARNING):
            for _ in range(2):  # the append's own commit, then that of who asks what became of it
                seen |= set(await opened.waiting_for("SyncRep"))
                for pid in seen:
                    await opened.look.execute("SELECT pg_cancel_backend($1)", pid)
                await until(another_waits)
        assert await _is_written(opened)
        await proven_blocked(appending)
        assert len(opened.committed) == 1
        assert "a commit did not wait for its standby" in caplog.text
    await asyncio.wait([appending], timeout=LIMIT)
    assert len(opened.committed) == 2
