"""A run outlives the process that did it; approvals too."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import (
    ApprovalAlreadyResolved,
    ApprovalUnknown,
    RunNotResumable,
)
from gateway.sessions.manager import SessionManager
from runtime.events import (
    ApprovalRequested,
    MessageCompleted,
    RunInterrupted,
    ToolCompleted,
    ToolStarted,
)
from runtime.messages import ToolCall
from runtime.registry import Registry
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk

ENDS = {"run.completed", "run.failed", "run.cancelled"}
CALLS = tuple(ToolCall(id=f"call_{n}", name="work", arguments="{}") for n in (1, 2, 3))


async def _until_killed(part: Part) -> None:
    """One step with three calls: one done, one begun, one not; then half a message."""
    await part.begin("msg_1")
    await part.say("calling", "msg_1")
    await part.finish_step("calling", *CALLS, message_id="msg_1")
    for call in CALLS[:2]:
        await part.emit(
            ToolStarted(
                run_id=part.run_id,
                call_id=call.id,
                name="work",
                arguments="{}",
                idempotency_key=call.id,
            )
        )
    await part.emit(
        ToolCompleted(
            run_id=part.run_id, call_id="call_1", name="work", result={"n": 1}, duration_ms=1
        )
    )
    await part.begin("msg_2", turn=2)
    await part.say("half", "msg_2")
    await asyncio.Event().wait()


@pytest.mark.rule("run.taken_over")
async def test_a_run_that_died_with_its_process_goes_on_from_its_last_finished_step() -> None:
    async def play(part: Part) -> None:
        if part.request.attempt == 1:
            await _until_killed(part)
        await part.begin("msg_3", turn=2)
        await part.finish_step("the whole", message_id="msg_3", turn=2)
        await part.end("the whole")

    engine, puppet = MemoryEngine(), Puppet(play)
    async with desk(engine, puppet) as at:
        ack = await at.send("hi")
        await at.until("message.delta", 2)
    async with desk(engine, puppet) as at:
        await at.until("run.completed")
        events = await at.events()
        taken = next(e for e in events if e["type"] == "run.attempt_started")
        assert (taken["attempt"], taken["supersedes"], taken["from_step"]) == (2, 1, 1)
        before = events[taken["seq"] - 2]
        assert (before["type"], before["text"]) == ("message.completed", "half")
        assert before["superseded"] is True
        assert sum(e["type"] in ENDS for e in events) == 1
        assert sum(e["type"] == "run.started" for e in events) == 1
        request = puppet.played[1].request
        assert (request.run_id, request.turns) == (ack.run_id, 1)
        assert request.started == {"call_2"}
        assert [(m.role, m.content) for m in request.history] == [
            ("user", "hi"),
            ("assistant", "calling"),
            ("tool", '{"n":1}'),
        ]
        assert request.history[1].tool_calls == CALLS
        shown = {m.message_id: m.superseded for m in (await at.manager.snapshot("s")).messages}
        assert shown["msg_2"] is True
        assert shown["msg_3"] is None


async def test_a_message_that_was_whole_is_superseded_too_when_its_step_was_not() -> None:
    async def play(part: Part) -> None:
        if part.request.attempt == 1:
            await part.begin("msg_1")
            await part.emit(
                MessageCompleted(run_id=part.run_id, message_id="msg_1", text="all of it")
            )
            await asyncio.Event().wait()
        await part.answer("anew", "msg_2")

    engine, puppet = MemoryEngine(), Puppet(play)
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("message.completed")
    async with desk(engine, puppet) as at:
        await at.until("run.completed")
        shown = {m.message_id: m.superseded for m in (await at.manager.snapshot("s")).messages}
        assert shown["msg_1"] is True
        assert [m.content for m in puppet.played[1].request.history] == ["hi"]


async def test_a_run_that_kills_its_process_again_and_again_is_given_up() -> None:
    async def play(part: Part) -> None:
        await part.begin(f"msg_{part.request.attempt}")
        await asyncio.Event().wait()

    engine, puppet = MemoryEngine(), Puppet(play)
    for attempt in (1, 2, 3):
        async with desk(engine, puppet) as at:
            if attempt == 1:
                await at.send("hi")
            await at.until("message.started", attempt)
    async with desk(engine, puppet) as at:
        failed = await at.until("run.failed")
        assert failed["error"]["code"] == "attempts_exhausted"
        assert len(puppet.played) == 3
        assert (await at.manager.snapshot("s")).status == "idle"


async def test_a_queue_outlives_the_process() -> None:
    async def play(part: Part) -> None:
        if part.request.attempt == 1 and len(puppet.played) == 1:
            await asyncio.Event().wait()
        await part.answer("ok", f"msg_{part.run_id}")

    engine = MemoryEngine()
    puppet = Puppet(play)
    async with desk(engine, puppet) as at:
        await at.send("a")
        await at.send("b", options={"temperature": 0.5})
    async with desk(engine, puppet) as at:
        await at.until("run.completed", 2)
        assert puppet.played[-1].request.options.temperature == 0.5
        assert puppet.played[-1].request.history[-1].content == "b"


async def _ask(part: Part, *approvals: str) -> None:
    for number, approval in enumerate(approvals):
        await part.emit(
            ApprovalRequested(
                run_id=part.run_id,
                approval_id=approval,
                call_id=CALLS[number].id,
                tool="work",
                arguments="{}",
            )
        )
    await part.emit(RunInterrupted(run_id=part.run_id, reason="approval", pending=approvals))


async def _asking(part: Part) -> None:
    if part.request.decisions:
        await part.begin("msg_2", turn=2)
        await part.finish_step("done", message_id="msg_2", turn=2)
        await part.end("done")
        return
    await part.begin("msg_1")
    await part.finish_step("may I?", *CALLS[:2], message_id="msg_1")
    await _ask(part, "apr_1", "apr_2")


@pytest.mark.rule("approval.shared")
async def test_an_approval_survives_a_restart_and_the_first_decision_wins() -> None:
    engine, puppet = MemoryEngine(), Puppet(_asking)
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("run.interrupted")
    async with desk(engine, puppet) as at:
        snapshot = await at.manager.snapshot("s")
        assert snapshot.status == "interrupted"
        assert [a.approval_id for a in snapshot.approvals] == ["apr_1", "apr_2"]
        with pytest.raises(RunNotResumable, match="apr_1, apr_2"):
            await at.command("continue")
        yes = {"approval_id": "apr_1", "decision": "approve"}
        await at.command("continue", decisions=[yes], id="first")
        assert [a.approval_id for a in (await at.manager.snapshot("s")).approvals] == ["apr_2"]
        with pytest.raises(ApprovalAlreadyResolved, match="first"):
            await at.command("continue", decisions=[yes | {"decision": "reject"}])
        with pytest.raises(ApprovalUnknown):
            await at.command("continue", decisions=[yes | {"approval_id": "apr_9"}])
        edit = {"approval_id": "apr_2", "decision": "edit", "arguments": {"n": 2}}
        ack = await at.command("continue", decisions=[edit])
        await at.until("run.completed", run_id=ack.run_id)
        decisions = puppet.played[1].request.decisions
        assert decisions["call_1"].kind == "approved"
        assert (decisions["call_2"].kind, decisions["call_2"].arguments) == ("edited", '{"n":2}')
        types = await at.types()
        assert types.count("run.started") == 1
        assert types.index("approval.resolved") < types.index("run.resumed")


async def test_cancelling_a_run_that_waits_for_a_human_expires_its_approvals() -> None:
    async with desk(MemoryEngine(), Puppet(_asking)) as at:
        await at.send("hi")
        await at.until("run.interrupted")
        await at.command("cancel")
        events = await at.events()
        assert [e["type"] for e in events][-3:] == [
            "approval.resolved",
            "approval.resolved",
            "run.cancelled",
        ]
        assert events[-2]["decision"] == "expired"
        assert (await at.manager.snapshot("s")).approvals == []


async def test_an_input_waits_while_a_human_is_asked() -> None:
    async with desk(MemoryEngine(), Puppet(_asking)) as at:
        await at.send("hi")
        await at.until("run.interrupted")
        await at.send("and then?")
        snapshot = await at.manager.snapshot("s")
        assert snapshot.status == "interrupted"
        assert len(snapshot.queue) == 1


@pytest.mark.rule("snapshot.fold")
async def test_a_snapshot_is_the_fold_of_the_log_whoever_folds_it() -> None:
    async def play(part: Part) -> None:
        if part.request.parent_run_id is None and len(puppet.played) == 1:
            await _until_killed(part)
        if len(puppet.played) == 2:
            await _ask(part, "apr_1")
        else:
            await part.answer("ok", f"msg_{part.run_id}")

    engine, puppet = MemoryEngine(), Puppet(play)
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("message.delta", 2)
        await _same_when_folded_anew(at)
        await at.send("queued")
        await _same_when_folded_anew(at)
        await at.command("cancel")
        await at.until("run.interrupted")
        await _same_when_folded_anew(at)
        await at.command("cancel")
        await at.command("continue")
        await at.until("run.completed")
        await _same_when_folded_anew(at)


async def _same_when_folded_anew(at: Desk) -> None:
    live = await at.manager.snapshot("s")
    reader = SessionManager(at.engine, Registry(Puppet(_asking)))  # not started: it only folds
    assert (await reader.snapshot("s")).as_json() == live.as_json()


async def test_letting_go_does_not_wait_for_a_run_that_talks_without_a_pause() -> None:
    async def play(part: Part) -> None:
        await part.begin()
        while True:
            await part.say("blah ")
            await asyncio.sleep(0)

    engine, puppet = MemoryEngine(), Puppet(play)
    async with asyncio.timeout(30):
        async with desk(engine, puppet, delta_interval=1e-6) as at:
            await at.send("hi")
            await at.until("message.delta", 3)
        assert [orphan.session_id for orphan in await engine.orphans()] == ["s"]
