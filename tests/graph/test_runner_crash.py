"""Sessions whose process is killed: they go on where they were, and repeat nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.events import (
    ApprovalRequested,
    CheckpointSaved,
    Event,
    NodeCompleted,
    RunInterrupted,
    RunResumed,
    RunStarted,
)
from runtime.graph.memory_store import MemoryStore
from runtime.graph.runner import Runner
from runtime.graph.sqlite_store import SqliteStore
from runtime.graph.store import RunRecord
from tests.graph.running import Work, linear, read, told

ROOT = Path(__file__).parents[2]

NODES = ["a", "b1", "b2", "ask", "c"]


def launch(folder: Path, moment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "tests.graph.dying", str(folder), moment],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def effects(folder: Path) -> list[str]:
    path = folder / "effects"
    return path.read_text().split() if path.exists() else []


@pytest.mark.rows("W-C6", "AX5", "W-A5", "W-C5", "W-C11", "C12")
@pytest.mark.parametrize(
    ("moment", "before"),
    [
        ("run.started None", []),
        ("node_end a", ["a"]),
        ("checkpoint 1", ["a"]),
        ("in b2", ["a", "b1"]),
        ("checkpoint 2", ["a", "b1", "b2"]),
        ("approval.requested ask", ["a", "b1", "b2"]),
        ("in ask", ["a", "b1", "b2"]),
        ("node_end ask", ["a", "b1", "b2", "ask"]),
        ("in c", ["a", "b1", "b2", "ask"]),
        ("checkpoint 4", ["a", "b1", "b2", "ask", "c"]),
    ],
)
def test_what_was_done_before_a_kill_is_not_done_again(
    tmp_path: Path, moment: str, before: list[str]
) -> None:
    results: list[Any] = []
    for _ in range(3):  # begin; go on after the interrupt; go on after the kill
        process = launch(tmp_path, moment)
        if process.returncode == -9:
            assert sorted(effects(tmp_path)) == sorted(before)
            moment = "never"
            continue
        assert process.returncode == 0, process.stderr
        results.append(json.loads(process.stdout))
        if results[-1][0] == "completed":
            break
    assert moment == "never", "it was not killed"
    assert results[-1] == ["completed", {"n": 1, "done": NODES}]
    assert effects(tmp_path)[0] == "a"
    assert sorted(effects(tmp_path)) == sorted(NODES)


# --- the same in one process, to look closer ------------------------------------------------------


async def cut(store: MemoryStore, count: int) -> MemoryStore:
    """Return a store as it was when only `count` entries of session `s` had been kept."""
    (run,) = await store.runs("s")
    checkpoints = {one.checkpoint_id: one for one in await store.history("s")}
    older = MemoryStore()
    await older.begin(RunRecord(run_id=run.run_id, session_id="s", state=run.state))
    for entry in (await store.events("s"))[:count]:
        if isinstance(entry.event, CheckpointSaved):
            await older.save("s", checkpoints[entry.event.checkpoint_id])
        await older.record("s", [entry])
    return older


@pytest.mark.rows("W-C6", "AX5", "CX5")
async def test_a_run_goes_on_from_every_entry_of_its_log_and_ends_in_the_same_state() -> None:
    store = MemoryStore()
    expected = await Runner(linear(Work(), names="abc"), store).run("s", {"n": 1})
    entries = await store.events("s")
    for count in range(len(entries)):
        events: list[Event] = [entry.event for entry in entries[:count]]
        done = [event.node for event in events if isinstance(event, NodeCompleted)]
        work = Work()
        older = await cut(store, count)
        runner = Runner(linear(work, names="abc"), older)
        assert (await runner.state("s")).status == "running"
        state = await runner.resume("s")
        assert work.ran == list("abc")[len(done) :]
        assert (state.run_id, state.state) == (expected.run_id, expected.state)
        assert state.status == "completed"
        assert (await older.runs("s"))[0].attempt == 2
        after = [entry.event for entry in await older.events("s", count)]
        assert isinstance(after[0], RunResumed)
        assert not any(isinstance(event, RunStarted) for event in after)


@pytest.mark.rows("W-C6")
async def test_readers_of_a_run_that_goes_on_see_it_from_there() -> None:
    store = MemoryStore()
    await Runner(linear(Work()), store).run("s")
    entries = await store.events("s")
    ended = next(n for n, entry in enumerate(entries, 1) if isinstance(entry.event, NodeCompleted))
    older = await cut(store, ended)
    runner = Runner(linear(Work()), older)
    await runner.resume("s")
    assert told(await read(runner)) == ["node_start b", "node_end b", "completed"]


@pytest.mark.rows("W-C11", "W-C6")
async def test_a_crash_is_no_consent() -> None:
    store = MemoryStore()
    work = Work()
    paused = await Runner(linear(work, ask="b"), store).run("s")
    entries = await store.events("s")
    assert isinstance(entries[-1].event, RunInterrupted)
    runner = Runner(linear(work, ask="b"), await cut(store, len(entries) - 1))
    again = await runner.resume("s")
    assert (again.status, again.pending, work.ran) == ("paused", paused.pending, ["a"])
    asked = [
        entry.event
        for entry in await runner._store.events("s")
        if isinstance(entry.event, ApprovalRequested)
    ]
    assert len(asked) == 1
    assert (await runner.resume("s")).status == "completed"


@pytest.mark.rows("W-C11", "W-C6")
async def test_an_answer_is_not_lost_when_the_process_dies_right_after_it(tmp_path: Path) -> None:
    work = Work()
    gate = work.gate("b")
    store = SqliteStore(tmp_path / "sessions.db")
    runner = Runner(linear(work, ask="b"), store)
    await runner.run("s")
    going_on = asyncio.create_task(runner.resume("s"))
    await work.until("b")  # answered, and in the node; another process takes over:
    other = SqliteStore(tmp_path / "sessions.db")
    taken = Runner(linear(fresh := Work(), ask="b"), other)
    state = await taken.resume("s")
    assert (state.status, fresh.ran) == ("completed", ["b"])
    gate.set()
    results = await asyncio.wait([going_on])
    assert type(results[0].pop().exception()).__name__ == "SessionBusy"
    assert (await taken.state("s")) == state
    await store.aclose()
    await other.aclose()
