"""Section 4 of PROTOCOL.md: commands have one effect, and say where."""

from __future__ import annotations

import asyncio

from gateway.conformance.check import Checks, must, must_equal
from gateway.conformance.events import shown
from gateway.conformance.stories import WORDS
from gateway.conformance.streams import open_events, open_socket, open_sse
from gateway.conformance.target import Target

CHECKS = Checks()


@CHECKS.of("command.same", needs=("echo",))
async def a_command_is_the_same_over_http_and_websocket(target: Target) -> None:
    """A command over WebSocket, given again over HTTP, gets the same ack: it is the same one."""
    session_id = await target.session("echo")
    body = {"type": "send", "id": "same", "session_id": session_id, "text": "hello"}
    async with open_socket(target) as socket:
        await socket.say(body)
        first = await socket.answer("same")
        must_equal(first.type, "ack", "the answer's type", socket.request)
    answer = await target.ask("POST", f"/v1/sessions/{session_id}/commands", body)
    must_equal(answer.must_be(202).json, first.data, "the ack over HTTP", answer.request)
    log = await target.ended(session_id, first.get("run_id"))
    inputs = [event for event in log if event.type == "input.accepted"]
    must_equal(len(inputs), 1, "the number of inputs", answer.request)


@CHECKS.of("command.same", needs=("echo",))
async def the_id_may_be_a_header(target: Target) -> None:
    """Over HTTP the `id` may come as `Idempotency-Key`, and `session_id` comes from the path."""
    session_id = await target.session("echo")
    path, body = f"/v1/sessions/{session_id}/commands", {"type": "send", "text": "hello"}
    answer = await target.ask("POST", path, body, headers={"Idempotency-Key": "key-1"})
    must_equal(answer.must_be(202).json["id"], "key-1", "`id` of the ack", answer.request)
    must_equal(answer.json["session_id"], session_id, "`session_id` of the ack", answer.request)
    again = await target.ask("POST", path, {**body, "id": "key-1"})
    must_equal(again.must_be(202).json, answer.json, "the ack of the same id", again.request)
    (await target.ask("POST", path, body)).must_be(422, because="a command has an id")


@CHECKS.of("command.same")
async def a_ping_gets_a_pong(target: Target) -> None:
    """`ping` is answered by `pong` with its id, over HTTP and WebSocket."""
    session_id = await target.session()
    wanted = {"type": "pong", "id": "p"}
    answer = await target.command(session_id, "ping", id="p")
    must_equal(answer.must_be(202).json, wanted, "the answer", answer.request)
    async with open_socket(target) as socket:
        await socket.say({"type": "ping", "id": "p", "session_id": session_id})
        must_equal((await socket.answer("p")).data, wanted, "the answer", socket.request)


@CHECKS.of("command.once", needs=("echo",))
async def the_same_command_has_one_effect(target: Target) -> None:
    """A command that is repeated, also at the same moment, has one effect and one answer."""
    session_id = await target.session("echo")
    async with asyncio.TaskGroup() as tasks:
        sent = [tasks.create_task(target.send(session_id, "once", id="same-id")) for _ in range(4)]
    acks = [each.result() for each in sent]
    request = f"POST /v1/sessions/{session_id}/commands, four times at once"
    must(all(ack == acks[0] for ack in acks), "the same ack each time", acks, request)
    await target.ended(session_id, acks[0]["run_id"])
    must_equal(await target.send(session_id, "once", id="same-id"), acks[0], "the ack afterwards")
    log = await target.log(session_id)
    inputs = [event for event in log if event.type.startswith("input.")]
    must_equal(len(inputs), 1, "the number of inputs in the log", request)


@CHECKS.of("command.once", needs=("echo",))
async def another_body_is_a_conflict(target: Target) -> None:
    """The same id with another body gets 409 `command_conflict`, and has no effect."""
    session_id = await target.session("echo")
    log = await target.ended(session_id, (await target.send(session_id, "a", id="i"))["run_id"])
    answer = await target.command(session_id, "send", text="b", id="i")
    answer.must_be_refused("command_conflict", 409)
    must_equal(len(await target.log(session_id)), len(log), "the length of the log")


@CHECKS.of("command.once", needs=("echo",))
async def a_refused_command_may_come_again(target: Target) -> None:
    """A command that was refused is not remembered: its id is free."""
    session_id = await target.session("echo")
    refused = await target.command(session_id, "send", text="x", agent="no-such-agent", id="again")
    refused.must_be(404)
    (await target.command(session_id, "send", text="x", id="again")).must_be(202)


@CHECKS.of("command.once", needs=("echo",))
async def creating_twice_is_creating_once(target: Target) -> None:
    """The same session with the same body is there already (200); with another body: 409."""
    body = {"session_id": target.new_id(), "agent": target.agents["echo"], "metadata": {"a": 1}}
    first = (await target.ask("POST", "/v1/sessions", body)).must_be(201)
    again = (await target.ask("POST", "/v1/sessions", body)).must_be(200)
    must_equal(again.json["cursor"], first.json["cursor"], "the cursor", again.request)
    other = {**body, "metadata": {"a": 2}}
    (await target.ask("POST", "/v1/sessions", other)).must_be(409)


@CHECKS.of("command.once", needs=("echo",), phase="kill")
async def a_command_is_remembered_after_a_kill(target: Target) -> None:
    """A command that was acknowledged before kill -9 has one effect, also when it is repeated."""
    session_id = await target.session("echo")
    ack = await target.send(session_id, "once", id="same-id")
    await target.restart()
    must_equal(
        await target.send(session_id, "once", id="same-id"), ack, "the ack after the restart"
    )
    log = await target.ended(session_id, ack["run_id"])
    inputs = [event for event in log if event.type == "input.accepted"]
    must_equal(len(inputs), 1, "the number of inputs")


@CHECKS.of("command.ack", needs=("echo",))
async def an_ack_says_where_its_effect_is(target: Target) -> None:
    """An ack has id, session_id, run_id, and as cursor that of the command's first event."""
    session_id = await target.session("echo")
    answer = await target.command(session_id, "send", text=WORDS, id="first")
    ack = answer.must_be(202).json
    queued = await target.send(session_id, "next", id="second")
    for command_id, said in (("first", ack), ("second", queued)):
        missing = {"type", "id", "session_id", "run_id", "cursor"} - said.keys()
        must(not missing, "type, id, session_id, run_id, cursor", said, answer.request)
        must_equal((said["type"], said["id"]), ("ack", command_id), "type and id", answer.request)
        log = await target.ended(session_id, said["run_id"])
        event = next((each for each in log if each.get("command_id") == command_id), None)
        must(event, f"an event with command_id {command_id!r}", "none", answer.request)
        assert event is not None  # noqa: S101 - see above
        must_equal(said["cursor"], event.cursor, "the ack's cursor", answer.request)
        must_equal(event.get("run_id"), said["run_id"], "the ack's run", answer.request)


@CHECKS.of("command.ack", needs=("echo",))
async def one_can_wait_for_ones_own_write(target: Target) -> None:
    """A reader from before sees the event at the ack's cursor."""
    session_id = await target.session("echo")
    async with open_events(target, "sse", session_id, "$") as stream:
        await stream.until("stream.caught_up")
        ack = await target.send(session_id, "hello")
        event = await stream.next("the command's event")
    must_equal(event.cursor, ack["cursor"], "the cursor of what is streamed next", stream.request)


@CHECKS.of("command.ack")
async def a_nack_says_why(target: Target) -> None:
    """A refusal over WebSocket is a nack with the command's id, and code, message, retryable."""
    async with open_socket(target) as socket:
        await socket.say({"type": "send", "id": "n", "session_id": "no-such-session", "text": "x"})
        nack = await socket.answer("n")
    must_equal(nack.type, "nack", "the answer", socket.request)
    error = nack.get("error")
    must(
        isinstance(error, dict) and {"code", "message", "retryable"} <= error.keys(),
        "an `error` of code, message, retryable",
        shown(nack.raw),
        socket.request,
    )


@CHECKS.of("disconnect.not_cancel", needs=("echo",))
async def a_lost_connection_ends_no_run(target: Target) -> None:
    """A run goes on when whoever asked for it, and everybody who listened, is gone."""
    session_id = await target.session("echo")
    path = f"/v1/sessions/{session_id}/messages"
    said = {"text": WORDS, "options": {"interval_ms": 30}}
    async with open_sse(target, path, method="POST", body=said) as stream:
        first = (await stream.until("message.delta"))[-1]
    log = await target.ended(session_id, str(first.get("run_id")))
    must_equal(log[-1].type, "run.completed", "the end of the run", stream.request)
    must_equal(log[-1].get("output"), WORDS, "its output", stream.request)

    async with open_socket(target) as socket:
        send = {"type": "send", "id": "w", "session_id": session_id, **said}
        await socket.say(send)
        ack = await socket.answer("w")
        request = socket.request
    log = await target.ended(session_id, ack.get("run_id"))
    must_equal(log[-1].type, "run.completed", "the end of the run", request)
