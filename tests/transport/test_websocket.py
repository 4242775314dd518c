"""What only the WebSocket has: many sessions, commands, bad input, close codes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import aiohttp
import orjson
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CommandMalformed
from gateway.transports.messages import named, parse_message
from tests.support.raw import host_of, raw
from tests.support.site import Site, running_site

Socket = aiohttp.ClientWebSocketResponse


async def hear(socket: Socket) -> dict[str, Any]:
    async with asyncio.timeout(30):
        answer: dict[str, Any] = await socket.receive_json()
        return answer


async def until(socket: Socket, kind: str, **fields: Any) -> dict[str, Any]:
    while True:
        message = await hear(socket)
        if message["type"] == kind and fields.items() <= message.items():
            return message


@pytest.fixture
async def socket(site: Site) -> AsyncIterator[Socket]:
    """An open socket that has been greeted."""
    async with site.http.ws_connect("/v1/ws", max_msg_size=0) as socket:
        assert (await hear(socket))["type"] == "hello"
        yield socket


async def subscribe(socket: Socket, session_id: str, after: str = "$") -> None:
    await socket.send_json({"type": "subscribe", "session_id": session_id, "after": after})
    await until(socket, "stream.caught_up", session_id=session_id)


async def test_the_server_speaks_first(site: Site) -> None:
    async with site.http.ws_connect("/v1/ws") as socket:
        hello = await hear(socket)
    assert hello == {"type": "hello", "v": 1, "heartbeat_s": 25.0, "max_subscriptions": 512}


async def test_nothing_is_compressed(site: Site) -> None:
    async with site.http.ws_connect("/v1/ws", compress=15) as socket:
        assert not socket.compress


async def test_one_socket_carries_many_sessions_each_with_its_own_cursor(
    site: Site, socket: Socket
) -> None:
    talks = [await site.talk() for _ in range(3)]
    for talk in talks:
        await subscribe(socket, talk.session_id)
    for number in range(5):
        for talk in talks:
            await talk.tell(number)
    seen: dict[str, list[int]] = {talk.session_id: [] for talk in talks}
    for _ in range(15):
        event = await until(socket, "custom")
        seen[event["session_id"]].append(event["payload"])
    assert all(payloads == list(range(5)) for payloads in seen.values())


@pytest.mark.rule("command.same")
async def test_a_command_is_acknowledged_and_its_events_come(site: Site, socket: Socket) -> None:
    session_id = await site.create()
    await subscribe(socket, session_id)
    await socket.send_json({"type": "send", "id": "k1", "session_id": session_id, "text": "hi"})
    ack = await until(socket, "ack")
    assert ack["id"] == "k1"
    assert ack["run_id"].startswith("run_")
    over_http = await site.command(session_id, "send", id="k1", text="hi")
    assert over_http == ack, "the same command again gets the first answer, whatever carries it"


async def test_ping_is_answered(socket: Socket) -> None:
    await socket.send_json({"type": "ping", "id": "p"})
    assert await hear(socket) == {"type": "pong", "id": "p"}


async def test_subscribing_again_starts_anew(site: Site, socket: Socket) -> None:
    talk = await site.talk()
    await subscribe(socket, talk.session_id, "0")
    await subscribe(socket, talk.session_id, "$")
    await talk.tell("new")
    assert (await hear(socket))["payload"] == "new"
    await socket.send_json({"type": "ping", "id": "p"})
    assert (await hear(socket))["type"] == "pong", "the first subscription is gone"


async def test_after_unsubscribing_nothing_of_the_session_comes(site: Site, socket: Socket) -> None:
    talk, other = await site.talk(), await site.talk()
    await subscribe(socket, talk.session_id)
    await subscribe(socket, other.session_id)
    await socket.send_json({"type": "unsubscribe", "id": "u", "session_id": talk.session_id})
    assert (await until(socket, "ack"))["id"] == "u"
    await talk.tell("unheard")
    await other.tell("heard")
    assert (await hear(socket))["payload"] == "heard"


async def test_the_end_of_one_session_leaves_the_others(site: Site, socket: Socket) -> None:
    talk, other = await site.talk(), await site.talk()
    await subscribe(socket, talk.session_id)
    await subscribe(socket, other.session_id)
    await site.manager.delete(talk.session_id)
    assert (await until(socket, "stream.closing"))["session_id"] == talk.session_id
    await other.tell("heard")
    assert (await until(socket, "custom"))["payload"] == "heard"


async def test_there_is_a_limit_to_subscriptions() -> None:
    async with (
        running_site(max_subscriptions=1) as site,
        site.http.ws_connect("/v1/ws") as socket,
    ):
        first, second = await site.create(), await site.create()
        await hear(socket)
        await subscribe(socket, first)
        await socket.send_json({"type": "subscribe", "id": "2", "session_id": second})
        nack = await until(socket, "nack")
        assert (nack["id"], nack["session_id"]) == ("2", second)
        assert nack["error"]["code"] == "too_many_subscriptions"
        await subscribe(socket, first)


BAD = [
    ("{", None, "command_malformed"),
    ("[]", None, "command_malformed"),
    ("null", None, "command_malformed"),
    ("[" * 5000, None, "command_malformed"),
    ('{"type":[],"id":"a"}', "a", "command_malformed"),
    ('{"type":"dance","id":"a"}', "a", "command_malformed"),
    ('{"type":"send","id":"a"}', "a", "command_malformed"),
    ('{"type":"ping","id":"a","extra":1}', "a", "command_malformed"),
    ('{"type":"ping","id":7}', None, "command_malformed"),
    ('{"type":"subscribe","id":"a"}', "a", "command_malformed"),
    ('{"type":"subscribe","id":"a","session_id":"no","after":"0"}', "a", "session_unknown"),
    ('{"type":"subscribe","id":"a","session_id":"no","after":"?"}', "a", "cursor_malformed"),
    ('{"type":"subscribe","id":"a","session_id":"../x"}', "a", "command_malformed"),
    ('{"type":"cancel","id":"a","session_id":"no"}', "a", "session_unknown"),
    ('{"type":"auth","id":"a","token":"t"}', "a", "auth_not_enabled"),
]


@pytest.mark.rule("ws.bad_input")
@pytest.mark.parametrize(("text", "message_id", "code"), BAD)
async def test_bad_input_is_refused_and_the_socket_lives_on(
    socket: Socket, text: str, message_id: str | None, code: str
) -> None:
    await socket.send_str(text)
    nack = await hear(socket)
    assert (nack["type"], nack["id"], nack["error"]["code"]) == ("nack", message_id, code)
    await socket.send_json({"type": "ping", "id": "p"})
    assert (await hear(socket))["type"] == "pong"


@pytest.mark.rule("ws.bad_input")
async def test_binary_frames_are_refused(socket: Socket) -> None:
    await socket.send_bytes(b'{"type":"ping","id":"p"}')
    assert (await hear(socket))["type"] == "nack"


@pytest.mark.rule("ws.bad_input")
async def test_a_message_over_the_limit_closes_with_1009(socket: Socket) -> None:
    limit = 256 * 1024
    fits = b'{"type":"ping","id":"p"}'.ljust(limit)
    await socket.send_str(fits.decode())
    assert (await hear(socket))["type"] == "pong"
    await socket.send_str(" " * (limit + 1))
    async with asyncio.timeout(30):
        message = await socket.receive()
    assert message.type is aiohttp.WSMsgType.CLOSE
    assert socket.close_code == 1009


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
kinds = st.sampled_from(["subscribe", "unsubscribe", "auth", "send", "cancel", "continue", "ping"])
near_misses = st.fixed_dictionaries(
    {"type": kinds | json_values},
    optional={
        name: st.just("s") | json_values
        for name in ("id", "session_id", "after", "text", "token", "run_id", "decisions")
    },
)


@pytest.mark.rule("ws.bad_input")
@given(json_values | near_misses)
def test_whatever_is_said_is_read_or_refused(data: object) -> None:
    with suppress(CommandMalformed):
        parse_message(data)
    assert set(named(data)) <= {"id", "session_id"}


@pytest.mark.rule("ws.codes")
async def test_when_the_server_stops_sockets_are_told_to_come_back() -> None:
    async with aiohttp.ClientSession() as http:
        async with running_site() as site:
            socket = await http.ws_connect(f"{site.url}/v1/ws")
            await hear(socket)
            receiving = asyncio.create_task(socket.receive())
        async with asyncio.timeout(30):
            await receiving
        assert socket.close_code == 1012


@pytest.mark.rule("ws.heartbeat")
async def test_a_peer_that_is_silent_is_given_up() -> None:
    async with running_site(ws_heartbeat_s=0.2) as site, raw(site.address) as client:
        client.ask(
            "/v1/ws",
            **host_of(site.address),
            Upgrade="websocket",
            Connection="Upgrade",
            Sec_WebSocket_Version="13",
            Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==",
        )
        status, _ = await client.head()
        assert status == 101
        await client.until(b"\x89\x00")  # a ping, which gets no pong
        await client.rest()


async def test_the_websockets_library_can_use_it(site: Site) -> None:
    talk = await site.talk()
    url = site.url.replace("http", "ws") + "/v1/ws"
    async with asyncio.timeout(30), websockets.connect(url) as socket:
        assert orjson.loads(await socket.recv())["type"] == "hello"
        message = {"type": "subscribe", "session_id": talk.session_id, "after": "$"}
        await socket.send(orjson.dumps(message).decode())
        assert orjson.loads(await socket.recv())["type"] == "stream.caught_up"
        await talk.tell("x" * 100, "y" * 1000, "z" * 100_000)
        for letter in "xyz":
            assert orjson.loads(await socket.recv())["payload"][0] == letter


async def test_a_plain_request_is_told_that_this_is_a_websocket(site: Site) -> None:
    async with site.http.get("/v1/ws") as response:
        assert response.status == 400
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("path", ["/v1/ws", "/api/chat/ws"])
async def test_a_plain_request_is_told_that_there_is_a_websocket(site: Site, path: str) -> None:
    async with site.http.get(path) as response:
        assert response.status == 400
        problem = await response.json(content_type=None)
        assert problem["detail"] == "this is a WebSocket: connect to it with an upgrade"
