"""A store that is away for a while: runs wait for it and go on, and nothing is said twice or left out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import CursorInvalid, EngineUnavailable
from gateway.log.engine import LEASE_SECONDS, Fence, Write
from gateway.log.entry import Entry
from gateway.log.position import Position
from gateway.log.serde import dump
from gateway.sessions import writer
from runtime.events import RunCancelled
from tests.support.logs import SetClock
from tests.support.nodes import BEAT, Node, node, until
from tests.support.puppet import Part
from tests.support.tasks import no_task_left
from tests.support.waiting import proven_blocked

__all__ = ["no_task_left"]

LEASE = round(LEASE_SECONDS * 1000)
WORDS = [f"{n} " for n in range(40)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again sooner than a server does."""
    monkeypatch.setattr(writer, "STORE_RETRY", (0.001, 0.005))


async def tell(part: Part) -> None:
    await part.begin()
    for word in WORDS:
        await part.say(word)
    await part.finish_step("".join(WORDS))
    await part.end("told")


async def work_forever(part: Part) -> None:
    await part.begin(f"msg_{part.request.attempt}")
    await asyncio.Event().wait()


async def said(at: Node) -> str:
    return "".join(e["text"] for e in await at.events() if e["type"] == "message.delta")


@pytest.mark.fault("F11", holds=("I1", "I3", "I12"))
@pytest.mark.parametrize("delta_interval", [0.0, 0.001, 30.0])
async def test_a_run_waits_while_the_store_is_away_and_goes_on_when_it_is_back(
    delta_interval: float,
) -> None:
    go_on = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        await part.say("before ")
        await go_on.wait()
        for word in WORDS:
            await part.say(word)
        await part.finish_step("all")
        done.set()
        await part.end("told")

    done = asyncio.Event()
    engine = MemoryEngine(shared=True)
    async with node(engine, play, delta_interval=delta_interval) as a:
        await a.send("hi")
        await a.until("message.delta")
        a.line.away = True
        go_on.set()
        finished = asyncio.create_task(done.wait())
        await proven_blocked(finished)
        with pytest.raises(EngineUnavailable):
            await a.command("cancel")
        with pytest.raises(EngineUnavailable):
            await a.manager.snapshot("s")
        await proven_blocked(finished)
        a.line.away = False
        await a.until("run.completed")
        assert await finished
        assert await said(a) == "before " + "".join(WORDS)
        assert "run.failed" not in await a.types()


@pytest.mark.fault("F16", holds=("I1", "I3", "I6"))
@pytest.mark.parametrize("seed", range(6))
async def test_what_a_store_did_not_acknowledge_is_in_the_log_once_whether_it_was_done_or_not(
    seed: int,
) -> None:
    engine = MemoryEngine(shared=True)
    async with node(engine, tell) as a, node(engine, tell) as b:
        a.line.doubt, a.line.dice = 0.6, random.Random(seed)  # noqa: S311 - the same each time
        for n in range(4):
            text = f"{n}"
            while True:
                try:
                    await a.send(text, id=f"c-{n}")
                except EngineUnavailable:
                    continue
                break
            await b.send("between", id=f"b-{n}")
        await b.until("run.completed", 8)
        events = await b.events()
        assert await said(b) == "".join(WORDS) * 8
        accepted = [e["command_id"] for e in events if e["type"] == "input.accepted"]
        assert sorted(accepted) == sorted(
            [f"c-{n}" for n in range(4)] + [f"b-{n}" for n in range(4)]
        )
        started = [e["run_id"] for e in events if e["type"] == "run.started"]
        ended = [e["run_id"] for e in events if e["type"] == "run.completed"]
        assert started == ended
        assert "run.attempt_started" not in {e["type"] for e in events}
        assert (await engine.session("s")).claim is None


async def test_a_run_that_began_though_nobody_said_so_is_done_and_not_left_to_the_reaper() -> None:
    engine = MemoryEngine(shared=True)
    async with node(engine, tell, heartbeat=3600) as a:
        a.line.doubt, a.line.dice = 1.0, _Lots(0.9)  # done, and not acknowledged
        with pytest.raises(EngineUnavailable):
            await a.send("hi")
        a.line.doubt = 0.0
        await a.until("run.completed")
        assert (await a.until("run.started"))["attempt"] == 1
        assert "run.attempt_started" not in await a.types()


class _Lots(random.Random):
    """Dice that always fall in one way."""

    def __init__(self, lot: float) -> None:
        super().__init__()
        self._lot = lot

    def random(self) -> float:
        return self._lot


@pytest.mark.fault("F11", "F3", holds=("I5", "I6"))
async def test_a_run_that_was_cancelled_while_its_store_was_away_says_nothing_more() -> None:
    go_on = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        await go_on.wait()
        await part.say("zombie")

    engine = MemoryEngine(shared=True)
    async with node(engine, play) as a, node(engine, tell) as b:
        await a.send("hi")
        await a.until("message.started")
        a.line.away = True
        go_on.set()
        await b.command("cancel")
        a.line.away = False
        await until(lambda: not a.manager._sessions["s"].at_work)
        await a.manager.snapshot("s")
        assert "zombie" not in str(await b.events())
        assert (await b.types())[-1] == "run.cancelled"


async def test_what_is_steered_is_heard_though_the_store_did_not_acknowledge_it() -> None:
    heard: list[str] = []
    go_on = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        await go_on.wait()
        await part.finish_step("one step")
        a.line.doubt, a.line.dice = 1.0, _Lots(0.9)
        asking = asyncio.create_task(part.request.steered())  # type: ignore[misc, arg-type]
        await part_asked()
        a.line.doubt = 0.0
        heard.extend(message.content for message in await asking)
        await part.end("done")

    async def part_asked() -> None:
        while "input.steered" not in await a.types():  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0)

    engine = MemoryEngine(shared=True)
    async with node(engine, play) as a:
        await a.send("hi")
        await a.until("message.started")
        await a.send("in English", policy="steer")
        go_on.set()
        await a.until("run.completed")
        assert heard == ["in English"]
        assert (await a.types()).count("input.steered") == 1


async def test_a_node_that_stops_while_the_store_is_away_waits_for_nothing() -> None:
    async def play(part: Part) -> None:
        await part.begin()
        await go_on.wait()
        await part.say("never said")

    go_on = asyncio.Event()
    engine = MemoryEngine(shared=True)
    async with node(engine, play) as a:
        await a.send("hi")
        await a.until("message.started")
        a.line.away = True
        go_on.set()
        async with asyncio.timeout(30):
            await a.manager.hand_over(0.05)
            await a.manager.aclose()
        assert (await engine.session("s")).claim is not None


@pytest.mark.fault("F11", holds=("I6",))
@pytest.mark.rule("run.taken_over")
async def test_a_run_that_the_store_did_not_let_a_node_hand_over_goes_on_elsewhere_at_once() -> (
    None
):
    clock = SetClock()  # no lease runs out
    engine = MemoryEngine(clock=clock, shared=True)
    async with node(engine, work_forever) as a, node(engine, tell) as b:
        await a.send("hi")
        await a.until("message.started")
        a.line.doubt = 3.0  # each append is refused
        await a.manager.hand_over(0)
        assert (await b.until("run.attempt_started"))["reason"] == "lease_expired"
        await b.until("run.completed")


@pytest.mark.fault("F11", holds=("I6",))
@pytest.mark.rule("run.taken_over")
async def test_a_node_that_was_to_stop_while_the_store_was_away_keeps_no_run_when_it_is_back() -> (
    None
):
    cut = asyncio.Event()

    async def play(part: Part) -> None:
        try:
            await work_forever(part)
        finally:
            cut.set()

    clock = SetClock()
    engine = MemoryEngine(clock=clock, shared=True)
    async with node(engine, play) as a, node(engine, tell) as b:
        await a.send("hi")
        await a.until("message.started")
        a.line.away = True
        await a.manager.hand_over(0)
        await until(cut.is_set)
        a.line.away = False
        clock.now += LEASE // 2
        taken = asyncio.create_task(b.until("run.attempt_started"))
        await proven_blocked(taken)  # a beat in that time would make it wait for another half
        clock.now += LEASE // 2
        assert (await taken)["reason"] == "lease_expired"
        await b.until("run.completed")


def lose_last_entry(engine: MemoryEngine, session_id: str) -> None:
    """Fail over to a standby that had not got it yet."""
    session = engine._sessions[session_id]
    del session.entries[-1]
    session.record = replace(session.record, tail=session.head.tail)


@pytest.mark.fault("F13")
@pytest.mark.rule("reset.honest")
async def test_a_session_whose_log_is_rewound_while_a_node_loads_it_is_loaded_as_it_is_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = MemoryEngine(shared=True)
    async with node(engine, tell) as a, node(engine, tell) as b:
        await a.at("new").make()
        await a.manager.close("new", "closed")
        pages = 0

        async def read(session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
            nonlocal pages
            page = await engine.read(session_id, after, limit=limit)
            pages += 1
            if pages == 1:
                lose_last_entry(engine, session_id)
            return page

        monkeypatch.setattr(b.line, "read", read)
        shown = await b.manager.snapshot("new")
        assert shown.status == "idle"
        assert shown.cursor == str(engine._sessions["new"].head.tail)


async def test_a_session_whose_log_is_another_one_at_each_look_is_not_loaded_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with node(MemoryEngine(shared=True), tell) as a:
        reads = 0

        async def read(session_id: str, after: Position, *, limit: int) -> Sequence[Entry]:
            nonlocal reads
            reads += 1
            assert reads < 100
            raise CursorInvalid("fork")

        await a.at("new").make()
        a.manager._forget("new")
        monkeypatch.setattr(a.line, "read", read)
        with pytest.raises(EngineUnavailable, match="cannot be read"):
            await a.manager.snapshot("new")


@pytest.mark.fault("F14", holds=("I5", "I7"))
async def test_a_run_whose_log_was_rewound_by_a_failover_is_said_anew_from_what_is_left() -> None:
    go_on = asyncio.Event()

    async def play(part: Part) -> None:
        if part.request.attempt == 1:
            await part.begin()
            await go_on.wait()
            await part.say("lost words")
            await asyncio.Event().wait()
        await part.answer("said anew", "msg_2")

    engine = MemoryEngine(shared=True)
    async with node(engine, play) as a:
        await a.send("hi")
        await a.until("message.started")
        lose_last_entry(engine, "s")
        go_on.set()
        assert (await a.until("run.attempt_started"))["reason"] == "handed_over"
        assert (await a.until("run.completed"))["output"] == "said anew"
        assert "lost words" not in await said(a)


@pytest.mark.fault("F3", holds=("I5",))
async def test_a_node_that_cannot_renew_its_claims_begins_nothing_until_it_can() -> None:
    next_step = asyncio.Event()
    begun: list[int] = []

    async def play(part: Part) -> None:
        await part.begin("msg_1", 1)
        await next_step.wait()
        await part.finish_step("one", message_id="msg_1")
        await part.begin("msg_2", 2)
        begun.append(2)
        await part.end()

    engine = MemoryEngine(shared=True)
    async with node(engine, play, lease=4 * BEAT) as a:
        await a.send("hi")
        await a.until("message.started")
        a.line.beats = False
        await until(lambda: a.manager._leases._held)
        next_step.set()
        await a.until("model.completed")
        ended = asyncio.create_task(a.until("run.completed"))
        await proven_blocked(ended)
        assert not begun
        a.line.beats = True
        await ended


async def test_a_claim_of_another_node_is_told_from_an_append_that_was_not_acknowledged() -> None:
    go_on = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        await go_on.wait()
        await part.say("zombie")

    clock = SetClock()
    engine = MemoryEngine(clock=clock, shared=True)
    async with node(engine, play, heartbeat=3600) as a:
        run_id = (await a.send("hi")).run_id
        await a.until("message.started")
        claim = (await engine.session("s")).claim
        assert claim is not None
        a.line.away = True
        go_on.set()
        thief = Fence(claim.run_id, claim.attempt + 1, "of another node")
        body = dump(RunCancelled(run_id=str(run_id), reason="cancel"))
        await engine.append(Write("s", (), fence=claim, claim=thief))
        await engine.append(Write("s", [body], fence=thief, release=True, status="idle"))
        a.line.away = False
        await a.manager.snapshot("s")
        assert (await a.types())[-1] == "run.cancelled"
        assert "zombie" not in str(await a.events())
