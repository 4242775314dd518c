"""Clients that other people wrote, on Chronos' frames: the gateway's, and those of a broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import requests
from aiohttp import web
from httpx_sse import aconnect_sse
from sseclient import SSEClient

from runtime.broker import Broker
from runtime.events import Custom
from tests.support.node import node_command
from tests.support.site import Site, Talk, running_site
from tests.support.vercel_client import running_wire

LIMIT = 30.0


@asynccontextmanager
async def broker_site(broker: Broker, **more: Any) -> AsyncIterator[tuple[str, int]]:
    """Serve a broker as `web.run_app` does it."""
    app = web.Application()
    app.router.add_get("/events", broker.sse_handler(**more))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield ("127.0.0.1", runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def put(site: Site, talk: Talk) -> None:
    path = f"/v1/clients/me/subscriptions/{talk.session_id}"
    async with site.http.put(path, json={"after": "$"}) as response:
        assert response.status == 204


async def stop(talk: Talk) -> None:
    """Say the word at which the clients here leave."""
    await talk._part.emit(Custom(name="stop", run_id=talk.run_id))


class Node:
    """A script that runs, and what it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        self._process = process
        self._output = process.stdout
        self.seen: list[dict[str, Any]] = []

    async def line(self) -> bool:
        """Take the next line; False at the end."""
        async with asyncio.timeout(LIMIT):
            line = await self._output.readline()
        if line:
            self.seen.append(json.loads(line))
        return bool(line)

    async def until(self, count: int = 1, **wanted: Any) -> None:
        """Wait until this was said so many times."""
        while sum(wanted.items() <= told.items() for told in self.seen) < count:
            assert await self.line(), f"never {wanted}: {self.seen}"

    async def end(self) -> None:
        while await self.line():
            pass
        assert await self._process.wait() == 0

    def told(self, source: int) -> list[Any]:
        wanted = {"source": source, "type": "told"}
        return [line["data"] for line in self.seen if wanted.items() <= line.items()]


@asynccontextmanager
async def node(script: str, *arguments: str) -> AsyncIterator[Node]:
    process = await asyncio.create_subprocess_exec(
        *node_command(script, *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Node(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.rows("C31", "C32", "X7", "W-C8")
async def test_an_event_source_that_was_cut_off_gets_what_it_missed_and_nothing_twice() -> None:
    broker = Broker()
    async with (
        running_site() as site,
        broker_site(broker) as address,
        running_wire(site.address) as one,
        running_wire(address) as other,
    ):
        talks = [await site.talk() for _ in range(2)]
        for talk in talks:
            await put(site, talk)

        async def say(number: int) -> None:
            for talk in talks:
                await talk.tell([talk.session_id, number])
            broker.emit("told", number)

        urls = (
            f"{one.url}/events?client_id=me",
            f"{other.url}/events?client_id=me",
            f"{other.url}/events",
        )
        async with node("chronos.mjs", *urls) as client:
            await client.until(source=2, error=True, code=400)
            await client.until(source=1, open=True)
            await client.until(2, source=0, type="stream.caught_up")
            await say(0)
            await client.until(2, source=0, type="told")
            await client.until(source=1, type="told")
            for wire in (one, other):
                await wire.cut()
            await say(1)
            await say(2)
            await client.until(6, source=0, type="told")
            await client.until(3, source=1, type="told")
            await stop(talks[0])
            broker.emit("stop")
            await client.end()
    for talk in talks:
        assert [n for session_id, n in client.told(0) if session_id == talk.session_id] == [0, 1, 2]
    assert client.told(1) == [0, 1, 2]
    assert sum(line["source"] == 2 for line in client.seen) == 1, "a refused one stays away"
    for source in (0, 1):
        cuts = [line for line in client.seen if line["source"] == source and "error" in line]
        assert len(cuts) == 1


@pytest.mark.rows("C32", "C33")
async def test_sseclient_py_reads_every_event_of_both_and_nothing_else() -> None:
    def read(url: str) -> list[dict[str, Any]]:
        found = []
        with requests.get(url, stream=True, timeout=LIMIT) as response:
            for event in SSEClient(response.iter_content(chunk_size=None)).events():
                assert event.event == "message"
                found.append(json.loads(event.data))
                if found[-1]["type"] == "stop":
                    return found
        return found

    async def reading(url: str) -> list[dict[str, Any]]:
        return await asyncio.to_thread(read, url)

    assert await from_the_gateway(reading) == ["stream.caught_up", "told", "told", "stop"]
    assert await from_a_broker(reading) == ["told", "told", "stop"]


@pytest.mark.rows("C32", "C33")
async def test_httpx_sse_reads_every_event_of_both() -> None:
    async def read(url: str, *, skip_empty: bool) -> list[dict[str, Any]]:
        found = []
        async with (
            httpx.AsyncClient(timeout=LIMIT) as http,
            aconnect_sse(http, "GET", url) as source,
        ):
            async for event in source.aiter_sse():
                if not event.data and skip_empty:
                    continue
                assert event.event == "message"
                found.append(event.json())
                if found[-1]["type"] == "stop":
                    break
        return found

    async def all_of_it(url: str) -> list[dict[str, Any]]:
        return await read(url, skip_empty=False)

    async def with_data(url: str) -> list[dict[str, Any]]:
        # It reports an id without data, and comments after one, as events without data.
        return await read(url, skip_empty=True)

    assert await from_the_gateway(all_of_it) == ["stream.caught_up", "told", "told", "stop"]
    assert await from_a_broker(with_data) == ["told", "told", "stop"]


async def from_the_gateway(reading: Any) -> list[str]:
    """Return the types that a client sees of a session that is silent for a while."""
    async with running_site(keepalive_s=0.02) as site:
        talk = await site.talk()
        await put(site, talk)
        task = asyncio.create_task(reading(f"{site.url}/events?client_id=me"))
        async with asyncio.timeout(LIMIT):
            while not await streams(site):
                pass
            for _ in range(2):
                await talk.tell("x")
                await asyncio.sleep(0.05)  # comments fill it
            await stop(talk)
            return [message["type"] for message in await task]


async def streams(site: Site) -> int:
    async with site.http.get("/v1/clients/me") as response:
        return int((await response.json())["streams"])


async def from_a_broker(reading: Any) -> list[str]:
    broker = Broker()
    async with broker_site(broker, keepalive=0.02) as (host, port):
        task = asyncio.create_task(reading(f"http://{host}:{port}/events?client_id=me"))
        async with asyncio.timeout(LIMIT):
            while not broker.subscriber_count:  # noqa: ASYNC110 - it tells nobody who comes
                await asyncio.sleep(0.01)
            for _ in range(2):
                broker.emit("told", "x")
                await asyncio.sleep(0.05)  # comments fill it
            broker.emit("stop")
            return [message["type"] for message in await task]
