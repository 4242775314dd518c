"""The proxy does to connections what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.proxy import Faults, Proxy, running_proxy
from tests.support.raw import Raw, raw
from tests.support.waiting import proven_blocked

SAID = bytes(range(256)) * 400


@asynccontextmanager
async def echoing() -> AsyncIterator[Proxy]:
    """Run a server that says what it is told, with a proxy before it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, running_proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


@asynccontextmanager
async def through(proxy: Proxy, faults: Faults) -> AsyncIterator[Raw]:
    proxy.faults = faults
    async with raw(("127.0.0.1", proxy.port)) as client:
        yield client


async def test_what_it_passes_on_is_what_came_and_it_counts_both_ways() -> None:
    async with echoing() as proxy, through(proxy, Faults()) as client:
        client.writer.write(SAID)
        assert await client.reader.readexactly(len(SAID)) == SAID
        assert (proxy.to_server, proxy.to_client) == (len(SAID), len(SAID))


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 70_000])
async def test_it_cuts_after_exactly_so_many_bytes_to_the_client(count: int) -> None:
    async with echoing() as proxy, through(proxy, Faults(cut_to_client_after=count)) as client:
        client.writer.write(SAID)
        assert await client.rest() == SAID[:count]
        assert proxy.cuts == 1


async def test_it_cuts_after_exactly_so_many_bytes_to_the_server() -> None:
    async with echoing() as proxy, through(proxy, Faults(cut_to_server_after=500)) as client:
        client.writer.write(SAID)
        assert len(await client.rest()) <= 500
        assert proxy.to_server == 500


async def test_a_cut_may_be_a_reset() -> None:
    faults = Faults(cut_to_client_after=0, reset=True)
    async with echoing() as proxy, through(proxy, faults) as client:
        client.writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_it_is_slow_when_told_to() -> None:
    async with echoing() as proxy, through(proxy, Faults(bytes_per_second=10_000)) as client:
        began = time.monotonic()
        client.writer.write(SAID[:2000])
        assert await client.reader.readexactly(2000) == SAID[:2000]
        assert time.monotonic() - began > 0.14  # 3 times 0.05 s; uvloop's clock has milliseconds


@pytest.mark.parametrize(
    "faults", [Faults(silent=True), Faults(stalled=True)], ids=["silent", "stalled"]
)
async def test_it_says_nothing_when_told_to_and_goes_on_after_a_stall(faults: Faults) -> None:
    async with echoing() as proxy, through(proxy, faults) as client:
        client.writer.write(b"hello")
        reading = asyncio.create_task(client.reader.readexactly(5))
        await proven_blocked(reading)
        if faults.stalled:
            proxy.change_all(stalled=False)
            assert await reading == b"hello"
        reading.cancel()


async def test_it_cuts_all_and_refuses() -> None:
    async with echoing() as proxy, through(proxy, Faults()) as client:
        client.writer.write(b"x")
        await client.reader.readexactly(1)
        assert proxy.cut_all() == 1
        assert await client.rest() == b""
        proxy.refuse = True
        async with through(proxy, Faults()) as other:
            assert await other.rest() == b""
