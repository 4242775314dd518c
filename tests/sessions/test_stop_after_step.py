"""The gentle stop: the step is finished and kept, and the run ends after it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engines.memory import MemoryEngine
from runtime.cancel import CancelToken
from runtime.events import ApprovalRequested, RunCancelled, RunInterrupted
from tests.support.puppet import Part, Puppet
from tests.support.sessions import desk


def token(part: Part) -> CancelToken:
    assert part.request.cancel is not None
    return part.request.cancel


async def end_if_asked(part: Part) -> None:
    """End as a runnable does at a boundary between steps."""
    if token(part).stopping:
        await part.emit(RunCancelled(run_id=part.run_id, reason="cancel"))
    else:
        await part.end("nobody asked")


@pytest.mark.rule("cancel.after_step")
async def test_the_step_is_finished_and_kept_and_the_run_ends_then() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        await gate.wait()
        await part.finish_step("the whole step")
        await end_if_asked(part)

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        sent = await at.send("hi")
        await at.until("message.started")
        ack = await at.command("cancel", mode="after_step", id="stop-1")
        asked = (await at.events())[-1]
        assert (asked["type"], asked["command_id"]) == ("run.stop_requested", "stop-1")
        assert (ack.run_id, ack.cursor) == (sent.run_id, asked["cursor"])
        snapshot = await at.manager.snapshot("s")
        assert snapshot.status == "running"
        assert snapshot.run is not None
        assert snapshot.run.stopping
        assert token(puppet.played[0]).stopping
        assert not token(puppet.played[0]).aborted
        again = await at.command("cancel", mode="after_step")
        assert (await at.types()).count("run.stop_requested") == 1
        assert again.cursor == asked["cursor"]
        gate.set()
        cancelled = await at.until("run.cancelled")
        assert cancelled["command_id"] == "stop-1"
        snapshot = await at.manager.snapshot("s")
        assert [m.text for m in snapshot.messages if not m.incomplete] == ["hi", "the whole step"]
        assert snapshot.run is not None
        assert snapshot.run.stopping is None


@pytest.mark.rule("cancel.after_step")
async def test_a_cancel_now_still_ends_at_once_what_was_asked_to_stop_after_its_step() -> None:
    async def play(part: Part) -> None:
        await part.begin()
        await asyncio.Event().wait()

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("hi")
        await at.until("message.started")
        await at.command("cancel", mode="after_step")
        ack = await at.command("cancel")
        assert (await at.events())[-1]["command_id"] == ack.id
        assert (await at.types())[-1] == "run.cancelled"


@pytest.mark.rule("cancel.after_step")
async def test_a_stop_that_was_acknowledged_outlives_the_process() -> None:
    async def play(part: Part) -> None:
        if part.request.attempt == 1:
            await part.begin()
            await asyncio.Event().wait()
        await end_if_asked(part)

    engine, puppet = MemoryEngine(), Puppet(play)
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("message.started")
        await at.command("cancel", mode="after_step")
    async with desk(engine, puppet) as at:
        await at.until("run.cancelled")
        assert "run.completed" not in await at.types()


async def test_a_run_that_waits_for_a_human_does_no_step_and_is_over_at_once() -> None:
    async def play(part: Part) -> None:
        await part.emit(ApprovalRequested(run_id=part.run_id, approval_id="apr_1", call_id="c"))
        await part.emit(RunInterrupted(run_id=part.run_id, reason="approval", pending=("apr_1",)))

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("hi")
        await at.until("run.interrupted")
        await at.command("cancel", mode="after_step")
        assert (await at.types())[-2:] == ["approval.resolved", "run.cancelled"]


async def test_what_waits_does_no_step_and_is_over_at_once() -> None:
    async def play(part: Part) -> None:
        await asyncio.Event().wait()

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("a")
        queued = await at.send("b")
        await at.command("cancel", mode="after_step", run_id=queued.run_id)
        cancelled = (await at.events())[-1]
        assert (cancelled["type"], cancelled["run_id"]) == ("run.cancelled", queued.run_id)


async def test_the_next_run_is_not_stopped_by_what_stopped_the_last() -> None:
    async def play(part: Part) -> None:
        if len(puppet.played) == 1:
            await gate.wait()
        await end_if_asked(part)

    gate = asyncio.Event()
    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("a")
        await puppet.came.wait()
        await at.command("cancel", mode="after_step")
        await at.send("b")
        gate.set()
        await at.until("run.completed")
        assert (await at.types()).count("run.cancelled") == 1
