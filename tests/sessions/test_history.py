"""What was said before, elsewhere; inputs with ids, and going back in a conversation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.commands import parse_create
from gateway.engines.memory import MemoryEngine
from gateway.errors import CommandConflict, CommandMalformed, RunActive, SessionConflict
from runtime.agent import Agent
from runtime.history import UNANSWERED
from runtime.messages import ToolCall
from runtime.models.scripted import ScriptedModel, call_tools, say
from runtime.tools import tool
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk

CALL = {"id": "c1", "name": "place", "arguments": "{}"}
OTHER = {"id": "c2", "name": "look", "arguments": "{}"}
HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "Hello", "message_id": "m1"},
    {"role": "assistant", "content": "Wait.", "tool_calls": [CALL, OTHER]},
    {"role": "tool", "content": "Ulm", "tool_call_id": "c1"},
    {"role": "tool", "content": "trees", "tool_call_id": "c2"},
    {"role": "assistant", "content": "You are in Ulm.", "message_id": "m5"},
]
ENDS_IN_CALLS = HISTORY[:2]


def echo() -> Puppet:
    async def play(part: Part) -> None:
        await part.answer(f"answer {len(part.request.history)}", f"msg_{part.run_id}")

    return Puppet(play)


async def begun(at: Desk, history: list[dict[str, Any]], session_id: str = "h") -> Desk:
    """Return a desk with a session that begins with a history."""
    await at.manager.create(parse_create({"session_id": session_id, "history": history}))
    return Desk(at.engine, at.manager, session_id)


def told(part: Part) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in part.request.history]


@pytest.mark.rule("history.imported")
async def test_a_session_goes_on_from_what_was_said_elsewhere() -> None:
    puppet, engine = echo(), MemoryEngine()
    async with desk(engine, puppet) as at:
        there = await begun(at, HISTORY)
        created = (await there.events())[0]
        assert [m["message_id"] for m in created["history"]] == [
            "m1",
            "msg_before_2",
            "msg_before_3",
            "msg_before_4",
            "m5",
        ]
        messages = (await at.manager.snapshot("h")).messages
        assert [(m.message_id, m.role, m.text, m.run_id) for m in messages] == [
            ("m1", "user", "Hello", None),
            ("msg_before_2", "assistant", "Wait.", None),
            ("m5", "assistant", "You are in Ulm.", None),
        ]
        assert [(c.call_id, c.status, c.result) for c in messages[1].tool_calls] == [
            ("c1", "completed", "Ulm"),
            ("c2", "completed", "trees"),
        ]
    async with desk(engine, puppet) as at:
        there = Desk(engine, at.manager, "h")
        await there.send("And now?")
        await there.until("run.completed")
        assert told(puppet.played[-1]) == [
            ("user", "Hello"),
            ("assistant", "Wait."),
            ("tool", "Ulm"),
            ("tool", "trees"),
            ("assistant", "You are in Ulm."),
            ("user", "And now?"),
        ]
        calls = puppet.played[-1].request.history[1].tool_calls
        assert calls == (ToolCall(**CALL), ToolCall(**OTHER))


async def test_the_same_history_again_is_the_same_session_and_another_one_a_conflict() -> None:
    async with desk(MemoryEngine(), echo()) as at:
        asked = parse_create({"session_id": "h", "history": HISTORY})
        await at.manager.create(asked)
        _, new = await at.manager.create(asked)
        assert not new
        with pytest.raises(SessionConflict):
            await at.manager.create(parse_create({"session_id": "h", "history": HISTORY[:1]}))


async def test_a_session_is_named_after_what_was_said_first() -> None:
    async with desk(MemoryEngine(), echo()) as at:
        await begun(at, HISTORY)
        listed = (await at.manager.sessions(limit=9, after=None))["sessions"]
        assert {each["session_id"]: each["title"] for each in listed} == {"h": "Hello", "s": None}


async def test_calls_of_a_history_that_nobody_answers_are_told_to_have_no_result() -> None:
    puppet = echo()
    async with desk(MemoryEngine(), puppet) as at:
        there = await begun(at, ENDS_IN_CALLS)
        await there.send("Never mind.")
        await there.until("run.completed")
        roles = [role for role, _ in told(puppet.played[0])]
        assert roles == ["user", "assistant", "tool", "tool", "user"]
        assert all("no result" in text for role, text in told(puppet.played[0]) if role == "tool")


# --- results --------------------------------------------------------------------------------------


@pytest.mark.rule("send.result")
async def test_a_result_answers_the_call_that_a_history_ends_with_and_starts_a_run() -> None:
    puppet, engine = echo(), MemoryEngine()
    async with desk(engine, puppet) as at:
        there = await begun(at, [*ENDS_IN_CALLS, HISTORY[2]])
        ack = await there.command("send", result={"call_id": "c2", "content": "trees"})
        await there.until("run.completed")
        accepted = await there.until("input.accepted")
        assert accepted["message"]["role"] == "tool"
        assert accepted["message"]["tool_call_id"] == "c2"
        assert accepted["cursor"] == ack.cursor
        assert told(puppet.played[0]) == [
            ("user", "Hello"),
            ("assistant", "Wait."),
            ("tool", "Ulm"),
            ("tool", "trees"),
        ]
        await there.send("Thanks")
        await there.until("run.completed", 2)
    async with desk(engine, puppet) as at:
        snapshot = await at.manager.snapshot("h")
        assert [m.role for m in snapshot.messages] == [
            "user",
            "assistant",
            "assistant",
            "user",
            "assistant",
        ]
        assert [c.result for c in snapshot.messages[1].tool_calls] == ["Ulm", "trees"]


async def test_calls_beside_the_one_that_is_answered_are_not_made_any_more() -> None:
    made: list[str] = []

    @tool
    async def look() -> str:
        made.append("look")
        return "trees"

    model = ScriptedModel([say("fine")])
    async with desk(MemoryEngine(), Agent("a", model, tools=(look,))) as at:
        there = await begun(at, ENDS_IN_CALLS)
        await there.command("send", result={"call_id": "c1", "content": "Ulm"})
        await there.until("run.completed")
        assert made == []
        (request,) = model.requests
        answers = [m.content for m in request.messages if m.role == "tool"]
        assert answers == ["Ulm", f"error: {UNANSWERED.message}"]
        calls = (await at.manager.snapshot("h")).messages[1].tool_calls
        assert [(c.status, c.error) for c in calls] == [("completed", None), ("failed", UNANSWERED)]


async def test_a_result_may_come_for_a_call_that_a_cancelled_run_ended_with() -> None:
    model = ScriptedModel([call_tools(ToolCall(id="c1", name="place", arguments="{}")), say("ok")])
    async with desk(MemoryEngine(), Agent("a", model)) as at:
        await at.send("hi", tools=[{"name": "place"}])
        await at.until("run.interrupted")
        with pytest.raises(CommandMalformed, match="is answered by `continue`"):
            await at.command("send", result={"call_id": "c1", "content": "Ulm"})
        await at.command("cancel")
        await at.command("send", result={"call_id": "c1", "content": "Ulm"})
        await at.until("run.completed")
        assert model.requests[-1].messages[-1].content == "Ulm"


@pytest.mark.parametrize(
    ("history", "call_id"),
    [(ENDS_IN_CALLS, "c3"), (HISTORY, "c1"), ([*ENDS_IN_CALLS, HISTORY[2]], "c1"), ([], "c1")],
)
async def test_a_result_that_nothing_waits_for_is_refused(
    history: list[dict[str, Any]], call_id: str
) -> None:
    async with desk(MemoryEngine(), echo()) as at:
        there = await begun(at, history)
        with pytest.raises(CommandMalformed, match=f"unanswered tool call '{call_id}'"):
            await there.command("send", result={"call_id": call_id, "content": "x"})
        assert await there.types() == ["session.created"]


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.rule("send.message_id")
async def test_a_message_has_the_id_that_its_client_gave_it() -> None:
    gate, done = asyncio.Event(), asyncio.Event()

    async def play(part: Part) -> None:
        await gate.wait()
        said = "msg_open" if len(puppet.played) == 1 else "msg_later"
        await part.begin(said)
        await part.say("ok", said)
        await done.wait()
        await part.finish_step("ok", message_id=said)
        await part.end("ok")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        first = await at.send("one", message_id="mine", id="same")
        assert await at.send("one", message_id="mine", id="same") == first
        with pytest.raises(CommandConflict):
            await at.send("two", message_id="mine", id="same")
        with pytest.raises(CommandMalformed, match="has a message 'mine' already"):
            await at.send("two", message_id="mine")
        await at.send("two", message_id="waiting")
        with pytest.raises(CommandMalformed, match="has a message 'waiting' already"):
            await at.send("three", message_id="waiting")
        gate.set()
        await at.until("message.delta")
        with pytest.raises(CommandMalformed, match="has a message 'msg_open' already"):
            await at.send("three", message_id="msg_open")
        done.set()
        await at.until("run.completed", 2)
        ids = [m.message_id for m in (await at.manager.snapshot("s")).messages if m.role == "user"]
        assert ids == ["mine", "waiting"]


# --- going back -----------------------------------------------------------------------------------


async def said(at: Desk, *texts: str) -> None:
    """Have a conversation; the message with text `t` has the id `m-t`."""
    for count, text in enumerate(texts, start=1):
        await at.send(text, message_id=f"m-{text}")
        await at.until("run.completed", count)


def texts(messages: list[Any]) -> list[str]:
    return [message.text for message in messages]


@pytest.mark.rule("history.rolled_back")
async def test_a_message_and_all_after_it_no_longer_count_when_a_send_goes_back_to_it() -> None:
    puppet, engine = echo(), MemoryEngine()
    async with desk(engine, puppet) as at:
        await said(at, "one", "two", "three")
        before = (await at.manager.snapshot("s")).messages
        ack = await at.send("TWO", rewind_to="m-two", message_id="m-two")
        await at.until("run.completed", 4)
        events = await at.events()
        place = next(n for n, e in enumerate(events) if e["type"] == "history.rolled_back")
        assert [e["type"] for e in events[place : place + 3]] == [
            "history.rolled_back",
            "input.accepted",
            "run.started",
        ]
        rolled_back = events[place]
        assert rolled_back["run_id"] == ack.run_id
        assert rolled_back["cursor"] == ack.cursor
        assert rolled_back["message_ids"] == [m.message_id for m in before[2:]]
        assert told(puppet.played[-1]) == [
            ("user", "one"),
            ("assistant", "answer 1"),
            ("user", "TWO"),
        ]
    async with desk(engine, puppet) as at:
        assert texts((await at.manager.snapshot("s")).messages) == [
            "one",
            "answer 1",
            "TWO",
            "answer 3",
        ]


async def test_one_can_go_back_to_an_answer_or_to_the_very_beginning() -> None:
    puppet = echo()
    async with desk(MemoryEngine(), puppet) as at:
        there = await begun(at, HISTORY)
        await there.send("again", rewind_to="m5")
        await there.until("run.completed")
        assert [m.message_id for m in (await at.manager.snapshot("h")).messages][:2] == [
            "m1",
            "msg_before_2",
        ]
        await there.send("anew", rewind_to="m1")
        await there.until("run.completed", 2)
        assert told(puppet.played[-1]) == [("user", "anew")]


async def test_a_result_can_be_given_anew() -> None:
    puppet = echo()
    async with desk(MemoryEngine(), puppet) as at:
        there = await begun(at, [*ENDS_IN_CALLS, HISTORY[2]])
        await there.command("send", result={"call_id": "c2", "content": "trees"})
        await there.until("run.completed")
        snapshot = await at.manager.snapshot("h")
        with pytest.raises(CommandMalformed, match="unanswered tool call 'c2'"):
            await there.command(
                "send",
                result={"call_id": "c2", "content": "houses"},
                rewind_to=snapshot.messages[-1].message_id,
            )


async def test_a_result_may_take_the_place_of_what_was_said_instead_of_it() -> None:
    call = call_tools(ToolCall(id="c9", name="place", arguments="{}"))
    model = ScriptedModel([call, say("ok")])
    async with desk(MemoryEngine(), Agent("a", model)) as at:
        there = await begun(at, [*ENDS_IN_CALLS, HISTORY[2]])
        await there.send("Never mind.", message_id="m9", tools=[{"name": "place"}])
        await there.until("run.interrupted")
        result = {"call_id": "c2", "content": "trees"}
        await there.command("send", result=result, rewind_to="m9")
        await there.until("run.completed")
        told = [(m.role, m.content) for m in model.requests[-1].messages]
        assert told[2:] == [("tool", "Ulm"), ("tool", "trees")]


async def test_a_message_that_waits_can_be_gone_back_to_when_it_has_been_said() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await gate.wait()
        await part.answer("answer", f"msg_{part.run_id}")

    async with desk(MemoryEngine(), Puppet(play)) as at:
        await at.send("one")
        await at.send("two", message_id="m-two")
        await at.send("TWO", rewind_to="m-two")
        gate.set()
        await at.until("run.completed", 3)
        messages = (await at.manager.snapshot("s")).messages
        assert texts(messages) == ["one", "answer", "TWO", "answer"]


async def test_a_message_that_is_not_there_cannot_be_gone_back_to() -> None:
    async with desk(MemoryEngine(), echo()) as at:
        with pytest.raises(CommandMalformed, match="`rewind_to`: the session has no message 'x'"):
            await at.send("hi", rewind_to="x")


async def test_what_waits_for_a_human_gives_way_to_who_goes_back() -> None:
    model = ScriptedModel([call_tools(ToolCall(id="c1", name="place", arguments="{}")), say("ok")])
    engine = MemoryEngine()
    async with desk(engine, Agent("a", model)) as at:
        first = await at.send("hi", message_id="m1", tools=[{"name": "place"}])
        await at.until("run.interrupted")
        await at.send("hello", rewind_to="m1", policy="reject")
        await at.until("run.completed")
        events = await at.events()
        place = next(n for n, e in enumerate(events) if e["type"] == "approval.resolved")
        assert [e["type"] for e in events[place : place + 5]] == [
            "approval.resolved",
            "run.cancelled",
            "history.rolled_back",
            "input.accepted",
            "run.started",
        ]
        assert events[place]["decision"] == "expired"
        assert events[place + 1]["run_id"] == first.run_id
        assert events[place + 1]["reason"] == "superseded"
        assert events[place + 1]["command_id"] == events[place + 3]["command_id"]
        snapshot = await at.manager.snapshot("s")
        assert (texts(snapshot.messages), snapshot.approvals) == (["hello", "ok"], [])
        assert [m.content for m in model.requests[-1].messages] == ["hello"]


async def test_who_goes_back_waits_for_the_run_and_drops_what_that_has_said() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        if len(puppet.played) == 2:
            await part.begin("msg_2")
            await part.say("half", "msg_2")
            await gate.wait()
            await part.finish_step("half and half", message_id="msg_2")
            await part.end("half and half")
            return
        await part.answer("answer", f"msg_{part.run_id}")

    puppet, engine = Puppet(play), MemoryEngine()
    async with desk(engine, puppet) as at:
        await said(at, "one")
        await at.send("two", message_id="m-two")
        await at.until("message.delta", 2)
        with pytest.raises(RunActive):
            await at.send("TWO", rewind_to="m-two", policy="reject")
        await at.send("TWO", rewind_to="m-two")
        assert (await at.until("input.queued"))["rewind_to"] == "m-two"
        gate.set()
        await at.until("run.completed", 3)
        rolled_back = await at.until("history.rolled_back")
        assert rolled_back["message_ids"] == ["m-two", "msg_2"]
        assert texts((await at.manager.snapshot("s")).messages) == [
            "one",
            "answer",
            "TWO",
            "answer",
        ]


@pytest.mark.parametrize("killed", [False, True])
async def test_half_an_answer_of_a_cancelled_run_is_dropped_too(killed: bool) -> None:
    async def play(part: Part) -> None:
        if part.request.history[-1].content == "one":
            await part.begin("msg_1")
            await part.say("half", "msg_1")
            await asyncio.Event().wait()
        await part.answer("whole", f"msg_{part.run_id}")

    puppet, engine = Puppet(play), MemoryEngine()
    async with desk(engine, puppet) as at:
        await at.send("one", message_id="m1")
        await at.until("message.delta")
        await at.send("uno", rewind_to="m1")
        if not killed:
            await at.command("cancel")
            await at.until("run.completed")
    async with desk(engine, puppet) as at:
        if killed:
            await at.until("message.started", 2)
            await at.command("cancel")
            await at.until("run.completed")
        assert texts((await at.manager.snapshot("s")).messages) == ["uno", "whole"]
        assert [m.content for m in puppet.played[-1].request.history] == ["uno"]


async def test_a_message_that_is_gone_when_the_turn_comes_is_nothing_to_go_back_to() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        if len(puppet.played) > 2:
            await gate.wait()
        await part.answer("answer", f"msg_{part.run_id}")

    puppet = Puppet(play)
    async with desk(MemoryEngine(), puppet) as at:
        await said(at, "one", "two")
        await at.send("three")
        await at.send("ONE", rewind_to="m-one")
        await at.send("TWO", rewind_to="m-two")
        gate.set()
        await at.until("run.completed", 5)
        assert (await at.types()).count("history.rolled_back") == 1
        assert texts((await at.manager.snapshot("s")).messages) == [
            "ONE",
            "answer",
            "TWO",
            "answer",
        ]


async def test_what_is_looked_at_before_a_turn_leaves_no_trace() -> None:
    async def play(part: Part) -> None:
        said = f"msg_{len(puppet.played)}"
        await part.begin(said)
        await part.say("half", said)
        await asyncio.Event().wait()

    puppet, engine = Puppet(play), MemoryEngine()
    async with desk(engine, puppet) as at:
        await at.send("one", message_id="m-one")
        await at.until("message.delta")
        await at.send("ONE", rewind_to="m-one")
        await at.send("again", rewind_to="m-one")  # which will be gone
        await at.command("cancel")
        await at.until("message.delta", 2)
        await at.command("cancel")
        await at.until("message.delta", 3)
        await at.command("cancel")
        live = await at.manager.snapshot("s")
        assert texts(live.messages) == ["ONE", "half", "again", "half"]
    async with desk(engine, puppet) as at:
        assert await at.manager.snapshot("s") == live


async def test_with_others_in_the_queue_who_goes_back_comes_after_them() -> None:
    model = ScriptedModel(
        [call_tools(ToolCall(id="c1", name="place", arguments="{}")), say("2"), say("3")]
    )
    async with desk(MemoryEngine(), Agent("a", model)) as at:
        await at.send("one", message_id="m1", tools=[{"name": "place"}])
        await at.until("run.interrupted")
        await at.send("two")
        with pytest.raises(RunActive):
            await at.send("ONE", rewind_to="m1", policy="reject")
        await at.send("ONE", rewind_to="m1")
        await at.until("run.completed", 2)
        assert texts((await at.manager.snapshot("s")).messages) == ["ONE", "3"]
        queued = await at.until("input.queued", 2)
        assert queued["position"] == 1
