"""Agents below a run's own agent: shown, counted, kept for going on, and apart from its history."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.sessions.snapshot import MessageView
from gateway.sessions.state import SessionState
from runtime.events import AgentHandoff, ToolCompleted, ToolStarted
from runtime.messages import ToolCall
from tests.support.puppet import Part, Puppet
from tests.support.sessions import desk

CALL = ToolCall(id="call_1", name="researcher", arguments='{"task":"tides"}')
INNER = ToolCall(id="call_2", name="look", arguments="{}")
BELOW = ("puppet", "call_1:researcher")


async def start_tool(part: Part, call: ToolCall) -> None:
    await part.emit(
        ToolStarted(
            run_id=part.run_id,
            path=part.path,
            call_id=call.id,
            name=call.name,
            arguments=call.arguments,
            idempotency_key=call.id,
        )
    )


async def finish_tool(part: Part, call: ToolCall, result: object) -> None:
    await part.emit(
        ToolCompleted(
            run_id=part.run_id,
            path=part.path,
            call_id=call.id,
            name=call.name,
            result=result,
            duration_ms=1,
        )
    )


async def call_researcher(part: Part, inner_call: ToolCall = INNER) -> Part:
    """One step that calls an agent, which calls a tool in its own first step."""
    await part.begin("msg_1")
    await part.finish_step("I ask", CALL, message_id="msg_1")
    await start_tool(part, CALL)
    inner = part.below(*BELOW)
    await inner.begin("msg_in_1")
    await inner.finish_step("I look", inner_call, message_id="msg_in_1")
    await start_tool(inner, inner_call)
    await finish_tool(inner, inner_call, {"found": 1})
    return inner


def shown(messages: list[MessageView]) -> dict[str, MessageView]:
    return {message.message_id: message for message in messages}


@pytest.mark.rule("path.below")
async def test_what_a_called_agent_says_is_shown_and_is_no_part_of_the_conversation() -> None:
    async def play(part: Part) -> None:
        if len(puppet.played) > 1:
            await part.answer("again", "msg_9")
            return
        # Models give the same ids again.
        inner = await call_researcher(part, INNER.model_copy(update={"id": CALL.id}))
        await inner.begin("msg_in_2", turn=2)
        await inner.finish_step("tides come twice", message_id="msg_in_2", turn=2)
        await finish_tool(part, CALL, "tides come twice")
        await part.begin("msg_2", turn=2)
        await part.finish_step("Twice a day.", message_id="msg_2", turn=2)
        await part.end("Twice a day.")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("tides?")
        await at.until("run.completed")
        snapshot = await at.manager.snapshot("s")
        views = shown(snapshot.messages)
        assert views["msg_in_1"].path == views["msg_in_2"].path == BELOW
        assert views["msg_in_2"].agent == "researcher"
        assert views["msg_1"].path is None
        assert (views["msg_1"].turn, views["msg_2"].turn, views["msg_in_2"].turn) == (1, 2, 2)
        (inner_call,), (call,) = views["msg_in_1"].tool_calls, views["msg_1"].tool_calls
        assert inner_call.result == {"found": 1}
        assert call.result == "tides come twice"
        assert snapshot.usage is not None
        assert snapshot.usage.total_tokens == 8  # four model calls at both depths, once each
        await at.send("sure?")
        await at.until("run.completed", 2)
        said = [(m.role, m.content) for m in puppet.played[1].request.history]
        assert said == [
            ("user", "tides?"),
            ("assistant", "I ask"),
            ("tool", "tides come twice"),
            ("assistant", "Twice a day."),
            ("user", "sure?"),
        ]


@pytest.mark.rule("run.taken_over")
async def test_a_take_over_hands_on_what_was_done_below_and_supersedes_the_rest() -> None:
    async def play(part: Part) -> None:
        if part.request.attempt == 1:
            inner = await call_researcher(part)
            await part.emit(
                AgentHandoff(run_id=part.run_id, path=("puppet",), source="puppet", target="other")
            )
            await start_tool(inner, INNER.model_copy(update={"id": "call_3"}))
            await inner.begin("msg_in_2", turn=2)
            await inner.say("tides co", "msg_in_2")
            await asyncio.Event().wait()
        await part.end("done")

    engine, puppet = MemoryEngine(), Puppet(play)
    async with desk(engine, puppet) as at:
        await at.send("tides?")
        await at.until("message.delta")
    async with desk(engine, puppet) as at:
        await at.until("run.completed")
        request = puppet.played[1].request
        assert [(event.type, event.path) for event in request.journal] == [
            ("model.completed", ()),
            ("tool.started", ()),
            ("model.completed", BELOW),
            ("tool.started", BELOW),
            ("tool.completed", BELOW),
            ("agent.handoff", ("puppet",)),
            ("tool.started", BELOW),
        ]
        assert request.turns == 1  # of its own
        assert request.started == {"call_1"}
        assert request.usage.total_tokens == 4
        views = shown((await at.manager.snapshot("s")).messages)
        assert not views["msg_1"].superseded
        assert not views["msg_in_1"].superseded  # its model call is done, and is not made again
        assert views["msg_in_2"].superseded
        taken = next(e for e in await at.events() if e["type"] == "run.attempt_started")
        assert taken["from_step"] == 1


async def test_a_whole_message_below_whose_model_call_was_not_done_is_said_anew() -> None:
    async def play(part: Part) -> None:
        if part.request.attempt == 1:
            await part.begin("msg_1")
            await part.finish_step("I ask", CALL, message_id="msg_1")
            inner = part.below(*BELOW)
            await inner.begin("msg_in_1")
            await inner.say("whole", "msg_in_1")
            await inner.close_message("whole", "msg_in_1")
            await asyncio.Event().wait()
        await part.end("done")

    engine, puppet = MemoryEngine(), Puppet(play)
    async with desk(engine, puppet) as at:
        await at.send("tides?")
        await at.until("message.completed", 2)
    async with desk(engine, puppet) as at:
        await at.until("run.completed")
        views = shown((await at.manager.snapshot("s")).messages)
        assert views["msg_in_1"].superseded
        assert not views["msg_1"].superseded


@pytest.mark.rule("run.continued")
async def test_a_run_that_continues_another_knows_to_whom_it_was_handed_over() -> None:
    transfer = ToolCall(id="call_1", name="transfer_to_other", arguments="{}")

    async def play(part: Part) -> None:
        if part.request.parent_run_id is not None:
            await part.end("done")
            return
        await part.begin("msg_1")
        await part.finish_step("over to you", transfer, message_id="msg_1")
        await part.emit(
            AgentHandoff(run_id=part.run_id, path=("puppet",), source="puppet", target="other")
        )
        await finish_tool(part, transfer, "handed over")
        await asyncio.Event().wait()

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("tides?")
        await at.until("tool.completed")
        await at.command("cancel")
        await at.command("continue")
        await at.until("run.completed")
        journal = puppet.played[1].request.journal
        assert [event.type for event in journal] == ["agent.handoff", "tool.completed"]


@pytest.mark.rule("snapshot.fold")
async def test_a_stored_state_keeps_the_journal_and_a_run_that_is_over_does_not() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await call_researcher(part)
        await gate.wait()
        await part.end("done")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        ack = await at.send("tides?")
        await at.until("tool.completed")
        await at.manager.snapshot("s")  # waits until it is folded
        state = at.manager._sessions["s"].state
        again = SessionState.model_validate_json(state.model_dump_json())
        assert again.model_dump_json() == state.model_dump_json()
        run = again.runs[ack.run_id or ""]
        assert run.journal == state.runs[run.run_id].journal
        assert len(run.journal) == 5
        gate.set()
        await at.until("run.completed")
        await at.manager.snapshot("s")
        assert state.runs[run.run_id].journal == []


async def test_an_open_message_in_the_snapshot_says_who_speaks() -> None:
    async def play(part: Part) -> None:
        inner = part.below(*BELOW)
        await inner.begin("msg_in_1", turn=3)
        await inner.say("tides", "msg_in_1")
        await asyncio.Event().wait()

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("tides?")
        await at.until("message.delta")
        (open_text,) = (await at.manager.snapshot("s")).open.messages
        assert (open_text.agent, open_text.turn, open_text.path) == ("researcher", 3, BELOW)
