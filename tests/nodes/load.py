"""Nodes that are kept busy while something is done to them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.faults.crowd import Crowd, Size
from tests.faults.endings import final_snapshots, following
from tests.faults.invariants import FinalLog
from tests.faults.proxy import Faults, running_proxy
from tests.nodes.ground import Ground

__all__ = ["ALL", "SMALL", "Load", "busy"]

SMALL = Size(clients=24, sessions=8, kills=0, seconds_between=0, word_ms=60, cuts_per_second=6)

ALL = ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I11", "I12", "I13")
"""What a crowd holds whatever is done to the nodes; a cancel in time is not promised without a store."""


class Load:
    """What keeps the nodes busy.

    Attributes:
        crowd: The clients and users.
        logs: All that was said, once it is over.
    """

    def __init__(self, crowd: Crowd) -> None:
        """Make it; `busy` does."""
        self.crowd = crowd
        self.logs: Sequence[FinalLog] = ()
        self._began = time.monotonic()

    def types(self) -> Counter[str]:
        """Return how many events of each type were said."""
        return Counter(event["type"] for log in self.logs for event in log.events)

    def reasons(self) -> Counter[str]:
        """Return why runs were taken over, and how often."""
        return Counter(
            event["reason"]
            for log in self.logs
            for event in log.events
            if event["type"] == "run.attempt_started"
        )

    def summary(self, ground: Ground) -> str:
        """Say what happened, so that the result can be believed."""
        types, crowd = self.types(), self.crowd
        failed = Counter(
            event["error"]["code"]
            for log in self.logs
            for event in log.events
            if event["type"] == "run.failed"
        )
        connections = sum(client.connections for client in crowd.clients)
        lost = sum(each.kind == "unknown" for each in ground.judge.history.operations)
        return (
            f"{len(ground.nodes)} nodes, {len(crowd.clients)} clients, {len(self.logs)} sessions, "
            f"{connections} connections, {crowd.proxy.cuts} cut in a proxy, "
            f"{sum(len(log.lines) for log in self.logs)} events in the logs, "
            f"{sum(client.events for client in crowd.clients)} told, "
            f"{types['input.accepted']} runs: {types['run.completed']} completed, "
            f"{types['run.cancelled']} cancelled, {sum(failed.values())} failed {dict(failed)}, "
            f"taken over {dict(self.reasons())}, {lost} commands sent again, "
            f"{time.monotonic() - self._began:.0f} s"
        )


@asynccontextmanager
async def busy(
    ground: Ground, size: Size = SMALL, *, cuts: bool = True, patience: float = 90.0
) -> AsyncIterator[Load]:
    """Keep nodes busy for the length of a block; then see it all end, and read the logs.

    Args:
        ground: The nodes.
        size: How busy.
        cuts: Whether connections are cut as well, now and then.
        patience: Seconds in which all that was begun must come to its end.
    """
    stop = asyncio.Event()
    async with running_proxy(ground.nodes[0].port) as proxy:
        crowd = Crowd(ground.world, proxy, size, prefix=ground.session(""))
        if not cuts:
            proxy.choose = Faults
        load = Load(crowd)
        async with following(crowd.clients), asyncio.TaskGroup() as tasks:
            users = [tasks.create_task(user.work(stop)) for user in crowd.users]
            fidgeting = tasks.create_task(crowd.fidget())
            yield load
            stop.set()
            fidgeting.cancel()
            async with asyncio.timeout(patience):
                await asyncio.wait(users)
            sessions = [user.session_id for user in crowd.users]
            load.logs = await ground.logs(*sessions)
            url = ground.nodes[0].url
            await final_snapshots(ground.judge.history, ground.http, url, sessions)
            await ground.finish(crowd.clients, load.logs)
    ground.judge.say(load.summary(ground))
