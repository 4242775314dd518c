"""What becomes of an input that comes while a run is active: wait, be refused, or take its place."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.commands import parse_create
from gateway.engines.memory import MemoryEngine
from gateway.errors import CommandConflict, CommandMalformed, RunActive
from runtime.events import ApprovalRequested, RunInterrupted
from runtime.messages import ToolCall
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk

ENDS = {"run.completed", "run.failed", "run.cancelled"}


class Stage:
    """A puppet that says half an answer and stays there, unless it is told to finish."""

    def __init__(self) -> None:
        self.puppet = Puppet(self._play)
        self.waits_for_human = False
        self.finishes = asyncio.Event()

    async def _play(self, part: Part) -> None:
        message_id = f"msg_{part.run_id}"
        if self.waits_for_human:
            await _ask(part, message_id)
            return
        await part.begin(message_id)
        await part.say("half an ", message_id)
        await self.finishes.wait()
        await part.say("answer", message_id)
        await part.finish_step("half an answer", message_id=message_id)
        await part.end("half an answer")


async def _ask(part: Part, message_id: str) -> None:
    call = ToolCall(id="call_1", name="delete", arguments="{}")
    await part.begin(message_id)
    await part.finish_step("may I?", call, message_id=message_id)
    await part.emit(
        ApprovalRequested(
            run_id=part.run_id, approval_id="apr_1", call_id="call_1", tool="delete", arguments="{}"
        )
    )
    await part.emit(RunInterrupted(run_id=part.run_id, reason="approval", pending=("apr_1",)))


async def told(at: Desk) -> list[tuple[str, str]]:
    return [(m.role, m.text) for m in (await at.manager.snapshot("s")).messages]


async def after(at: Desk, seq: int) -> list[dict[str, Any]]:
    return [event for event in await at.events() if event["seq"] > seq]


async def working(at: Desk, stage: Stage, *queued: str) -> str:
    """Have a run at work, and others in the queue; return the run."""
    first = await at.send("first")
    waits = "run.interrupted" if stage.waits_for_human else "message.delta"
    await at.until(waits)
    for text in queued:
        await at.send(text)
    return str(first.run_id)


@pytest.mark.rule("send.policies")
@pytest.mark.parametrize("waits_for_human", [False, True])
async def test_an_interrupt_ends_the_run_and_starts_in_the_same_append(
    waits_for_human: bool,
) -> None:
    stage = Stage()
    stage.waits_for_human = waits_for_human
    async with desk(MemoryEngine(), stage.puppet) as at:
        first = await working(at, stage, "waits 1", "waits 2")
        before = (await at.events())[-1]["seq"]
        stage.waits_for_human = False
        ack = await at.send("now this", policy="interrupt")
        written = await after(at, before)
        append = [event for event in written if event["cursor"].endswith(_tag(written[0]))]
        kinds = [event["type"] for event in append]
        closed = "approval.resolved" if waits_for_human else "message.completed"
        assert kinds == [closed, "run.cancelled", "input.accepted", "run.started"]
        cancelled, accepted = append[1:3]
        assert cancelled["run_id"] == first
        assert (cancelled["reason"], cancelled["command_id"]) == ("superseded", ack.id)
        assert cancelled.get("partial_output") == (None if waits_for_human else "half an ")
        assert (accepted["run_id"], accepted["policy"]) == (ack.run_id, "interrupt")
        snapshot = await at.manager.snapshot("s")
        assert snapshot.run is not None
        assert (snapshot.run.run_id, snapshot.run.status) == (ack.run_id, "running")
        assert [(i.message.content, i.position) for i in snapshot.queue] == [
            ("waits 1", 1),
            ("waits 2", 2),
        ]
        stage.finishes.set()
        await at.until("run.completed", 3)
        users = [text for role, text in await told(at) if role == "user"]
        assert users == ["first", "now this", "waits 1", "waits 2"]


def _tag(event: dict[str, Any]) -> str:
    return str(event["cursor"]).rpartition(".")[2]


async def test_an_interrupt_keeps_the_partial_answer_and_its_model_sees_it() -> None:
    stage = Stage()
    async with desk(MemoryEngine(), stage.puppet) as at:
        await working(at, stage)
        await at.send("shorter", policy="interrupt")
        await at.until("message.delta", 2)
        assert [(m.role, m.content) for m in stage.puppet.played[-1].request.history] == [
            ("user", "first"),
            ("assistant", "half an "),
            ("user", "shorter"),
        ]
        said = (await at.manager.snapshot("s")).messages[1]
        assert (said.text, said.incomplete) == ("half an ", True)


@pytest.mark.rule("send.policies", "history.rolled_back")
@pytest.mark.parametrize("waits_for_human", [False, True])
async def test_a_rollback_takes_the_turn_out_of_the_conversation(waits_for_human: bool) -> None:
    stage, engine = Stage(), MemoryEngine()
    stage.finishes.set()
    async with desk(engine, stage.puppet) as at:
        await at.send("before")
        await at.until("run.completed")
        stage.finishes.clear()
        stage.waits_for_human = waits_for_human
        mine = (await at.send("wrong", message_id="m_wrong")).run_id
        await at.until("run.interrupted" if waits_for_human else "message.delta", run_id=mine)
        await at.send("waits")
        usage = (await at.manager.snapshot("s")).usage
        stage.waits_for_human = False
        ack = await at.send("right", policy="rollback")
        events = await at.events()
        dropped = next(e for e in events if e["type"] == "history.rolled_back")
        assert dropped["message_ids"] == ["m_wrong", f"msg_{mine}"]
        assert dropped["run_id"] == ack.run_id
        accepted = events[dropped["seq"]]
        assert (accepted["type"], accepted["command_id"]) == ("input.accepted", ack.id)
        assert events[dropped["seq"] - 2]["reason"] == "superseded"
        snapshot = await at.manager.snapshot("s")
        assert [m.text for m in snapshot.messages] == ["before", "half an answer", "right"]
        assert [item.message.content for item in snapshot.queue] == ["waits"]
        assert snapshot.usage == usage  # what it took stays counted
        await at.until("message.delta", run_id=ack.run_id)
        assert [m.content for m in stage.puppet.played[-1].request.history] == [
            "before",
            "half an answer",
            "right",
        ]
        live = snapshot.as_json()
    async with desk(engine, stage.puppet) as at:  # another process folds the same
        loaded = (await at.manager.snapshot("s")).as_json()
        assert loaded["messages"][:3] == live["messages"]
        assert loaded["queue"] == live["queue"]


@pytest.mark.parametrize("times", [1, 2, 4])
async def test_the_turn_of_a_run_that_goes_on_began_with_the_input_of_the_first(times: int) -> None:
    stage, engine = Stage(), MemoryEngine()
    async with desk(engine, stage.puppet) as at:
        await working(at, stage)
        for _ in range(times):
            await at.command("cancel")
            goes_on = await at.command("continue")
            await at.until("message.delta", run_id=goes_on.run_id)
        await at.send("right", policy="rollback")
        assert await told(at) == [("user", "right")]


async def test_a_turn_that_began_with_a_result_keeps_it_when_it_is_rolled_back() -> None:
    """What came of a call is a fact; what was said since is not."""
    call = {"id": "call_9", "name": "place", "arguments": "{}"}
    asked = {"role": "assistant", "content": "Wait.", "tool_calls": [call]}
    history = [{"role": "user", "content": "Where?"}, asked]
    stage = Stage()
    async with desk(MemoryEngine(), stage.puppet) as at:
        await at.manager.create(parse_create({"session_id": "h", "history": history}))
        there = Desk(at.engine, at.manager, "h")
        await there.command("send", result={"call_id": "call_9", "content": "Ulm"})
        await there.until("message.delta")
        await there.send("Never mind.", policy="rollback")
        messages = (await at.manager.snapshot("h")).messages
        assert [m.text for m in messages] == ["Where?", "Wait.", "Never mind."]
        assert [(c.status, c.result) for c in messages[1].tool_calls] == [("completed", "Ulm")]


async def test_a_rollback_drops_what_a_rewind_names_as_well() -> None:
    stage = Stage()
    stage.finishes.set()
    async with desk(MemoryEngine(), stage.puppet) as at:
        for number in range(3):
            await at.send(f"turn {number}", message_id=f"m{number}")
            await at.until("run.completed", number + 1)
        stage.finishes.clear()
        mine = await at.send("wrong")
        await at.until("message.delta", run_id=mine.run_id)
        await at.send("right", policy="rollback", rewind_to="m2")
        assert [text for _, text in await told(at)][-3:] == ["turn 1", "half an answer", "right"]
        await at.send("further", policy="interrupt", rewind_to="m1", message_id="m2")
        assert [text for _, text in await told(at)] == ["turn 0", "half an answer", "further"]


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
async def test_an_input_that_comes_at_once_cannot_go_back_to_one_that_waits(policy: str) -> None:
    stage = Stage()
    async with desk(MemoryEngine(), stage.puppet) as at:
        await working(at, stage)
        await at.send("waits", message_id="m_waits")
        with pytest.raises(CommandMalformed, match="no message 'm_waits'"):
            await at.send("instead", policy=policy, rewind_to="m_waits")
        assert (await at.types())[-1] == "input.queued"


@pytest.mark.rule("send.result")
@pytest.mark.parametrize("policy", ["enqueue", "interrupt", "rollback", "steer"])
async def test_a_result_is_refused_while_a_run_is_active_whatever_the_policy(policy: str) -> None:
    stage = Stage()
    stage.waits_for_human = True
    async with desk(MemoryEngine(), stage.puppet) as at:
        await working(at, stage)
        before = await at.types()
        with pytest.raises(CommandMalformed, match="a run is active"):
            await at.command("send", result={"call_id": "call_1", "content": "x"}, policy=policy)
        assert await at.types() == before


@pytest.mark.rule("command.once")
@pytest.mark.parametrize("policy", ["interrupt", "rollback", "steer", "enqueue"])
async def test_a_policy_has_its_effect_once_however_often_it_is_sent(policy: str) -> None:
    stage = Stage()
    async with desk(MemoryEngine(), stage.puppet) as at:
        await working(at, stage)
        acks = [await at.send("again", policy=policy, id="same") for _ in range(2)]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(at.send("again", policy=policy, id="same")) for _ in range(2)
            ]
        acks += [task.result() for task in tasks]
        assert acks == [acks[0]] * 4
        with pytest.raises(CommandConflict):
            await at.send("other", policy=policy, id="same")
        mine = [e for e in await at.events() if e.get("command_id") == "same"]
        once = [e["type"] for e in mine if e["type"] in {"input.accepted", "input.queued"}]
        assert len(once) == 1


@pytest.mark.rule("send.policies", "run.one_end")
@pytest.mark.parametrize("policies", [("interrupt", "interrupt"), ("rollback", "interrupt")])
async def test_of_two_clients_that_interrupt_at_once_the_later_one_has_it(
    policies: tuple[str, str],
) -> None:
    stage = Stage()
    async with desk(MemoryEngine(), stage.puppet) as at:
        first = await working(at, stage)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(at.send(f"client {n}", policy=policy))
                for n, policy in enumerate(policies)
            ]
        acks = [task.result() for task in tasks]
        stage.finishes.set()
        await at.until("run.completed")
        events = await at.events()
        ends = {e["run_id"]: e["type"] for e in events if e["type"] in ENDS}
        assert ends == {
            first: "run.cancelled",
            acks[0].run_id: "run.cancelled",
            acks[1].run_id: "run.completed",
        }
        assert sum(e["type"] in ENDS for e in events) == 3
        superseded = [e for e in events if e["type"] == "run.cancelled"]
        assert [e["command_id"] for e in superseded] == [ack.id for ack in acks]
        assert [part.run_id for part in stage.puppet.played][-1] == acks[1].run_id


@pytest.mark.rule("send.policies", "run.one_end")
@pytest.mark.parametrize("policy", ["enqueue", "interrupt", "rollback", "steer"])
async def test_at_the_very_end_of_a_run_it_is_one_or_the_other(policy: str) -> None:
    """The run's end and the input wait for their turns together, in both orders."""
    seen: set[str] = set()
    for yields in range(0, 60, 3):
        stage = Stage()
        async with desk(MemoryEngine(), stage.puppet) as at:
            first = await working(at, stage)
            stage.finishes.set()
            for _ in range(yields):
                await asyncio.sleep(0)
            ack = await at.send("now", policy=policy)
            await at.until("run.completed", run_id=ack.run_id)
            events = await at.events()
            ends = [(e["run_id"], e["type"]) for e in events if e["type"] in ENDS]
            assert [run_id for run_id, _ in ends] == [first, ack.run_id]
            seen.add(ends[0][1])
            users = [text for role, text in await told(at) if role == "user"]
            rolled_back = policy == "rollback" and ends[0][1] == "run.cancelled"
            assert users == (["now"] if rolled_back else ["first", "now"])
    both = {"run.cancelled", "run.completed"}
    assert seen == (both if policy in {"interrupt", "rollback"} else {"run.completed"})


@pytest.mark.parametrize("policy", ["enqueue", "reject", "interrupt", "rollback", "steer"])
async def test_while_nothing_runs_every_policy_is_an_ordinary_send(policy: str) -> None:
    stage = Stage()
    stage.finishes.set()
    async with desk(MemoryEngine(), stage.puppet) as at:
        await at.send("one")
        await at.until("run.completed")
        ack = await at.send("two", policy=policy)
        await at.until("run.completed", run_id=ack.run_id)
        types = await at.types()
        assert types.count("input.accepted") == 2
        assert not {"input.queued", "run.cancelled", "history.rolled_back"} & set(types)


async def test_a_refused_input_changes_nothing() -> None:
    stage = Stage()
    async with desk(MemoryEngine(), stage.puppet) as at:
        await working(at, stage, "waits")
        before = await at.types()
        with pytest.raises(RunActive):
            await at.send("now", policy="reject")
        with pytest.raises(CommandMalformed, match="cannot go back"):
            await at.send("now", policy="steer", rewind_to="m")
        assert await at.types() == before
