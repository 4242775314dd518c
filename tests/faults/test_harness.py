"""The harness holds against a real server without any fault: what it records is what was."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.faults.clients import TRANSPORTS, Client, ManyClient, World, connecting
from tests.faults.commands import Caller
from tests.faults.endings import database, final_logs, following
from tests.faults.plugin import Judge
from tests.faults.proxy import running_proxy
from tests.support.server import running_server


@pytest.mark.fault("F22")
async def test_clients_that_switch_transports_in_mid_run_see_the_same_as_a_full_read(
    tmp_path: Path, judge: Judge, random: Random
) -> None:
    async with (
        running_server(tmp_path / "data") as server,
        running_proxy(server.port) as proxy,
        connecting() as http,
    ):
        world = World(judge.history, http, proxy.url, random)
        caller = Caller(world, "caller")
        talker = Caller(world, "talker", transport="websocket")
        await caller.create("s", agent="echo")
        clients = [Client(world, f"{kind}-client", "s", kind) for kind in TRANSPORTS]
        many = ManyClient(world, "many", ["s"])
        await many.subscribe()
        async with following([*clients, many]):
            for number in range(3):
                sender = (caller, talker)[number % 2]
                await sender.call(
                    "s", "send", text="a b c d e f g h i j", options={"interval_ms": 5}
                )
                for client in clients:
                    await client.until_type("message.delta", 2 * number + 1)
                    client.switch(random.choice(TRANSPORTS))
                if number == 1:
                    judge.history.fault("cut", connections=proxy.cut_all())
            for client in clients:
                await client.until_ended(3)
            last = clients[0].seq
            await many.until(lambda: many.seqs["s"] >= last)
            for follower in (*clients, many):
                follower.finished("s")
        logs = await final_logs(http, server.url, ["s"], database(tmp_path / "data"))
    assert proxy.cuts >= 1
    assert all(client.connections > 1 for client in clients)
    judge.check(logs, "I1", "I2", "I3", "I4", "I6", "I8", "I11", "I12", "I13")
