"""F1: the server dies at a named place of its work, and another one goes on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from tests.faults.clients import Client, ManyClient, World, connecting
from tests.faults.commands import Caller
from tests.faults.crash_points import PLACES
from tests.faults.endings import database, final_logs, following
from tests.faults.plugin import Judge
from tests.support.server import Server

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.fault("F1"),
    pytest.mark.rule("log.commit", "resume.exact"),
]

OTHERS = [place for place in PLACES if place != "while-taking-over"]
SENDS = 4
TEXT = "one two three four five six seven eight"


@dataclass(frozen=True)
class Mortal:
    """A server that dies where it is told to, and starts again with the same data.

    Attributes:
        server: It.
        data: Its data directory.
        plan: The file that says where it dies.
    """

    server: Server
    data: Path
    plan: Path

    def arm(self, place: str, count: int) -> None:
        """Let it die the n-th time that it comes to a place from now on."""
        beside = self.plan.with_suffix(".new")
        beside.write_text(f"{place} {count}")
        beside.rename(self.plan)  # it never sees half of it

    async def death(self) -> None:
        """Wait until it has died of this."""
        assert await self.server.ended(within=60) == -signal.SIGKILL
        self.plan.unlink()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mortal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mortal]:
    """One for all tests here: each of them dies once, and leaves one that lives."""
    folder = tmp_path_factory.mktemp("mortal")
    data, plan = folder / "data", folder / "plan"
    server = Server(data, ("tests.support.builtins:registry",), {})
    server.program = ("-m", "tests.faults.crash_points", str(plan))
    async with server:
        yield Mortal(server, data, plan)


async def revive(mortal: Mortal) -> None:
    """Wait for the death, and start a server that lives."""
    await mortal.death()
    await mortal.server.restart()


async def work_through_a_death(
    mortal: Mortal, judge: Judge, random: Random, place: str, count: int, *, name: str
) -> None:
    """Send inputs to two new sessions while the server dies; hold what all saw against the log."""
    server = mortal.server
    first, second = sessions = [f"{name}-one", f"{name}-two"]
    async with connecting() as http:
        world = World(judge.history, http, server.url, random)
        caller = Caller(world, "caller")
        one = Client(world, "on sse", first, "sse")
        other = Client(world, "on websocket", first, "websocket")
        two = Client(world, "by lines", second, "ndjson")
        both = ManyClient(world, f"many-{name}", sessions)
        for session_id in sessions:
            await caller.create(session_id, agent="echo")
        await both.subscribe()
        mortal.arm(place, count)
        async with asyncio.TaskGroup() as tasks:
            # If it never comes to the place so often, this is what fails.
            tasks.create_task(revive(mortal))
            async with following([one, other, two, both]):
                for number in range(SENDS):
                    for session_id in sessions:
                        await caller.call(session_id, "send", text=f"{number} {TEXT}")
                for client in (one, other, two):
                    await client.until_ended(SENDS)
                await both.until(lambda: both.seqs == {first: one.seq, second: two.seq})
            for client in (one, other, two):
                client.finished(client.session_id)
        logs = await final_logs(http, server.url, sessions, database(mortal.data))
    judge.check(logs, "I1", "I2", "I3", "I4", "I5", "I6", "I8", "I12", "I13")


@pytest.mark.parametrize("place", OTHERS)
async def test_a_server_that_dies_at_any_point_of_its_work_loses_nothing(
    mortal: Mortal, judge: Judge, random: Random, place: str
) -> None:
    count = random.randint(2, 8)
    await work_through_a_death(mortal, judge, random, place, count, name=f"{place}-by-chance")


@pytest.mark.long
@pytest.mark.parametrize("place", OTHERS)
@pytest.mark.parametrize("count", [1, 3, 5, 8])
async def test_a_server_that_dies_there_sooner_or_later_loses_nothing(
    mortal: Mortal, judge: Judge, random: Random, place: str, count: int
) -> None:
    await work_through_a_death(mortal, judge, random, place, count, name=f"{place}-{count}")


async def test_a_server_that_dies_while_it_takes_over_is_followed_by_one_that_does(
    mortal: Mortal, judge: Judge, random: Random
) -> None:
    server = mortal.server
    async with connecting() as http:
        world = World(judge.history, http, server.url, random)
        caller = Caller(world, "caller")
        client = Client(world, "on sse", "taken-over", "sse")
        await caller.create("taken-over", agent="echo")
        async with following([client]):
            await caller.call("taken-over", "send", text=f"{TEXT} {TEXT} {TEXT}")
            await client.until_type("message.delta", 3)
            await server.kill()
            mortal.arm("while-taking-over", 1)
            with suppress(RuntimeError):  # it may die before it says where it listens
                await server.start(wait_ready=False)
            await mortal.death()
            await server.restart()
            await client.until_ended(1)
        client.finished("taken-over")
        logs = await final_logs(http, server.url, ["taken-over"], database(mortal.data))
    assert client.types["run.attempt_started"] == 2
    assert client.types["run.completed"] == 1
    judge.check(logs, "I1", "I2", "I3", "I4", "I5", "I6", "I12")
