"""Leases in the file: one life of the store, files of the version before, indexes."""

from __future__ import annotations

import asyncio
import sqlite3
from importlib import resources
from pathlib import Path

import pytest

from gateway.engines.sqlite import SqliteEngine
from gateway.errors import Fenced
from gateway.log.engine import Orphan, Write
from tests.support.logs import FIRST, NEW, SECOND, SetClock


@pytest.mark.fault("F4", holds=("I5", "I12"))
async def test_a_claim_of_an_earlier_life_of_the_store_is_void_at_once(tmp_path: Path) -> None:
    clock = SetClock()
    engine = await SqliteEngine.open(tmp_path, clock=clock)
    await engine.append(Write("s", (), create=NEW, claim=FIRST, status="running"))
    await engine.heartbeat({"s": FIRST})
    await engine.aclose()
    engine = await SqliteEngine.open(tmp_path, clock=clock)
    assert list(await engine.orphans()) == [Orphan("s", FIRST, "restart")]
    assert await engine.heartbeat({"s": FIRST}) == set(), "nobody of this life has it"
    assert len(await engine.orphans()) == 1
    await engine.append(Write("s", (), fence=FIRST, claim=SECOND))
    assert await engine.orphans() == []
    with pytest.raises(Fenced):
        await engine.append(Write("s", (), fence=FIRST))
    await engine.aclose()


async def test_a_run_of_a_version_without_leases_is_taken_over(tmp_path: Path) -> None:
    await asyncio.to_thread(_make_file_of_the_first_version, tmp_path / "tidegate.db")
    engine = await SqliteEngine.open(tmp_path)
    assert list(await engine.orphans()) == [Orphan("s", FIRST, "restart")]
    await engine.append(Write("s", (), fence=FIRST, claim=SECOND))
    assert await engine.heartbeat({"s": SECOND}) == {"s"}
    await engine.aclose()


def _make_file_of_the_first_version(path: Path) -> None:
    folder = resources.files("gateway.engines.sqlite.migrations")
    db = sqlite3.connect(path)
    db.executescript(folder.joinpath("0001_log_and_ledger.sql").read_text())
    db.execute(
        "INSERT INTO session VALUES (1, 's', 'echo', X'7B7D', 'd1', 'running', NULL, 0,"
        " ?, ?, ?, 'e', 0, '00000000', 0, '00000000', 0)",
        (FIRST.run_id, FIRST.attempt, FIRST.nonce),
    )
    db.execute("PRAGMA application_id = 0x54494445")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()


async def test_looking_for_orphans_reads_no_session_that_does_nothing(tmp_path: Path) -> None:
    engine = await SqliteEngine.open(tmp_path)
    seen: list[str] = []

    def watch(db: sqlite3.Connection) -> None:
        db.set_trace_callback(seen.append)

    for _ in range(4):
        await engine._readers.do(watch)
    await engine.orphans()
    (look,) = {statement for statement in seen if statement.startswith("SELECT number")}

    def explain(db: sqlite3.Connection) -> list[str]:
        return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {look}")]

    plan = await engine._readers.do(explain)
    assert [step for step in plan if step.startswith(("SCAN", "SEARCH"))] == [
        "SCAN session USING INDEX session_claimed",
        "SCAN session USING INDEX session_running",
    ]
    await engine.aclose()
