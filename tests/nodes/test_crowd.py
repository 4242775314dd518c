"""Everything at once: hundreds of clients over three nodes, of which one after the other is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
import asyncpg
import pytest

from gateway.sessions.decide import MAX_ATTEMPTS
from tests.faults.crowd import Size
from tests.faults.plugin import Judge
from tests.nodes.ground import Ground, until
from tests.nodes.load import ALL, busy
from tests.nodes.nodes import Node, running_nodes
from tests.support.postgres import Cluster

pytestmark = [
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.fault("F1", "F2", "F3", "F22", "F34", "F45"),
]

FEW = Size(clients=36, sessions=12, kills=2, seconds_between=1.5, word_ms=60, cuts_per_second=6)
MANY = Size(
    clients=600,
    sessions=120,
    kills=24,
    seconds_between=5.0,
    word_ms=1000,
    cuts_per_second=6,
    pauses=(0.1, 4.0),
)
TAKE_OVER_SECONDS = 2.0
"""After a lease is over, within which another node has taken the run over, if it gets a processor."""

LATEST_SECONDS = 15.0
"""The same on a machine that starts nodes at that moment, and does other things as well."""

START_LIMIT = 120.0
"""Seconds in which a node is back while hundreds of clients come to the others."""

CANCEL_SECONDS = 20.0
"""What a cancel may take while a node is down, and hundreds come back to the others."""


@pytest.mark.timeout(300)
async def test_a_few_clients_lose_nothing_while_nodes_are_killed(ground: Ground) -> None:
    await survive(ground, FEW)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_six_hundred_clients_lose_nothing_while_a_node_is_killed_every_five_seconds(
    cluster: Cluster,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    judge: Judge,
    random: Random,
) -> None:
    """With the lease that users have."""
    url = await asyncio.to_thread(cluster.create_database, "many")
    async with running_nodes(url, tmp_path, settings={"TIDEGATE_LEASE_S": "20"}) as nodes:
        ground = Ground(nodes, http, judge, random, pauses=MANY.pauses)
        for node in nodes:
            node.start_limit = START_LIMIT
        await survive(ground, MANY)


async def survive(ground: Ground, size: Size) -> None:
    """Let a crowd live through the death of nodes, and hold what it saw against the logs."""
    async with (
        watched_leases(ground.nodes.database) as leases,
        busy(ground, size, patience=240.0) as load,
    ):
        at_work = await rage(ground, size)
        await asyncio.sleep(size.seconds_between)
    logs = await ground.logs(*at_work)
    ground.judge.say(leases.summary())
    ground.judge.check([*load.logs, *logs], *ALL, cancel_seconds=CANCEL_SECONDS)
    for log in logs:
        taken_over = sum(event["type"] == "run.attempt_started" for event in log.events)
        assert taken_over, f"{log.session_id} was not taken over"
        last = log.events[-1]
        if last["type"] != "run.completed":  # three nodes died with it
            assert last["error"]["code"] == "attempts_exhausted"
            assert taken_over == MAX_ATTEMPTS - 1
    assert leases.slowest < LATEST_SECONDS


async def rage(ground: Ground, size: Size) -> list[str]:
    """Kill a node again and again; each comes back at once, and one is always there.

    Returns:
        Sessions of which each had a run at a node that was killed.
    """
    there, at_work = set(ground.nodes), list[str]()

    async def come_back(node: Node) -> None:
        await node.restart()
        there.add(node)

    async with asyncio.TaskGroup() as coming:
        for _ in range(size.kills):
            await asyncio.sleep(size.seconds_between)
            await until(lambda: len(there) > 1, "no node comes back", seconds=START_LIMIT)
            node = ground.random.choice(sorted(there, key=lambda node: node.name))
            at_work.append(await ground.put_to_work(node))
            ground.judge.history.fault("kill", node=node.name)
            there.discard(node)
            await node.kill()
            coming.create_task(come_back(node))
    return at_work


@dataclass
class Leases:
    """How late runs were taken over whose lease was over.

    Attributes:
        delays: Seconds between the end of a lease and the next claim, of each take-over.
        late: What was over at the last look, by session: since when, in seconds.
    """

    delays: list[float] = field(default_factory=list)
    late: dict[str, float] = field(default_factory=dict)

    @property
    def slowest(self) -> float:
        """The longest delay."""
        return max(self.delays, default=0.0)

    def summary(self) -> str:
        """Say how fast runs were taken over."""
        slow = sum(delay > TAKE_OVER_SECONDS for delay in self.delays)
        return (
            f"{len(self.delays)} leases were seen to be over, the next claim came "
            f"{self.slowest:.2f} s later at the slowest, {slow} times after {TAKE_OVER_SECONDS:g} s"
        )

    async def watch(self, database: str) -> None:
        """Look without end."""
        db = await asyncpg.connect(database)
        try:
            while True:
                rows = await db.fetch(
                    "SELECT session_id, late FROM (SELECT session_id, extract(epoch FROM"
                    " clock_timestamp()) - claim_until / 1000.0 AS late FROM session"
                    " WHERE claim_nonce IS NOT NULL) AS claims WHERE late > 0"
                )
                now = {row["session_id"]: float(row["late"]) for row in rows}
                gone = [late for name, late in self.late.items() if now.get(name, 0) < late]
                self.delays += gone
                self.late = now
                await asyncio.sleep(0.1)
        finally:
            await db.close()


@asynccontextmanager
async def watched_leases(database: str) -> AsyncIterator[Leases]:
    leases = Leases()
    watching = asyncio.get_running_loop().create_task(leases.watch(database))
    try:
        yield leases
    finally:
        watching.cancel()
        await asyncio.wait([watching])
