"""A server that stops: streams are told, no client holds it, and no new work begins."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack

import aiohttp
import pytest

from gateway.app import running, serve
from gateway.config import Settings
from gateway.errors import ShuttingDown, StartupRefused
from gateway.transports.draining import OpenStreams, first_error
from runtime.registry import Registry
from tests.support.puppet import Part, Puppet
from tests.support.raw import host_of, raw
from tests.support.readers import READERS
from tests.support.site import running_site
from tests.support.waiting import proven_blocked

MEMORY = Settings(engine="memory", port=0)


async def play(part: Part) -> None:
    await part.answer("words")


@pytest.mark.parametrize("transport", ["sse", "ndjson"])
async def test_open_streams_are_told_when_to_come_back(transport: str) -> None:
    async with AsyncExitStack() as clients:
        async with running_site() as site:
            http = await clients.enter_async_context(aiohttp.ClientSession(site.url))
            reader = READERS[transport](http, await site.create())
            await reader.open("$")
            await reader.next()
        closing = await reader.next()
        assert closing.type == "stream.closing"
        assert closing["reason"] == "shutdown"
        assert 1000 <= closing["retry_ms"] <= 4000
        _, status = await reader.end()
        assert status == 200, "the body ended as it should"


async def test_a_stuck_client_does_not_hold_the_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="gateway.transports")
    async with (
        asyncio.timeout(30),
        AsyncExitStack() as clients,
        running_site(write_timeout_s=60) as site,
    ):
        talk = await site.talk()
        client = await clients.enter_async_context(raw(site.address, receive_buffer=4096))
        client.ask(f"/v1/sessions/{talk.session_id}/events?after=$", **host_of(site.address))
        await client.until(b"caught_up")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await talk.tell(*["x" * 50_000] * 40)
    assert "a client was cut" in caplog.text, "it was stuck until the end"


async def test_a_signal_ends_it_and_the_port_is_free_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="gateway.app")
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(MEMORY, Registry(Puppet(play)), told.set_result))
    async with asyncio.timeout(30):
        url = await told
        async with aiohttp.ClientSession(url) as http, http.get("/readyz") as response:
            assert response.status == 200
        await proven_blocked(serving)
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
        assert caplog.messages == ["the server stops", "the server has stopped"]
        port = int(url.rsplit(":", 1)[1])
        async with running(Settings(engine="memory", port=port), Registry(Puppet(play))) as again:
            assert again.url == url


async def test_a_port_that_is_taken_is_one_clear_line() -> None:
    async with running(MEMORY, Registry(Puppet(play))) as server:
        port = int(server.url.rsplit(":", 1)[1])
        with pytest.raises(StartupRefused, match=f"port {port} on 127.0.0.1 is taken"):
            async with running(Settings(engine="memory", port=port), Registry(Puppet(play))):
                raise AssertionError("two servers on one port")


async def test_the_end_of_a_stream_is_not_taken_for_a_cancellation() -> None:
    streams = OpenStreams()

    async def stream() -> None:
        async with streams.until_drained():
            await asyncio.Event().wait()

    task, other = asyncio.create_task(stream()), asyncio.create_task(stream())
    await proven_blocked(task, other)
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
    streams.drain()
    streams.drain()
    with pytest.raises(ShuttingDown):
        await task
    with pytest.raises(ShuttingDown):
        await stream()


async def test_a_time_limit_inside_a_stream_stays_one() -> None:
    with pytest.raises(TimeoutError):
        async with OpenStreams().until_drained(), asyncio.timeout(0):
            await asyncio.Event().wait()


def test_of_the_errors_of_a_connection_the_first_is_told() -> None:
    groups = ExceptionGroup("outer", [ExceptionGroup("inner", [ShuttingDown(), ValueError()])])
    with pytest.raises(ShuttingDown), first_error():
        raise groups
