"""The SQLite engine's file stays small: rows go in pieces, pages are used again, the log is bounded."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.engines.sqlite import SqliteEngine, pruning, readers, wal
from gateway.engines.sqlite.schema import migrate, open_writer
from gateway.log.engine import StoredSnapshot, Write
from gateway.log.upkeep import Lifetimes
from tests.support.following import until
from tests.support.logs import NEW, add, bodies, kept, make, start, tail
from tests.support.waiting import proven_blocked

ROOT = Path(__file__).parents[2]
FOR_EVER = Lifetimes(answers=10**12, clients=10**12, tombstones=10**12)


async def count(engine: SqliteEngine, table: str) -> int:
    found: int = await engine._readers.do(
        lambda db: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
    )
    return found


async def test_rows_that_are_trimmed_or_deleted_go_in_pieces_with_other_writes_between(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PIECE_ROWS", 10)
    for name in ("trimmed", "deleted"):
        await make(engine, name, *[b"x"] * 100)
    await make(engine)
    left: list[int] = []

    async def write(until: asyncio.Task[None]) -> None:
        while not until.done():
            await add(engine, b"between")
            left.append(await count(engine, "entry") - len(left))

    for work in (engine.trim("trimmed", 90, b"state"), engine.delete("deleted")):
        left.clear()
        before = await count(engine, "entry")
        task = asyncio.create_task(work)
        await write(task)
        seen = [number for number in left if number < before]
        assert len(set(seen)) >= 3, "nobody wrote in between"
        await engine.prune(FOR_EVER)
    assert await count(engine, "entry") == 10 + (await tail(engine)).seq
    assert await count(engine, "dropped") == 0


async def test_what_a_caller_left_when_it_was_cancelled_goes_with_the_next_sweep(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PIECE_ROWS", 10)
    await make(engine, "s", *[b"x"] * 200)
    deleting = asyncio.create_task(engine.delete("s"))
    while not await count(engine, "tombstone"):
        continue
    deleting.cancel()
    await asyncio.wait([deleting])
    assert await count(engine, "entry") > 0
    await make(engine, "new", b"1")
    while await engine.prune(FOR_EVER):
        continue
    assert await count(engine, "entry") == 1
    assert bodies(await kept(engine, "new")) == [b"1"]


def trimmed_until_killed(directory: Path, lines: int) -> int:
    """Let a process trim so often, kill it, and return what it said last."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "tests.support.trimmer", directory],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    return int([*said, *rest.rpartition(b"\n")[0].split()][-1])


@pytest.mark.rule("retention.window")
def test_a_log_begins_with_the_state_at_its_start_wherever_the_process_was_killed(
    tmp_path: Path,
) -> None:
    for lines in (1, 2, 3, 5, 8):
        said = trimmed_until_killed(tmp_path, lines)

        async def look(said: int = said) -> None:
            engine = await SqliteEngine.open(tmp_path)
            first, last = await start(engine), await tail(engine)
            assert first.seq >= said
            stored = await engine.load_snapshot("s", first.seq)
            assert stored == StoredSnapshot(first, b"%d" % first.seq)
            entries = await kept(engine)
            assert [int(entry.body) for entry in entries] == list(
                range(first.seq + 1, last.seq + 1)
            )
            while await engine.prune(FOR_EVER):
                continue
            others = await engine.sessions(limit=9, after=None)
            rows = sum([len(await kept(engine, other.session_id)) for other in others])
            assert await count(engine, "entry") == rows, "rows were left that nobody can read"
            await engine.aclose()

        asyncio.run(look())


async def test_the_file_does_not_grow_under_endless_use(engine: SqliteEngine) -> None:
    def pages(db: sqlite3.Connection) -> int:
        found: int = db.execute("PRAGMA page_count").fetchone()[0]
        return found

    await make(engine)
    sizes: list[int] = []
    for number in range(60):
        await add(engine, *[b"x" * 500] * 40)
        through = (await tail(engine)).seq - 50
        await engine.trim("s", through, b"state" * 100)
        await engine.append(Write(f"s{number}", [b"x" * 500] * 40, create=NEW))
        await engine.delete(f"s{number}")
        sizes.append(await engine._readers.do(pages))
    assert max(sizes[10:]) <= 1.2 * max(sizes[:10])


@pytest.mark.fault("F10", holds=("I9",))
async def test_the_write_ahead_log_is_emptied_as_soon_as_no_reader_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 200_000
    monkeypatch.setattr(wal.Bounded.__init__, "__defaults__", (limit,))
    monkeypatch.setattr(wal, "PATIENCE_MS", 1)
    engine = await SqliteEngine.open(tmp_path)
    file = tmp_path / "tidegate.db-wal"

    def size() -> int:
        return file.stat().st_size

    async def write() -> None:
        for _ in range(20):
            await add(engine, b"x" * 20_000)

    await make(engine)
    stranger = await asyncio.to_thread(
        sqlite3.connect, tmp_path / "tidegate.db", check_same_thread=False
    )
    await asyncio.to_thread(stranger.execute, "BEGIN")
    await asyncio.to_thread(lambda: stranger.execute("SELECT * FROM session").fetchall())
    await write()
    assert await asyncio.to_thread(size) > limit
    assert "another program reads" in caplog.text
    attempts = caplog.text.count("another program reads")
    await write()
    assert caplog.text.count("another program reads") == attempts, "it is tried again at once"
    await asyncio.to_thread(stranger.close)
    monkeypatch.setattr(wal, "monotonic", lambda: float("inf"))
    await write()
    assert await asyncio.to_thread(size) <= limit + 100_000
    await engine.aclose()


@pytest.mark.fault("F10", holds=("I9",))
async def test_readers_that_never_rest_do_not_keep_the_write_ahead_log_growing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 200_000
    monkeypatch.setattr(wal.Bounded.__init__, "__defaults__", (limit,))
    monkeypatch.setattr(readers, "REST_SECONDS", 30.0)
    engine = await SqliteEngine.open(tmp_path)
    await make(engine, "s", *[b"x" * 1000] * 200)
    file, first, done = tmp_path / "tidegate.db-wal", await start(engine), False
    reads = 0

    async def read() -> None:
        nonlocal reads
        while not done:
            await engine._readers.do(
                lambda db: db.execute("SELECT sum(length(body)) FROM entry").fetchone()
            )
            reads += 1

    sizes: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(read())
        for _ in range(60):
            await add(engine, b"x" * 20_000)
            sizes.append(await asyncio.to_thread(lambda: file.stat().st_size))
        done = True
    assert reads > 60, "the readers rested"
    assert max(sizes) <= limit + 200_000
    assert "the write-ahead log grows" not in caplog.text
    assert first.seq == 0
    await engine.aclose()


@pytest.mark.fault("F10", holds=("I9",))
async def test_our_own_reads_end_and_wait_while_the_write_ahead_log_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wal.Bounded.__init__, "__defaults__", (1_000_000,))
    monkeypatch.setattr(readers, "REST_SECONDS", 30.0)
    engine = await SqliteEngine.open(tmp_path)
    await make(engine)
    reads, goes_on = threading.Event(), threading.Event()

    def read_long(db: sqlite3.Connection) -> None:
        db.execute("SELECT count(*) FROM entry").fetchone()
        reads.set()
        goes_on.wait(30)

    long = asyncio.create_task(engine._readers.do(read_long))
    assert await asyncio.to_thread(reads.wait, 30)
    await add(engine, b"x" * 2_000_000)
    try:
        await until(lambda: not engine._readers._may_read.is_set())
        later = asyncio.create_task(count(engine, "entry"))
        await proven_blocked(long, later)
    finally:
        goes_on.set()
    assert await later == 1
    await long
    assert (tmp_path / "tidegate.db-wal").stat().st_size == 0
    assert "the write-ahead log grows" not in caplog.text
    await engine.aclose()


def test_a_store_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.db"

    async def fill() -> None:
        engine = await SqliteEngine.open(tmp_path)
        await make(engine, "s", b"1", b"2")
        await make(engine, "gone")
        await engine.delete("gone")
        await engine.aclose()

    asyncio.run(fill())
    # Back to what the version before had: nothing of this one's tables and columns.
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(
        """
        DROP TABLE snapshot; DROP TABLE dropped; DROP TABLE client;
        DROP INDEX answer_by_age; ALTER TABLE answer DROP COLUMN at;
        DROP INDEX tombstone_by_age; ALTER TABLE tombstone DROP COLUMN at;
        CREATE TABLE snapshot (session INTEGER PRIMARY KEY, epoch TEXT NOT NULL,
            seq INTEGER NOT NULL, tag TEXT NOT NULL, state BLOB NOT NULL) STRICT;
        INSERT INTO snapshot VALUES (1, 'e', 1, '00000000', x'7b7d');
        INSERT INTO answer VALUES (1, 'c1', 'd', 'run_1', 1, '00000000');
        INSERT INTO subscription VALUES ('tab', 's', '0');
        PRAGMA user_version = 2;
        """
    )
    migrate(db, path)
    db.close()

    async def look() -> None:
        engine = await SqliteEngine.open(tmp_path)
        day = 24 * 60 * 60 * 1000
        await engine.prune(Lifetimes(answers=day, clients=day, tombstones=day))
        assert bodies(await kept(engine)) == [b"1", b"2"]
        assert await engine.load_snapshot("s") is None
        assert await engine.answer("s", "c1") is not None
        assert await engine.subscriptions("tab") == {"s": "0"}
        assert await count(engine, "tombstone") == 1
        await engine.aclose()

    asyncio.run(look())
    db = open_writer(path, synchronous="full")
    db.close()
