"""Section 6 of PROTOCOL.md: the WebSocket."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from gateway.conformance.check import Broken, Checks, NotObservable, must, must_equal
from gateway.conformance.events import shown
from gateway.conformance.stories import talk, weather
from gateway.conformance.streams import open_events, open_socket
from gateway.conformance.target import PATIENCE, Target

CHECKS = Checks()

TOO_LARGE = 256 * 1024 + 1
"""One byte more than a frame may have."""

CLOSE_TOO_BIG = 1009
CLOSE_RESTART = 1012
PING_SECONDS = 25.0
SILENT_SECONDS = 40.0
LATE = 2.0
"""Seconds that a timer and a network may be late."""


@CHECKS.of("ws.equal", needs=("echo", "tools"))
async def the_events_are_those_of_sse(target: Target) -> None:
    """The events of a session are byte-equal to the SSE `data:` of the same session."""
    for story in (talk, weather):
        told = await target.once(story)
        last, found = told.log[-1].seq, {}
        for transport in ("sse", "websocket"):
            async with open_events(target, transport, told.session_id, "0") as stream:
                found[transport] = await stream.events("the last event", last)
        for one, other in zip(found["sse"], found["websocket"], strict=False):
            must_equal(shown(other.raw), shown(one.raw), f"event {one.seq}", "GET /v1/ws")
        must_equal(len(found["websocket"]), len(found["sse"]), "the number of events", "GET /v1/ws")


@CHECKS.of("ws.equal", needs=("echo", "tools"))
async def one_socket_carries_many_sessions(target: Target) -> None:
    """Each session on a socket has its own cursor, and comes whole and in order."""
    told = [await target.once(talk), await target.once(weather)]
    async with open_socket(target) as socket:
        missing = {"type", "v", "heartbeat_s", "max_subscriptions"} - socket.hello.keys()
        must(not missing, "v, heartbeat_s, max_subscriptions in hello", socket.hello)
        for each in told:
            said = {"type": "subscribe", "session_id": each.session_id, "after": each.log[2].cursor}
            await socket.say(said)
        wanted = {each.session_id: each.log[3:] for each in told}
        found: dict[str, list[bytes]] = {each.session_id: [] for each in told}
        while any(len(found[sid]) < len(log) for sid, log in wanted.items()):
            event = await socket.next("all events of both sessions")
            if not event.is_control:
                found[str(event.get("session_id"))].append(event.raw)
    for session_id, log in wanted.items():
        same = found[session_id] == [event.raw for event in log]
        must(same, f"the log of {session_id} from its cursor", "other events", socket.request)


@CHECKS.of("ws.equal", needs=("echo",))
async def subscribing_again_starts_anew(target: Target) -> None:
    """Subscribing again starts from the new `after`; after `unsubscribe` nothing comes."""
    session_id = await target.session("echo")
    log = await target.say(session_id, "hello")
    async with open_socket(target) as socket:
        for _ in range(2):
            await socket.subscribe(session_id, "0")
            events = await socket.events("the last event", log[-1].seq)
            must_equal(events[0].seq, 1, "the first seq", socket.request)
            await socket.until("stream.caught_up")
        said = {"type": "unsubscribe", "id": "u", "session_id": session_id}
        await socket.say(said)
        must_equal((await socket.answer("u")).type, "ack", "the answer", socket.request)
        await target.say(session_id, "nobody listens")
        await socket.say({"type": "ping", "id": "p", "session_id": session_id})
        heard = await socket.next("pong")
        must_equal(heard.type, "pong", "what comes next", f"{socket.request}: {shown(heard.raw)}")


@CHECKS.of("ws.bad_input", needs=("echo",))
async def nonsense_gets_a_nack(target: Target) -> None:
    """Malformed JSON and unknown types get a nack, and the subscriptions live on."""
    session_id = await target.session("echo")
    nonsense = (
        "{",
        "",
        "null",
        "[]",
        '"send"',
        "1e999",
        "\u0000",
        "{}",
        '{"type":"unheard-of"}',
        '{"type":5}',
        '{"type":"subscribe"}',
        f'{{"type":"subscribe","session_id":"{session_id}","after":"nonsense"}}',
        '{"type":"subscribe","session_id":"no-such-session"}',
        f'{{"type":"send","id":"x","session_id":"{session_id}","text":"x","unheard_of":1}}',
        "[" * 5000,
    )
    async with open_socket(target) as socket:
        await socket.subscribe(session_id, "$")
        await socket.until("stream.caught_up")
        for said in nonsense:
            await socket.say(said)
            heard = await socket.next("a nack")
            must_equal(heard.type, "nack", "the answer", socket.request)
            error = heard.get("error")
            must(isinstance(error, dict) and "code" in error, "error.code", shown(heard.raw))
        await target.say(session_id, "still here")
        events = await socket.events("run.completed")
    must_equal(events[0].type, "input.accepted", "what comes after the nacks", socket.request)


@CHECKS.of("ws.bad_input")
async def a_large_frame_is_closed_with_1009(target: Target) -> None:
    """A frame of more than 256 KiB is answered by close code 1009."""
    async with open_socket(target) as socket:
        request = f"GET /v1/ws, then a text frame of {TOO_LARGE} bytes"
        try:
            await socket.socket.send_str("x" * TOO_LARGE)
            _, code = await socket.rest()
        except (ConnectionError, aiohttp.ClientError) as error:
            raise Broken("close code 1009", f"a cut: {error}", request) from None
        must_equal(code, CLOSE_TOO_BIG, "the close code", request)
    (await target.ask("GET", "/healthz")).must_be(200, because="it lives on")


@CHECKS.of("ws.bad_input")
async def a_binary_frame_breaks_nothing(target: Target) -> None:
    """A binary frame gets a nack or a close, and the server lives on."""
    async with open_socket(target) as socket:
        await socket.socket.send_bytes(b"\xff\x00")
        async with asyncio.timeout(PATIENCE):
            message = await socket.socket.receive()
    seen = f"{message.type.name} {message.data}"
    must("nack" in seen or message.type.name in {"CLOSE", "CLOSED"}, "a nack or a close", seen)
    (await target.ask("GET", "/healthz")).must_be(200)


async def _pings(target: Target, compress: int = 0) -> aiohttp.ClientWebSocketResponse:
    """Open a socket that answers no ping."""
    return await target.http.ws_connect(
        target.url + "/v1/ws", autoping=False, autoclose=False, compress=compress
    )


@CHECKS.of("ws.heartbeat")
async def nothing_is_compressed(target: Target) -> None:
    """A client that offers per-message deflate does not get it."""
    socket = await _pings(target, compress=15)
    await socket.close()
    offered = "GET /v1/ws, Sec-WebSocket-Extensions: permessage-deflate"
    must(not socket.compress, "no per-message deflate", "it was agreed to", offered)


@CHECKS.of("ws.heartbeat", slow=True, limit=50.0)
async def a_silent_peer_is_pinged_and_given_up(target: Target) -> None:
    """The server pings every 25 s, and a peer that answers none is gone after 40 s."""
    socket, began = await _pings(target), time.monotonic()
    request, pinged = "GET /v1/ws, and no pong to any ping", False
    try:
        while True:
            try:
                async with asyncio.timeout(SILENT_SECONDS + LATE - (time.monotonic() - began)):
                    message = await socket.receive()
            except TimeoutError:
                raise Broken("the connection gone after 40 s", "it lives", request) from None
            seconds = time.monotonic() - began
            if message.type is aiohttp.WSMsgType.PING:
                must(pinged or seconds <= PING_SECONDS + LATE, "a ping within 25 s", seconds)
                pinged = True
            elif message.type is not aiohttp.WSMsgType.TEXT:
                must(pinged, "a ping before it is cut", f"cut after {seconds:.0f} s", request)
                return
    finally:
        await socket.close()


@CHECKS.of("ws.codes", phase="stop")
async def a_server_that_stops_closes_with_1012(target: Target) -> None:
    """A server that stops in order closes its sockets with 1012."""
    session_id = await target.session()
    async with open_socket(target) as socket:
        await socket.subscribe(session_id, "$")
        async with asyncio.TaskGroup() as tasks:
            restart = tasks.create_task(_restarted(target))
            _, code = await socket.rest(patience=30.0)
            await restart
    must_equal(code, CLOSE_RESTART, "the close code", "GET /v1/ws while the server stops")


async def _restarted(target: Target) -> None:
    await target.restart()


@CHECKS.of("ws.codes")
async def a_server_in_trouble_closes_with_1013(target: Target) -> None:
    """A server whose store fails closes its sockets with 1013: try later."""
    raise NotObservable("nobody outside can make the store of a server fail")


@CHECKS.of("ws.codes")
async def a_clients_own_goodbye_is_answered(target: Target) -> None:
    """A socket that the client closes is closed with its own code, and no error's."""
    async with open_socket(target) as socket:
        await socket.socket.close(code=1000)
        must_equal(socket.socket.close_code, 1000, "the close code", "a close with 1000")
