"""Peers that vanish without a word: the server notices by itself, and lets go of what they held."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import orjson
import psutil
import pytest
import pytest_asyncio

from tests.support.frames import frame, upgrade
from tests.support.raw import Raw, host_of, raw
from tests.support.server import Server, running_server
from tests.support.vanishing import vanish

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform != "linux", reason="packets are dropped by a filter of Linux"),
]

HEARTBEAT = 1.0
PATIENCE = 60.0
"""Seconds. It takes 5: a heartbeat and a half, or three questions of the kernel, whose clock has whole
seconds. Without these nobody would notice for hours."""

Opening = Callable[[Raw, tuple[str, int]], Awaitable[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    environment = {
        "TIDEGATE_WS_HEARTBEAT_S": str(HEARTBEAT),
        "TIDEGATE_KEEPALIVE_S": "0.5",
        "TIDEGATE_WRITE_TIMEOUT_S": "1",
        "TIDEGATE_ENGINE": "memory",
    }
    async with running_server(tmp_path_factory.mktemp("data"), environment=environment) as server:
        async with aiohttp.ClientSession(server.url) as http:
            created = {"session_id": "s", "agent": "echo"}
            await (await http.post("/v1/sessions", json=created)).read()
            await (await http.put("/v1/clients/c/subscriptions/s", json={})).read()
        yield server
        assert not [line for line in server.output if '"level":"error"' in line]


def connected(server: Server) -> int:
    """Return how many connections the server has open."""
    return len(psutil.Process(server.pid).net_connections()) - 1  # the one that listens


async def socket(client: Raw, address: tuple[str, int]) -> None:
    await upgrade(client, address)
    client.writer.write(frame(b'{"type":"subscribe","session_id":"s"}'))
    await client.until(b"caught_up")


async def one_session(client: Raw, address: tuple[str, int]) -> None:
    client.ask("/v1/sessions/s/events", **host_of(address), Accept="text/event-stream")
    await client.until(b"caught_up")


async def many_sessions(client: Raw, address: tuple[str, int]) -> None:
    client.ask("/v1/clients/c/events", **host_of(address), Accept="text/event-stream")
    await client.until(b"caught_up")


async def waiting_for_an_answer(client: Raw, address: tuple[str, int]) -> None:
    body = orjson.dumps({"text": "one two", "options": {"interval_ms": 60_000}})
    client.ask(
        "/v1/sessions/s/messages",
        method="POST",
        **host_of(address),
        Content_Type="application/json",
        Content_Length=str(len(body)),
    )
    client.writer.write(body)
    async with aiohttp.ClientSession(f"http://{address[0]}:{address[1]}") as http:
        running = False
        while not running:
            async with http.get("/v1/sessions/s") as response:
                running = (await response.json())["status"] == "running"


@pytest.mark.fault("F30")
@pytest.mark.rule("ws.heartbeat", "slow.isolated")
async def test_peers_that_vanish_are_given_up(server: Server) -> None:
    address = ("127.0.0.1", server.port)
    openings = (socket, one_session, many_sessions, waiting_for_an_answer)
    async with (
        raw(address) as first,
        raw(address) as second,
        raw(address) as third,
        raw(address) as fourth,
    ):
        for client, opening in zip((first, second, third, fourth), openings, strict=True):
            await opening(client, address)
            vanish(client.writer.get_extra_info("socket"))
        assert connected(server) >= len(openings)
        async with asyncio.timeout(PATIENCE):
            while connected(server):  # noqa: ASYNC110 - only the kernel tells
                await asyncio.sleep(0.05)
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.get("/v1/clients/c") as response,
        http.get("/v1/sessions/s") as session,
    ):
        assert (await response.json())["streams"] == 0
        assert (await session.json())["status"] == "running", "and no run was ended by it"
