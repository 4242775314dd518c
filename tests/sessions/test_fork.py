"""Forking: a new session whose history is another one's, up to a cursor."""

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
from gateway.errors import (
    CommandConflict,
    CursorInvalid,
    CursorMalformed,
    EngineUnavailable,
    SessionConflict,
    SessionGone,
    SessionUnknown,
)
from gateway.log.engine import Appended, Engine, Write
from gateway.log.serde import load
from gateway.sessions.fold import fold
from gateway.sessions.fork import history_of
from gateway.sessions.retention import Keep
from gateway.sessions.snapshot import Snapshot
from gateway.sessions.state import SessionState
from runtime.events import ToolCompleted, ToolStarted
from runtime.history import check_imported
from runtime.messages import ToolCall
from tests.support.legal_runs import entries_of, legal_log
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk
from tests.support.sweeping import NEVER, Stage, kept_short, sweep

pytestmark = pytest.mark.rule("fork.history")


async def echo(part: Part) -> None:
    asked = part.request.history[-1].content
    await part.answer(f"{asked} to you", f"msg_{part.run_id}")


async def said(at: Desk, text: str) -> str:
    """Take a turn; return the cursor of its end."""
    ack = await at.send(text)
    end = await at.until("run.completed", run_id=ack.run_id)
    return str(end["cursor"])


def texts(snapshot: Snapshot) -> list[str]:
    return [message.text for message in snapshot.messages]


async def of(at: Desk, session_id: str | None) -> Snapshot:
    assert session_id is not None
    return await at.manager.snapshot(session_id)


async def test_a_fork_has_the_history_up_to_its_cursor_and_a_life_of_its_own() -> None:
    async with desk(MemoryEngine(), Puppet(echo)) as at:
        await at.manager.create(
            CreateSession(session_id="p", agent="puppet", metadata={"team": "blue"})
        )
        parent = Desk(at.engine, at.manager, "p")
        middle = await said(parent, "one")
        await said(parent, "two")
        before = await parent.events()
        early = await parent.command("fork", at=middle)
        whole = await parent.command("fork", to="mine")
        assert await parent.events() == before, "the parent's log is touched"
        assert whole.forked == "mine"
        assert early.forked not in {"p", "mine", None}
        assert texts(await of(at, early.forked)) == ["one", "one to you"]
        assert texts(await of(at, "mine")) == ["one", "one to you", "two", "two to you"]
        fork = Desk(at.engine, at.manager, early.forked or "")
        (created,) = await fork.events()
        assert created["forked_from"] == {"session_id": "p", "cursor": middle}
        assert (created["agent"], created["metadata"]) == ("puppet", {"team": "blue"})
        assert created["cursor"].split(".")[0] != middle.split(".")[0]
        assert [m["message_id"] for m in created["history"]] == [
            m.message_id for m in (await of(at, "p")).messages[:2]
        ]
        await said(fork, "three")
        assert texts(await of(at, fork.session_id))[-2:] == ["three", "three to you"]
        assert await parent.events() == before


async def test_a_fork_of_a_fork_and_of_a_closed_session_and_of_an_empty_one() -> None:
    async with desk(MemoryEngine(), Puppet(echo)) as at:
        empty = await at.command("fork")
        assert texts(await of(at, empty.forked)) == []
        await said(at, "one")
        await at.manager.close("s", "done")
        first = await at.command("fork", to="first")
        second = await Desk(at.engine, at.manager, "first").command("fork")
        assert first.cursor == (await of(at, "s")).cursor
        assert texts(await of(at, second.forked)) == ["one", "one to you"]
        assert (await of(at, second.forked)).status == "idle"


async def test_in_the_middle_of_a_run_a_fork_has_what_was_said_and_the_run_goes_on() -> None:
    go = asyncio.Event()
    calls = (
        ToolCall(id="done", name="look", arguments="{}"),
        ToolCall(id="open", name="wait", arguments="{}"),
    )

    async def play(part: Part) -> None:
        of = {"run_id": part.run_id, "path": part.path}
        await part.begin("m1")
        await part.finish_step("I look", *calls, message_id="m1")
        for call in calls:
            await part.emit(
                ToolStarted(
                    **of, call_id=call.id, name=call.name, arguments="{}", idempotency_key=call.id
                )
            )
        await part.emit(
            ToolCompleted(**of, call_id="done", name="look", result="trees", duration_ms=1.0)
        )
        aside = part.below("puppet", "open:helper")
        await aside.begin("aside")
        await aside.say("between us", "aside")
        await part.begin("m2", turn=2)
        await part.say("half a ", "m2")
        await go.wait()
        await part.say("sentence", "m2")
        await part.finish_step("half a sentence", message_id="m2", turn=2)
        await part.end("half a sentence")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("go")
        await at.until("message.delta", 2)
        ack = await at.command("fork")
        fork = await of(at, ack.forked)
        assert texts(fork) == ["go", "I look", "half a "]
        looked, waited = fork.messages[1].tool_calls
        assert (looked.call_id, looked.status, looked.result) == ("done", "completed", "trees")
        assert (waited.call_id, waited.status) == ("open", "ready")
        assert (fork.status, fork.run, fork.open.messages) == ("idle", None, [])
        go.set()
        await at.until("run.completed")
        assert texts(await of(at, "s"))[-1] == "half a sentence"
        assert texts(await of(at, ack.forked))[-1] == "half a "


# --- once --------------------------------------------------------------------------------------


async def test_the_same_command_makes_one_session_however_often_it_comes() -> None:
    engine = MemoryEngine()
    async with desk(engine, Puppet(echo)) as at:
        await said(at, "one")
        first = await at.command("fork", id="f1")
        await said(at, "two")
        assert await at.command("fork", id="f1") == first
        async with asyncio.TaskGroup() as tasks:
            same = [tasks.create_task(at.command("fork", id="f2")) for _ in range(3)]
        assert len({task.result().forked for task in same}) == 1
        with pytest.raises(CommandConflict):
            await at.command("fork", id="f1", to="elsewhere")
        with pytest.raises(CommandConflict):
            await at.command("cancel", id="f1")
        with pytest.raises(SessionUnknown):
            await at.manager.snapshot("elsewhere")
        assert len(await engine.sessions(limit=9, after=None)) == 3


class Failing(MemoryEngine):
    """Fails between the two writes of a fork, as if the process had ended there."""

    failing = False

    async def append(self, write: Write) -> Appended:
        if self.failing and write.answer is not None:
            raise EngineUnavailable
        return await super().append(write)


@pytest.mark.parametrize("to", [{}, {"to": "mine"}])
async def test_a_fork_that_was_cut_off_between_its_two_writes_is_finished_by_a_retry(
    to: dict[str, str],
) -> None:
    engine = Failing()
    async with desk(engine, Puppet(echo)) as at:
        await said(at, "one")
        engine.failing = True
        with pytest.raises(EngineUnavailable):
            await at.command("fork", id="f1", **to)
        engine.failing = False
        await said(at, "two")
    async with desk(engine, Puppet(echo)) as at:
        with pytest.raises(SessionConflict if to else CommandConflict):
            await at.command("fork", id="f1", at=(await of(at, "s")).cursor, **to)
        ack = await at.command("fork", id="f1", **to)
        assert texts(await of(at, ack.forked)) == ["one", "one to you"]
        assert len(await engine.sessions(limit=9, after=None)) == 2
        assert (await engine.answer("s", "f1")) is not None


async def test_two_commands_make_two_sessions_and_a_name_that_is_taken_is_refused() -> None:
    async with desk(MemoryEngine(), Puppet(echo)) as at:
        assert (await at.command("fork")).forked != (await at.command("fork")).forked
        await at.command("fork", to="mine")
        with pytest.raises(SessionConflict):
            await at.command("fork", to="mine")
        with pytest.raises(SessionConflict):
            await at.command("fork", to="s")
        await at.manager.delete("mine")
        with pytest.raises(SessionGone):
            await at.command("fork", to="mine")


# --- where it cannot be ------------------------------------------------------------------------


async def reason(at: Desk, cursor: str) -> str:
    with pytest.raises(CursorInvalid) as refused:
        await at.command("fork", at=cursor)
    return refused.value.reason


async def test_a_cursor_that_cannot_be_served_is_refused_with_its_reason() -> None:
    engine, stage = MemoryEngine(), Stage()
    async with kept_short(engine, stage, Keep(events=20, age_ms=0, every=NEVER)) as at:
        await stage.turn(at, 5)
        first = (await at.events())[0]["cursor"]
        await stage.turn(at, 50)
        await sweep(at)
        start = (await engine.head("s")).start
        epoch, _, tag = str(start).split(".")
        await at.manager.create(CreateSession(session_id="other"))
        other = (await at.manager.snapshot("other")).cursor
        assert await reason(at, first) == "trimmed"
        assert await reason(at, f"{epoch}.{start.seq - 1}.{tag}") == "trimmed"
        assert await reason(at, other) == "epoch_changed"
        assert await reason(at, f"{epoch}.9999.{tag}") == "cursor_ahead"
        assert await reason(at, f"{epoch}.{start.seq + 1}.{tag}") == "fork"
        for malformed in ("0", "$", "yesterday"):
            with pytest.raises(CursorMalformed, match=r"^`fork\.at` is no cursor"):
                await at.command("fork", at=malformed)
        for cursor in (str(start), (await at.events())[3]["cursor"]):
            ack = await at.command("fork", at=cursor)
            assert texts(await of(at, ack.forked))[:3] == ["go", "done", "go"]
        assert len(await engine.sessions(limit=9, after=None)) == 4


async def test_it_all_holds_over_a_file_and_a_restart(tmp_path: Path) -> None:
    async def once(engine: Engine) -> tuple[str | None, dict[str, Any]]:
        async with desk(engine, Puppet(echo)) as at:
            ack = await at.command("fork", id="f1")
            return ack.forked, (await of(at, ack.forked)).as_json()

    engine = await SqliteEngine.open(tmp_path)
    async with desk(engine, Puppet(echo)) as at:
        await said(at, "one")
    first = await once(engine)
    await engine.aclose()
    engine = await SqliteEngine.open(tmp_path)
    assert await once(engine) == first
    await engine.aclose()


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.data())
def test_the_history_of_a_fork_can_be_gone_on_with_wherever_it_was_cut(
    seed: int, data: st.DataObject
) -> None:
    entries = entries_of(legal_log(Random(seed)))  # noqa: S311 - no secret
    state = SessionState(
        session_id="s", agent="a", metadata={}, created_at=0, epoch="e", tag="00000000"
    )
    for entry in entries[: data.draw(st.integers(0, len(entries)))]:
        fold(state, entry, load(entry))
    history = history_of(state)
    check_imported(history)
    heard = {m.message_id for m in state.messages if not m.superseded}
    assert {m.message_id for m in history if m.role != "tool"} <= heard | set(state.open.messages)
