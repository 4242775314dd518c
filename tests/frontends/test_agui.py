"""`POST /agui/{agent}`: what a request does to a session, and what its stream says."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from runtime.agent import Agent
from runtime.events import InputAccepted, RunCancelled, RunStarted, SessionCreated
from runtime.messages import ToolCall
from runtime.models.scripted import ScriptedModel, call_tools, say
from tests.frontends.serving import Endless, Place, ask, begin, serving
from tests.support.agui_site import Cast, asked, events_in, kinds, pay
from tests.support.raw import raw

Message = dict[str, Any]


def user(id_: str, content: Any) -> Message:
    return {"id": id_, "role": "user", "content": content}


def tool_answer(call_id: str, content: str) -> Message:
    return {"id": f"answer-{call_id}", "role": "tool", "toolCallId": call_id, "content": content}


PICKS = {
    "id": "a1",
    "role": "assistant",
    "content": "You choose.",
    "toolCalls": [
        {
            "id": "call_pick",
            "type": "function",
            "function": {"name": "pick_colour", "arguments": '{"of": "the door"}'},
        }
    ],
}
SAYS = {"id": "a2", "role": "assistant", "content": "Well."}
PICK_COLOUR = [{"name": "pick_colour", "description": "Pick.", "parameters": {"type": "object"}}]


def echo() -> tuple[ScriptedModel, Agent]:
    model = ScriptedModel(lambda request: say(request.messages[-1].content))
    return model, Agent("echo", model, instructions="Be brief.")


async def run(place: Place, agent: str, body: object) -> list[dict[str, Any]]:
    answer, text = await ask(place, f"/agui/{agent}", body)
    assert answer.status == 200, text
    return events_in(text)


async def refused(place: Place, path: str, body: object) -> tuple[int, str, str]:
    answer, text = await ask(place, path, body)
    refusal = orjson.loads(text)
    return answer.status, refusal["code"], refusal["message"]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(e["delta"] for e in events if e["type"] == "TEXT_MESSAGE_CONTENT")


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.rows("X6")
async def test_a_run_is_a_stream_of_server_sent_events() -> None:
    _, agent = echo()
    async with serving(agent) as place:
        answer, text = await ask(place, "/agui/echo", asked())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in answer.headers
    events = events_in(text)
    assert (events[0]["type"], events[0]["threadId"], events[0]["runId"]) == (
        "RUN_STARTED",
        "t1",
        "r1",
    )
    assert events[-1]["type"] == "RUN_FINISHED"
    assert text_of(events) == "hi"


async def test_what_clients_leave_out_or_send_as_null_is_no_error() -> None:
    _, agent = echo()
    bare = {"threadId": "t1", "runId": "r1", "messages": [user("u1", "hi")]}
    nulls = bare | {
        "runId": "r2",
        "messages": [user("u2", "hi")],
        "state": None,
        "tools": None,
        "context": None,
        "forwardedProps": None,
        "somethingNew": {"a": 1},
    }
    async with serving(agent) as place:
        for body in (bare, nulls):
            events = await run(place, "echo", body)
            assert text_of(events) == "hi"
            assert "protocolVersion" not in events[0]
            assert "outcome" not in events[-1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "missing field `threadId`"),
        ({"threadId": "t"}, "missing field `runId`"),
        (asked(messages="hi"), "messages"),
        (asked(messages=[]), "nothing to answer"),
        (asked(messages=[user("u1", "hi"), PICKS]), "nothing to answer"),
        (
            asked(messages=[user("u1", "hi"), PICKS, tool_answer("call_pick", "x"), SAYS]),
            "nothing to answer",
        ),
        (asked(messages=[{"id": "m", "role": "wizard", "content": "hi"}]), "nothing to answer"),
        (asked(messages=[{"role": "user", "content": "hi"}]), "missing field `id`"),
        (asked(messages=[user("u1", " ")]), "the message is empty"),
        (
            asked(
                messages=[user("u1", [{"type": "image", "source": {"type": "url", "value": "x"}}])]
            ),
            "the agents here read text",
        ),
        (asked(tools=[{"name": "a b", "description": ""}]), "`tools`: 'a b'"),
        (asked(forwardedProps={"tidegate": {"onDisconect": "cancel"}}), "onDisconect"),
        (asked(forwardedProps={"tidegate": {"options": {"warmth": 1}}}), "warmth"),
        (asked(messages=[tool_answer("call_1", "x")]), "`result`"),
    ],
)
async def test_a_request_that_cannot_be_read_is_refused_in_words(body: object, words: str) -> None:
    _, agent = echo()
    async with serving(agent) as place:
        status, code, message = await refused(place, "/agui/echo", body)
    assert (status, code) == (422, "command_malformed")
    assert words in message


async def test_an_unknown_agent_is_not_found_and_makes_no_session() -> None:
    _, agent = echo()
    async with serving(agent) as place:
        for path in ("/agui/nobody", "/agui/nobody/connect", "/agui/nobody/stop"):
            status, code, message = await refused(place, path, asked())
            assert (status, code) == (404, "agent_unknown")
            assert message == "there is no agent 'nobody'; there are: echo"
        assert await place.sessions() == []


async def test_a_long_conversation_is_taken_and_one_without_end_is_not() -> None:
    _, agent = echo()
    long = [user("u1", "x" * 1_000_000), user("u2", "hi")]
    async with serving(agent) as place:
        assert len(text_of(await run(place, "echo", asked(messages=long)))) > 1_000_000
        status, code, _ = await refused(
            place, "/agui/echo", asked(messages=[user("u3", "x" * 9_000_000)])
        )
    assert (status, code) == (413, "command_too_large")


# --- conversations -------------------------------------------------------------------------------


async def test_a_new_thread_brings_its_history_along_and_a_known_one_what_is_new() -> None:
    model, agent = echo()
    before = [
        {"id": "s1", "role": "system", "content": "Say please."},
        user("u1", [{"type": "text", "text": "the door"}, {"type": "binary", "data": "x"}]),
        PICKS,
        tool_answer("call_pick", "green"),
        tool_answer("call_pick", "green again"),
        tool_answer("call_gone", "lost"),
        {"id": "r1", "role": "reasoning", "content": "hm"},
        {"id": "a1", "role": "assistant", "content": "It is green.", "toolCalls": None},
        PICKS | {"content": "I said it."},
    ]
    now = user("u2", "and the window?")
    async with serving(agent) as place:
        body = asked(messages=[*before, now], context=[{"description": "Where", "value": "here"}])
        await run(place, "echo", body)
        created = (await place.log("t1"))[0]
        forged = [user("u0", "something else"), *before, now, user("u3", "thanks")]
        await run(place, "echo", asked(run_id="r2", messages=forged))
        snapshot = await place.manager.snapshot("t1")
    first, second = (request.messages for request in model.requests)
    system = "Be brief.\n\nSay please.\n\nWhere: here"
    assert [(m.role, m.content) for m in first] == [
        ("system", system),
        ("user", "the door"),
        ("assistant", "You choose."),
        ("tool", "green"),
        ("assistant", "It is green.\n\nI said it."),
        ("user", "and the window?"),
    ]
    assert [m.content for m in second[1:]] == [
        *(m.content for m in first[1:]),
        "and the window?",
        "thanks",
    ]
    assert second[0].content == "Be brief.\n\nSay please."
    assert isinstance(created, SessionCreated)
    assert [m.message_id for m in snapshot.messages if m.role == "user"] == ["u1", "u2", "u3"]


async def test_thread_ids_of_any_form_are_sessions() -> None:
    _, agent = echo()
    async with serving(agent) as place:
        events = await run(place, "echo", asked("chat / 1 ☀", "run 1"))
        assert (events[0]["threadId"], events[0]["runId"]) == ("chat / 1 ☀", "run 1")
        (session_id,) = await place.sessions()
        assert session_id.startswith("ext_")
        again = await run(place, "echo", asked("chat / 1 ☀", "run 1"))
        assert kinds(again) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]


async def test_a_request_that_is_sent_again_joins_its_run_and_begins_no_other() -> None:
    staged = Endless(("Hel", "lo"))
    async with (
        serving(staged.agent()) as place,
        raw(place.address) as one,
        raw(place.address) as two,
    ):
        first = await begin(one, place, "/agui/assistant", asked())
        await first.until(b'"lo"')
        again = await begin(two, place, "/agui/assistant", asked())
        shown = (await again.until(b'"Hello"')).decode()
        assert "MESSAGES_SNAPSHOT" in shown  # whatever the client had of the answer is replaced
        other = asked(messages=[user("u1", "something else")])
        status, code, _ = await refused(place, "/agui/assistant", other)
        assert (status, code) == (409, "command_conflict")
        await ask(place, "/agui/assistant/stop", {"threadId": "t1", "runId": "r1"})
        for answer in (first, again):
            events = events_in(await answer.whole())
            assert events[-1]["outcome"] == {"type": "cancelled"}
        log = await place.log("t1")
        assert sum(isinstance(event, RunStarted) for event in log) == 1
        assert staged.calls == 1


async def test_the_same_message_once_more_is_answered_anew() -> None:
    """That is what clients do to regenerate an answer."""
    model, agent = echo()
    async with serving(agent) as place:
        await run(place, "echo", asked())
        await run(place, "echo", asked(run_id="r2"))
        again = await run(place, "echo", asked(run_id="r2"))
        snapshot = await place.manager.snapshot("t1")
    assert [m.content for m in model.requests[1].messages[1:]] == ["hi"]
    assert [m.text for m in snapshot.messages] == ["hi", "hi"]
    assert kinds(again) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]


async def test_a_busy_thread_lets_a_second_run_wait_and_tells_it_so_at_once() -> None:
    cast = Cast()
    second = asked(run_id="r2", messages=[user("u2", "and?")])
    async with (
        serving(*cast.runnables, keepalive_s=0.05) as place,
        raw(place.address) as one,
        raw(place.address) as two,
        raw(place.address) as three,
    ):
        first = await begin(one, place, "/agui/gated", asked())
        await first.until(b"Half")
        waiting = await begin(two, place, "/agui/gated", second)
        waits = await waiting.until(b'"position":1')
        assert b"RUN_STARTED" in waits
        await waiting.until(b"\n\n:\n\n")  # it is kept alive
        again = await begin(three, place, "/agui/gated", second)
        assert b"MESSAGES_SNAPSHOT" not in await again.until(b'"position":1')
        cast.gate.set()
        assert text_of(events_in(await first.whole())) == "Half and half"
        for answer in (waiting, again):
            events = events_in(await answer.whole())
            assert kinds(events)[:2] == ["RUN_STARTED", "CUSTOM"]
            assert text_of(events) == "Half and half"


async def test_run_options_come_in_the_forwarded_properties() -> None:
    _, agent = echo()
    forwarded = {"tidegate": {"options": {"max_tokens": 1}}, "else": 1}
    body = asked(messages=[user("u1", "one two")], forwardedProps=forwarded)
    async with serving(agent) as place:
        events = await run(place, "echo", body)
    assert text_of(events) == "one"
    assert events[-1]["metadata"]["tidegate"]["finishReason"] == "length"


@pytest.mark.rows("X3")
async def test_a_client_that_goes_ends_its_run_only_if_it_said_so() -> None:
    staged = Endless()
    leaving = asked("t2", forwardedProps={"tidegate": {"onDisconnect": "cancel"}})
    async with serving(staged.agent()) as place:
        for body in (asked("t1"), leaving):
            async with raw(place.address) as client:
                answer = await begin(client, place, "/agui/assistant", body)
                await answer.until(b"Hel")
        cancelled = await place.until("t2", "run.cancelled")
        assert isinstance(cancelled, RunCancelled)
        assert cancelled.reason == "disconnect"
        assert (await place.manager.snapshot("t1")).status == "running"


# --- tools of the client's -----------------------------------------------------------------------


async def test_a_result_that_came_before_the_next_message_becomes_part_of_the_conversation() -> (
    None
):
    """Clients need not ask for a run at once when a tool of theirs is done."""
    cast = Cast()
    async with serving(*cast.runnables) as place:
        picking = await run(place, "painter", asked(tools=PICK_COLOUR))
        assert picking[-1]["outcome"]["pendingToolCallIds"] == ["call_pick"]
        messages = [
            user("u1", "hi"),
            PICKS,
            tool_answer("call_pick", "green"),
            user("u2", "never mind"),
        ]
        body = asked(run_id="r2", messages=messages, tools=PICK_COLOUR)
        assert text_of(await run(place, "painter", body)) == "As you like."
        again = await run(place, "painter", body)
        snapshot = await place.manager.snapshot("t1")
    assert again[-1]["type"] == "RUN_FINISHED"
    assert [m.text for m in snapshot.messages] == [
        "hi",
        "You choose.",
        "never mind",
        "As you like.",
    ]
    (call,) = snapshot.messages[1].tool_calls
    assert (call.status, call.result) == ("completed", "green")


async def test_a_result_that_is_sent_again_goes_on_once() -> None:
    cast = Cast()
    messages = [user("u1", "hi"), PICKS, tool_answer("call_pick", "green")]
    body = asked(run_id="r2", messages=messages, tools=PICK_COLOUR)
    async with serving(*cast.runnables) as place:
        await run(place, "painter", asked(tools=PICK_COLOUR))
        events = await run(place, "painter", body)
        assert kinds(events)[:2] == ["RUN_STARTED", "TEXT_MESSAGE_START"]  # it knows the result
        assert text_of(events) == "It is green now."
        again = await run(place, "painter", body)
        assert kinds(again) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
        assert [m["role"] for m in again[1]["messages"]] == [
            "user",
            "assistant",
            "tool",
            "assistant",
        ]


async def test_a_new_thread_may_end_with_the_result_of_a_call() -> None:
    cast = Cast()
    messages = [user("u1", "paint"), PICKS, tool_answer("call_pick", "green")]
    async with serving(*cast.runnables) as place:
        events = await run(place, "painter", asked(messages=messages, tools=PICK_COLOUR))
    assert text_of(events) == "It is green now."
    assert "TOOL_CALL_RESULT" not in kinds(events)


async def test_somebody_else_is_shown_the_result_that_a_client_sent() -> None:
    cast = Cast()
    async with serving(*cast.runnables) as place:
        await run(place, "painter", asked(tools=PICK_COLOUR))
        snapshot = await place.manager.snapshot("t1")
        (waits,) = snapshot.approvals
        decision = {"approval_id": waits.approval_id, "decision": "answer", "result": "red"}
        command = {"type": "continue", "id": "c1", "decisions": [decision]}
        await ask(place, "/v1/sessions/t1/commands", command)
        await place.until("t1", "run.completed")
        answer, text = await ask(place, "/agui/painter/connect", {"threadId": "t1"})
    assert answer.status == 200
    told = events_in(text)[1]["messages"]
    assert [(m["id"], m["content"]) for m in told if m["role"] == "tool"] == [
        ("call_pick-result", "red")
    ]


# --- interrupts ----------------------------------------------------------------------------------


async def _asks(place: Place) -> str:
    events = await run(place, "payer", asked())
    (interrupt,) = events[-1]["outcome"]["interrupts"]
    return str(interrupt["id"])


def resume(id_: str, payload: Any = None, status: str = "resolved", **fields: Any) -> Message:
    entry = {"interruptId": id_, "status": status, "payload": payload}
    return asked(run_id="r2", resume=[entry], **fields)


async def test_an_interrupt_is_answered_once_and_the_same_answer_again_joins() -> None:
    cast = Cast()
    async with serving(*cast.runnables) as place:
        id_ = await _asks(place)
        events = await run(place, "payer", resume(id_, {"approved": True}))
        assert text_of(events) == "Done: paid 100"
        again = await run(place, "payer", resume(id_, {"approved": True}))
        assert kinds(again) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
        late = resume(id_, {"approved": False}) | {"runId": "r3"}
        status, code, message = await refused(place, "/agui/payer", late)
        assert (status, code) == (409, "approval_resolved")
        assert "approved by r2" in message


@pytest.mark.parametrize("payload", [None, {}, {"approved": "yes"}, "yes", 1, {"editedArgs": {}}])
async def test_an_answer_that_is_neither_yes_nor_no_is_refused(payload: Any) -> None:
    cast = Cast()
    async with serving(*cast.runnables) as place:
        id_ = await _asks(place)
        status, _, message = await refused(place, "/agui/payer", resume(id_, payload))
        assert (status, "has no `approved`" in message) == (422, True)
        assert (await place.manager.snapshot("t1")).status == "interrupted"


async def test_an_old_message_that_is_sent_along_with_an_answer_is_not_taken_for_a_new_one() -> (
    None
):
    cast = Cast()
    for id_ in ("u1", "an id with blanks"):
        said = [user(id_, "hi")]
        async with serving(*cast.runnables) as place:
            events = await run(place, "payer", asked(messages=said))
            (interrupt,) = events[-1]["outcome"]["interrupts"]
            events = await run(place, "payer", resume(interrupt["id"], True, messages=said))
        assert text_of(events) == "Done: paid 100"


async def test_as_long_as_one_answer_is_missing_it_is_asked_for() -> None:
    calls = [ToolCall(id=f"call_{n}", name="pay", arguments=f'{{"amount": {n}}}') for n in (1, 2)]
    payer = Agent("payer", ScriptedModel([call_tools(*calls), say("Paid.")]), tools=(pay,))
    async with serving(payer) as place:
        events = await run(place, "payer", asked())
        first, second = (one["id"] for one in events[-1]["outcome"]["interrupts"])
        half = await run(place, "payer", resume(first, True))
        assert kinds(half) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
        assert [one["id"] for one in half[-1]["outcome"]["interrupts"]] == [second]
        whole = await run(place, "payer", resume(second, True) | {"runId": "r3"})
    results = [e["content"] for e in whole if e["type"] == "TOOL_CALL_RESULT"]
    assert (sorted(results), text_of(whole)) == (["paid 1", "paid 2"], "Paid.")


async def test_a_reason_for_a_no_reaches_the_agent() -> None:
    cast = Cast()
    async with serving(*cast.runnables) as place:
        id_ = await _asks(place)
        events = await run(place, "payer", resume(id_, {"approved": False, "message": "too much"}))
    assert "too much" in text_of(events)


async def test_a_message_instead_of_an_answer_is_refused_and_says_what_is_waited_for() -> None:
    cast = Cast()
    more = asked(run_id="r2", messages=[user("u1", "hi"), user("u2", "well?")])
    async with serving(*cast.runnables) as place:
        id_ = await _asks(place)
        status, code, message = await refused(place, "/agui/payer", more)
        assert (status, code) == (409, "run_not_resumable")
        assert id_ in message
        both = more | {"resume": [{"interruptId": id_, "status": "resolved", "payload": True}]}
        status, _, message = await refused(place, "/agui/payer", both)
        assert (status, "answered first" in message) == (422, True)
        dismissed = more | {"resume": [{"interruptId": id_, "status": "cancelled"}]}
        events = await run(place, "payer", dismissed)
        assert "TOOL_CALL_START" in kinds(events)  # the run for the new message
        inputs = [e for e in await place.log("t1") if isinstance(e, InputAccepted)]
        assert [event.message.content for event in inputs] == ["hi", "well?"]


async def test_an_interrupt_of_an_unknown_thread_or_name_is_not_found() -> None:
    cast = Cast()
    async with serving(*cast.runnables) as place:
        await _asks(place)
        status, code, _ = await refused(place, "/agui/payer", resume("apr_x", True))
        assert (status, code) == (404, "approval_unknown")
        status, code, _ = await refused(place, "/agui/payer", resume("x", True, threadId="t9"))
        assert (status, code) == (404, "session_unknown")


# --- stops ---------------------------------------------------------------------------------------


async def _stop(place: Place, **body: Any) -> tuple[int, str]:
    answer, text = await ask(place, "/agui/assistant/stop", body)
    return answer.status, orjson.loads(text)["status"]


async def test_a_stop_is_never_lost_however_early_it_comes() -> None:
    staged = Endless()

    async def once(number: int, place: Place) -> None:
        thread_id = f"t{number}"
        async with raw(place.address) as client, asyncio.TaskGroup() as tasks:
            running = tasks.create_task(begin(client, place, "/agui/assistant", asked(thread_id)))
            for _ in range(number):
                await asyncio.sleep(0)  # one turn of the loop more each time
            await _stop(place, threadId=thread_id, runId="r1")
            events = events_in(await (await running).whole())
        assert events[-1]["outcome"] == {"type": "cancelled"}

    async with serving(staged.agent()) as place:
        for number in range(40):
            await once(number, place)
        assert set(await place.sessions()) <= {f"t{number}" for number in range(40)}


async def test_a_stop_names_a_run_as_the_client_or_the_server_does_or_not_at_all() -> None:
    staged = Endless()
    async with serving(staged.agent()) as place:
        for thread_id, by in (("t1", "client"), ("t2", "server"), ("t3", "joined"), ("t4", "")):
            async with raw(place.address) as client, raw(place.address) as other:
                answer = await begin(client, place, "/agui/assistant", asked(thread_id))
                await answer.until(b"Hel")
                ours = (await place.manager.run(thread_id)).run_id
                body = {"threadId": thread_id, "runId": "j1", "protocolVersion": "1.1"}
                joined = await begin(other, place, "/agui/assistant/connect", body)
                await joined.until(b"Hel")
                names = {"client": "r1", "server": ours, "joined": "j1"}
                fields = {"runId": names[by]} if by else {}
                for _ in range(2):
                    assert await _stop(place, threadId=thread_id, **fields) == (200, "stopped")
                events = events_in(await answer.whole())
                assert events[-1]["outcome"] == {"type": "cancelled"}
                assert events_in(await joined.whole())[-1]["outcome"] == {"type": "cancelled"}


async def test_a_run_that_was_stopped_is_still_there_for_who_asks_again() -> None:
    staged = Endless()
    async with serving(staged.agent()) as place, raw(place.address) as client:
        answer = await begin(client, place, "/agui/assistant", asked())
        await answer.until(b"Hel")
        await _stop(place, threadId="t1", runId="r1")
        await answer.whole()
        events = await run(place, "assistant", asked())
    assert events[1]["messages"][1]["content"] == "Hel"
    assert events[-1]["outcome"] == {"type": "cancelled"}


async def test_a_stop_of_nothing_stops_nothing_that_comes_later() -> None:
    _, agent = echo()
    async with serving(agent, Agent("assistant", agent.model)) as place:
        assert await _stop(place, threadId="t1") == (200, "stopped")
        assert text_of(await run(place, "echo", asked())) == "hi"
        assert await _stop(place, threadId="t1", runId="r2") == (202, "noted")
        assert await _stop(place, threadId="t2", runId="r1") == (202, "noted")
        events = await run(place, "echo", asked(run_id="r3", messages=[user("u3", "ho")]))
        assert text_of(events) == "ho"
        dead = await run(place, "echo", asked(run_id="r2", messages=[user("u2", "no")]))
        assert kinds(dead) == ["RUN_STARTED", "RUN_FINISHED"]
        status, code, message = await refused(place, "/agui/echo/stop", {"runId": "r1"})
    assert (status, code, message) == (422, "command_malformed", "missing field `threadId`")


async def test_a_run_that_waits_in_the_queue_is_stopped_there() -> None:
    staged = Endless()
    async with (
        serving(staged.agent()) as place,
        raw(place.address) as one,
        raw(place.address) as two,
    ):
        first = await begin(one, place, "/agui/assistant", asked())
        await first.until(b"Hel")
        body = asked(run_id="r2", messages=[user("u2", "and?")])
        waiting = await begin(two, place, "/agui/assistant", body)
        await waiting.until(b"position")
        assert await _stop(place, threadId="t1", runId="r2") == (200, "stopped")
        events = events_in(await waiting.whole())
        assert events[-1]["outcome"] == {"type": "cancelled"}
        assert (await place.manager.snapshot("t1")).status == "running"


async def test_a_server_that_stops_ends_its_streams_with_an_error() -> None:
    staged = Endless()
    async with serving(staged.agent()) as place:
        client_end = raw(place.address)
        client = await client_end.__aenter__()
        answer = await begin(client, place, "/agui/assistant", asked())
        await answer.until(b"Hel")
        reading = asyncio.create_task(answer.whole())
    events = events_in(await reading, cut=True)
    await client_end.__aexit__(None, None, None)
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "shutdown")
