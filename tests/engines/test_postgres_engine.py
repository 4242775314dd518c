"""What only the Postgres engine can show: many engines on one database, and what its statements cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import asyncpg
import pytest

from gateway.engines.postgres import clients, pruning, reads, snapshots
from gateway.engines.postgres.engine import PostgresEngine
from gateway.engines.postgres.lookups import Lookups
from gateway.engines.postgres.rows import Found, Pooled
from gateway.engines.session_row import SessionRow
from gateway.errors import SessionGone, SessionUnknown
from gateway.log.engine import Engine, StoredSnapshot
from gateway.log.page import PAGE_BYTES
from gateway.log.position import Position
from gateway.log.upkeep import Lifetimes
from tests.support.logs import add, bodies, kept, make
from tests.support.postgres import empty_database, shared
from tests.support.waiting import proven_blocked

LIMIT = 30.0
SOON = 2.0
"""Seconds; below the limit after which waiters look again by themselves."""

AT_ONCE = Lifetimes(answers=0, clients=0, tombstones=10**12)


@pytest.fixture
async def url() -> str:
    return await empty_database()


@asynccontextmanager
async def nodes(url: str, number: int = 2) -> AsyncIterator[list[PostgresEngine]]:
    engines = [await PostgresEngine.open(url) for _ in range(number)]
    try:
        yield engines
    finally:
        for engine in engines:
            await engine.aclose()


@pytest.fixture
async def here(url: str) -> AsyncIterator[PostgresEngine]:
    async with nodes(url, 1) as (engine,):
        yield engine


def count(table: str) -> int:
    return int(shared().psql(f"SELECT count(*) FROM {table};", "tests"))  # noqa: S608 - fixed names


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Note what is asked on connections of the pool."""
    asked: list[str] = []
    fetch: Any = asyncpg.Connection.fetch

    async def noted(db: object, query: str, *args: object, **rest: object) -> object:
        asked.append(query)
        return await fetch(db, query, *args, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(asyncpg.Connection, "fetch", noted)
        yield asked


async def until_read(engine: Engine, after: Position, number: int) -> list[bytes]:
    """Read as a follower does, until there are so many entries."""
    found: list[bytes] = []
    async with asyncio.timeout(LIMIT):
        while len(found) < number:
            page = await engine.read("s", after, limit=100)
            found += bodies(page)
            if page:
                after = page[-1].position
            else:
                await engine.wait("s", after)
    return found


# --- several on one database ---------------------------------------------------------------------


async def test_what_one_node_writes_another_reads_and_is_woken_for(url: str) -> None:
    async with nodes(url) as (here, there):
        begin = (await make(here, "s")).tail
        reading = asyncio.create_task(until_read(there, begin, 20))
        for number in range(10):
            await add(here, b"here %d" % number)
            await add(there, b"there %d" % number)
        found = await reading
        assert [said for said in found if said.startswith(b"here")] == [
            b"here %d" % number for number in range(10)
        ]
        assert found == bodies(await kept(here)) == bodies(await kept(there))


async def test_a_reader_on_another_node_learns_that_its_session_was_deleted_or_forgotten(
    url: str,
) -> None:
    async with nodes(url) as (here, there):
        for drop in ("delete", "forget"):
            made = await make(here, drop, b"1")
            waiting = asyncio.create_task(there.wait(drop, made.tail))
            while not waiting.done():
                if drop == "delete":
                    await here.delete(drop)
                else:
                    await here.forget(age_ms=0, limit=9)
                await asyncio.wait([waiting], timeout=SOON)
            with pytest.raises(SessionGone):
                await there.read(drop, made.tail, limit=1)


async def test_nodes_that_sweep_at_once_share_the_work_and_lose_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PIECE_ROWS", 7)
    async with nodes(url, 3) as engines:
        names = [f"s{number}" for number in range(8)]
        for name in names:
            await make(engines[0], name, *[b"%d" % number for number in range(40)])
        await make(engines[0], "used", b"1")

        async def sweep(engine: Engine) -> list[str]:
            for found in await engine.excess(events=10, age_ms=0, after=None, limit=100):
                with suppress(SessionGone):  # another node was faster
                    await engine.trim(found.session_id, found.through, b"state")
            gone = list(await engine.forget(age_ms=0, limit=3))
            while await engine.prune(AT_ONCE):
                continue
            return gone

        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            sweeps = [tasks.create_task(sweep(engine)) for engine in engines]
        gone = [name for done in sweeps for name in done.result()]
        assert len(gone) == len(set(gone)) == 9, "each was forgotten by one"
        while await engines[0].prune(AT_ONCE):
            continue
    assert (count("entry"), count("snapshot"), count("dropped"), count("session")) == (0, 0, 0, 0)
    assert count("tombstone") == 9


async def test_a_trim_that_had_to_wait_for_an_append_knows_of_it(
    url: str, here: PostgresEngine
) -> None:
    await make(here, "s", b"1", b"2")
    appending, observer = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        async with appending.transaction():
            await appending.execute(
                "INSERT INTO entry SELECT number, seq, 'abcdef01', tail_at, 'x'"
                " FROM session, generate_series(3, 4) AS seq;"
                "UPDATE session SET tail_seq = 4, tail_tag = 'abcdef01'"
            )
            trimming = asyncio.create_task(here.trim("s", 10))
            waits = (
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock')"
            )
            async with asyncio.timeout(LIMIT):
                while not await observer.fetchval(waits):
                    continue
        async with asyncio.timeout(LIMIT):
            await trimming
    finally:
        await appending.close()
        await observer.close()
    assert [entry.seq for entry in await kept(here)] == [4]


async def test_no_more_sessions_are_forgotten_at_once_than_asked_for_whatever_the_statistics_say(
    here: PostgresEngine,
) -> None:
    await make(here, "a")
    shared().psql("ANALYZE session;", "tests")
    for name in "bcdef":
        await make(here, name)
    assert await here.forget(age_ms=0, limit=2) == ["a", "b"]


# --- rows ----------------------------------------------------------------------------------------


async def test_a_long_log_goes_in_pieces_and_others_write_meanwhile(
    here: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PIECE_ROWS", 100)
    drop_rows, next_piece = pruning.drop_rows, asyncio.Semaphore(0)

    piece_done = asyncio.Event()

    async def one_piece(db: Pooled) -> bool:
        await next_piece.acquire()
        more = await drop_rows(db)
        piece_done.set()
        return more

    monkeypatch.setattr(pruning, "drop_rows", one_piece)
    for name in ("trimmed", "deleted"):
        await make(here, name, *[b"x"] * 600)
    await make(here, "s")
    async with asyncio.timeout(LIMIT):
        for work in (here.trim("trimmed", 590, b"state"), here.delete("deleted")):
            left = {await _others(here)}
            task = asyncio.create_task(work)
            while not task.done():
                await add(here, b"between")
                piece_done.clear()
                next_piece.release()
                ends = asyncio.create_task(piece_done.wait())
                await asyncio.wait([ends, task], return_when=asyncio.FIRST_COMPLETED)
                ends.cancel()
                left.add(await _others(here))
            await task
            assert len(left) >= 3, "it went all at once"
    assert await _others(here) == 10
    assert count("dropped") == 0


async def _others(engine: PostgresEngine) -> int:
    """Return the number of entries that are not of the session `s`."""
    query = (
        "SELECT count(*) FROM entry WHERE session <>"
        " (SELECT number FROM session WHERE session_id = 's')"
    )
    async with engine._connections.reading() as db:
        number: int = await db.fetchval(query)
        return number


async def test_what_a_caller_left_when_it_was_cancelled_goes_with_the_next_sweep(
    here: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PIECE_ROWS", 10)
    await make(here, "s", *[b"x"] * 600)
    deleting = asyncio.create_task(here.delete("s"))
    async with asyncio.timeout(LIMIT), here._connections.reading() as db:
        while not await db.fetchval("SELECT EXISTS (SELECT FROM tombstone)"):
            continue
    deleting.cancel()
    await asyncio.wait([deleting])
    assert count("entry") > 0
    while await here.prune(AT_ONCE):
        continue
    assert count("entry") == 0


async def test_a_deleted_session_leaves_its_tombstone_and_no_other_row(
    here: PostgresEngine,
) -> None:
    made = await make(here, "s", b"1", b"2")
    await here.save_snapshot("s", StoredSnapshot(made.tail, b"state"))
    await here.trim("s", 1, b"first")
    await here.subscribe("tab", "s", "0")
    await here.attend(["s"], by="here", seconds=60)
    await here.delete("s")
    for table in ("session", "entry", "answer", "snapshot", "presence", "subscription", "dropped"):
        assert count(table) == 0, table
    assert count("tombstone") == 1


async def test_no_more_of_a_log_is_sent_than_a_page_has(here: PostgresEngine) -> None:
    large = b"x" * (PAGE_BYTES // 2)
    await make(here, "s", *[large] * 12)
    async with here._connections.reading() as db:
        rows = await db.fetch(reads._ENTRIES, "s", 0, 1000)
    assert sum(len(row["body"]) for row in rows) <= 3 * len(large)
    assert len(await kept(here)) == 12


# --- what it costs -------------------------------------------------------------------------------


async def test_a_crowd_that_comes_back_at_once_costs_few_questions(
    here: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"s{number}" for number in range(50)]
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(make(here, name, b"1"))
    with statements(monkeypatch) as asked:
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            records = [tasks.create_task(here.session(name)) for name in names * 20]
            heads = [tasks.create_task(here.head(name)) for name in names * 20]
    assert [record.result().session_id for record in records] == names * 20
    assert {head.result().tail.seq for head in heads} == {1}
    assert len([query for query in asked if "FROM session" in query]) <= 3


async def test_of_a_crowd_each_is_told_about_its_own_session(here: PostgresEngine) -> None:
    await make(here, "there")
    await make(here, "gone")
    await here.delete("gone")
    asked = [
        asyncio.create_task(here.session(name)) for name in ("there", "gone", "nobody", "there")
    ]
    asked[0].cancel()  # who leaves takes nothing from the others
    await asyncio.wait(asked)
    assert type(asked[1].exception()) is SessionGone
    assert type(asked[2].exception()) is SessionUnknown
    assert asked[3].result().session_id == "there"


async def test_a_record_is_never_older_than_the_question() -> None:
    asked: list[asyncio.Future[SessionRow | None]] = []

    async def ask(names: Collection[str]) -> Mapping[str, Found]:
        asked.append(asyncio.get_running_loop().create_future())
        return dict.fromkeys(names, await asked[-1])

    async def until_asked(times: int) -> None:
        async with asyncio.timeout(LIMIT):
            while len(asked) < times:  # noqa: ASYNC110 - it is the loop's next turn
                await asyncio.sleep(0)

    lookups = Lookups(ask)
    first = asyncio.create_task(lookups.find("s"))
    await until_asked(1)
    second = asyncio.create_task(lookups.find("s"))
    await proven_blocked(first, second)
    asked[0].set_result(None)
    await first
    await until_asked(2)
    assert not second.done()
    asked[1].set_result(None)
    await second
    await lookups.aclose()


_USES: list[tuple[str, tuple[object, ...]]] = [
    (reads._ENTRIES, ("s", 3, 100)),
    (snapshots._LOAD, ("s", None)),
    (pruning._TRIM, ("s", 3, b"state")),
    (pruning._old("answer", "at"), (1000, None)),
    (pruning._old("tombstone", "at"), (1000, None)),
    (clients._SAVE, ("tab", "k", b"{}", None)),
]


async def test_the_statements_of_every_use_have_an_index(here: PostgresEngine) -> None:
    await make(here, "s", *[b"x"] * 10, b"y")
    async with here._connections.reading() as db:
        await db.execute("SET enable_seqscan = off")
        for query, arguments in _USES:
            plan = await db.fetch(f"EXPLAIN {query}", *arguments)
            text = "\n".join(row[0] for row in plan)
            assert "Seq Scan" not in text, text
        await db.execute("RESET enable_seqscan")
