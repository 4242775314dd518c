"""F21, F23, F30: connections that break at every byte, at random, and without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import pytest

from tests.faults.clients import Client, ManyClient, Transport, World, connecting
from tests.faults.commands import Caller
from tests.faults.endings import all_idle, database, final_logs, following
from tests.faults.plugin import Judge
from tests.faults.proxy import Faults, Proxy, running_proxy
from tests.support.server import running_server
from tests.support.site import running_site

STREAMS: tuple[Transport, ...] = ("sse", "ndjson", "websocket")
SAMPLE = 40
LAST_EVENT = 0.75
"""A cut in the last quarter of the bytes may come after the last event."""

TOLD = ("Hel", "lo \u2028 wörld 🌊\n\n", {"data: x": [1, None]}, "")
WORDS = "one two three four five six"


async def cut_after(
    judge: Judge, random: Random, transport: Transport, choose: Callable[[int], Iterable[int]]
) -> None:
    """Read a log over and over; each time the first connection is cut after another byte."""
    async with running_site() as site, connecting() as http:
        talk = await site.talk("s")
        await talk.tell(*TOLD)
        await talk.end("done")
        logs = await final_logs(http, site.url, ["s"])

        async def read(name: str, *faults: Faults) -> Proxy:
            """Read through a proxy of its own, with these faults for its first connections."""
            plan = iter(faults)
            async with running_proxy(site.address[1]) as proxy:
                proxy.choose = lambda: next(plan, Faults())
                world = World(judge.history, http, proxy.url, random, pauses=(0, 0))
                client = Client(world, name, "s", transport)
                async with following([client]):
                    await client.until(lambda: client.seq >= logs[0].last)
                client.finished("s")
                return proxy

        undisturbed = await read("whole")
        whole, cuts = undisturbed.to_client, 0
        offsets = list(choose(whole))
        for offset in offsets:
            faults = Faults(cut_to_client_after=offset, reset=offset % 2 == 1)
            proxy = await read(f"cut after {offset}", faults)
            assert proxy.accepted > 1 or offset > LAST_EVENT * whole
            cuts += proxy.cuts
    judge.check(logs, "I1", "I2", "I3", "I8")
    judge.say(
        f"{transport}: cut at {len(offsets)} of {whole} bytes, in {cuts} cases before the end"
    )


@pytest.mark.fault("F21")
@pytest.mark.rule("resume.exact")
@pytest.mark.parametrize("transport", STREAMS)
async def test_a_stream_that_is_cut_at_any_byte_goes_on_without_loss(
    judge: Judge, random: Random, transport: Transport
) -> None:
    await cut_after(judge, random, transport, lambda whole: random.sample(range(whole), SAMPLE))


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.fault("F21")
@pytest.mark.parametrize("transport", STREAMS)
async def test_a_stream_that_is_cut_at_every_byte_goes_on_without_loss(
    judge: Judge, random: Random, transport: Transport
) -> None:
    await cut_after(judge, random, transport, range)


async def has_read(client: ManyClient, last: dict[str, int]) -> None:
    await client.until(lambda: client.seqs == last, seconds=90)


@pytest.mark.timeout(240)
@pytest.mark.fault("F23")
@pytest.mark.rule("sse.many")
async def test_a_stream_of_fifty_sessions_that_is_cut_at_random_loses_nothing(
    tmp_path: Path, judge: Judge, random: Random
) -> None:
    data = tmp_path / "data"
    sessions = [f"s{number}" for number in range(50)]
    async with (
        running_server(data) as server,
        running_proxy(server.port) as proxy,
        connecting() as http,
    ):
        caller = Caller(World(judge.history, http, server.url, random), "caller")
        behind = World(judge.history, http, proxy.url, random)
        clients = [ManyClient(behind, f"many-{number}", sessions) for number in range(3)]
        for session_id in sessions:
            await caller.create(session_id, agent="echo")
        for client in clients:
            await client.subscribe()
        proxy.choose = lambda: Faults(
            cut_to_client_after=random.randint(200, 40_000), reset=random.random() < 0.5
        )
        async with following(clients):
            async with asyncio.TaskGroup() as tasks:
                for session_id in sessions:
                    tasks.create_task(caller.call(session_id, "send", text=WORDS))
            await all_idle(http, server.url, sessions)
            logs = await final_logs(http, server.url, sessions, database(data))
            last = {log.session_id: log.last for log in logs}
            proxy.choose = Faults
            for client in clients:
                await has_read(client, last)
                for session_id in sessions:
                    client.finished(session_id)
    judge.check(logs, "I1", "I2", "I3", "I4", "I8", "I11")
    resumed = sum(client.connections - 1 for client in clients)
    assert resumed > 3
    judge.say(f"3 streams of 50 sessions, resumed {resumed} times")


@pytest.mark.fault("F30")
@pytest.mark.rule("ws.heartbeat")
@pytest.mark.parametrize("transport", STREAMS)
async def test_who_is_at_a_connection_that_goes_silent_gives_it_up_and_comes_back(
    judge: Judge, random: Random, transport: Transport
) -> None:
    async with (
        running_site(keepalive_s=0.1, ws_heartbeat_s=0.2) as site,
        running_proxy(site.address[1]) as proxy,
        connecting(watchdog=0.5) as http,
    ):
        talk = await site.talk("s")
        world = World(judge.history, http, proxy.url, random, pauses=(0, 0.05))
        client = Client(world, "client", "s", transport)
        async with following([client]):
            for number in range(2):
                await talk.tell(f"before {number}")
                tail = (await site.engine.head("s")).tail.seq
                await client.until(lambda tail=tail: client.seq >= tail)  # type: ignore[misc] # mypy does not see the default
                silent = set(proxy.connections)
                for connection in silent:
                    connection.faults.silent = True
                judge.history.fault("silence", connections=len(silent))
                await talk.tell(f"into the silence {number}")
                if transport == "websocket":  # the other transports wait for TCP to give up
                    async with asyncio.timeout(30):
                        for connection in silent:
                            await connection.ended.wait()
            await talk.end("done")
            logs = await final_logs(http, site.url, ["s"])
            await client.until(lambda: client.seq >= logs[0].last)
            client.finished("s")
    assert client.connections >= 3
    judge.check(logs, "I1", "I2", "I3", "I8")
