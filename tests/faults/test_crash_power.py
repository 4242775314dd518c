"""F7: the power fails, and SQLite had been told not to wait for the disk (`synchronous=normal`)."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.faults.clients import Client, World, connecting
from tests.faults.commands import Caller
from tests.faults.endings import database, final_logs, following
from tests.faults.plugin import Judge
from tests.support.server import running_server

NORMAL = {"TIDEGATE_SYNCHRONOUS": "normal"}


async def until_reset(client: Client, reason: str) -> None:
    await client.until(lambda: client.resets == [reason])


@pytest.mark.fault("F7")
@pytest.mark.rule("reset.honest")
async def test_after_a_power_loss_that_took_commits_along_every_client_is_reset(
    tmp_path: Path, judge: Judge, random: Random
) -> None:
    data = tmp_path / "data"
    wal = data / "tidegate.db-wal"
    async with running_server(data, environment=NORMAL) as server, connecting() as http:
        world = World(judge.history, http, server.url, random)
        caller = Caller(world, "caller")
        early = [Client(world, "sse", "one", "sse"), Client(world, "socket", "one", "websocket")]
        late = Client(world, "late", "one", "ndjson")
        await caller.create("one", agent="echo")
        async with following(early):
            await caller.call("one", "send", text="this reached the disk")
            for client in early:
                await client.until_ended(1)
            reached_the_disk = wal.stat().st_size
            async with following([late]):
                await caller.call("one", "send", text="this did not reach it")
                for client in (*early, late):
                    await client.until_ended(2)
            await server.kill()
            assert wal.stat().st_size > reached_the_disk
            with wal.open("r+b") as file:
                file.truncate(reached_the_disk)
            (data / "tidegate.db-shm").unlink()
            await server.restart()
            for client in early:
                await until_reset(client, "cursor_ahead")
            await caller.call(
                "one", "send", text="and another history begins, longer than that one"
            )
            for client in early:
                await client.until_ended(3)
        async with following([late]):
            await until_reset(late, "fork")
            await late.until(lambda: late.seq == early[0].seq)
        for client in (*early, late):
            client.finished("one")
        logs = await final_logs(http, server.url, ["one"], database(data))
    judge.check(logs, "I2", "I3", "I4", "I7", given_up=("I1", "I13"))
