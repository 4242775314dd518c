"""A session starts, watches and ends its runs."""

from __future__ import annotations

import asyncio

import pytest

from gateway.commands import CreateSession
from gateway.engines.memory import MemoryEngine
from gateway.errors import (
    AgentNotFound,
    CommandConflict,
    CommandMalformed,
    EngineUnavailable,
    Fenced,
    RunActive,
    SessionConflict,
    SessionGone,
    ShuttingDown,
)
from gateway.log.engine import Appended, Write
from runtime.events import MessageDelta
from tests.support.puppet import Part, Puppet
from tests.support.sessions import desk

ENDS = {"run.completed", "run.failed", "run.cancelled"}


@pytest.mark.rule("command.ack", "log.order")
async def test_a_send_is_answered_by_a_run_whose_events_are_the_log() -> None:
    async def play(part: Part) -> None:
        await part.answer("Hello")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        ack = await at.send("Hi")
        await at.until("run.completed")
        events = await at.events()
        assert [event["type"] for event in events] == [
            "session.created",
            "input.accepted",
            "run.started",
            "model.started",
            "message.started",
            "message.delta",
            "message.completed",
            "model.completed",
            "run.completed",
        ]
        assert [event["seq"] for event in events] == list(range(1, 10))
        assert ack.cursor == events[1]["cursor"]
        assert {event.get("run_id") for event in events[1:]} == {ack.run_id}
        assert (await at.manager.snapshot("s")).status == "idle"


async def test_a_second_run_sees_what_was_said_before() -> None:
    async def play(part: Part) -> None:
        await part.answer(f"answer {len(part.request.history)}", f"msg_{part.run_id}")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("one")
        await at.until("run.completed")
        await at.send("two")
        await at.until("run.completed", 2)
        assert [(m.role, m.content) for m in puppet.played[1].request.history] == [
            ("user", "one"),
            ("assistant", "answer 1"),
            ("user", "two"),
        ]


@pytest.mark.rule("delta.coalesce")
async def test_deltas_that_come_close_together_are_merged_and_the_first_is_not_held_back() -> None:
    go_on = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        await part.say("one ")
        await go_on.wait()
        for word in ("two ", "three ", "four"):
            await part.say(word)
        await part.finish_step("one two three four")
        await part.end()

    async with desk(MemoryEngine(), Puppet(play), delta_interval=30.0) as at:
        await at.send("count")
        assert (await at.until("message.delta"))["text"] == "one "  # long before the interval
        go_on.set()
        await at.until("run.completed")
        texts = [e["text"] for e in await at.events() if e["type"] == "message.delta"]
        assert texts == ["one ", "two three four"]
        types = await at.types()
        assert types.index("message.completed") > max(
            place for place, kind in enumerate(types) if kind == "message.delta"
        )


async def test_waiting_deltas_are_written_when_the_interval_is_over() -> None:
    seen = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin()
        await part.say("first")
        await seen.wait()
        await part.say(" second")
        await asyncio.Event().wait()

    async with desk(MemoryEngine(), Puppet(play), delta_interval=0.01) as at:
        await at.send("go")
        await at.until("message.delta")
        seen.set()
        assert (await at.until("message.delta", 2))["text"] == " second"


async def test_a_busy_session_queues_inputs_and_runs_them_in_order() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await gate.wait()
        await part.answer("ok", f"msg_{part.run_id}")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        acks = [await at.send(text) for text in ("a", "b", "c")]
        snapshot = await at.manager.snapshot("s")
        assert [(item.message.content, item.position) for item in snapshot.queue] == [
            ("b", 1),
            ("c", 2),
        ]
        gate.set()
        await at.until("run.completed", 3)
        assert [part.run_id for part in puppet.played] == [ack.run_id for ack in acks]
        assert [m.content for m in puppet.played[2].request.history] == ["a", "ok", "b", "ok", "c"]
        assert (await at.manager.snapshot("s")).queue == []


async def test_reject_refuses_an_input_while_a_run_is_active() -> None:
    async def play(part: Part) -> None:
        await asyncio.Event().wait()

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("a")
        with pytest.raises(RunActive):
            await at.send("b", policy="reject")
        assert "input.queued" not in await at.types()


@pytest.mark.rule("command.once")
async def test_one_command_sent_many_times_at_once_has_one_effect_and_one_answer() -> None:
    async def play(part: Part) -> None:
        await part.answer("ok")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(at.send("hi", id="same", policy="reject")) for _ in range(10)
            ]
        await at.until("run.completed")
        assert len({task.result() for task in tasks}) == 1
        assert (await at.types()).count("input.accepted") == 1
        assert await at.send("hi", id="same", policy="reject") == tasks[0].result()
        with pytest.raises(CommandConflict):
            await at.send("something else", id="same")
        assert len(puppet.played) == 1


async def test_a_refused_command_may_be_tried_again_under_its_id() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await gate.wait()
        await part.answer("ok", f"msg_{part.run_id}")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("a")
        with pytest.raises(RunActive):
            await at.send("b", policy="reject", id="again")
        gate.set()
        await at.until("run.completed")
        await at.send("b", policy="reject", id="again")
        await at.until("run.completed", 2)


async def test_a_command_whose_sender_went_away_is_obeyed_all_the_same() -> None:
    async def play(part: Part) -> None:
        await part.answer("ok")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        sending = asyncio.create_task(at.send("hi"))
        await asyncio.sleep(0)  # it has begun, and nothing is written yet
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await at.until("run.completed")


async def test_unknown_agents_and_options_are_refused_naming_what_exists() -> None:
    async def play(part: Part) -> None:
        await part.answer("ok")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        with pytest.raises(AgentNotFound, match="puppet"):
            await at.send("hi", agent="nobody")
        with pytest.raises(CommandMalformed, match=r"unknown field `volume`.*temperature"):
            await at.send("hi", options={"volume": 11})
        with pytest.raises(AgentNotFound, match="puppet"):
            await at.manager.create(CreateSession(agent="nobody"))
        assert await at.types() == ["session.created"]


async def test_a_run_that_breaks_ends_as_failed_without_telling_secrets() -> None:
    async def play(part: Part) -> None:
        await part.begin()
        await part.say("half an ans")
        raise RuntimeError("password=hunter2")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("hi")
        failed = await at.until("run.failed")
        assert failed["error"]["code"] == "internal_error"
        assert "hunter2" not in str(await at.events())
        completed = await at.until("message.completed")
        assert (completed["text"], completed["incomplete"]) == ("half an ans", True)
        assert (await at.types())[-1] == "run.failed"


@pytest.mark.rule("run.one_end")
async def test_a_run_that_returns_without_an_end_is_given_one() -> None:
    async def play(part: Part) -> None:
        await part.begin()

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("hi")
        assert (await at.until("run.failed"))["error"]["code"] == "no_end"
        assert sum(kind in ENDS for kind in await at.types()) == 1


async def test_nothing_can_be_said_after_the_end() -> None:
    refused: list[BaseException] = []

    async def play(part: Part) -> None:
        await part.answer("ok")
        try:
            await part.say("one more thing")
        except Fenced as error:
            refused.append(error)

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("hi")
        await at.until("run.completed")
        await at.send("hi again")
        await at.until("run.completed", 2)
        assert len(refused) >= 1
        assert "one more thing" not in str(await at.events())


class FailingEngine(MemoryEngine):
    """Fails the appends that contain a given text, so many times."""

    def __init__(self, text: bytes, times: int) -> None:
        super().__init__()
        self.text = text
        self.times = times

    async def append(self, write: Write) -> Appended:
        if self.times > 0 and any(self.text in body for body in write.bodies):
            self.times -= 1
            raise EngineUnavailable
        return await super().append(write)


@pytest.mark.parametrize("delta_interval", [0.0, 0.001])
async def test_a_run_whose_text_could_not_be_stored_fails_instead_of_going_on_with_a_hole(
    delta_interval: float,
) -> None:
    async def play(part: Part) -> None:
        await part.begin()
        for word in ("one ", "lost ", "three "):
            await part.say(word)
        while True:
            await part.emit(MessageDelta(run_id=part.run_id, message_id="msg_a", text="more "))
            await asyncio.sleep(0)

    engine = FailingEngine(b"lost", 1)
    async with desk(engine, Puppet(play), delta_interval=delta_interval) as at:
        await at.send("hi")
        failed = await at.until("run.failed")
        assert failed["error"]["code"] == "engine_unavailable"
        said = "".join(e["text"] for e in await at.events() if e["type"] == "message.delta")
        assert "one " in f"{said} one "
        assert "three" not in said
        completed = await at.until("message.completed")
        assert completed["text"] == said


async def test_creating_again_gives_the_same_session_and_another_body_is_refused() -> None:
    async def play(part: Part) -> None:
        await part.answer("ok")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        snapshot, new = await at.manager.create(CreateSession(session_id="s"))
        assert not new
        assert snapshot.session_id == "s"
        with pytest.raises(SessionConflict):
            await at.manager.create(CreateSession(session_id="s", metadata={"a": 1}))
        assert await at.types() == ["session.created"]


async def test_a_deleted_session_is_gone_for_good_and_its_run_has_stopped() -> None:
    stopped = asyncio.Event()

    async def play(part: Part) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("hi")
        async with asyncio.timeout(30):
            await puppet.came.wait()
            await at.manager.delete("s")
            await stopped.wait()
        with pytest.raises(SessionGone):
            await at.manager.snapshot("s")
        with pytest.raises(SessionGone):
            await at.send("hi")
        with pytest.raises(SessionGone):
            await at.manager.create(CreateSession(session_id="s"))


async def test_a_manager_that_stops_takes_no_more_commands() -> None:
    async def play(part: Part) -> None:
        await part.answer("ok")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.manager.aclose()
        with pytest.raises(ShuttingDown):
            await at.send("hi")


class SlowEngine(MemoryEngine):
    """Takes many turns of the event loop for each append."""

    async def append(self, write: Write) -> Appended:
        for _ in range(20):
            await asyncio.sleep(0)
        return await super().append(write)


@pytest.mark.rule("delta.coalesce", "run.boundaries")
@pytest.mark.parametrize("delta_interval", [0.0, 1e-6, 0.001, 30.0])
async def test_nothing_overtakes_a_delta_however_slow_the_store_is(delta_interval: float) -> None:
    words = [f"{number} " for number in range(200)]

    async def play(part: Part) -> None:
        await part.begin()
        for number, word in enumerate(words):
            await part.say(word)
            for _ in range(number % 7):
                await asyncio.sleep(0)
        await part.finish_step("".join(words))
        await part.end()

    async with desk(SlowEngine(), Puppet(play), delta_interval=delta_interval) as at:
        await at.send("count")
        await at.until("run.completed")
        events = await at.events()
        said = [event["text"] for event in events if event["type"] == "message.delta"]
        assert "".join(said) == "".join(words)
        assert [event["type"] for event in events][-3:] == [
            "message.completed",
            "model.completed",
            "run.completed",
        ]


async def test_a_run_that_talks_without_a_pause_does_not_keep_a_cancel_waiting() -> None:
    async def play(part: Part) -> None:
        await part.begin()
        while True:
            await part.say("blah ")
            await asyncio.sleep(0)

    async with desk(SlowEngine(), Puppet(play), delta_interval=1e-6) as at:
        await at.send("hi")
        await at.until("message.delta", 3)
        async with asyncio.timeout(30):
            await at.command("cancel")
        assert (await at.types())[-1] == "run.cancelled"


async def test_the_interval_is_kept_also_while_the_store_is_busy() -> None:
    async def play(part: Part) -> None:
        await part.begin()
        for _ in range(100):
            await part.say("x")
            await asyncio.sleep(0)
        await part.finish_step("x" * 100)
        await part.end()

    async with desk(SlowEngine(), Puppet(play), delta_interval=30.0) as at:
        await at.send("hi")
        await at.until("run.completed")
        assert (await at.types()).count("message.delta") == 2
