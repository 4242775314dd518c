"""Joining an AG-UI thread: what there is, what is open, and what comes; nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runtime.agent import Agent
from runtime.errors import ModelRefused
from runtime.events import (
    ApprovalRequested,
    Event,
    NodeCompleted,
    NodeStarted,
    NodeUpdate,
    ReasoningDelta,
    ReasoningStarted,
    RunCompleted,
    RunInterrupted,
    SuperstepStarted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolCompleted,
    ToolProgress,
    ToolStarted,
)
from runtime.messages import ToolCall, Usage
from runtime.models.scripted import Cue, ScriptedModel, say
from tests.frontends.serving import Answer, Place, ask, begin, serving
from tests.support.agui_site import Cast, asked, events_in, kinds
from tests.support.puppet import Part, Puppet
from tests.support.raw import raw

CONNECT = {"threadId": "t1", "runId": "j1", "protocolVersion": "1.0"}


class Stage:
    """A thread whose run says what the test wants."""

    def __init__(self, place: Place, part: Part) -> None:
        self.place = place
        self.part = part
        self.of: Any = {"run_id": part.run_id, "path": ("puppet",)}

    async def say(self, *events: Event) -> None:
        for event in events:
            await self.part.emit(event)

    @asynccontextmanager
    async def joined(self, *until: bytes) -> AsyncIterator[Answer]:
        """Join, and read until all of these words have come."""
        async with raw(self.place.address) as client:
            answer = await begin(client, self.place, "/agui/puppet/connect", CONNECT)
            for words in until:
                await answer.until(words)
            yield answer


@asynccontextmanager
async def stage(kind: Any = "agent") -> AsyncIterator[Stage]:
    over = asyncio.Event()

    async def play(part: Part) -> None:
        await over.wait()

    puppet = Puppet(play, kind=kind)
    async with serving(puppet) as place:
        command = {"type": "send", "id": "c1", "text": "go", "message_id": "u1"}
        await ask(place, "/v1/sessions", {"session_id": "t1"})
        await ask(place, "/v1/sessions/t1/commands", command)
        await puppet.came.wait()
        yield Stage(place, puppet.played[0])
        over.set()


async def joins(place: Place, agent: str, **body: Any) -> list[dict[str, Any]]:
    answer, text = await ask(place, f"/agui/{agent}/connect", CONNECT | body)
    assert answer.status == 200
    return events_in(text)


def only(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (event for event in events if event["type"] == kind)
    return found


def joined_text(events: list[dict[str, Any]], kind: str, name: str, id_: str) -> str:
    return "".join(e["delta"] for e in events if e["type"] == kind and e[name] == id_)


async def test_what_is_being_said_is_opened_again_with_its_text_so_far() -> None:
    async with stage() as on:
        await on.part.begin()
        await on.part.say("Hel")
        await on.say(
            ReasoningStarted(**on.of, message_id="rsn_1"),
            ReasoningDelta(**on.of, message_id="rsn_1", text="hm"),
            ToolCallStarted(**on.of, call_id="call_1", name="look", message_id="msg_a"),
            ToolCallDelta(**on.of, call_id="call_1", arguments='{"a":'),
        )
        async with on.joined(b'{\\"a\\":') as answer:
            await on.part.say("lo")
            await on.say(ReasoningDelta(**on.of, message_id="rsn_1", text="!"))
            await on.say(ToolCallDelta(**on.of, call_id="call_1", arguments="1}"))
            ready = {"call_id": "call_1", "name": "look", "arguments": '{"a":1}'}
            await on.say(ToolCallReady(**on.of, **ready))
            call = ToolCall(id="call_1", name="look", arguments='{"a":1}')
            await on.part.finish_step("Hello", call)
            await on.place.manager.close("t1", "done")
            events = events_in(await answer.whole())
    assert kinds(events)[:2] == ["RUN_STARTED", "MESSAGES_SNAPSHOT"]
    assert (events[0]["threadId"], events[0]["runId"]) == ("t1", "j1")
    assert events[1]["messages"] == [{"id": "u1", "role": "user", "content": "go"}]
    assert joined_text(events, "TEXT_MESSAGE_CONTENT", "messageId", "msg_a") == "Hello"
    assert joined_text(events, "REASONING_MESSAGE_CONTENT", "messageId", "rsn_1") == "hm!"
    assert joined_text(events, "TOOL_CALL_ARGS", "toolCallId", "call_1") == '{"a":1}'
    assert only(events, "TOOL_CALL_START")["parentMessageId"] == "msg_a"
    assert events[-1]["outcome"] == {"type": "cancelled"}


async def test_a_call_that_was_whole_before_its_answer_was_is_shown_with_the_answer() -> None:
    async with stage() as on:
        await on.part.begin()
        ready = {"call_id": "call_1", "name": "look", "arguments": "{}"}
        await on.say(
            ToolCallStarted(**on.of, call_id="call_1", name="look", message_id="msg_a"),
            ToolCallReady(**on.of, **ready),
        )
        async with on.joined(b"TEXT_MESSAGE_START") as answer:
            call = ToolCall(id="call_1", name="look", arguments="{}")
            await on.part.finish_step("", call)
            await on.say(ToolStarted(**on.of, **ready, idempotency_key="k"))
            await on.say(ToolProgress(**on.of, call_id="call_1", data=1))
            await on.say(
                ToolCompleted(**on.of, call_id="call_1", name="look", result="x", duration_ms=1)
            )
            await on.place.manager.close("t1", "done")
            events = events_in(await answer.whole())
    assert only(events, "TOOL_CALL_START")["toolCallName"] == "look"
    assert only(events, "TOOL_CALL_RESULT")["content"] == "x"


async def test_calls_results_and_progress_are_in_the_snapshot() -> None:
    async with stage() as on:
        calls = [ToolCall(id=f"call_{n}", name="look", arguments="{}") for n in (1, 2)]
        await on.part.begin()
        await on.part.say("I look.")
        await on.part.finish_step("I look.", *calls)
        for call in calls:
            of = {"call_id": call.id, "name": "look"}
            await on.say(ToolStarted(**on.of, **of, arguments="{}", idempotency_key="k"))
            await on.say(ToolProgress(**on.of, call_id=call.id, data={"percent": 5}))
        done = {"call_id": "call_1", "name": "look", "result": {"a": 1}, "duration_ms": 1}
        await on.say(ToolCompleted(**on.of, **done))
        async with on.joined(b"ACTIVITY_SNAPSHOT") as answer:
            await on.say(ToolProgress(**on.of, call_id="call_2", data={"percent": 6}))
            await on.place.manager.close("t1", "done")
            events = events_in(await answer.whole())
    assert events[1]["messages"][1:] == [
        {
            "id": "msg_a",
            "role": "assistant",
            "content": "I look.",
            "toolCalls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": "look", "arguments": "{}"},
                }
                for call in calls
            ],
        },
        {"id": "call_1-result", "role": "tool", "toolCallId": "call_1", "content": '{"a":1}'},
    ]
    assert only(events, "ACTIVITY_SNAPSHOT")["content"] == {
        "toolCallId": "call_2",
        "data": {"percent": 5},
    }
    assert only(events, "ACTIVITY_DELTA")["patch"][0]["value"] == {"percent": 6}


async def test_a_graphs_steps_and_state_are_shown_and_go_on() -> None:
    async with stage("graph") as on:
        of: Any = on.of
        await on.say(
            SuperstepStarted(**of, index=1, nodes=("one", "two")),
            NodeStarted(**of, node="one", superstep=1, state={"n": 0, "text": "x" * 99}),
            NodeStarted(**of, node="two", superstep=1, state={"n": 0, "text": "x" * 99}),
            NodeUpdate(**of, node="two", updates={"percent": 5}),
            NodeCompleted(**of, node="one", state={"n": 1, "text": "x" * 99}, duration_ms=1),
        )
        async with on.joined(b"ACTIVITY_SNAPSHOT") as answer:
            after = {"n": 0, "text": "x" * 99, "more": 1}
            await on.say(NodeUpdate(**of, node="two", updates={"percent": 6}))
            await on.say(NodeCompleted(**of, node="two", state=after, duration_ms=1))
            await on.place.manager.close("t1", "done")
            events = events_in(await answer.whole())
    assert only(events, "STATE_SNAPSHOT")["snapshot"] == {"n": 1, "text": "x" * 99}
    assert only(events, "STEP_STARTED")["stepName"] == "two"
    assert only(events, "ACTIVITY_SNAPSHOT")["content"]["updates"] == {"percent": 5}
    assert only(events, "ACTIVITY_DELTA")["patch"][0]["value"] == {"percent": 6}
    assert only(events, "STATE_DELTA")["delta"] == [{"op": "add", "path": "/more", "value": 1}]
    assert only(events, "STEP_FINISHED")["stepName"] == "two"


async def test_a_graph_that_is_over_shows_its_last_state() -> None:
    cast = Cast()
    async with serving(*cast.runnables) as place:
        await ask(place, "/agui/counting", asked())
        events = await joins(place, "counting")
    assert kinds(events) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "STATE_SNAPSHOT", "RUN_FINISHED"]
    assert events[2]["snapshot"]["notes"] == ["one", "two", "also"]


async def test_the_state_that_a_graph_ends_with_is_enough() -> None:
    async with stage("graph") as on:
        done: Any = {"output": "", "usage": Usage(), "message_count": 1, "num_turns": 0}
        await on.say(RunCompleted(**on.of, state={"n": 1}, **done))
        events = await joins(on.place, "puppet")
    assert only(events, "STATE_SNAPSHOT")["snapshot"] == {"n": 1}


async def test_questions_from_before_are_in_the_outcome() -> None:
    async with stage() as on:
        asks = {"approval_id": "apr_1", "call_id": "call_1", "tool": "look", "arguments": "{}"}
        await on.say(ApprovalRequested(**on.of, **asks, reason="it costs"))
        async with on.joined(b"MESSAGES_SNAPSHOT") as answer:
            await on.say(RunInterrupted(**on.of, reason="approval", pending=("apr_1",)))
            events = events_in(await answer.whole())
        again = await joins(on.place, "puppet")
    for end in (events[-1], again[-1]):
        (interrupt,) = end["outcome"]["interrupts"]
        assert (interrupt["id"], interrupt["message"]) == ("apr_1", "it costs")


async def test_a_client_that_joins_is_told_what_the_whole_run_took_or_nothing() -> None:
    usage = Usage(prompt_tokens=7, completion_tokens=5, total_tokens=12)
    for completes in (True, False):
        async with stage() as on:
            await on.part.begin()
            await on.part.finish_step("")
            async with on.joined(b"MESSAGES_SNAPSHOT") as answer:
                await on.part.begin("msg_b")
                await on.part.finish_step("", message_id="msg_b")
                done = RunCompleted(**on.of, output="", usage=usage, message_count=1, num_turns=2)
                if completes:
                    await on.say(done)
                else:
                    await on.place.manager.close("t1", "done")
                end = events_in(await answer.whole())[-1]
        told = [{"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}] if completes else None
        assert end.get("usage") == told


async def test_a_thread_that_nobody_has_begun_is_an_empty_stream() -> None:
    async with serving(Agent("echo", ScriptedModel([say("hi")]))) as place:
        events = await joins(place, "echo")
        assert kinds(events) == ["RUN_STARTED", "RUN_FINISHED"]
        assert await place.sessions() == []
        await ask(place, "/v1/sessions", {"session_id": "t1"})
        events = await joins(place, "echo")
        assert events[1] == {"type": "MESSAGES_SNAPSHOT", "messages": []}


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_how_the_last_run_ended_is_told(how: str) -> None:
    last: Cue = ModelRefused("it will not") if how == "failed" else asyncio.Event()
    script: list[Cue] = ["Hel", last]
    async with (
        serving(Agent("echo", ScriptedModel([script]))) as place,
        raw(place.address) as client,
    ):
        answer = await begin(client, place, "/agui/echo", asked())
        await answer.until(b"Hel")
        if how == "cancelled":
            await ask(place, "/agui/echo/stop", {"threadId": "t1"})
        await answer.whole()
        events = await joins(place, "echo")
    partial = events[1]["messages"][1]
    assert (partial["content"], partial["metadata"]) == ("Hel", {"tidegate": {"incomplete": True}})
    if how == "failed":
        assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "model_refused")
    else:
        assert events[-1]["outcome"] == {"type": "cancelled"}


@pytest.mark.rows("X7")
async def test_an_event_source_watches_a_thread_and_is_stopped_when_it_has_all() -> None:
    async with stage() as on:
        await on.part.begin()
        await on.part.say("Hel")
        path = "/agui/puppet/threads/t1"
        async with raw(on.place.address) as client:
            answer = await begin(client, on.place, path)
            await answer.until(b"Hel")
            await on.part.say("lo")
            await on.part.finish_step("Hello")
            await on.part.end("Hello")
            body = await answer.whole()
        events = events_in(body)
        assert joined_text(events, "TEXT_MESSAGE_CONTENT", "messageId", "msg_a") == "Hello"
        last = body.decode().rpartition("id: ")[2].split("\n")[0]
        gone, _ = await ask(on.place, path, Last_Event_ID=last)
        assert gone.status == 204
        whole, text = await ask(on.place, path, Last_Event_ID="t1/elsewhere")
        assert (whole.status, kinds(events_in(text))) == (
            200,
            ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"],
        )
        assert text.decode().rpartition("id: ")[2].split("\n")[0] == last


async def test_nothing_is_lost_or_doubled_wherever_a_client_joins() -> None:
    words = [f"w{n} " for n in range(12)]

    async with stage() as on:
        await on.part.begin()

        async def speak() -> None:
            for word in words:
                await on.part.say(word)
            await on.part.finish_step("".join(words))
            await on.part.end("".join(words))

        async def watch(turns: int) -> str:
            for _ in range(turns):
                await asyncio.sleep(0)
            events = await joins(on.place, "puppet")
            spoken = joined_text(events, "TEXT_MESSAGE_CONTENT", "messageId", "msg_a")
            return spoken or events[1]["messages"][1]["content"]

        async with asyncio.TaskGroup() as tasks:
            watchers = [tasks.create_task(watch(turns)) for turns in range(0, 60, 3)]
            tasks.create_task(speak())
    assert {watcher.result() for watcher in watchers} == {"".join(words)}
