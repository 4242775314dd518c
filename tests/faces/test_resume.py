"""A run that waits for a human ends its stream, and goes on with what the human said."""

from __future__ import annotations

import asyncio

import pytest

from runtime import Agent, Decision, RuntimeFault, ScriptedModel, ToolCall, Usage, tool
from runtime.cancel import CancelToken
from runtime.errors import RunAborted
from runtime.events import ApprovalResolved, MessageDelta, RunInterrupted
from runtime.models.base import Finish
from runtime.models.scripted import Cue, call_tools, say
from runtime.streaming import RunResult, resume, run, stream
from tests.faces.support import Gated, check_events
from tests.runtime.support import PATIENCE

APPROVED = Decision("approved")
SEND = ToolCall(id="c1", name="send", arguments='{"to": "Ann"}')
LOOK = ToolCall(id="c2", name="look", arguments="{}")


class Office:
    """An agent that looks something up, and sends mail when a human agrees."""

    def __init__(self, *answers: tuple[Cue, ...]) -> None:
        self.sent: list[str] = []
        self.looked = 0

        @tool(needs_approval=True)
        async def send(to: str) -> str:
            """Send a mail."""
            self.sent.append(to)
            return f"sent to {to}"

        @tool
        async def look() -> str:
            """Look something up."""
            self.looked += 1
            return "seen"

        first = (*call_tools(LOOK, SEND)[:-1], Finish("tool_calls", Usage(total_tokens=100)))
        last = ("All ", "done.", Finish("stop", Usage(total_tokens=20)))
        self.model = ScriptedModel([first, *(answers or (last,))])
        self.agent = Agent("office", self.model, tools=[send, look])


async def waiting(agent: Agent) -> RunResult:
    async with asyncio.timeout(PATIENCE):
        return await run(agent, "Write to Ann.")


@pytest.mark.rows("X1")
async def test_a_run_that_waits_ends_normally_and_says_what_it_waits_for() -> None:
    office = Office()
    handle = stream(office.agent, "Write to Ann.")
    events = [event async for event in handle.events]
    check_events(events)
    assert isinstance(events[-1], RunInterrupted)
    result = await handle.result
    (asked,) = result.interrupted
    assert (asked.tool, asked.arguments, asked.call_id) == ("send", SEND.arguments, "c1")
    assert (office.sent, office.looked) == ([], 1)
    assert result.num_turns == 1
    assert result.usage.total_tokens == 100
    assert not result.stopped


@pytest.mark.rows("W-S9")
async def test_a_resumed_run_streams_the_rest_and_keeps_its_counters() -> None:
    office = Office()
    first = await waiting(office.agent)
    (asked,) = first.interrupted
    handle = resume(first, {asked.approval_id: APPROVED})
    assert handle.run_id == first.run_id
    events = [event async for event in handle.events]
    check_events(events)
    assert isinstance(events[0], ApprovalResolved)
    assert "run.started" not in {event.type for event in events}
    assert "".join(e.text for e in events if isinstance(e, MessageDelta)) == "All done."
    result = await handle.result
    assert result.output == "All done."
    assert result.interrupted == ()
    assert result.num_turns == 2
    assert result.usage.total_tokens == 120
    assert (office.sent, office.looked) == (["Ann"], 1)
    assert [m.role for m in result.messages] == ["user", "assistant", "tool", "tool", "assistant"]


async def test_a_rejection_is_told_to_the_model_and_new_arguments_are_used() -> None:
    rejected = Office()
    first = await waiting(rejected.agent)
    said = {first.interrupted[0].approval_id: Decision("rejected", message="not today")}
    await resume(first, said).drain()
    assert rejected.sent == []
    assert any("not today" in m.content for m in rejected.model.requests[-1].messages)

    edited = Office()
    first = await waiting(edited.agent)
    said = {first.interrupted[0].approval_id: Decision("edited", arguments='{"to": "Bob"}')}
    await resume(first, said).drain()
    assert edited.sent == ["Bob"]


async def test_a_run_may_wait_more_than_once() -> None:
    again = ToolCall(id="c3", name="send", arguments='{"to": "Bob"}')
    office = Office(call_tools(again), say("Both sent."))
    first = await waiting(office.agent)
    second = await resume(first, {first.interrupted[0].approval_id: APPROVED}).drain()
    (asked,) = second.interrupted
    assert asked.call_id == "c3"
    assert office.sent == ["Ann"]
    third = await resume(second, {asked.approval_id: APPROVED}).drain()
    assert third.output == "Both sent."
    assert third.num_turns == 3
    assert office.sent == ["Ann", "Bob"]


async def test_what_nobody_decides_on_is_asked_again() -> None:
    other = ToolCall(id="c4", name="send", arguments='{"to": "Bob"}')
    office = Office(say("Done."))
    office.model._script = [call_tools(SEND, other), say("Done.")]
    first = await waiting(office.agent)
    assert [asked.call_id for asked in first.interrupted] == ["c1", "c4"]
    second = await resume(first, {first.interrupted[1].approval_id: APPROVED}).drain()
    assert [asked.call_id for asked in second.interrupted] == ["c1"]
    assert office.sent == ["Bob"]
    last = await resume(second, {second.interrupted[0].approval_id: APPROVED}).drain()
    assert (last.output, office.sent) == ("Done.", ["Bob", "Ann"])


async def test_a_resumed_run_can_be_aborted() -> None:
    place, token = Gated(), CancelToken()
    office = Office(("one ", place.reached, place.go_on))
    place.reached.set()
    first = await waiting(office.agent)
    said = {first.interrupted[0].approval_id: APPROVED}
    handle = resume(first, said, cancel=token)
    while (await anext(handle.stream)).type != "message.delta":
        pass
    token.abort()
    with pytest.raises(RunAborted):
        await handle.drain()
    assert office.sent == ["Ann"]


async def test_only_what_waits_can_go_on_and_only_once() -> None:
    office = Office()
    first = await waiting(office.agent)
    (asked,) = first.interrupted
    with pytest.raises(ValueError, match=rf"does not wait for nope; .*{asked.approval_id}"):
        resume(first, {"nope": APPROVED})
    handle = resume(first, {asked.approval_id: APPROVED})
    with pytest.raises(RuntimeFault, match="went on already"):
        resume(first, {asked.approval_id: APPROVED})
    with pytest.raises(RuntimeFault, match="does not wait"):
        handle.resume({})
    done = await handle.drain()
    with pytest.raises(RuntimeFault, match="does not wait"):
        resume(done, {})


async def test_an_agent_below_that_waits_holds_the_whole_run_and_goes_on_where_it_was() -> None:
    office = Office()
    call = ToolCall(id="o1", name="office", arguments='{"input": "Write to Ann."}')
    boss_model = ScriptedModel([call_tools(call), say("It is sent.")])
    boss = Agent("boss", boss_model, tools=[office.agent.as_tool()])
    handle = stream(boss, "Have it written.")
    events = [event async for event in handle.events]
    check_events(events)
    first = await handle.result
    (asked,) = first.interrupted
    assert asked.path == ("boss", "o1:office")
    assert (office.sent, office.looked) == ([], 1)
    rest = resume(first, {asked.approval_id: APPROVED})
    more = [event async for event in rest.events]
    check_events(more)
    result = await rest.result
    assert result.output == "It is sent."
    assert (office.sent, office.looked) == (["Ann"], 1)
    assert (len(office.model.requests), len(boss_model.requests)) == (2, 2)
    assert [m.content for m in result.messages if m.role == "tool"] == ["All done."]
    own = sum(
        m.usage.total_tokens for m in (*events, *more) if m.type == "model.completed" and m.usage
    )
    assert result.usage.total_tokens == own
