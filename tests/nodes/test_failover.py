"""F12, F13, F14: the database fails over to a standby, or waits for one that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import aiohttp
import pytest
import pytest_asyncio

from tests.faults.clients import Client
from tests.faults.endings import following
from tests.faults.plugin import Judge
from tests.faults.proxy import Proxy, running_proxy
from tests.nodes.ground import Ground, until
from tests.nodes.load import ALL, busy
from tests.nodes.nodes import Node, Nodes, running_nodes, through
from tests.support.postgres import USER, Cluster
from tests.support.postgres_standby import Standby, caught_up
from tests.support.postgres_standby import until as wait_until

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]

QUICK = {"interval_ms": 5}
SLOW = {"interval_ms": 150}
WORDS = "one two three four five six seven eight nine ten"


@dataclass
class Pair:
    """A primary, a standby, and how nodes find the one of them that takes writes.

    Attributes:
        address: One address before both, which follows the primary; None if nodes know both hosts.
        replication: Where the standby finds the primary.
    """

    primary: Cluster
    standby: Standby
    address: Proxy | None
    replication: Proxy

    @property
    def url(self) -> str:
        """The address of the database as nodes are told it."""
        if self.address is not None:
            return through(self.primary.url("tidegate"), self.address.port)
        both = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://{USER}@{both}/tidegate"

    async def fail_over(self) -> None:
        """Promote the standby. The primary has died, or is isolated where there is one address."""
        if self.address is None:
            await asyncio.to_thread(self.primary.stop, "immediate")
            await asyncio.to_thread(self.standby.promote)
            return
        for proxy in (self.address, self.replication):
            proxy.refuse = True
            proxy.cut_all(reset=True)
        await asyncio.to_thread(self.standby.promote)
        self.address.target = self.standby.port
        self.address.refuse = False


@asynccontextmanager
async def running_pair(*, synchronous: bool) -> AsyncIterator[Pair]:
    """Run a synchronous pair that nodes know both of, or an asynchronous one behind one address."""
    primary = await asyncio.to_thread(Cluster.started)
    try:
        async with running_proxy(primary.port) as address, running_proxy(primary.port) as copies:
            await asyncio.to_thread(primary.create_database, "tidegate")
            standby = await asyncio.to_thread(
                Standby.following, primary, "second", through=copies.port
            )
            try:
                if synchronous:
                    primary.configure(synchronous_standby_names="second")
                yield Pair(primary, standby, None if synchronous else address, copies)
            finally:
                await asyncio.to_thread(standby.remove)
    finally:
        await asyncio.to_thread(primary.remove)


def over(pair: Pair, ground: Ground) -> Ground:
    """Let the ground read logs from the standby: that is the database now."""
    ground.nodes.database = pair.standby.url("tidegate")
    return ground


@pytest_asyncio.fixture(loop_scope="package")
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    async with running_pair(synchronous=request.param == "synchronous") as pair:
        yield pair


@pytest_asyncio.fixture(loop_scope="package")
async def ground(
    pair: Pair,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    judge: Judge,
    random: Random,
) -> AsyncIterator[Ground]:
    settings = {"TIDEGATE_COMMAND_TIMEOUT_S": "1"}
    async with running_nodes(pair.url, tmp_path, settings=settings) as running:
        nodes = Nodes(list(running), pair.primary.url("tidegate"))
        yield Ground(nodes, http, judge, random)


# --- F12, F14: a synchronous standby ---------------------------------------------------------------


@pytest.mark.fault("F12", "F14")
@pytest.mark.parametrize("pair", ["synchronous"], indirect=True)
async def test_with_a_synchronous_standby_nothing_is_told_that_is_not_there_after_a_failover(
    ground: Ground, pair: Pair
) -> None:
    await nothing_is_told_before_the_standby_has_it(ground, pair)
    async with busy(ground) as load:
        await asyncio.sleep(1.5)
        ground.judge.history.fault("failover", synchronous=True)
        await pair.fail_over()
        over(pair, ground)
        await asyncio.sleep(1.5)
    ground.judge.check(load.logs, *ALL, given_up=("I10",))
    assert not resets(ground), "nothing was lost, and a client was reset"
    assert load.types()["run.completed"] > 0


async def nothing_is_told_before_the_standby_has_it(ground: Ground, pair: Pair) -> None:
    """F14: without the standby appends hang; they are told when it has them, and each is done once."""
    session = ground.session("f14")
    caller = ground.caller("f14")
    await caller.create(session, agent="echo")
    clients = [ground.client(f"f14-{node.name}", session, node) for node in ground.nodes]
    async with following(clients):
        for client in clients:
            await client.until_type("session.created")
        told = [client.seq for client in clients]
        await asyncio.to_thread(pair.standby.stop, "immediate")
        try:
            async with asyncio.TaskGroup() as tasks:  # each of them waits for the same standby
                for node in ground.nodes:
                    tasks.create_task(hangs(ground, node, session))
            assert [client.seq for client in clients] == told, "told before it was replicated"
        finally:
            await asyncio.to_thread(pair.standby.start)
        await caller.call(session, "send", command_id="hangs", text=WORDS, options=QUICK)
        for client in clients:
            await client.until_ended(1)
        logs = await ground.logs(session)
        await ground.finish(clients, logs)
    assert sum(e["type"] == "input.accepted" for e in logs[0].events) == 1
    ground.judge.check(logs, "I1", "I2", "I3", "I4", "I6", "I12", "I13", given_up=("I10",))
    ground.judge.history.operations.clear()


async def hangs(ground: Ground, node: Node, session: str) -> None:
    """Send the command that waits for the standby, and be told to try it again."""
    body = {"type": "send", "id": "hangs", "text": WORDS, "options": QUICK}
    url = f"{node.url}/v1/sessions/{session}/commands"
    async with ground.http.post(url, json=body) as response:
        assert response.status == 503, await response.text()
        assert int(response.headers["Retry-After"]) > 0


# --- F13: an asynchronous standby that lags ---------------------------------------------------------


@pytest.mark.fault("F13")
@pytest.mark.parametrize("pair", ["asynchronous"], indirect=True)
@pytest.mark.rule("reset.honest")
async def test_after_a_failover_that_loses_events_exactly_those_who_saw_them_are_reset(
    ground: Ground, pair: Pair
) -> None:
    names = [ground.session(name) for name in ("quiet", "behind", "forked")]
    quiet, behind, forked = names
    caller = ground.caller()
    for name in names:
        await caller.create(name, agent="echo")
        await caller.call(name, "send", text=WORDS, options=QUICK)
    sse = [
        ground.client(f"sse {name} {node.name}", name, node)
        for name in names
        for node in ground.nodes
    ]
    sockets = [ground.client(f"socket {name}", name, transport="websocket") for name in names]
    gone_before = ground.client("gone before", forked)
    clients = [*sse, *sockets]
    async with following(clients):
        async with following([gone_before]):
            for client in (*clients, gone_before):
                await client.until_ended(1)
        await asyncio.to_thread(wait_until, lambda: caught_up(pair.primary), "it lags")
        ground.judge.history.fault("lag")
        pair.replication.change_all(silent=True)
        for name in (behind, forked):
            await caller.call(name, "send", text="this will be lost", options=QUICK)
        saw_it = [client for client in clients if client.session_id != quiet]
        for client in saw_it:
            await client.until_ended(2)
        lost = ground.session("lost")
        await caller.create(lost, agent="echo")
        ground.judge.history.fault("failover", synchronous=False)
        await pair.fail_over()
        over(pair, ground)
        # Another history grows where the lost one was, further than that had come.
        await caller.call(forked, "send", text=f"{WORDS} {WORDS}", options=QUICK)
        for client in saw_it:
            await was_reset(client)
        # Every node has noticed; until then one may still tell what it had in memory, and reset for it.
        async with following([gone_before]):
            await caller.call(behind, "send", text="another one", options=QUICK)
            await caller.call(quiet, "send", text="another one", options=QUICK)
            logs = await ground.logs(*names)
            await ground.finish([*clients, gone_before], logs)
    for client in clients:
        reasons = set(client.resets)
        if client in saw_it:
            assert reasons <= {"cursor_ahead", "fork"}, (client.name, reasons)
        else:
            assert not reasons, (client.name, reasons)
    assert not gone_before.resets, "it had seen nothing that was lost"
    for node in ground.nodes:
        async with ground.http.get(f"{node.url}/v1/sessions/{lost}") as response:
            assert response.status == 404, f"{node.name} knows a session that is lost"
    ground.judge.check(logs, "I2", "I3", "I4", "I6", "I7", "I12", given_up=("I1", "I10", "I13"))
    ground.judge.say(f"{len(saw_it)} clients saw what was lost, and were reset")


def resets(ground: Ground) -> list[str]:
    return [each.process for each in ground.judge.history.named("reset")]


async def was_reset(client: Client) -> None:
    await until(lambda: bool(client.resets), f"{client.name} was not reset")
