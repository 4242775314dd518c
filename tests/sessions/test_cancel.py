"""A stop that always works: whatever the run is doing, and whoever asks."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import RunNotResumable, RunUnknown
from runtime.events import ToolStarted
from runtime.messages import ToolCall
from tests.support.puppet import Part, Puppet
from tests.support.sessions import desk

ENDS = {"run.completed", "run.failed", "run.cancelled"}


@pytest.mark.rule("cancel.bounded", "run.boundaries", "run.one_end")
async def test_a_cancel_keeps_what_was_said_and_closes_what_was_open() -> None:
    async def play(part: Part) -> None:
        await part.begin()
        await part.say("half an ")
        await part.say("answer")
        await asyncio.Event().wait()

    async with desk(MemoryEngine(), Puppet(play), delta_interval=30.0) as at:
        await at.send("hi")
        await at.until("message.delta")
        ack = await at.command("cancel")
        events = await at.events()
        assert [event["type"] for event in events][-3:] == [
            "message.delta",
            "message.completed",
            "run.cancelled",
        ]
        assert events[-2]["text"] == "half an answer"
        assert events[-2]["incomplete"] is True
        assert events[-1]["partial_output"] == "half an answer"
        assert events[-1]["command_id"] == ack.id
        snapshot = await at.manager.snapshot("s")
        assert snapshot.status == "idle"
        assert snapshot.run is not None
        assert snapshot.run.status == "cancelled"
        assert snapshot.open.messages == []


async def test_a_run_that_ignores_its_cancellation_is_over_all_the_same() -> None:
    refused = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        while not refused.is_set():
            try:
                await part.say("never ")
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                continue
            except Exception:
                refused.set()
                raise

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("hi")
        await at.until("message.delta", 3)
        await at.command("cancel")
        tail = (await at.events())[-1]
        assert tail["type"] == "run.cancelled"
        async with asyncio.timeout(30):
            await refused.wait()
        assert (await at.events())[-1] == tail


@pytest.mark.rule("cancel.bounded")
async def test_cancelling_twice_or_after_the_end_is_acknowledged_and_changes_nothing() -> None:
    async def play(part: Part) -> None:
        if len(puppet.played) == 1:
            await asyncio.Event().wait()
        await part.answer("ok")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        nothing = await at.command("cancel")
        assert nothing.run_id is None
        ack = await at.send("hi")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(at.command("cancel")) for _ in range(3)]
        assert {task.result().run_id for task in tasks} == {ack.run_id}
        assert (await at.types()).count("run.cancelled") == 1
        done = await at.send("again")
        await at.until("run.completed")
        assert (await at.command("cancel")).run_id == done.run_id
        assert (await at.command("cancel", run_id=ack.run_id)).run_id == ack.run_id
        with pytest.raises(RunUnknown):
            await at.command("cancel", run_id="run_of_nobody")
        assert (await at.types()).count("run.cancelled") == 1


async def test_a_cancel_in_the_same_moment_as_the_send_is_not_lost() -> None:
    async def play(part: Part) -> None:
        await part.answer("too late")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        sending = asyncio.create_task(at.send("hi"))
        cancelling = asyncio.create_task(at.command("cancel"))
        await sending
        await cancelling
        types = await at.types()
        assert types[-1] == "run.cancelled"
        assert "message.delta" not in types


async def test_a_queued_input_can_be_cancelled_and_never_runs() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await gate.wait()
        await part.answer("ok", f"msg_{part.run_id}")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        first = await at.send("a")
        queued = await at.send("b")
        last = await at.send("c")
        await at.command("cancel", run_id=queued.run_id)
        gate.set()
        await at.until("run.completed", 2)
        assert [part.run_id for part in puppet.played] == [first.run_id, last.run_id]
        of_it = [e["type"] for e in await at.events() if e.get("run_id") == queued.run_id]
        assert of_it == ["input.queued", "input.dequeued", "run.cancelled"]


async def test_cancelling_the_active_run_lets_the_next_input_start() -> None:
    async def play(part: Part) -> None:
        if len(puppet.played) == 1:
            await asyncio.Event().wait()
        await part.answer("ok", f"msg_{part.run_id}")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("a")
        second = await at.send("b")
        await at.command("cancel")
        await at.until("run.completed", run_id=second.run_id)
        assert [m.content for m in puppet.played[1].request.history] == ["a\n\nb"]


@pytest.mark.rule("run.continued")
async def test_continue_after_a_cancel_goes_on_from_the_last_finished_step() -> None:
    call = ToolCall(id="call_1", name="look", arguments="{}")

    async def play(part: Part) -> None:
        if part.request.parent_run_id is not None:
            await part.answer("the whole answer", "msg_again")
            return
        await part.begin("msg_step1")
        await part.finish_step("let me look", call, message_id="msg_step1")
        await part.begin("msg_step2", turn=2)
        await part.say("the wh", "msg_step2")
        await asyncio.Event().wait()

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        first = await at.send("hi")
        await at.until("message.delta")
        await at.command("cancel")
        ack = await at.command("continue")
        await at.until("run.completed", run_id=ack.run_id)
        request = puppet.played[1].request
        assert request.parent_run_id == first.run_id
        assert [(m.role, m.content) for m in request.history] == [
            ("user", "hi"),
            ("assistant", "let me look"),
        ]
        assert request.history[-1].tool_calls == (call,)  # still to be made
        shown = {m.message_id: m for m in (await at.manager.snapshot("s")).messages}
        assert shown["msg_step2"].superseded
        assert not shown["msg_step1"].superseded
        assert not shown["msg_again"].superseded
        with pytest.raises(RunNotResumable):
            await at.command("continue")


async def test_continue_after_a_failure_runs_on() -> None:
    async def play(part: Part) -> None:
        if part.request.parent_run_id is None:
            raise ValueError
        await part.answer("better now")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("hi")
        await at.until("run.failed")
        await at.command("continue")
        assert (await at.until("run.completed"))["output"] == "better now"


async def test_a_cancelled_tool_is_closed_as_failed() -> None:
    call = ToolCall(id="call_1", name="dig", arguments="{}")

    async def play(part: Part) -> None:
        await part.begin()
        await part.finish_step("digging", call)
        await part.emit(
            ToolStarted(
                run_id=part.run_id,
                call_id="call_1",
                name="dig",
                arguments="{}",
                idempotency_key="k",
            )
        )
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("hi")
        await at.until("tool.started")
        await at.command("cancel")
        assert (await at.types())[-2:] == ["tool.failed", "run.cancelled"]
        calls = (await at.manager.snapshot("s")).messages[-1].tool_calls
        assert [(c.status, c.error.code if c.error else None) for c in calls] == [
            ("failed", "cancelled")
        ]
