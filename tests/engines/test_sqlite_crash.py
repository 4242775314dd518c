"""The SQLite engine when the process, the power or the disk fails."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.engines.sqlite import SqliteEngine
from gateway.log.entry import Entry
from tests.support.logs import add, kept, make

ROOT = Path(__file__).parents[2]


@contextmanager
def appender(directory: Path, synchronous: str = "full") -> Iterator[tuple[int, int]]:
    """Start a process that appends; give its id and the descriptor of its output."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "tests.support.appender", directory, synchronous],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        yield process.pid, process.stdout.fileno()
    finally:
        process.kill()
        process.communicate()


def acknowledged(output: bytes) -> dict[str, int]:
    """Return the last acknowledged `seq` of each session; a line cut short is none."""
    tails: dict[str, int] = {}
    for line in output.rpartition(b"\n")[0].decode().split("\n"):
        if line:
            session_id, seq = line.split()
            tails[session_id] = max(tails.get(session_id, 0), int(seq))
    return tails


def read_lines(descriptor: int, count: int) -> bytes:
    output = b""
    while output.count(b"\n") < count:
        more = os.read(descriptor, 4096)
        assert more, "the process ended"
        output += more
    return output


def read_rest(descriptor: int) -> bytes:
    """Read what is in the pipe now, without waiting for more."""
    os.set_blocking(descriptor, False)
    output = b""
    try:
        while more := os.read(descriptor, 65536):
            output += more
    except BlockingIOError:
        pass
    finally:
        os.set_blocking(descriptor, True)
    return output


def opened(directory: Path) -> dict[str, list[Entry]]:
    """Open the store as after a restart, use it, and return what it had."""

    async def look() -> dict[str, list[Entry]]:
        engine = await SqliteEngine.open(directory)
        names = [record.session_id for record in await engine.sessions(limit=10, after=None)]
        logs = {name: await kept(engine, name) for name in names}
        for name, entries in logs.items():
            appended = await add(engine, b"after", session_id=name)
            assert appended.tail.seq == len(entries) + 1
        await engine.aclose()
        return logs

    return asyncio.run(look())


def check(directory: Path, tails: dict[str, int]) -> None:
    """Check that nothing acknowledged is missing, and that the logs are whole."""
    logs = opened(directory)
    for session_id, tail in tails.items():
        assert len(logs[session_id]) >= tail
    for entries in logs.values():
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        by_tag: dict[str, list[bytes]] = {}
        for entry in entries:
            by_tag.setdefault(entry.position.tag, []).append(entry.body.rstrip(b"x"))
        for parts in by_tag.values():  # each append is there as a whole, once
            number = int(parts[0].split(b".")[1])
            assert [int(part.split(b".")[2]) for part in parts] == list(range(1 + number % 3))
        assert len({entry.body for entry in entries}) == len(entries)
    db = sqlite3.connect(directory / "tidegate.db")
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


@pytest.mark.fault("F1", holds=("I1", "I4"))
@pytest.mark.rule("log.commit")
@pytest.mark.parametrize("synchronous", ["full", "normal"])
@pytest.mark.parametrize("acks", [1, 50, 700, 3000])
def test_a_process_killed_at_any_moment_loses_nothing_that_was_acknowledged(
    tmp_path: Path, acks: int, synchronous: str
) -> None:
    with appender(tmp_path, synchronous) as (pid, output):
        lines = read_lines(output, acks)
        os.kill(pid, signal.SIGKILL)
        while more := os.read(output, 65536):
            lines += more
    check(tmp_path, acknowledged(lines))


def test_a_store_survives_being_killed_again_and_again(tmp_path: Path) -> None:
    first, lines = b"", b""
    with appender(tmp_path) as (pid, output):
        first = read_lines(output, 100)
        os.kill(pid, signal.SIGKILL)
        while more := os.read(output, 65536):
            first += more
    assert opened(tmp_path)
    with appender(tmp_path) as (pid, output):
        lines = read_lines(output, 100)
        os.kill(pid, signal.SIGKILL)
    tails, before = acknowledged(lines), acknowledged(first)
    logs = opened(tmp_path)
    for session_id, tail in tails.items():
        assert tail > before[session_id]
        assert len(logs[session_id]) >= tail


@pytest.mark.fault("F6", holds=("I1", "I4"))
def test_an_image_of_the_files_at_any_instant_has_all_that_was_acknowledged_before(
    tmp_path: Path,
) -> None:
    store, images = tmp_path / "store", []
    with appender(store) as (pid, output):
        lines = read_lines(output, 1)
        for number in range(6):
            lines += read_lines(output, 150)
            os.kill(pid, signal.SIGSTOP)
            os.waitpid(pid, os.WUNTRACED)
            lines += read_rest(output)
            image = tmp_path / str(number)
            image.mkdir()
            for name in ("tidegate.db", "tidegate.db-wal"):
                shutil.copy(store / name, image / name)
            images.append((image, acknowledged(lines)))
            os.kill(pid, signal.SIGCONT)
    for image, tails in images:
        check(image, tails)


@pytest.mark.fault("F6", holds=("I1", "I4"))
@pytest.mark.parametrize("damage", ["cut", "zeroed"])
def test_a_log_file_cut_or_zeroed_at_its_end_loses_only_what_came_after(
    tmp_path: Path, damage: str
) -> None:
    store = tmp_path / "store"
    wal = store / "tidegate.db-wal"

    async def write() -> list[int]:
        engine = await SqliteEngine.open(store)
        await make(engine)
        sizes = [wal.stat().st_size]
        for n in range(40):
            await add(engine, b"%d" % n * (1 + n % 7))
            sizes.append(wal.stat().st_size)
        shutil.copytree(store, tmp_path / "image")
        await engine.aclose()
        return sizes

    sizes = asyncio.run(write())
    assert sizes == sorted(set(sizes)), "each commit adds to the log; none was checkpointed"
    chance = random.Random(7)  # noqa: S311 - the same each time, on purpose
    for number in range(25):
        length = chance.choice([*sizes, chance.randrange(sizes[0], sizes[-1])])
        copy = tmp_path / f"{damage}{number}"
        shutil.copytree(tmp_path / "image", copy)
        (copy / "tidegate.db-shm").unlink(missing_ok=True)
        with (copy / "tidegate.db-wal").open("r+b") as file:
            file.truncate(length)
            if damage == "zeroed":
                file.truncate(sizes[-1])
        committed = sum(size <= length for size in sizes) - 1
        entries = opened(copy)["s"]
        assert [entry.body for entry in entries] == [
            b"%d" % n * (1 + n % 7) for n in range(committed)
        ]


@pytest.mark.fault("F8", holds=("I1", "I4"))
def test_a_full_disk_refuses_appends_cleanly_and_is_forgotten_when_there_is_room(
    tmp_path: Path,
) -> None:
    process = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "tests.support.full_disk", tmp_path],
        cwd=ROOT,
        capture_output=True,
        timeout=30,
        check=True,
    )
    outcome = json.loads(process.stdout)
    assert outcome["before"] == outcome["after"] == ["written"] * 10
    assert outcome["full"] == ["unavailable"] * 10
    assert outcome["readable"] == 10
    names = [entry.body.rstrip(b"x").rstrip(b"0123456789") for entry in opened(tmp_path)["s"]]
    assert names == [b"before"] * 10 + [b"after"] * 10
