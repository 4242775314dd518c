"""Clients that read slowly or not at all: what they cost, when they are cut, who notices."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import orjson
import psutil
import pytest

from gateway.errors import SlowClient
from gateway.transports.outlet import PIECE_BYTES, Outlet, pieces
from tests.support.raw import Raw, host_of, raw
from tests.support.server import running_server
from tests.support.site import Site, Talk, running_site
from tests.support.waiting import proven_blocked

BIG = "x" * 8_000
KIB = 1024
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def frame(message: dict[str, str]) -> bytes:
    """Return a short message as a client's frame, masked with zeros."""
    text = orjson.dumps(message)
    return struct.pack("!BB", 0x81, 0x80 | len(text)) + bytes(4) + text


async def stop_reading(client: Raw, site: Site, transport: str, talk: Talk) -> None:
    """Open a live stream and never read from it again."""
    if transport == "websocket":
        client.ask("/v1/ws", **host_of(site.address), **UPGRADE)
        await client.until(b"hello")
        message = {"type": "subscribe", "session_id": talk.session_id, "after": "$"}
        client.writer.write(frame(message))
    else:
        accept = {"sse": "text/event-stream", "ndjson": "application/x-ndjson"}[transport]
        path = f"/v1/sessions/{talk.session_id}/events?after=$"
        client.ask(path, **host_of(site.address), Accept=accept)
    await client.until(b"caught_up")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]


@pytest.mark.rows("W-L7")
@pytest.mark.rule("slow.isolated", "slow.cut")
async def test_one_client_that_never_reads_next_to_fifty_that_do(
    transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    events = 200
    caplog.set_level("INFO", logger="gateway.transports")
    # Readers and server share a process here: it may stand still for a while, and nobody is cut.
    async with running_site(write_timeout_s=3) as site:
        talk = await site.talk()
        readers = [await site.read(transport, talk.session_id, "$") for _ in range(50)]
        for reader in readers:
            await reader.next()
        async with raw(site.address, receive_buffer=4 * KIB) as stuck:
            await stop_reading(stuck, site, transport, talk)
            async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
                for reader in readers:
                    tasks.create_task(reader.events(events))
                for number in range(events):
                    await talk.tell([number, BIG])
            async with asyncio.timeout(30):
                while "a client was cut" not in caplog.text:  # noqa: ASYNC110 - only the log tells
                    await asyncio.sleep(0.02)
        resumed = await site.read(transport, talk.session_id, "0")
        messages = await resumed.until("stream.caught_up")
        told = [message["payload"][0] for message in messages if message.type == "custom"]
        assert told == list(range(events)), "what it missed is all there"


@pytest.mark.rule("slow.isolated")
async def test_clients_that_never_read_cost_the_server_little(tmp_path: Path) -> None:
    clients = 100
    words = "word " * 8_000
    environment = {
        "TIDEGATE_WRITE_TIMEOUT_S": "60",
        "TIDEGATE_DELTA_INTERVAL_MS": "0",
        "TIDEGATE_SYNCHRONOUS": "normal",
    }
    async with running_server(tmp_path, environment=environment) as server:
        address = ("127.0.0.1", server.port)
        async with (
            aiohttp.ClientSession(server.url, read_bufsize=2**26) as http,
            AsyncExitStack() as stack,
        ):
            body = {"session_id": "s", "agent": "echo"}
            async with http.post("/v1/sessions", json=body) as response:
                assert response.status == 201
            for _ in range(clients):
                stuck = await stack.enter_async_context(raw(address, receive_buffer=4 * KIB))
                stuck.ask("/v1/sessions/s/events?after=$", **host_of(address))
                await stuck.until(b"caught_up")
                stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
            memory = psutil.Process(server.pid).memory_info().rss
            send = {"text": words, "options": {"interval_ms": 0}}
            async with http.post("/v1/sessions/s/messages", json=send) as response:
                assert (await response.json())["status"] == "completed"
            grown = psutil.Process(server.pid).memory_info().rss - memory
            path, headers = "/v1/sessions/s/events?after=0", {"Accept": "application/x-ndjson"}
            async with http.get(path, headers=headers) as response:
                log = await response.content.readuntil(b"stream.caught_up")
    # 256 KiB for each, and something for all that one long answer costs a server in any case.
    bound = clients * 256 * KIB + 40 * KIB * KIB
    assert clients * len(log) > 2 * bound, "holding it all for each would not pass"
    assert grown < bound


@asynccontextmanager
async def connection(
    limit: int, write_timeout: float
) -> AsyncIterator[tuple[Outlet, asyncio.Transport, socket.socket]]:
    """A connection whose other end is a plain socket that reads when the test says so."""
    server_end, client_end = _tcp_pair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, server_end)
    try:
        yield Outlet(transport, limit=limit, write_timeout=write_timeout), transport, client_end
    finally:
        transport.abort()
        client_end.close()
        await asyncio.sleep(0)


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client_end = socket.socket()
        client_end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        client_end.connect(listener.getsockname())
        server_end, _ = listener.accept()
    server_end.setblocking(False)
    client_end.setblocking(False)
    return server_end, client_end


async def fill(outlet: Outlet, transport: asyncio.Transport, limit: int) -> None:
    """Write until the process holds more than the limit."""
    while transport.get_write_buffer_size() <= limit:
        outlet.write(b"x" * KIB)
        await asyncio.sleep(0)


async def test_who_keeps_up_never_waits() -> None:
    async with connection(limit=64 * KIB, write_timeout=5) as (outlet, _, _):
        ready = outlet.ready()
        with pytest.raises(StopIteration):
            ready.send(None)


async def test_a_client_that_takes_nothing_is_slow_after_the_limit() -> None:
    async with connection(limit=64 * KIB, write_timeout=0.3) as (outlet, transport, _):
        await fill(outlet, transport, 64 * KIB)
        async with asyncio.timeout(30):
            with pytest.raises(SlowClient):
                await outlet.ready()


async def test_a_client_that_takes_a_little_now_and_then_is_waited_for() -> None:
    async with connection(limit=64 * KIB, write_timeout=0.5) as (outlet, transport, client_end):
        await fill(outlet, transport, 256 * KIB)
        waiting = asyncio.create_task(outlet.ready())
        await proven_blocked(waiting)
        async with asyncio.timeout(30):
            while not waiting.done():
                with suppress(BlockingIOError):
                    client_end.recv(32 * KIB)
                await asyncio.sleep(0.02)
        await waiting
        assert transport.get_write_buffer_size() <= 64 * KIB


async def test_time_in_which_the_server_itself_stood_still_does_not_count_against_a_client() -> (
    None
):
    async with connection(limit=64 * KIB, write_timeout=0.5) as (outlet, transport, client_end):
        await fill(outlet, transport, 256 * KIB)
        waiting = asyncio.create_task(outlet.ready())
        await proven_blocked(waiting)
        for _ in range(2):  # what the two kernels had still to do is done in the first
            time.sleep(0.6)  # noqa: ASYNC251 - the fault: nobody runs, on neither side
            await asyncio.sleep(0.03)  # and the server's turn comes first
        while not waiting.done():
            with suppress(BlockingIOError):
                client_end.recv(64 * KIB)
            await asyncio.sleep(0.01)
        await waiting


async def test_many_small_writes_cost_more_than_their_bytes_and_are_held_back_for_it() -> None:
    async with connection(limit=64 * KIB, write_timeout=0.3) as (outlet, transport, _):
        await fill(outlet, transport, 1)  # the kernel takes no more

        async def write_on() -> None:
            for _ in range(1000):
                await outlet.ready()
                outlet.write(b"x")

        with pytest.raises(SlowClient):
            await write_on()
        assert transport.get_write_buffer_size() < 4 * KIB


async def test_several_tasks_may_wait_for_one_client() -> None:
    async with connection(limit=4 * KIB, write_timeout=0.3) as (outlet, transport, _):
        await fill(outlet, transport, 4 * KIB)
        tasks = [asyncio.create_task(outlet.ready()) for _ in range(3)]
        async with asyncio.timeout(30):
            await asyncio.wait(tasks)
        assert [type(task.exception()) for task in tasks] == [SlowClient] * 3


async def test_flushing_waits_until_all_is_sent() -> None:
    async with connection(limit=64 * KIB, write_timeout=5) as (outlet, transport, client_end):
        await fill(outlet, transport, 4 * KIB)
        waiting = asyncio.create_task(outlet.flush())
        await proven_blocked(waiting)
        async with asyncio.timeout(30):
            while not waiting.done():
                with suppress(BlockingIOError):
                    client_end.recv(64 * KIB)
                await asyncio.sleep(0.01)
        assert transport.get_write_buffer_size() == 0


async def test_nothing_is_written_to_a_connection_that_closes() -> None:
    async with connection(limit=64 * KIB, write_timeout=5) as (outlet, transport, _):
        transport.close()
        with pytest.raises(ConnectionResetError):
            outlet.write(b"x")


def test_frames_are_joined_whole_and_in_order() -> None:
    frames = [bytes([n]) * size for n, size in enumerate([10, PIECE_BYTES, 5, PIECE_BYTES - 5, 1])]
    assert b"".join(pieces(frames)) == b"".join(frames)
    assert [len(piece) for piece in pieces(frames)] == [10, PIECE_BYTES, PIECE_BYTES, 1]
    assert list(pieces(frames[:1])) == frames[:1]
    assert list(pieces([b"a", b"b"])) == [b"ab"]
