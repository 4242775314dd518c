"""WebSocket clients that send what no client should: what they are answered, and who notices."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence

import aiohttp
import psutil
import pytest
import pytest_asyncio

from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    frame,
    upgrade,
)
from tests.support.raw import Raw, raw
from tests.support.server import Server, running_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
LONG_WAIT = 5.0
"""Seconds: what nobody waits for an answer beside a flood, on a busy machine; alone it is 10 ms."""

SOCKETS = ("/v1/ws", "/api/chat/ws")
DEEP = b'{"type":"send","id":"c","session_id":"s","text":"x","options":{"a":%b}}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One server for all that is hostile, as it is in life; it must not have noticed in the end."""
    environment = {"TIDEGATE_WRITE_TIMEOUT_S": "0.4", "TIDEGATE_SYNCHRONOUS": "normal"}
    async with running_server(tmp_path_factory.mktemp("data"), environment=environment) as server:
        body = {"session_id": "s", "agent": "echo"}
        async with (
            aiohttp.ClientSession(server.url) as http,
            http.post("/v1/sessions", json=body) as made,
        ):
            assert made.status == 201
        yield server
        assert not [line for line in server.output if '"level":"error"' in line]


def address_of(server: Server) -> tuple[str, int]:
    return "127.0.0.1", server.port


async def close_code(client: Raw) -> int:
    """Read to the end, and return the code of the close frame that came last."""
    said = b""
    async with asyncio.timeout(30):
        while not (len(said) >= 4 and said[-said[::-1].find(0x88) - 1 :][:1] == b"\x88"):
            data = await client.reader.read(2**16)
            assert data, "the server closed without a word"
            said += data
    body = said[said.rindex(b"\x88") + 2 :]
    return int(struct.unpack("!H", body[:2])[0])


@pytest.mark.fault("F40", holds=("I9",))
@pytest.mark.rule("ws.bad_input")
@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param([frame(b"x" * (9 * MIB))], 1009, id="too large"),
        pytest.param(
            [b"\x81\xff" + struct.pack("!Q", 2**62) + bytes(4)], 1009, id="claims to be too large"
        ),
        pytest.param(
            [frame(b"x" * (5 * MIB), last=False), frame(b"x" * (5 * MIB), CONTINUATION)],
            1009,
            id="too large in fragments",
        ),
        pytest.param([frame(b'\xff\xfe"')], 1007, id="not UTF-8"),
        pytest.param([frame(b"x", PING, last=False)], 1002, id="a control frame in fragments"),
        pytest.param([frame(b"x" * 126, PING)], 1002, id="a control frame that is too large"),
        pytest.param([frame(b"{}", reserved=0x40)], 1002, id="a reserved bit"),
        pytest.param([frame(b"{}", 5)], 1002, id="an unknown opcode"),
        pytest.param([frame(b"{}", CONTINUATION)], 1002, id="a continuation of nothing"),
        pytest.param([frame(b"\x01", CLOSE)], 1002, id="half a close code"),
        pytest.param([frame(struct.pack("!H", 1005), CLOSE)], 1002, id="a close code of no wire"),
    ],
)
async def test_what_breaks_the_protocol_closes_the_socket_with_its_code(
    server: Server, path: str, frames: Sequence[bytes], code: int
) -> None:
    async with raw(address_of(server)) as client:
        await upgrade(client, address_of(server), path)
        client.writer.write(b"".join(frames))
        assert await close_code(client) == code


@pytest.mark.fault("F40", holds=("I9",))
@pytest.mark.rule("ws.bad_input")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(b"\x00", BINARY), id="binary"),
        pytest.param(frame(b""), id="nothing"),
        pytest.param(frame(b"{"), id="no JSON"),
        pytest.param(frame(b"[" * 100_000), id="nested without an end"),
        pytest.param(frame(DEEP % (b"[" * 101 + b"]" * 101)), id="nested too deep"),
        pytest.param(frame(DEEP % (b"[" * 900 + b"]" * 900)), id="nested far too deep"),
        pytest.param(frame(b'{"type":"ping","id":"\\ud800"}'), id="half a surrogate"),
        pytest.param(frame(b'{"type":"ping","id":' + b"9" * 5000 + b"}"), id="a huge number"),
        pytest.param(
            frame(b"", last=False)
            + frame(b"", CONTINUATION, last=False) * 20_000
            + frame(b"", CONTINUATION),
            id="fragments of nothing",
        ),
    ],
)
async def test_what_cannot_be_read_gets_a_nack_and_the_socket_lives_on(
    server: Server, data: bytes
) -> None:
    async with raw(address_of(server)) as client:
        await upgrade(client, address_of(server))
        client.writer.write(data)
        assert b'"command_malformed"' in await client.until(b'"retryable":false}}')
        client.writer.write(frame(b'{"type":"ping","id":"p"}'))
        assert await client.until(b'{"type":"pong","id":"p"}')


async def test_a_ping_is_answered_with_its_own_words(server: Server) -> None:
    async with raw(address_of(server)) as client:
        await upgrade(client, address_of(server))
        client.writer.write(frame(b"", PONG) + frame(b"are you there", PING))
        assert await client.until(b"there") == b"\x8a\x0dare you there"


FLOODS = {
    "pings": [frame(b"x" * 125, PING)],
    "empty pings": [frame(b"", PING)],
    "pongs": [frame(b"", PONG)],
    "nonsense": [frame(b"")],
    "subscribing to one session": [frame(b'{"type":"subscribe","session_id":"s","after":"0"}')],
    "coming and going": [
        frame(b'{"type":"subscribe","session_id":"s"}'),
        frame(b'{"type":"unsubscribe","session_id":"s"}'),
    ],
    "subscribing to what is not there": [
        frame(b'{"type":"subscribe","session_id":"no%d"}' % number) for number in range(600)
    ],
    "commands": [frame(b'{"type":"cancel","id":"c","session_id":"no"}')],
}


async def flood(client: Raw, frames: Sequence[bytes], count: int) -> None:
    """Send so many frames, or until the server has had enough."""
    block = b"".join(frames) * (1 + 100 // len(frames))
    for _ in range(count // (len(frames) * (1 + 100 // len(frames)))):
        client.writer.write(block)
        await client.writer.drain()


@pytest.mark.fault("F40", holds=("I9",))
@pytest.mark.rule("slow.isolated", "ws.bad_input")
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_keeps_nobody_else_waiting(server: Server, name: str) -> None:
    address = address_of(server)
    async with raw(address) as client, raw(address) as other:
        await upgrade(client, address)
        await upgrade(other, address)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_read_all(client))
            flooding = tasks.create_task(flood(client, FLOODS[name], 5_000))
            answered = 0
            while not flooding.done():
                other.writer.write(frame(b'{"type":"ping","id":"p"}'))
                async with asyncio.timeout(LONG_WAIT):
                    await other.until(b'{"type":"pong","id":"p"}')
                answered += 1
            client.writer.write(frame(b'{"type":"ping","id":"last"}'))
            await reading
        assert answered > 0


async def _read_all(client: Raw) -> None:
    """Read until the answer to the last thing said."""
    said = b""
    while b'"id":"last"}' not in said:
        data = await client.reader.read(2**16)
        assert data, "the server gave the client up"
        said = said[-32:] + data


@pytest.mark.fault("F28", "F40", holds=("I9",))
@pytest.mark.rule("slow.cut")
@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/v1/ws", frame(b"x" * 125, PING)),
        ("/api/chat/ws", frame(b'{"requestId":"r","type":"?"}')),
    ],
    ids=["pings", "nonsense"],
)
async def test_who_asks_and_asks_and_never_reads_is_cut_before_the_answers_pile_up(
    server: Server, path: str, data: bytes
) -> None:
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    most = 0

    async def until_cut() -> None:
        nonlocal most
        while True:
            await flood(client, [data], 10_000)
            most = max(most, process.memory_info().rss)

    async with raw(address_of(server), receive_buffer=4096) as client:
        await upgrade(client, address_of(server), path)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(60):
            with pytest.raises(ConnectionError):
                await until_cut()
    assert most - before < 16 * MIB
