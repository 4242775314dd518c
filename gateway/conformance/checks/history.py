"""Section 4 of PROTOCOL.md: what was said elsewhere, and going back."""

from __future__ import annotations

from typing import Any

from gateway.conformance.check import Checks, must, must_equal
from gateway.conformance.events import shown, the
from gateway.conformance.target import Target

CHECKS = Checks()

CALL = {"id": "call-elsewhere", "name": "search", "arguments": "{}"}
HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "What is a tide?", "message_id": "m-1"},
    {"role": "assistant", "content": "Let me look.", "message_id": "m-2", "tool_calls": [CALL]},
]


@CHECKS.of("history.imported", needs=("echo",))
async def history_is_in_the_first_event(target: Target) -> None:
    """`session.created` has the history, with an id for each message, and the snapshot shows it."""
    said = [*HISTORY, {"role": "tool", "content": "water", "tool_call_id": CALL["id"]}]
    said.append({"role": "assistant", "content": "Water that comes and goes."})
    session_id = await target.session("echo", history=said)
    first = (await target.log(session_id))[0]
    must_equal(first.type, "session.created", "the first event", shown(first.raw))
    kept = first.get("history") or []
    for name in ("role", "content"):
        wanted = [message[name] for message in said]
        must_equal([message.get(name) for message in kept], wanted, f"`{name}`", shown(first.raw))
    must(all(message.get("message_id") for message in kept), "ids for all", shown(first.raw))
    shows = (await target.snapshot(session_id))["messages"]
    texts = [message["text"] for message in shows]
    wanted = [str(message["content"]) for message in said if message["role"] != "tool"]
    must_equal(texts, wanted, "the messages of the snapshot", f"GET /v1/sessions/{session_id}")
    must(not any("run_id" in message for message in shows), "no run_id of theirs", shows)


@CHECKS.of("history.imported")
async def a_history_that_cannot_be_is_refused(target: Target) -> None:
    """Ids that come twice, and results before their call, are refused with 422."""
    twice = [HISTORY[0], HISTORY[0]]
    result = {"role": "tool", "content": "x", "tool_call_id": "call-never-made"}
    for history in (twice, [result], [{"role": "system", "content": "x"}]):
        body = {"session_id": target.new_id(), "history": history}
        (await target.ask("POST", "/v1/sessions", body)).must_be(422)


@CHECKS.of("send.result", needs=("echo",))
async def a_result_answers_the_call_that_is_left(target: Target) -> None:
    """`result` answers the call that the history ends with, and the run goes on from there."""
    session_id = await target.session("echo", history=HISTORY)
    result = {"call_id": CALL["id"], "content": "water"}
    answer = (await target.command(session_id, "send", result=result)).must_be(202)
    log = await target.ended(session_id, answer.json["run_id"])
    heard = the(log, "input.accepted")
    must_equal(heard.get("message")["role"], "tool", "the message's role", shown(heard.raw))
    must_equal(heard.get("message")["content"], "water", "its content", shown(heard.raw))
    must_equal(log[-1].type, "run.completed", "the end of the run", answer.request)
    again = await target.command(session_id, "send", result=result)
    must(400 <= again.status < 500, "a refusal: it is answered", again.shown, again.request)  # noqa: PLR2004


@CHECKS.of("send.result", needs=("echo",))
async def a_result_of_nothing_is_refused(target: Target) -> None:
    """A result for a call that the conversation does not end with is refused."""
    session_id = await target.session("echo")
    result = {"call_id": "call-never-made", "content": "x"}
    answer = await target.command(session_id, "send", result=result)
    must(400 <= answer.status < 500, "a refusal", answer.shown, answer.request)  # noqa: PLR2004
    must_equal(len(await target.log(session_id)), 1, "the number of events", answer.request)


@CHECKS.of("send.message_id", needs=("echo",))
async def a_message_keeps_the_clients_id(target: Target) -> None:
    """`message_id` becomes the user message's id; one that the session has is refused."""
    session_id = await target.session("echo")
    log = await target.say(session_id, "hello", message_id="mine-1")
    heard = the(log, "input.accepted")
    must_equal(heard.get("message")["message_id"], "mine-1", "message_id", shown(heard.raw))
    shows = (await target.snapshot(session_id))["messages"]
    must_equal(shows[0]["message_id"], "mine-1", "the snapshot's message_id")
    again = await target.command(session_id, "send", text="again", message_id="mine-1")
    must(400 <= again.status < 500, "a refusal", again.shown, again.request)  # noqa: PLR2004
    must_equal(len(await target.log(session_id)), len(log), "the length of the log", again.request)


@CHECKS.of("history.rolled_back", needs=("echo",))
async def going_back_takes_messages_away(target: Target) -> None:
    """With `rewind_to`, that message and all after it are gone, and their ids are free again."""
    session_id = await target.session("echo")
    await target.say(session_id, "one", message_id="u-1")
    await target.say(session_id, "two", message_id="u-2")
    before = [each["message_id"] for each in (await target.snapshot(session_id))["messages"]]
    gone = before[before.index("u-2") :]
    answer = await target.command(
        session_id, "send", text="three", rewind_to="u-2", message_id="u-2"
    )
    run_id = answer.must_be(202).json["run_id"]
    log = await target.ended(session_id, run_id)
    back = the(log, "history.rolled_back")
    must_equal(back.get("message_ids"), gone, "message_ids", shown(back.raw))
    must_equal(back.get("run_id"), run_id, "its run_id", shown(back.raw))
    must_equal(log[back.seq].type, "input.accepted", "what follows it", shown(log[back.seq].raw))
    texts = [each["text"] for each in (await target.snapshot(session_id))["messages"]]
    must_equal(texts, ["one", "one", "three", "three"], "the messages", answer.request)


@CHECKS.of("history.rolled_back", needs=("echo",))
async def going_back_to_nowhere_is_refused(target: Target) -> None:
    """A `rewind_to` that the session does not have is refused."""
    session_id = await target.session("echo")
    answer = await target.command(session_id, "send", text="x", rewind_to="never-said")
    must(400 <= answer.status < 500, "a refusal", answer.shown, answer.request)  # noqa: PLR2004
    must_equal(len(await target.log(session_id)), 1, "the number of events", answer.request)
