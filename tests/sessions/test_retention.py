"""The hot window: what is let go of, what never is, and that nobody notices but who reads far back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.commands import CreateSession
from gateway.engines.memory import MemoryEngine
from gateway.engines.sqlite import SqliteEngine
from gateway.errors import CursorInvalid, SessionGone
from gateway.log.engine import Engine, NewSession, StoredSnapshot, Write
from gateway.log.serde import dump, load
from gateway.log.upkeep import Lifetimes
from gateway.sessions.fold import fold
from gateway.sessions.loading import load_state
from gateway.sessions.manager import SessionManager
from gateway.sessions.retention import DAY_MS, Keep, Sweeper, needed_by_runs
from gateway.sessions.state import RESOLVED_KEPT, SessionState
from gateway.sessions.stored import SNAPSHOT_EVERY, restore, store
from runtime.events import Custom, ErrorInfo
from runtime.registry import Registry
from tests.support.legal_runs import entries_of, legal_log
from tests.support.logs import SetClock
from tests.support.sessions import Desk
from tests.support.sweeping import FEW, NEVER, Stage, kept_short, sweep

OVER = ErrorInfo(code="over", message="over")


async def ends_of(engine: Engine, session_id: str = "s") -> tuple[int, int]:
    head = await engine.head(session_id)
    return head.start.seq, head.tail.seq


async def as_loaded_anew(engine: Engine, stage: Stage) -> dict[str, Any]:
    reader = SessionManager(engine, Registry(stage.puppet))  # not started: it only folds
    return (await reader.snapshot("s")).as_json()


@pytest.mark.rule("retention.window", "snapshot.fold")
async def test_a_sweep_leaves_the_last_events_and_changes_nothing_that_clients_see() -> None:
    engine, stage = MemoryEngine(), Stage()
    async with kept_short(engine, stage) as at:
        for _ in range(4):
            await stage.turn(at, 30)
        before = (await at.manager.snapshot("s")).as_json()
        await sweep(at)
        first, last = await ends_of(engine)
        assert last - first == FEW.events
        assert (await at.manager.snapshot("s")).as_json() == before
        assert await as_loaded_anew(engine, stage) == before
        await stage.turn(at, 30)
        await sweep(at)
        assert await as_loaded_anew(engine, stage) == (await at.manager.snapshot("s")).as_json()


@pytest.mark.rule("retention.window")
async def test_young_events_stay_however_many() -> None:
    clock, stage = SetClock(), Stage()
    engine = MemoryEngine(clock=clock)
    keep = Keep(events=10, age_ms=1000, every=NEVER)
    async with kept_short(engine, stage, keep) as at:
        await stage.turn(at, 30)
        old = (await ends_of(engine))[1]
        clock.now += 999
        await stage.turn(at, 30)
        await sweep(at)
        assert (await ends_of(engine))[0] == 0
        clock.now += 1
        await sweep(at)
        assert (await ends_of(engine))[0] == old


async def test_a_little_excess_waits_until_it_is_worth_a_new_state() -> None:
    engine, stage = MemoryEngine(), Stage()
    async with kept_short(engine, stage) as at:
        await stage.turn(at, 0)
        await stage.begin(at)
        await stage.end(at)
        lacking = FEW.events + FEW.events // 8 - (await ends_of(engine))[1]
        body = dump(Custom(run_id="r", path=("p",), name="told", payload=0))
        await engine.append(Write("s", [body] * (lacking - 1)))
        await sweep(at)
        assert (await ends_of(engine))[0] == 0
        await engine.append(Write("s", [body]))
        await sweep(at)
        assert (await ends_of(engine))[0] == FEW.events // 8


async def test_nothing_is_let_go_of_where_all_is_to_be_kept() -> None:
    engine, stage = MemoryEngine(), Stage()
    async with kept_short(engine, stage, Keep(events=0, age_ms=0, every=NEVER)) as at:
        await stage.turn(at, 100)
        await sweep(at)
        assert (await ends_of(engine))[0] == 0


# --- what never goes ---------------------------------------------------------------------------


@pytest.mark.rule("retention.window")
async def test_the_events_of_a_run_that_is_at_work_stay_and_those_before_it_go() -> None:
    engine, stage = MemoryEngine(), Stage()
    async with kept_short(engine, stage) as at:
        await stage.turn(at, 60)
        begins_after = (await ends_of(engine))[1]
        part = await stage.begin(at)
        for number in range(100):
            await part.emit(Custom(name="told", payload=number))
        await sweep(at)
        place = await at.manager.run("s")
        assert place.segments[0].seq == begins_after
        assert (await ends_of(engine))[0] == begins_after
        assert (await at.events())[0]["type"] == "input.accepted"
        await stage.end(at)
        await sweep(at)
        first, last = await ends_of(engine)
        assert last - first == FEW.events


async def test_a_run_that_waits_for_a_human_or_in_the_queue_holds_the_log_too() -> None:
    for events in entries_with_every_status():
        state = SessionState(
            session_id="s", agent="a", metadata={}, created_at=0, epoch="epoch", tag="00000000"
        )
        begun: dict[str, int] = {}
        for entry in events:
            event = load(entry)
            if event is not None and event.type in {"input.accepted", "input.queued"}:
                begun[getattr(event, "run_id", "")] = entry.seq - 1
            fold(state, entry, event)
            active = [*state.queued_runs, *([state.current] if state.current else [])]
            expected = min([entry.seq, *(begun[run] for run in active if run in begun)])
            assert needed_by_runs(state) <= expected


def entries_with_every_status() -> list[list[Any]]:
    logs = [entries_of(legal_log(Random(seed))) for seed in range(30)]  # noqa: S311 - no secret
    kinds = {b'"run.interrupted"', b'"input.queued"', b'"run.resumed"'}
    told = b"".join(entry.body for log in logs for entry in log)
    assert all(kind in told for kind in kinds)
    return logs


async def test_trimming_goes_on_while_inputs_never_stop_waiting() -> None:
    engine, stage = MemoryEngine(), Stage()
    async with kept_short(engine, stage) as at:
        await stage.begin(at)
        for _ in range(5):
            await at.send("next")
            part = stage.parts[-1]
            for told in range(40):
                await part.emit(Custom(name="told", payload=told))
            await stage.end(at)
            await stage.next()
            await sweep(at)
        first, last = await ends_of(engine)
        place = await at.manager.run("s")
        assert place.segments[0].seq >= first > last - 120


# --- whoever looks, and whenever the process dies ----------------------------------------------


class Telling(SqliteEngine):
    """Tells that a log was trimmed."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.trimmed = asyncio.Event()

    async def trim(self, session_id: str, through: int, state: bytes | None = None) -> None:
        await super().trim(session_id, through, state)
        self.trimmed.set()


async def test_sessions_that_nobody_has_used_since_the_start_are_swept_too(tmp_path: Path) -> None:
    stage = Stage()
    engine = await Telling.open(tmp_path)
    assert isinstance(engine, Telling)
    async with kept_short(engine, stage, Keep(events=0, every=NEVER)) as at:
        await stage.turn(at, 100)
        before = (await at.manager.snapshot("s")).as_json()
    async with asyncio.timeout(30):
        manager = SessionManager(
            engine, Registry(stage.puppet), keep=Keep(events=40, age_ms=0, every=0.01)
        )
        await manager.start()
        await engine.trimmed.wait()
        assert not manager._sessions
        await manager.aclose()
    assert await as_loaded_anew(engine, stage) == before
    await engine.aclose()


async def test_a_sweep_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()

    class Sick(MemoryEngine):
        sweeps = 0
        well = asyncio.Event()

        async def prune(self, lifetimes: Lifetimes) -> bool:
            self.sweeps += 1
            if self.sweeps == 1:
                raise RuntimeError("odd")
            self.well.set()
            return await super().prune(lifetimes)

    engine = Sick()
    async with kept_short(engine, stage, Keep(events=40, age_ms=0, every=0.01)):
        async with asyncio.timeout(30):
            await engine.well.wait()
    assert caplog.text.count("a sweep failed") == 1


@pytest.mark.rule("reset.honest")
async def test_a_run_that_was_trimmed_is_said_to_be_so() -> None:
    engine, stage = MemoryEngine(), Stage()
    async with kept_short(engine, stage) as at:
        await stage.turn(at, 100)
        place = await at.manager.run("s")
        await sweep(at)
        with pytest.raises(CursorInvalid) as refused:
            await engine.read("s", place.segments[0], limit=1)
        assert refused.value.reason == "trimmed"


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.data())
@pytest.mark.rule("snapshot.fold")
def test_a_state_stored_at_any_position_and_loaded_goes_on_as_if_nothing_had_been(
    seed: int, data: st.DataObject
) -> None:
    entries = entries_of(legal_log(Random(seed)))  # noqa: S311 - no secret
    at = data.draw(st.integers(0, len(entries)))
    state = SessionState(
        session_id="ses_story", agent="a", metadata={}, created_at=0, epoch="e", tag="00000000"
    )
    for entry in entries[:at]:
        fold(state, entry, load(entry))
    again = restore(store(state))
    assert again is not None
    assert store(again) == store(state)
    assert again.snapshot() == state.snapshot()
    for entry in entries[at:]:
        assert again.open.closing(OVER) == state.open.closing(OVER)
        fold(state, entry, load(entry))
        fold(again, entry, load(entry))
    assert store(again) == store(state)
    assert again.snapshot() == state.snapshot()


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.data())
async def test_a_log_trimmed_and_stored_anywhere_is_folded_to_the_same_state_at_every_place_left(
    seed: int, data: st.DataObject
) -> None:
    entries = entries_of(legal_log(Random(seed)))  # noqa: S311 - no secret
    engine = MemoryEngine()
    new = NewSession("a", {}, "d")
    await engine.append(Write("s", (), create=new))
    for entry in entries:
        await engine.append(Write("s", [entry.body]))
    record, head = await engine.session("s"), await engine.head("s")
    whole = store((await load_state(engine, record)).state)
    places = [head.start] + [e.position for e in await engine.read("s", head.start, limit=1000)]
    looked_at = data.draw(st.lists(st.integers(0, len(entries)), max_size=5), label="looked at")
    states = {n: store((await load_state(engine, record, places[n])).state) for n in looked_at}
    at = data.draw(st.integers(0, len(entries)), label="stored at")
    if at:
        state = (await load_state(engine, record, places[at])).state
        await engine.save_snapshot("s", StoredSnapshot(places[at], store(state)))
    sweeper = Sweeper(
        engine,
        Keep(events=data.draw(st.integers(1, len(entries)), label="kept"), age_ms=0),
        needed=lambda _: _no_need(),
        forgotten=lambda _: None,
    )
    await sweeper.sweep()
    first = (await engine.head("s")).start.seq
    assert store((await load_state(engine, record)).state) == whole
    for place in (places[n] for n in looked_at):
        if place.seq >= first:
            there = (await load_state(engine, record, place)).state
            assert store(there) == states[place.seq]
        else:
            with pytest.raises(CursorInvalid):
                await load_state(engine, record, place)


async def _no_need() -> int:
    return 10**9


async def test_a_stored_state_of_another_version_is_not_used_where_the_log_says_the_same() -> None:
    engine, stage = MemoryEngine(), Stage()
    async with kept_short(engine, stage) as at:
        await stage.turn(at, 100)
        await sweep(at)
        before = (await at.manager.snapshot("s")).as_json()
        tail = (await engine.head("s")).tail
        await engine.save_snapshot("s", StoredSnapshot(tail, b'{"state":{"newer":1},"opened":[]}'))
    assert await as_loaded_anew(engine, stage) == before


async def test_a_session_whose_log_is_trimmed_while_it_is_loaded_is_loaded_all_the_same() -> None:
    stage = Stage()

    class Overtaken(MemoryEngine):
        overtaken = 0

        async def load_snapshot(
            self, session_id: str, through: int | None = None
        ) -> StoredSnapshot | None:
            found = await super().load_snapshot(session_id, through)
            if self.overtaken == 1:
                self.overtaken = 2
                last = (await self.head(session_id)).tail.seq - 10
                record = await self.session(session_id)
                place = (
                    await self.read(session_id, (await self.head(session_id)).start, limit=999)
                )[last - 1].position
                await self.trim(
                    session_id, last, store((await load_state(self, record, place)).state)
                )
            return found

    engine = Overtaken()
    async with kept_short(engine, stage) as at:
        await stage.turn(at, 50)
        before = (await at.manager.snapshot("s")).as_json()
        engine.overtaken = 1
        assert await as_loaded_anew(engine, stage) == before
        assert engine.overtaken == 2
        assert (await ends_of(engine))[0] > 0


# --- long runs ---------------------------------------------------------------------------------


@pytest.mark.rule("join.late")
async def test_the_state_is_stored_in_the_middle_of_a_long_message_too() -> None:
    engine, stage = MemoryEngine(), Stage()
    async with kept_short(engine, stage) as at:
        part = await stage.begin(at)
        for number in range(4 * SNAPSHOT_EVERY):
            await part.say(f"{number} ", "msg_1")
        head = await engine.head("s")
        stored = await engine.load_snapshot("s")
        assert stored is not None
        assert head.tail.seq - stored.position.seq <= 2 * SNAPSHOT_EVERY
        live = (await at.manager.snapshot("s")).as_json()
        assert live["open"]["messages"][0]["text"].endswith(f"{number} ")
        assert await as_loaded_anew(engine, stage) == live
        await stage.end(at)


async def test_what_is_stored_in_the_course_of_a_long_run_is_in_proportion_to_its_log() -> None:
    stage = Stage()

    class Counting(MemoryEngine):
        stored = 0

        async def save_snapshot(self, session_id: str, snapshot: StoredSnapshot) -> None:
            self.stored += len(snapshot.state)
            await super().save_snapshot(session_id, snapshot)

    engine = Counting()
    async with kept_short(engine, stage) as at:
        part = await stage.begin(at)
        for _ in range(4000):
            await part.say("word " * 60, "msg_1")
        log = sum(len(entry.body) for entry in engine._sessions["s"].entries)
        assert engine.stored < 4 * log
        await stage.end(at)


# --- what grows --------------------------------------------------------------------------------


async def test_of_old_approvals_only_the_latest_are_remembered_and_only_who_decided() -> None:
    state = SessionState(
        session_id="s", agent="a", metadata={}, created_at=0, epoch="e", tag="00000000"
    )
    logs = (legal_log(Random(seed)) for seed in range(150))  # noqa: S311 - no secret
    told = [event for log in logs for event in log if event.type != "session.closed"]
    decided = 0
    for number, entry in enumerate(entries_of(told), start=1):
        event = load(entry)
        if event is not None and event.type == "approval.resolved":
            decided += 1
            event = event.model_copy(update={"approval_id": f"apr_{number}", "message": "because"})
        fold(state, entry, event)
        if state.current is None:
            assert len(state.resolved) <= RESOLVED_KEPT
            assert all(settled.message is None for settled in state.resolved.values())
    assert decided > RESOLVED_KEPT
    assert list(state.resolved)[-1] > "apr_"


async def test_sessions_that_nobody_uses_are_forgotten_and_say_so() -> None:
    clock, stage = SetClock(), Stage()
    engine = MemoryEngine(clock=clock)
    keep = Keep(unused_ms=1000, every=NEVER)
    async with kept_short(engine, stage, keep) as at:
        await stage.turn(at, 1)
        await at.manager.create(CreateSession(session_id="working"))
        working = Desk(engine, at.manager, "working")
        await stage.begin(working)
        clock.now += 1000
        await at.manager.create(CreateSession(session_id="new"))
        await sweep(at)
        with pytest.raises(SessionGone):
            await at.manager.snapshot("s")
        with pytest.raises(SessionGone):
            await at.send("hello?")
        listed = (await at.manager.sessions(limit=9, after=None))["sessions"]
        assert [session["session_id"] for session in listed] == ["new", "working"]
        stage.endings[-1].set()
        await working.until("run.completed")


@pytest.mark.rule("command.once")
async def test_an_answer_is_remembered_for_a_day_and_not_for_ever() -> None:
    clock, stage = SetClock(), Stage()
    engine = MemoryEngine(clock=clock)
    async with kept_short(engine, stage) as at:
        ack = await at.command("cancel", id="stop")
        clock.now += DAY_MS
        await sweep(at)
        assert await engine.answer("s", "stop") is not None
        assert await at.command("cancel", id="stop") == ack
        clock.now += DAY_MS
        await sweep(at)
        assert await engine.answer("s", "stop") is None
