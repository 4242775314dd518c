"""F1: the server dies at a named place of its work, and another one goes on."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.faults.clients import Client, ManyClient, World, connecting
from tests.faults.commands import Caller
from tests.faults.crash_points import PLACES
from tests.faults.endings import database, final_logs, following
from tests.faults.plugin import Judge
from tests.support.server import Server, running_server

pytestmark = [pytest.mark.fault("F1"), pytest.mark.rule("log.commit", "resume.exact")]

OTHERS = [place for place in PLACES if place != "while-taking-over"]
SENDS = 4
TEXT = "one two three four five six seven eight"


def armed(place: str, count: int) -> tuple[str, ...]:
    """Return what Python runs for a server that dies at a place."""
    return ("-m", "tests.faults.crash_points", place, str(count))


async def revive(server: Server) -> None:
    """Wait for the death, and start a server that lives."""
    assert await server.ended(within=30) == -signal.SIGKILL
    server.program = ("-m", "gateway")
    await server.restart()


async def work_through_a_death(
    tmp_path: Path, judge: Judge, random: Random, place: str, count: int
) -> None:
    """Send inputs to two sessions while the server dies; hold what all saw against the log."""
    data = tmp_path / "data"
    async with running_server(data) as server, connecting() as http:
        world = World(judge.history, http, server.url, random)
        caller = Caller(world, "caller")
        one = Client(world, "on sse", "one", "sse")
        other = Client(world, "on websocket", "one", "websocket")
        two = Client(world, "by pages", "two", "ndjson")
        both = ManyClient(world, "many", ["one", "two"])
        for session_id in ("one", "two"):
            await caller.create(session_id, agent="echo")
        await both.subscribe()
        await server.stop()
        server.program = armed(place, count)
        await server.restart()
        async with asyncio.TaskGroup() as tasks:
            death = tasks.create_task(revive(server))
            async with following([one, other, two, both]):
                for number in range(SENDS):
                    for session_id in ("one", "two"):
                        await caller.call(session_id, "send", text=f"{number} {TEXT}")
                for client in (one, other, two):
                    await client.until_ended(SENDS)
                await both.until(lambda: both.seqs == {"one": one.seq, "two": two.seq})
            for client in (one, other, two):
                client.finished(client.session_id)
            assert death.done(), f"it never came to {place!r} {count} times"
        logs = await final_logs(http, server.url, ["one", "two"], database(data))
    judge.check(logs, "I1", "I2", "I3", "I4", "I5", "I6", "I8", "I12", "I13")


@pytest.mark.parametrize("place", OTHERS)
async def test_a_server_that_dies_at_any_point_of_its_work_loses_nothing(
    tmp_path: Path, judge: Judge, random: Random, place: str
) -> None:
    await work_through_a_death(tmp_path, judge, random, place, random.randint(2, 8))


@pytest.mark.long
@pytest.mark.parametrize("place", OTHERS)
@pytest.mark.parametrize("count", [1, 3, 5, 8])
async def test_a_server_that_dies_there_sooner_or_later_loses_nothing(
    tmp_path: Path, judge: Judge, random: Random, place: str, count: int
) -> None:
    await work_through_a_death(tmp_path, judge, random, place, count)


async def test_a_server_that_dies_while_it_takes_over_is_followed_by_one_that_does(
    tmp_path: Path, judge: Judge, random: Random
) -> None:
    data = tmp_path / "data"
    async with running_server(data) as server, connecting() as http:
        world = World(judge.history, http, server.url, random)
        caller = Caller(world, "caller")
        client = Client(world, "on sse", "one", "sse")
        await caller.create("one", agent="echo")
        async with following([client]):
            await caller.call("one", "send", text=f"{TEXT} {TEXT} {TEXT}")
            await client.until_type("message.delta", 3)
            await server.kill()
            server.program = armed("while-taking-over", 1)
            with suppress(RuntimeError):  # it may die before it says where it listens
                await server.start(wait_ready=False)
            assert await server.ended(within=30) == -signal.SIGKILL
            server.program = ("-m", "gateway")
            await server.restart()
            await client.until_ended(1)
        client.finished("one")
        logs = await final_logs(http, server.url, ["one"], database(data))
    assert client.types["run.attempt_started"] == 2
    assert client.types["run.completed"] == 1
    judge.check(logs, "I1", "I2", "I3", "I4", "I5", "I6", "I12")
