"""Any node takes any command, whichever node the run is at work on."""

from __future__ import annotations

import asyncio

import pytest

from gateway.commands import CreateSession
from gateway.engines.memory import MemoryEngine
from gateway.errors import (
    ApprovalAlreadyResolved,
    CommandConflict,
    NotQueued,
    RunActive,
    RunUnknown,
    SessionClosed,
    SessionGone,
)
from gateway.log.follow import follow
from gateway.log.upkeep import Lifetimes
from runtime.cancel import CancelToken
from runtime.events import ApprovalRequested, RunCancelled, RunInterrupted
from tests.support.logs import SetClock
from tests.support.nodes import Node, node, until
from tests.support.puppet import Part
from tests.support.tasks import no_task_left
from tests.support.waiting import proven_blocked

__all__ = ["no_task_left"]

ENDS = {"run.completed", "run.failed", "run.cancelled"}


def store() -> MemoryEngine:
    return MemoryEngine(shared=True)


async def work_forever(part: Part) -> None:
    await part.begin(f"msg_{part.run_id}")
    await part.say("so far", f"msg_{part.run_id}")
    await asyncio.Event().wait()


async def answer(part: Part) -> None:
    await part.answer("ok", f"msg_{part.run_id}")


def token(part: Part) -> CancelToken:
    assert part.request.cancel is not None
    return part.request.cancel


async def same_everywhere(*nodes: Node) -> None:
    """Every node shows the session in the same way."""
    first, *others = [(await each.manager.snapshot("s")).as_json() for each in nodes]
    assert all(other == first for other in others)


@pytest.mark.rule("cancel.bounded")
@pytest.mark.parametrize("deaf", [False, True])
async def test_a_cancel_from_another_node_ends_the_run_and_stops_it_where_it_is_at_work(
    deaf: bool,
) -> None:
    stopped = asyncio.Event()

    async def play(part: Part) -> None:
        try:
            await work_forever(part)
        finally:
            stopped.set()

    engine = store()
    async with node(engine, play, deaf=deaf, heartbeat=3600) as a, node(engine, answer) as b:
        run_id = (await a.send("hi")).run_id
        await a.until("message.delta")
        assert (await b.command("cancel", run_id=run_id)).run_id == run_id
        assert (await b.types())[-2:] == ["message.completed", "run.cancelled"]
        assert (await engine.session("s")).claim is None
        async with asyncio.timeout(30):
            await stopped.wait()
        await same_everywhere(a, b)


async def test_what_a_cancelled_run_still_says_is_refused_though_its_node_has_not_heard() -> None:
    go_on = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        await go_on.wait()
        await part.say("too late")

    engine = store()
    async with node(engine, play, heartbeat=3600) as a, node(engine, answer) as b:
        a.line.asleep = True
        await a.send("hi")
        await a.until("message.started")
        await b.command("cancel")
        go_on.set()
        await until(lambda: a.manager._room.free is None and a.manager._room._taken == 0)
        assert "too late" not in str(await b.events())
        await same_everywhere(a, b)


@pytest.mark.rule("cancel.after_step")
async def test_a_stop_after_the_step_from_another_node_reaches_the_run() -> None:
    async def play(part: Part) -> None:
        await part.begin()
        await until(lambda: token(part).stopping)
        await part.finish_step("the whole step")
        await part.emit(RunCancelled(run_id=part.run_id, reason="cancel"))

    engine = store()
    async with node(engine, play, heartbeat=3600) as a, node(engine, answer) as b:
        await a.send("hi")
        await a.until("message.started")
        await b.command("cancel", mode="after_step", id="stop-1")
        cancelled = await b.until("run.cancelled")
        assert cancelled["command_id"] == "stop-1"
        assert "model.completed" in await b.types()


@pytest.mark.rule("send.steer")
async def test_what_is_said_on_another_node_is_heard_by_the_run_at_its_next_step() -> None:
    heard: list[str] = []
    go_on = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        await go_on.wait()
        await part.finish_step("one step")
        assert part.request.steered is not None
        heard.extend(message.content for message in await part.request.steered())
        await part.end("done")

    engine = store()
    async with node(engine, play) as a, node(engine, answer) as b:
        a.line.asleep = True
        await a.send("hi")
        await a.until("message.started")
        await b.send("in English", policy="steer")
        await b.send("and short", policy="steer")
        go_on.set()
        await b.until("run.completed")
        assert heard == ["in English", "and short"]
        assert (await b.types()).count("input.steered") == 2


@pytest.mark.rule("send.queued_order")
async def test_inputs_that_wait_are_edited_on_any_node_and_start_where_the_run_before_ended() -> (
    None
):
    go_on = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin(f"msg_{part.run_id}")
        await go_on.wait()
        await part.end()

    engine = store()
    async with node(engine, play) as a, node(engine, play) as b:
        await a.send("first")
        await a.until("message.started")
        second, third = await b.send("second"), await a.send("third")
        fourth = await b.send("fourth")
        await a.command("edit_queue", drop=[third.run_id], order=[fourth.run_id])
        queue = (await b.manager.snapshot("s")).queue
        assert [item.run_id for item in queue] == [fourth.run_id, second.run_id]
        with pytest.raises(NotQueued):
            await b.command("edit_queue", drop=[third.run_id])
        with pytest.raises(RunUnknown):
            await b.command("edit_queue", drop=["run_unknown"])
        go_on.set()
        await b.until("run.completed", 3)
        said = [e["message"]["content"] for e in await b.events() if e["type"] == "input.accepted"]
        assert said == ["first", "fourth", "second"]
        assert (len(a.puppet.played), len(b.puppet.played)) == (3, 0)
        await same_everywhere(a, b)


async def _ask(part: Part) -> None:
    if part.request.decisions:
        (decision,) = part.request.decisions.values()
        await part.answer(f"you {decision.kind} it", "msg_2")
        return
    asked = ApprovalRequested(
        run_id=part.run_id, approval_id="apr_1", call_id="c1", tool="work", arguments="{}"
    )
    await part.emit(asked)
    await part.emit(RunInterrupted(run_id=part.run_id, reason="approval", pending=("apr_1",)))


@pytest.mark.rule("approval.shared")
async def test_an_approval_is_settled_on_any_node_and_the_run_goes_on_there() -> None:
    engine = store()
    async with node(engine, _ask) as a, node(engine, _ask) as b:
        await a.send("hi")
        await a.until("run.interrupted")
        yes = [{"approval_id": "apr_1", "decision": "approve"}]
        await b.command("continue", decisions=yes)
        assert (await a.until("run.completed"))["output"] == "you approved it"
        assert (len(a.puppet.played), len(b.puppet.played)) == (1, 1)
        with pytest.raises(ApprovalAlreadyResolved):
            await a.command("continue", decisions=yes)


async def test_a_cancelled_run_is_continued_on_another_node() -> None:
    async def play(part: Part) -> None:
        await (work_forever if part.request.parent_run_id is None else answer)(part)

    engine = store()
    async with node(engine, play) as a, node(engine, play) as b:
        first = await a.send("hi")
        await a.until("message.delta")
        await a.command("cancel")
        await b.command("continue")
        started = await a.until("run.started", 2)
        assert started["parent_run_id"] == first.run_id
        await a.until("run.completed")


@pytest.mark.rule("send.policies")
async def test_two_nodes_that_send_at_once_have_one_run_at_a_time_and_lose_nothing() -> None:
    active = 0

    async def play(part: Part) -> None:
        nonlocal active
        active += 1
        assert active == 1
        await part.begin(f"msg_{part.run_id}")
        await asyncio.sleep(0)
        active -= 1
        await part.end("ok")

    engine = store()
    async with node(engine, play) as a, node(engine, play) as b, node(engine, play) as c:
        async with asyncio.TaskGroup() as group:
            sent = [group.create_task(at.send(f"{n}")) for n in range(8) for at in (a, b, c)]
        runs = [task.result().run_id for task in sent]
        assert len({*runs}) == 24
        await a.until("run.completed", 24)
        events = await a.events()
        started = [e["run_id"] for e in events if e["type"] == "run.started"]
        assert sorted(started) == sorted(str(run_id) for run_id in runs)
        waited = [e["run_id"] for e in events if e["type"] == "input.queued"]
        assert started[1:] == waited, "all nodes have one order"
        await same_everywhere(a, b, c)


@pytest.mark.rule("command.idempotent")
async def test_a_command_that_is_repeated_on_another_node_gets_the_first_answer() -> None:
    engine = store()
    async with node(engine, answer) as a, node(engine, answer) as b:
        first = await a.send("hi", id="same", policy="reject")
        await a.until("run.completed")
        assert await b.send("hi", id="same", policy="reject") == first
        with pytest.raises(CommandConflict):
            await b.send("other", id="same")
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(at.send("again", id="at-once")) for at in (a, b)]
        assert both[0].result() == both[1].result()
        await a.until("run.completed", 2)
        assert (await a.types()).count("input.accepted") == 2


async def test_refusals_are_decided_on_all_that_was_written() -> None:
    engine = store()
    async with node(engine, work_forever) as a, node(engine, answer) as b:
        await b.manager.snapshot("s")
        first = await a.send("hi")
        with pytest.raises(RunActive):
            await b.send("no", policy="reject")
        assert (await b.command("cancel", run_id=first.run_id)).run_id == first.run_id
        await a.manager.close("s", "enough")
        with pytest.raises(SessionClosed):
            await b.send("hi")


@pytest.mark.rule("snapshot.cursor")
async def test_a_snapshot_is_never_behind_what_a_reader_of_another_node_has_seen() -> None:
    async def play(part: Part) -> None:
        await part.begin()
        for n in range(60):
            await part.say(f"{n} ")
        await part.finish_step("all")
        await part.end()

    engine = store()
    async with node(engine, play) as a, node(engine, answer) as b:
        await a.send("hi")
        async for batch in follow(engine, "s", (await engine.head("s")).start, limit=1):
            seen = batch[-1]
            state = await (await b.manager._session("s")).settled()
            assert state.seq >= seen.seq
            if b'"run.completed"' in seen.body:
                break


async def test_many_who_join_at_once_cost_one_look() -> None:
    engine = store()
    async with node(engine, work_forever) as a, node(engine, answer) as b:
        await a.send("hi")
        await a.until("message.delta")
        await b.manager.snapshot("s")
        looks = b.line.looks
        async with asyncio.TaskGroup() as group:
            shown = [group.create_task(b.manager.shown("s")) for _ in range(50)]
        assert b.line.looks - looks <= 2
        assert len({id(task.result()) for task in shown}) == 1


async def test_a_run_that_talks_costs_no_look_for_what_its_own_node_writes() -> None:
    go_on = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        for n in range(200):
            await part.say(f"{n}")
            await asyncio.sleep(0)
        await go_on.wait()

    engine = store()
    async with node(engine, play) as a:
        await a.send("hi")
        looks = a.line.looks
        await a.until("message.delta", 200)
        assert a.line.looks - looks < 20


@pytest.mark.rule("session.gone")
async def test_a_session_that_was_deleted_on_another_node_is_gone_here_and_its_run_stops() -> None:
    stopped = asyncio.Event()

    async def play(part: Part) -> None:
        try:
            await work_forever(part)
        finally:
            stopped.set()

    clock = SetClock()
    engine = MemoryEngine(clock=clock, shared=True)
    async with node(engine, play) as a, node(engine, answer) as b:
        await a.send("hi")
        await a.until("message.delta")
        await b.manager.delete("s")
        async with asyncio.timeout(30):
            await stopped.wait()
        with pytest.raises(SessionGone):
            await a.manager.snapshot("s")
        with pytest.raises(SessionGone):
            await a.send("hi")
        clock.now += 1
        await engine.prune(Lifetimes(answers=0, clients=0, tombstones=0))
        await b.manager.create(CreateSession(session_id="s", metadata={"new": True}))
        assert (await a.manager.snapshot("s")).metadata == {"new": True}


async def test_a_session_that_was_made_anew_under_its_old_id_is_loaded_anew() -> None:
    clock = SetClock()
    engine = MemoryEngine(clock=clock, shared=True)
    async with node(engine, answer) as a, node(engine, answer) as b:
        await a.send("hi")
        await a.until("run.completed")
        held = await a.manager._session("s")
        await engine.delete("s")
        clock.now += 1
        await engine.prune(Lifetimes(answers=0, clients=0, tombstones=0))
        await b.manager.create(CreateSession(session_id="s"))
        assert await a.types() == ["session.created"]
        assert (await held.settled()).messages == []
        await a.send("hi")
        await b.until("run.completed")
        await same_everywhere(a, b)


async def test_nothing_is_waited_for_where_no_run_is_at_work() -> None:
    engine = store()
    async with node(engine, work_forever) as a, node(engine, answer) as b:
        await a.send("hi")
        await a.until("message.delta")
        await b.manager.snapshot("s")
        watching = asyncio.create_task(until(lambda: _watches(b)))
        await proven_blocked(watching)
        watching.cancel()
        assert _watches(a)
        await b.command("cancel")
        await until(lambda: not _watches(a))


def _watches(at: Node) -> bool:
    return at.manager._sessions["s"]._work._watching is not None
