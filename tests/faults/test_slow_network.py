"""F29: a client behind a slow line. It takes bytes all the time, so it is not cut, and misses nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import psutil
import pytest

from tests.faults.clients import Client, Transport, World, connecting
from tests.faults.commands import Caller
from tests.faults.endings import all_idle, database, final_logs, following
from tests.faults.plugin import Judge
from tests.faults.proxy import Faults, running_proxy
from tests.support.server import running_server

KIB = 1024
BACKLOG = 600 * KIB
"""More than the sockets and the server's buffer take: the rest has to wait in the log."""


@pytest.mark.fault("F29")
@pytest.mark.rule("slow.cut", "slow.isolated", "resume.no_hole")
@pytest.mark.parametrize(
    ("transport", "rate", "write_timeout", "seconds"),
    [
        pytest.param("sse", 8 * KIB, 3, 6.5),
        pytest.param("websocket", 8 * KIB, 1, 2.2, marks=pytest.mark.long),
        pytest.param("sse", KIB, 10, 60, marks=[pytest.mark.long, pytest.mark.timeout(180)]),
    ],
)
async def test_a_client_on_a_slow_line_is_not_cut_and_gets_everything_in_order(
    tmp_path: Path,
    judge: Judge,
    random: Random,
    *,
    transport: Transport,
    rate: int,
    write_timeout: float,
    seconds: float,
) -> None:
    data = tmp_path / "data"
    environment = {
        "TIDEGATE_WRITE_TIMEOUT_S": str(write_timeout),
        "TIDEGATE_DELTA_INTERVAL_MS": "0",
        "TIDEGATE_SYNCHRONOUS": "normal",
    }
    async with (
        running_server(data, environment=environment) as server,
        running_proxy(server.port) as proxy,
        connecting() as http,
    ):
        proxy.faults = Faults(bytes_per_second=rate)
        caller = Caller(World(judge.history, http, server.url, random), "caller")
        await caller.create("busy", agent="echo")
        slow = Client(World(judge.history, http, proxy.url, random), "slow", "busy", transport)
        async with following([slow]):
            await slow.until(lambda: slow.seq > 0)
            await caller.call("busy", "send", text="a " * 3_000, options={"interval_ms": 0})
            await all_idle(http, server.url, ["busy"])
            process = psutil.Process(server.pid)
            memory, taken = process.memory_info().rss, proxy.to_client
            await asyncio.sleep(seconds)  # as long as the line is slow: many write time limits
            assert 0.1 * rate * seconds < proxy.to_client - taken < 1.5 * rate * seconds
            assert process.memory_info().rss - memory < 2 * KIB * KIB
            logs = await final_logs(http, server.url, ["busy"], database(data))
            assert sum(map(len, logs[0].lines[slow.seq :])) > BACKLOG
            proxy.change_all(bytes_per_second=None)
            await slow.until(lambda: slow.seq >= logs[0].last)
            slow.finished("busy")
    assert slow.connections == 1, "it was cut, though it took bytes all the time"
    judge.check(logs, "I1", "I2", "I3", "I8")
