"""Tasks of A2A while the log moves on: nothing is told twice, and no end falls into a hole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.commands import ApprovalDecision
from gateway.config import Settings
from gateway.engines.memory import MemoryEngine
from gateway.frontends.a2a.tasks import codec_of, standing
from gateway.frontends.turns import Turn, take_turn
from gateway.log.entry import Entry
from gateway.sessions.manager import RunPlace, SessionManager
from gateway.transports.following import follow_run
from gateway.transports.services import Services
from runtime.events import ApprovalRequested, RunInterrupted
from runtime.registry import Registry
from tests.support.puppet import Part, Puppet


@asynccontextmanager
async def services_with(play: Puppet) -> AsyncIterator[Services]:
    manager = SessionManager(MemoryEngine(), Registry(play), delta_interval=0)
    async with asyncio.timeout(30):
        yield Services(manager, Settings(engine="memory"))
        await manager.aclose()


async def follow(services: Services, place: RunPlace) -> list[Entry]:
    return [entry async for batch in follow_run(services, place) for entry in batch]


async def test_an_end_that_comes_in_between_is_left_to_the_stream() -> None:
    async def play(part: Part) -> None:
        if part.request.decisions:
            await part.answer("done")
            return
        await part.emit(ApprovalRequested(run_id=part.run_id, approval_id="a1", node="n"))
        await part.emit(RunInterrupted(run_id=part.run_id, reason="x", pending=("a1",)))

    async with services_with(Puppet(play)) as services:
        begun = await take_turn(services, Turn(session_id="s", text="go"))
        await follow(services, begun)
        await services.manager.snapshot("s")  # waits until what readers saw is known inside, too
        waiting = await services.manager.run("s")
        assert waiting.status == "interrupted"
        codec = codec_of(waiting, "s")

        task = await standing(services, waiting, codec, end=False)
        assert task.so_far.state == "TASK_STATE_INPUT_REQUIRED", "whoever waits sees the question"

        yes = ApprovalDecision(approval_id="a1", decision="approve")
        turn = Turn(session_id="s", run_id=begun.run_id, decisions=(yes,))
        resumed = await take_turn(services, turn)
        told = await follow(services, resumed)
        assert b'"run.resumed"' in told[0].body, "it follows what the decision began"

        late = await standing(services, waiting, codec, end=False)
        assert late.so_far.state == "TASK_STATE_WORKING"
        assert late.position.seq == told[-1].seq - 1, "right before the end"
        whole = await standing(services, waiting, codec)
        assert whole.so_far.state == "TASK_STATE_COMPLETED"


async def test_a_retried_message_is_told_its_own_segment() -> None:
    async def play(part: Part) -> None:
        if part.request.decisions:
            await part.answer("done")
            return
        await part.emit(ApprovalRequested(run_id=part.run_id, approval_id="a1", node="n"))
        await part.emit(RunInterrupted(run_id=part.run_id, reason="x", pending=("a1",)))

    async with services_with(Puppet(play)) as services:
        send = Turn(session_id="s", text="go", command_id="c1")
        begun = await take_turn(services, send)
        await follow(services, begun)
        yes = ApprovalDecision(approval_id="a1", decision="approve")
        turn = Turn(session_id="s", decisions=(yes,), command_id="c2")
        resumed = await take_turn(services, turn)
        await follow(services, resumed)
        assert (await take_turn(services, send)).segments == begun.segments
        assert (await take_turn(services, turn)).segments == resumed.segments
        assert len(resumed.segments) == len(begun.segments) + 1
