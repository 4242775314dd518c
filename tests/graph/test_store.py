"""What every store of sessions promises; each test runs over all of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runtime.checkpoint import Checkpoint
from runtime.errors import CheckpointError, CheckpointUnknown, SessionBusy
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    Custom,
    ErrorInfo,
    Event,
    MessageDelta,
    NodeCompleted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    ToolStarted,
)
from runtime.graph.sqlite_store import SCHEMAS, SqliteStore
from runtime.graph.store import CheckpointStore, Entry, RunRecord
from runtime.messages import Usage
from tests.graph.running import STORES
from tests.support.waiting import proven_blocked

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, UTC)


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CheckpointStore]:
    store = STORES[request.param](tmp_path)
    yield store
    await store.aclose()
    await store.aclose()


def run_of(run_id: str = "run_1", session_id: str = "s", **more: Any) -> RunRecord:
    return RunRecord(run_id=run_id, session_id=session_id, **more)


def done(node: str, run_id: str = "run_1") -> NodeCompleted:
    return NodeCompleted(
        run_id=run_id, path=("g",), node=node, updates={"n": None}, duration_ms=1.5
    )


def entries(*events: Event, after: int = 0) -> list[Entry]:
    return [Entry(seq, NOON, event) for seq, event in enumerate(events, after + 1)]


def checkpoint(name: str, run_id: str = "run_1", **state: Any) -> Checkpoint:
    return Checkpoint(checkpoint_id=name, run_id=run_id, superstep=1, state=state, next=("b",))


async def test_an_unknown_session_holds_nothing(store: CheckpointStore) -> None:
    assert await store.load("s") is None
    assert await store.history("s") == ()
    assert await store.events("s") == ()
    assert await store.runs("s") == ()
    assert await store.sessions() == ()
    await store.delete("s")
    with pytest.raises(CheckpointUnknown, match="'s'"):
        await store.record("s", entries(done("a")))
    with pytest.raises(CheckpointUnknown, match="'s'"):
        await store.save("s", checkpoint("c"))
    with pytest.raises(CheckpointUnknown, match="'c'"):
        await store.get("c")


async def test_a_run_that_just_began_has_no_checkpoint_and_an_empty_journal(
    store: CheckpointStore,
) -> None:
    run = run_of(state={"n": 1}, parent_run_id="run_0")
    assert await store.begin(run) == 0
    kept = await store.load("s")
    assert kept is not None
    assert kept.run == run
    assert (kept.tail, kept.checkpoint, kept.journal) == (0, None, ())


@pytest.mark.rows("CX4", "AX5")
async def test_the_journal_is_what_a_run_needs_of_all_since_its_last_checkpoint(
    store: CheckpointStore,
) -> None:
    await store.begin(run_of())
    await store.record("s", entries(done("a")))
    said = MessageDelta(run_id="run_1", path=("g",), message_id="m", text="hi")
    await store.save("s", checkpoint("c1", n=1), entries(said, after=1))
    kept = await store.load("s")
    assert kept is not None
    assert kept.journal == ()
    began = ToolStarted(
        run_id="run_1", path=("g", "b"), call_id="c", name="t", arguments="{}", idempotency_key="k"
    )
    await store.record("s", entries(said, done("b"), Custom(name="x"), began, after=2))
    kept = await store.load("s")
    assert kept is not None
    assert kept.checkpoint == checkpoint("c1", n=1)
    assert kept.journal == (done("b"), began)
    assert kept.tail == 6


async def test_a_checkpoint_in_mid_superstep_keeps_the_journal(store: CheckpointStore) -> None:
    await store.begin(run_of())
    await store.save("s", checkpoint("c1"), entries(done("a")))
    asked = ApprovalRequested(run_id="run_1", path=("g",), approval_id="apr_1", node="b")
    await store.record("s", entries(asked, after=1))
    await store.save(
        "s", checkpoint("c2", n=2), entries(Custom(name="edit"), after=2), keep_journal=True
    )
    kept = await store.load("s")
    assert kept is not None
    assert kept.checkpoint == checkpoint("c2", n=2)
    assert kept.journal == (asked,)
    answered = ApprovalResolved(run_id="run_1", approval_id="apr_1", decision="approved")
    await store.record("s", entries(answered, after=3))
    kept = await store.load("s")
    assert kept is not None
    assert kept.journal == (asked, answered)


async def test_a_new_run_begins_with_a_journal_of_its_own(store: CheckpointStore) -> None:
    await store.begin(run_of())
    await store.save("s", checkpoint("c1"), entries(done("a")))
    await store.record("s", entries(done("b"), after=1))
    assert await store.begin(run_of("run_2")) == 2
    kept = await store.load("s")
    assert kept is not None
    assert (kept.run.run_id, kept.checkpoint, kept.journal) == ("run_2", None, ())
    await store.record("s", entries(done("c", "run_2"), after=2))
    kept = await store.load("s")
    assert kept is not None
    assert kept.journal == (done("c", "run_2"),)
    await store.save("s", checkpoint("c2", "run_2"))
    kept = await store.load("s")
    assert kept is not None
    assert kept.checkpoint == checkpoint("c2", "run_2")
    assert [run.run_id for run in await store.runs("s")] == ["run_1", "run_2"]


async def test_a_run_that_began_at_a_checkpoint_is_there_until_it_has_its_own(
    store: CheckpointStore,
) -> None:
    await store.begin(run_of())
    await store.save("s", checkpoint("c1", n=1))
    await store.save("s", checkpoint("c2", n=2))
    await store.begin(run_of("run_2", checkpoint_id="c1"))
    kept = await store.load("s")
    assert kept is not None
    assert kept.checkpoint == checkpoint("c1", n=1)
    await store.save("s", checkpoint("c3", "run_2"))
    kept = await store.load("s")
    assert kept is not None
    assert kept.checkpoint == checkpoint("c3", "run_2")


async def test_beginning_a_run_again_changes_what_is_known_of_it_and_nothing_else(
    store: CheckpointStore,
) -> None:
    await store.begin(run_of())
    await store.record("s", entries(done("a")))
    assert await store.begin(run_of(attempt=2)) == 1
    kept = await store.load("s")
    assert kept is not None
    assert kept.run == run_of(attempt=2)
    assert kept.journal == (done("a"),)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (
            RunCompleted(run_id="run_1", output="", usage=Usage(), message_count=0, num_turns=0),
            "completed",
        ),
        (RunFailed(run_id="run_1", error=ErrorInfo(code="x", message="y")), "failed"),
        (RunCancelled(run_id="run_1", reason="cancel"), "cancelled"),
        (RunInterrupted(run_id="run_1", reason="approval"), "paused"),
    ],
)
async def test_the_status_of_a_run_is_what_its_events_say(
    store: CheckpointStore, end: Event, status: str
) -> None:
    await store.begin(run_of("run_0"))
    await store.begin(run_of())
    await store.record("s", entries(end, RunResumed(run_id="run_0", from_seq=1)))
    assert [run.status for run in await store.runs("s")] == ["running", status]
    await store.record("s", entries(RunResumed(run_id="run_1", from_seq=1), after=2))
    assert [run.status for run in await store.runs("s")] == ["running", "running"]


@pytest.mark.rows("CX4")
async def test_the_log_gives_every_event_as_it_was_from_any_place_on(
    store: CheckpointStore,
) -> None:
    await store.begin(run_of())
    events = (done("a"), Custom(run_id="run_1", name="x", payload={"ü": [None, 1.5]}), done("b"))
    await store.record("s", entries(*events[:2]))
    await store.record("s", entries(events[2], after=2))
    assert await store.events("s") == tuple(entries(*events))
    assert await store.events("s", 1) == tuple(entries(*events)[1:])
    assert await store.events("s", 1, limit=1) == tuple(entries(*events)[1:2])
    assert await store.events("s", 3) == ()


async def test_entries_that_do_not_follow_the_last_one_are_refused_as_a_whole(
    store: CheckpointStore,
) -> None:
    await store.begin(run_of())
    await store.record("s", entries(done("a")))
    for wrong in (0, 2):
        with pytest.raises(SessionBusy, match="somebody else"):
            await store.record("s", entries(done("b"), after=wrong))
        with pytest.raises(SessionBusy):
            await store.save("s", checkpoint("c"), entries(done("b"), after=wrong))
    with pytest.raises(SessionBusy):
        await store.record("s", [*entries(done("b"), after=1), *entries(done("c"), after=3)])
    assert [entry.event for entry in await store.events("s")] == [done("a")]
    assert await store.history("s") == ()


@pytest.mark.rows("CX5")
async def test_checkpoints_are_found_by_id_and_listed_oldest_first(
    store: CheckpointStore,
) -> None:
    await store.begin(run_of())
    await store.begin(run_of("run_2", "other"))
    await store.save("s", checkpoint("c1", n=[1]))
    await store.save("other", checkpoint("d1", "run_2"))
    await store.save("s", checkpoint("c2"))
    assert await store.history("s") == (checkpoint("c1", n=[1]), checkpoint("c2"))
    assert await store.get("d1") == ("other", checkpoint("d1", "run_2"))
    assert await store.sessions() == ("s", "other")


async def test_what_is_kept_is_a_copy(store: CheckpointStore) -> None:
    state: dict[str, Any] = {"list": [1]}
    run = run_of(state=state)
    await store.begin(run)
    await store.save("s", checkpoint("c1", **state))
    state["list"].append(2)
    kept = await store.load("s")
    assert kept is not None
    assert kept.checkpoint is not None
    assert kept.checkpoint.state == {"list": [1]}
    assert kept.run.state == {"list": [1]}
    kept.checkpoint.state["list"].append(3)
    kept.run.state["list"].append(3)
    again = await store.load("s")
    assert again is not None
    assert again.checkpoint is not None
    assert again.checkpoint.state == {"list": [1]}
    assert again.run.state == {"list": [1]}


async def test_an_event_that_json_cannot_say_does_not_fail_a_run(store: CheckpointStore) -> None:
    await store.begin(run_of())
    await store.record("s", entries(Custom(run_id="run_1", name="x", payload={"odd": object()})))
    (entry,) = await store.events("s")
    assert isinstance(entry.event, Custom)
    assert entry.event.payload == {"odd": "<object>"}


async def test_a_deleted_session_is_gone_and_may_be_made_anew(store: CheckpointStore) -> None:
    await store.begin(run_of())
    await store.begin(run_of("run_2", "other"))
    await store.save("s", checkpoint("c1"), entries(done("a")))
    await store.save("other", checkpoint("d1", "run_2"))
    await store.delete("s")
    assert await store.load("s") is None
    assert await store.events("s") == ()
    with pytest.raises(CheckpointUnknown):
        await store.get("c1")
    assert await store.history("other") != ()
    assert await store.begin(run_of("run_3")) == 0
    assert await store.history("s") == ()


# --- only SQLite ----------------------------------------------------------------------------------


@pytest.mark.rows("C12")
async def test_a_file_is_still_there_after_it_was_closed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.db")
    await store.begin(run_of())
    await store.save("s", checkpoint("c1", n=1), entries(done("a")))
    await store.record("s", entries(done("b"), after=1))
    before = await store.load("s")
    await store.aclose()
    with pytest.raises(CheckpointError, match="closed"):
        await store.load("s")
    again = SqliteStore(tmp_path / "sessions.db")
    assert await again.load("s") == before
    assert await again.get("c1") == ("s", checkpoint("c1", n=1))
    await again.aclose()


async def test_cancelling_a_caller_breaks_neither_its_transaction_nor_the_next(
    tmp_path: Path,
) -> None:
    store = SqliteStore(tmp_path / "sessions.db")
    await store.begin(run_of())
    for number in range(1, 41):
        writing = asyncio.create_task(store.record("s", entries(done("a"), after=number - 1)))
        for _ in range(number % 4):
            await asyncio.sleep(0)
        asked = number % 4 > 0  # the task has run, and its write is on its way
        writing.cancel()
        await asyncio.wait([writing])
        if not asked:
            await store.record("s", entries(done("a"), after=number - 1))
    assert [entry.seq for entry in await store.events("s")] == list(range(1, 41))
    await store.aclose()


async def test_two_stores_on_one_file_keep_out_of_each_others_sessions(tmp_path: Path) -> None:
    one, other = SqliteStore(tmp_path / "sessions.db"), SqliteStore(tmp_path / "sessions.db")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(one.begin(run_of()))
        tasks.create_task(other.begin(run_of("run_2", "other")))
    await one.record("s", entries(done("a")))
    with pytest.raises(SessionBusy):
        await other.record("s", entries(done("b")))
    await other.record("other", entries(done("b", "run_2")))
    assert len(await one.events("other")) == 1
    await one.aclose()
    await other.aclose()


async def test_a_new_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store = SqliteStore(tmp_path / "sessions.db")
    begun = asyncio.create_task(store.begin(run_of()))
    await proven_blocked(begun)
    other.execute("ROLLBACK")
    other.close()
    assert await begun == 0
    await store.aclose()


async def test_what_cannot_be_opened_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, " * 100)
    for path in (tmp_path / "no" / "such" / "folder.db", tmp_path / "text.db"):
        store = SqliteStore(path)
        with pytest.raises(CheckpointError, match="the store failed"):
            await store.sessions()
        await store.aclose()


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    store = SqliteStore(path)
    await store.begin(run_of())
    await store.aclose()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (len(SCHEMAS),)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.execute(f"PRAGMA user_version = {len(SCHEMAS) + 1}")
    db.close()
    newer = SqliteStore(path)
    with pytest.raises(CheckpointError, match="newer version"):
        await newer.sessions()
    await newer.aclose()


async def test_a_closed_store_that_was_never_used_made_no_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.db")
    await store.aclose()
    assert not (tmp_path / "sessions.db").exists()
