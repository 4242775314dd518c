"""Everything at once: many clients over many sessions, cuts, switches, and a server that is killed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests.faults.clients import Client, World, connecting
from tests.faults.crowd import Crowd, Nemesis, Size
from tests.faults.endings import database, final_logs, final_snapshots, following
from tests.faults.invariants import FinalLog
from tests.faults.plugin import Judge
from tests.faults.proxy import running_proxy
from tests.support.server import running_server

SMALL = Size(clients=60, sessions=12, kills=2, seconds_between=1.5, word_ms=60, cuts_per_second=15)
LARGE = Size(
    clients=1000,
    sessions=200,
    kills=20,
    seconds_between=4.5,
    word_ms=500,
    cuts_per_second=15,
    pauses=(0.1, 4.0),
)
CANCEL_SECONDS = 20.0
"""What a cancel may take while a thousand clients come back to a server that has just begun."""

PATIENCE = 90.0
"""Seconds in which all that was begun must come to its end, on a busy machine."""

pytestmark = pytest.mark.fault("F1", "F2", "F21", "F22", "F34", "F35", "F45")


@pytest.mark.timeout(120)
async def test_a_small_crowd_loses_nothing(tmp_path: Path, judge: Judge, random: Random) -> None:
    await survive(tmp_path / "data", judge, random, SMALL)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_thousand_clients_lose_nothing(
    tmp_path: Path, judge: Judge, random: Random
) -> None:
    await survive(tmp_path / "data", judge, random, LARGE)


async def has_read(client: Client, seq: int) -> None:
    await client.until(lambda: client.seq >= seq, seconds=PATIENCE)


async def survive(data: Path, judge: Judge, random: Random, size: Size) -> None:
    """Let a crowd live through its nemesis, and hold what it saw against the logs."""
    began = time.monotonic()
    stop = asyncio.Event()
    async with (
        running_server(data) as server,
        running_proxy(server.port) as proxy,
        connecting() as http,
    ):
        world = World(judge.history, http, server.url, random, pauses=size.pauses)
        crowd = Crowd(world, proxy, size)
        nemesis = Nemesis(server, judge.history, random, size)
        async with following(crowd.clients), asyncio.TaskGroup() as tasks:
            users = [tasks.create_task(user.work(stop)) for user in crowd.users]
            fidgeting = tasks.create_task(crowd.fidget())
            await nemesis.rage()
            stop.set()
            fidgeting.cancel()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait(users)
                sessions = [user.session_id for user in crowd.users]
                logs = await final_logs(http, server.url, sessions, database(data))
                await final_snapshots(judge.history, http, server.url, sessions)
                last = {log.session_id: log.last for log in logs}
                for client in crowd.clients:
                    await has_read(client, last[client.session_id])
                    client.finished(client.session_id)
    judge.say(summary(crowd, nemesis, judge, logs, time.monotonic() - began))
    judge.check(
        logs,
        "I1",
        "I2",
        "I3",
        "I4",
        "I5",
        "I6",
        "I7",
        "I8",
        "I10",
        "I11",
        "I12",
        "I13",
        cancel_seconds=CANCEL_SECONDS,
    )
    assert nemesis.kills == size.kills


def summary(
    crowd: Crowd, nemesis: Nemesis, judge: Judge, logs: Sequence[FinalLog], seconds: float
) -> str:
    """Say what happened, so that the result can be believed."""
    types = Counter(event["type"] for log in logs for event in log.events)
    failed = Counter(
        event["error"]["code"]
        for log in logs
        for event in log.events
        if event["type"] == "run.failed"
    )
    connections = sum(client.connections for client in crowd.clients)
    told = sum(client.events for client in crowd.clients)
    lost = sum(each.kind == "unknown" for each in judge.history.operations)
    return (
        f"{len(crowd.clients)} clients, {len(logs)} sessions, {nemesis.kills} kills "
        f"(back in {nemesis.slowest_start:.1f} s at the slowest), "
        f"{connections} connections ({connections - len(crowd.clients)} resumed), "
        f"{crowd.proxy.accepted} through the proxy with {crowd.proxy.cuts} cut there, "
        f"{sum(map(len, (log.lines for log in logs)))} events in the logs, {told} told, "
        f"{types['input.accepted']} runs: {types['run.completed']} completed, "
        f"{types['run.cancelled']} cancelled, {sum(failed.values())} failed {dict(failed)}, "
        f"{types['run.attempt_started']} taken over, "
        f"{sum(user.approved for user in crowd.users)} approvals, "
        f"{lost} commands sent again, {seconds:.0f} s"
    )
