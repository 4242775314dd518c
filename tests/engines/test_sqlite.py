"""The SQLite engine: opening, refusing, closing, what its connections may do."""

from __future__ import annotations

import fcntl
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from blockbuster import BlockingError

from gateway.engines.sqlite import SqliteEngine
from gateway.engines.sqlite.engine import _open
from gateway.engines.sqlite.schema import has_wal_reset_bug
from gateway.errors import EngineUnavailable, StartupRefused
from gateway.log.engine import StoredSnapshot, Write
from tests.support.logs import FIRST, NEW, add, answer, bodies, kept, make, same

ROOT = Path(__file__).parents[2]


async def refusal(directory: Path) -> str:
    with pytest.raises(StartupRefused) as caught:
        await SqliteEngine.open(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    engine = await SqliteEngine.open(tmp_path / "a" / "b")
    await make(engine)
    await engine.aclose()
    assert (tmp_path / "a" / "b" / "tidegate.db").is_file()


async def test_all_is_there_after_closing_and_opening_again(tmp_path: Path) -> None:
    engine = await SqliteEngine.open(tmp_path)
    await make(engine, "s", b"1", b"2")
    await engine.append(Write("s", [b"3"], claim=FIRST, answer=answer(), title="Weather"))
    before = (await kept(engine), await engine.session("s"), await engine.answer("s", "c1"))
    await engine.aclose()
    engine = await SqliteEngine.open(tmp_path)
    entries, record, remembered = before
    assert same(await kept(engine), entries)
    assert (await engine.session("s"), await engine.answer("s", "c1")) == (record, remembered)
    assert (await add(engine, b"4")).tail.seq == 4
    await engine.aclose()


async def test_closing_leaves_one_sound_file_and_no_log_beside_it(tmp_path: Path) -> None:
    engine = await SqliteEngine.open(tmp_path)
    await make(engine, "s", *[b"x" * 1000] * 100)
    assert (tmp_path / "tidegate.db-wal").stat().st_size > 0
    await engine.aclose()
    assert not (tmp_path / "tidegate.db-wal").exists()
    assert not (tmp_path / "tidegate.db-shm").exists()
    db = sqlite3.connect(tmp_path / "tidegate.db")
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


@pytest.mark.fault("F9", holds=("I4",))
async def test_a_second_engine_in_this_process_is_refused_until_the_first_is_closed(
    tmp_path: Path,
) -> None:
    first = await SqliteEngine.open(tmp_path)
    assert await refusal(tmp_path) == f"another server uses {tmp_path}"
    await make(first, "s", b"1")
    await first.aclose()
    second = await SqliteEngine.open(tmp_path)
    assert bodies(await kept(second)) == [b"1"]
    await second.aclose()


async def test_a_lock_file_that_nobody_holds_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "tidegate.lock").write_text("left behind")
    await (await SqliteEngine.open(tmp_path)).aclose()


async def test_the_lock_is_free_again_after_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "tidegate.db").write_bytes(b"not a database" * 100)
    await refusal(tmp_path)
    with (tmp_path / "tidegate.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 99]
)
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tidegate.db").write_bytes(content)
    assert "damaged or not a database" in await refusal(tmp_path)
    assert (tmp_path / "tidegate.db").read_bytes() == content


async def test_a_damaged_schema_is_refused(tmp_path: Path) -> None:
    await (await SqliteEngine.open(tmp_path)).aclose()
    path = tmp_path / "tidegate.db"
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    assert "damaged" in await refusal(tmp_path)


async def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "tidegate.db")
    db.execute("CREATE TABLE bookmark (url TEXT)")
    db.close()
    content = (tmp_path / "tidegate.db").read_bytes()
    assert "another program" in await refusal(tmp_path)
    assert (tmp_path / "tidegate.db").read_bytes() == content


async def test_the_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    await (await SqliteEngine.open(tmp_path)).aclose()
    db = sqlite3.connect(tmp_path / "tidegate.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert "newer version" in await refusal(tmp_path)


async def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "data", Path("/proc/tidegate")):
        assert f"cannot write in {directory}" in await refusal(directory)


async def test_a_database_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tidegate.db").mkdir()
    assert "cannot open the database" in await refusal(tmp_path)


async def test_a_sqlite_without_what_is_needed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    assert "too old" in await refusal(tmp_path)


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 43, 2), True),
        ((3, 44, 0), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 44, 9), False),
        ((3, 45, 0), True),
        ((3, 50, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_the_versions_with_the_wal_reset_bug_are_known(
    version: tuple[int, int, int], affected: bool
) -> None:
    assert has_wal_reset_bug(version) is affected


@pytest.mark.parametrize(("version", "warnings"), [((3, 51, 2), 1), ((3, 51, 3), 0)])
async def test_opening_warns_once_of_an_affected_version(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    version: tuple[int, int, int],
    warnings: int,
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    with caplog.at_level(logging.WARNING, logger="gateway"):
        await (await SqliteEngine.open(tmp_path)).aclose()
    assert len(caplog.records) == warnings
    assert all("Litestream" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
async def test_the_writer_waits_for_the_disk_as_it_was_told(
    tmp_path: Path, synchronous: str, level: int
) -> None:
    assert synchronous in ("full", "normal")
    engine = await SqliteEngine.open(
        tmp_path, synchronous="full" if synchronous == "full" else "normal"
    )
    found = await engine._writer.do(
        lambda db: (
            db.execute("PRAGMA synchronous").fetchone(),
            db.execute("PRAGMA journal_mode").fetchone(),
        ),
        lambda _: None,
    )
    assert found == ((level,), ("wal",))
    await engine.aclose()


async def test_readers_cannot_write(engine: SqliteEngine) -> None:
    await make(engine, "s", b"1")
    for statement in ("DELETE FROM entry", "PRAGMA user_version = 7", "CREATE TABLE x (y)"):
        with pytest.raises(EngineUnavailable):
            await engine._readers.do(lambda db, sql=statement: db.execute(sql).fetchall())  # type: ignore[misc] # the default binds it
    assert bodies(await kept(engine)) == [b"1"]


async def test_a_deleted_session_leaves_only_its_id_in_the_file(engine: SqliteEngine) -> None:
    made = await engine.append(Write("s", [b"1"], create=NEW, claim=FIRST, answer=answer()))
    await engine.save_snapshot("s", StoredSnapshot(made.tail, b"state"))
    await engine.subscribe("tab", "s", "0")

    def rows(db: sqlite3.Connection) -> dict[str, int]:
        names = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        count = "SELECT count(*) FROM "
        return {name: db.execute(count + name).fetchone()[0] for (name,) in names}

    before = await engine._readers.do(rows)
    await engine.delete("s")
    after = await engine._readers.do(rows)
    empty = {name for name, number in before.items() if number == 0}
    assert empty == {"tombstone", "checkpoint", "dropped"}
    left = {name: number for name, number in after.items() if number}
    assert left == {"tombstone": 1, "client": 1}


async def test_the_guard_against_blocking_calls_bites(tmp_path: Path) -> None:
    with pytest.raises(BlockingError):
        _open(tmp_path / "data", "full")


@pytest.mark.fault("F9", holds=("I4",))
def test_another_process_is_refused_with_one_clear_line(tmp_path: Path) -> None:
    holder = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "tests.support.appender", tmp_path],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        late = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "tests.support.appender", tmp_path],
            cwd=ROOT,
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert late.returncode != 0
        assert f"another server uses {tmp_path}" in late.stderr.decode()
        assert late.stdout == b""
    finally:
        holder.kill()
        holder.communicate()
