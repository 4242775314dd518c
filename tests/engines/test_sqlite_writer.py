"""The SQLite engine's writer thread: group commit, what follows a commit, what fails alone."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gateway.engines.sqlite import SqliteEngine
from gateway.engines.sqlite.writer import BATCH_LIMIT
from gateway.errors import EngineUnavailable, Fenced, SessionUnknown
from gateway.log.engine import Write
from gateway.log.position import NO_TAG, Position
from gateway.log.recent import Recent
from tests.support.interleaving import Interleaved, followed
from tests.support.logs import FIRST, add, answer, bodies, kept, make, start, tail
from tests.support.waiting import proven_blocked


def ignore(result: object) -> None:
    """Follow a commit with nothing."""


class Gate:
    """Holds the writer thread inside a job, so that what is queued meanwhile makes one batch."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self._open = threading.Event()
        self.statements: list[str] = []

    async def close(self) -> None:
        """Return when the thread is held."""
        entered = threading.Event()

        def work(db: sqlite3.Connection) -> None:
            entered.set()
            assert self._open.wait(10)
            db.set_trace_callback(self.statements.append)

        self._held = asyncio.create_task(self._engine._writer.do(work, ignore))
        assert await asyncio.to_thread(entered.wait, 10)

    def open(self) -> None:
        self._open.set()

    def count(self, statement: str) -> int:
        return sum(one.startswith(statement) for one in self.statements)


async def test_appends_that_arrive_together_share_one_commit(engine: SqliteEngine) -> None:
    for n in range(10):
        await make(engine, f"s{n}")
    gate = Gate(engine)
    await gate.close()
    appends = [asyncio.create_task(add(engine, b"x", session_id=f"s{n % 10}")) for n in range(200)]
    await proven_blocked(*appends)
    gate.open()
    done, _ = await asyncio.wait(appends, timeout=10)
    assert len(done) == 200
    assert gate.count("COMMIT") == 2  # the held job's own, and one for all appends
    assert gate.count("INSERT INTO entry") == 200


async def test_a_transaction_has_a_bounded_number_of_jobs(engine: SqliteEngine) -> None:
    await make(engine)
    gate = Gate(engine)
    await gate.close()
    appends = [asyncio.create_task(add(engine, b"x")) for _ in range(2 * BATCH_LIMIT)]
    await proven_blocked(*appends)
    gate.open()
    await asyncio.wait(appends, timeout=20)
    assert gate.count("COMMIT") == 3
    assert (await tail(engine)).seq == 2 * BATCH_LIMIT


async def test_a_large_append_takes_few_statements(engine: SqliteEngine) -> None:
    await make(engine)
    gate = Gate(engine)
    await gate.close()
    gate.open()
    many = [b"%d" % n for n in range(200)]
    await add(engine, *many)
    assert gate.count("INSERT INTO entry") == 4
    engine._recent.drop("s")
    assert bodies(await kept(engine)) == many


async def test_a_refused_write_does_not_hurt_those_it_shares_a_commit_with(
    engine: SqliteEngine,
) -> None:
    await make(engine)
    gate = Gate(engine)
    await gate.close()
    writes = [
        Write("s", [b"1"]),
        Write("s", [b"x"], fence=FIRST, answer=answer("c1"), title="x"),
        Write("s", [b"2"], answer=answer("c2")),
        Write("nobody", [b"x"]),
        Write("s", [b"3"]),
    ]
    appends = [asyncio.create_task(engine.append(write)) for write in writes]
    await proven_blocked(*appends)
    gate.open()
    await asyncio.wait(appends, timeout=5)
    refusals = [task.exception() for task in appends]
    assert isinstance(refusals[1], Fenced)
    assert isinstance(refusals[3], SessionUnknown)
    assert [refusals[n] for n in (0, 2, 4)] == [None] * 3
    assert bodies(await kept(engine)) == [b"1", b"2", b"3"]
    assert await engine.answer("s", "c1") is None
    assert (await engine.session("s")).title is None
    assert gate.count("COMMIT") == 2


async def test_a_write_that_fails_half_way_is_undone_alone(engine: SqliteEngine) -> None:
    await make(engine)
    gate = Gate(engine)
    await gate.close()
    writes = [
        Write("s", [b"1"]),
        Write("s", [b"x"], title="\ud800"),  # cannot be stored: not text
        Write("s", [b"2"]),
    ]
    appends = [asyncio.create_task(engine.append(write)) for write in writes]
    await proven_blocked(*appends)
    gate.open()
    await asyncio.wait(appends, timeout=5)
    assert isinstance(appends[1].exception(), UnicodeEncodeError)
    engine._recent.drop("s")
    assert bodies(await kept(engine)) == [b"1", b"2"]
    assert [entry.seq for entry in await kept(engine)] == [1, 2]


async def test_what_fails_after_a_commit_takes_its_answer_from_nobody(
    engine: SqliteEngine,
) -> None:
    def fail(result: object) -> None:
        raise RuntimeError("what follows this commit is broken")

    async with asyncio.timeout(30):
        broken = asyncio.create_task(engine._writer.do(lambda _: "done", fail))
        assert (await make(engine, "s", b"1")).tail.seq == 1
        assert await broken == "done"


async def test_a_store_without_room_says_so_and_works_again_when_there_is(
    engine: SqliteEngine,
) -> None:
    await make(engine, "s", b"1")

    async def limit(pages: int) -> None:
        await engine._writer.do(
            lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone(), ignore
        )

    await limit(1)  # SQLite makes it as many as there are
    for _ in range(3):
        with pytest.raises(EngineUnavailable) as caught:
            await add(engine, b"x" * 100_000)
        assert "full" not in str(caught.value)
    assert bodies(await kept(engine)) == [b"1"]
    await limit(1_000_000)
    await add(engine, b"2" * 100_000)
    engine._recent.drop("s")
    assert bodies(await kept(engine)) == [b"1", b"2" * 100_000]


@pytest.mark.rule("log.commit")
async def test_nobody_sees_or_hears_of_an_entry_before_its_commit(engine: SqliteEngine) -> None:
    made = await make(engine)
    committing, go = threading.Event(), threading.Event()

    def hold(statement: str) -> None:
        if statement == "COMMIT":
            committing.set()
            assert go.wait(10)

    def trace(db: sqlite3.Connection) -> None:
        db.set_trace_callback(hold)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine._writer.do(trace, ignore))
        assert await asyncio.to_thread(committing.wait, 10)
        go.set()
    committing.clear()
    go.clear()
    waiting = asyncio.create_task(engine.wait("s", made.tail))
    appending = asyncio.create_task(add(engine, b"1"))
    assert await asyncio.to_thread(committing.wait, 10)
    await proven_blocked(waiting, appending)
    assert list(await engine.read("s", made.tail, limit=10)) == []
    assert (await engine.head("s")).tail == made.tail
    go.set()
    async with asyncio.timeout(30):
        await waiting
        await appending
    assert bodies(await engine.read("s", made.tail, limit=10)) == [b"1"]


async def test_a_waiter_of_a_log_that_nobody_wrote_to_yet_is_woken(tmp_path: Path) -> None:
    engine = await SqliteEngine.open(tmp_path)
    made = await make(engine, "s", b"1")
    await engine.aclose()
    engine = await SqliteEngine.open(tmp_path)
    waiting = [asyncio.create_task(engine.wait("s", made.tail)) for _ in range(5)]
    await proven_blocked(*waiting)
    await add(engine, b"2")
    async with asyncio.timeout(30):
        await asyncio.wait(waiting)
    assert not engine._bell._waiters
    await engine.aclose()


async def test_a_commit_between_the_look_at_the_store_and_the_wait_is_not_missed(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine._recent = Recent(sessions=0)
    made = await make(engine, "s", b"1")
    look = engine._readers.do

    async def look_and_be_overtaken(read: Callable[[sqlite3.Connection], Any]) -> Any:
        seen = await look(read)
        monkeypatch.undo()
        await add(engine, b"2")
        return seen

    monkeypatch.setattr(engine._readers, "do", look_and_be_overtaken)
    async with asyncio.timeout(30):
        await engine.wait("s", made.tail)


async def test_no_interleaving_loses_an_entry_when_all_is_read_from_the_file(
    engine: SqliteEngine,
) -> None:
    engine._recent = Recent(sessions=0)
    plans: list[Sequence[int]] = list(product((0, 1), (0, 1), (0, 1), (0, 1, 2, 5), (0, 2)))
    for number, plan in enumerate(plans):
        session_id = f"s{number}"
        await make(engine, session_id)
        log = Interleaved(engine, session_id, plan)
        found = await followed(engine, log, session_id, sum(plan) + 2)
        assert found == [b"%d" % n for n in range(len(found))], plan


async def test_reading_at_the_tail_uses_no_thread(engine: SqliteEngine) -> None:
    made = await make(engine, "s", b"1")
    await asyncio.to_thread(engine._readers._threads.shutdown)
    assert bodies(await engine.read("s", Position(made.tail.epoch, 0, NO_TAG), limit=9)) == [b"1"]
    assert list(await engine.read("s", made.tail, limit=9)) == []
    waiting = asyncio.create_task(engine.wait("s", made.tail))
    await proven_blocked(waiting)
    await add(engine, b"2")
    async with asyncio.timeout(30):
        await waiting
    assert bodies(await engine.read("s", made.tail, limit=9)) == [b"2"]


async def test_the_file_and_the_cache_tell_the_same(engine: SqliteEngine) -> None:
    await make(engine, "s", *[b"%d" % n for n in range(100)])
    begin = await start(engine)
    cached = await engine.read("s", begin, limit=1000)
    engine._recent.drop("s")
    read = await engine.read("s", begin, limit=1000)
    assert [(e.position, e.at, e.body) for e in cached] == [
        (e.position, e.at, e.body) for e in read
    ]
