"""The order in which a server stops: no clients, no work, runs, streams, the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import product
from pathlib import Path

import aiohttp
import pytest

from gateway.app import _shares, running
from gateway.config import Settings
from gateway.errors import ShuttingDown
from gateway.transports.draining import OpenStreams
from runtime.registry import Registry
from tests.support.puppet import Part, Puppet
from tests.support.readers import READERS
from tests.support.waiting import proven_blocked


class Worker:
    """Works on one step for as long as a test likes, and then wants to begin the next."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.puppet = Puppet(self._play)

    async def _play(self, part: Part) -> None:
        await part.begin()
        await self.may_end.wait()
        await part.say("all")
        await part.finish_step("all")
        await part.begin("msg_2", turn=2)
        raise AssertionError("the next step was begun")


@asynccontextmanager
async def stopping(
    tmp_path: Path, worker: Worker, **settings: float
) -> AsyncIterator[tuple[aiohttp.ClientSession, asyncio.Event, asyncio.Task[None]]]:
    """Run a server with one run at work; it stops when the event is set."""
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    chosen = Settings.model_validate({"data": tmp_path, "port": 0, **settings})

    async def serve() -> None:
        async with running(chosen, Registry(worker.puppet)) as server:
            told.set_result(server.url)
            await stop.wait()

    serving = asyncio.create_task(serve())
    async with aiohttp.ClientSession(await told) as http:
        await http.post("/v1/sessions", json={"session_id": "s"})
        await send(http)
        await worker.puppet.came.wait()
        try:
            yield http, stop, serving
        finally:
            stop.set()
            worker.may_end.set()
            async with asyncio.timeout(30):
                await serving


async def send(http: aiohttp.ClientSession) -> int:
    command = {"type": "send", "id": "c1", "text": "go"}
    async with http.post("/v1/sessions/s/commands", json=command) as response:
        return response.status


async def until_status(http: aiohttp.ClientSession, path: str, status: int) -> None:
    async with asyncio.timeout(30):
        while True:
            async with http.get(path) as response:
                if response.status == status:
                    return


@pytest.mark.rule("drain.orderly")
@pytest.mark.parametrize("transport", ["sse", "ndjson", "websocket"])
async def test_streams_carry_the_last_events_of_the_runs_and_are_ended_then(
    tmp_path: Path, transport: str
) -> None:
    worker = Worker()
    async with stopping(tmp_path, worker) as (http, stop, serving):
        reader = READERS[transport](http, "s")
        await reader.open("0")
        while (await reader.next()).type != "message.started":
            pass
        stop.set()
        await until_status(http, "/readyz", 503)
        await proven_blocked(serving)
        assert await send(http) == 503, "also what was answered before"
        async with http.get("/v1/sessions/s/events") as late:
            assert late.status == 503
        async with http.get("/healthz") as alive:
            assert alive.status == 200
        worker.may_end.set()
        types: list[str] = []
        while not types or types[-1] != "run.attempt_released":
            types.append((await reader.next()).type)
        assert types[-4:-1] == ["message.delta", "message.completed", "model.completed"]
        last, status = await reader.end()
        if transport == "websocket":
            assert (last, status) == ([], 1012)
        else:
            assert [message["reason"] for message in last] == ["shutdown"]
            assert status == 200


async def test_a_load_balancer_gets_time_to_notice_and_all_is_as_before(tmp_path: Path) -> None:
    worker = Worker()
    async with stopping(tmp_path, worker, drain_delay_s=1.0) as (http, stop, serving):
        stop.set()
        await until_status(http, "/readyz", 503)
        assert await send(http) == 202
        async with http.get("/v1/sessions/s/events?after=0") as stream:
            assert stream.status == 200
            worker.may_end.set()
            await serving
            assert b"stream.closing" in await stream.read()


@pytest.mark.fault("F31", holds=("I9",))
async def test_streams_end_one_after_the_other_within_the_time_that_is_given() -> None:
    streams, ends = OpenStreams(), list[float]()
    loop = asyncio.get_running_loop()

    async def stream() -> None:
        try:
            async with streams.until_drained():
                await asyncio.Event().wait()
        except ShuttingDown:
            ends.append(loop.time())

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(stream())
        await asyncio.sleep(0)
        assert streams.count == 200
        deadlines, began = list(streams._deadlines), loop.time()
        streams.drain(within=0.4)
        moments = sorted(moment for each in deadlines if (moment := each.when()) is not None)
        await streams.ended()
    assert streams.count == 0
    assert began <= moments[0] <= moments[199] <= began + 0.5
    assert moments[150] - moments[50] > 0.1, "they do not come back at once"
    # The loop's clock counts in milliseconds.
    assert all(end > moment - 0.01 for end, moment in zip(sorted(ends), moments, strict=True))


async def test_nothing_is_waited_for_where_no_stream_is_open() -> None:
    streams = OpenStreams()
    async with asyncio.timeout(30), AsyncExitStack() as stack:
        await streams.ended()
        await stack.enter_async_context(streams.until_drained())
        waiting = asyncio.create_task(streams.ended())
        await proven_blocked(waiting)
        await stack.aclose()
        await waiting


async def test_a_server_that_wants_no_more_clients_serves_those_that_come() -> None:
    streams = OpenStreams()
    streams.check_ready()
    streams.unready()
    with pytest.raises(ShuttingDown):
        streams.check_ready()
    async with streams.until_drained():
        streams.refuse()
        with pytest.raises(ShuttingDown):
            streams.check()
        await asyncio.sleep(0)  # it goes on


def test_the_shares_of_runs_and_streams_fit_into_the_limit() -> None:
    cases = product([0, 3, 500, 5_000, 100_000], [0.5, 3.0, 10.0, 60.0], [0.0, 5.0, 1000.0])
    for streams, limit, wish in cases:
        settings = Settings(shutdown_timeout_s=limit, drain_runs_s=wish, drain_spread_s=wish)
        runs, spread = _shares(settings, streams)
        assert 0 <= runs <= wish
        assert 0 <= spread <= min(wish, streams / 1000)
        assert runs + spread <= limit - min(2.5, limit / 3) + 1e-9, "the stuck ones get theirs"
        assert runs >= min(wish, limit / 3) - 1e-9


def test_nobody_waits_for_three_clients_and_nobody_for_runs_that_nobody_goes_on_with() -> None:
    assert _shares(Settings(), 3)[1] < 0.01
    assert _shares(Settings(engine="memory"), 0)[0] == 0
