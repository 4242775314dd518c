"""F11, F15, F18: the database crashes, is slow, or what nodes hear of each other goes silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import aiohttp
import asyncpg
import pytest

from tests.faults.clients import LOST, Client
from tests.faults.endings import following
from tests.faults.plugin import Judge
from tests.faults.proxy import Connection
from tests.nodes.ground import Ground, until
from tests.nodes.load import ALL, busy
from tests.nodes.nodes import Node, Nodes, running_nodes, through
from tests.support.pgbouncer import pgbouncer_before
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]

HINT_LOST_SECONDS = 15.0
"""Within which a reader is told of what it got no hint of (delivery by asking again): 5, and what a busy
machine takes for it."""


# --- F11 -------------------------------------------------------------------------------------------


@pytest.mark.fault("F11")
async def test_nothing_is_lost_when_the_database_crashes_under_load(
    ground: Ground, cluster: Cluster
) -> None:
    await crash_again_and_again(ground, cluster, times=3, about=1.0)


@pytest.mark.fault("F11")
@pytest.mark.long
@pytest.mark.timeout(400)
async def test_nothing_is_lost_when_the_database_crashes_every_few_seconds(
    ground: Ground, cluster: Cluster
) -> None:
    await crash_again_and_again(ground, cluster, times=20, about=4.0)


async def crash_again_and_again(
    ground: Ground, cluster: Cluster, *, times: int, about: float
) -> None:
    async with busy(ground) as load:
        for _ in range(times):
            await asyncio.sleep(ground.random.uniform(0.5 * about, 1.5 * about))
            ground.judge.history.fault("crash", of="database")
            await asyncio.to_thread(cluster.restart, "immediate")
        await asyncio.sleep(about)
    ground.judge.check(load.logs, *ALL, given_up=("I10",))
    assert load.types()["run.completed"] > 0


@pytest.mark.fault("F11", holds=("I12", "I13"))
async def test_without_a_database_clients_stay_connected_and_commands_are_to_be_tried_again(
    ground: Ground, cluster: Cluster
) -> None:
    session = ground.session()
    caller = ground.caller()
    await caller.create(session, agent="echo")
    clients = [ground.client(node.name, session, node) for node in ground.nodes]
    async with following(clients):
        for client in clients:
            await client.until_type("session.created")
        connections = [client.connections for client in clients]
        await asyncio.to_thread(cluster.stop, "immediate")
        try:
            body = {"type": "send", "id": "later", "text": "one two", "options": {"interval_ms": 1}}
            url = f"{ground.nodes[0].url}/v1/sessions/{session}/commands"
            async with ground.http.post(url, json=body) as response:
                problem = await response.json()
                assert (response.status, problem["code"]) == (503, "engine_unavailable")
                assert int(response.headers["Retry-After"]) > 0
            for client in clients:
                await heard_that_it_is_away(ground, client)
        finally:
            await asyncio.to_thread(cluster.start)
        await caller.call(
            session, "send", command_id="later", text="one two", options={"interval_ms": 1}
        )
        for client in clients:
            await client.until_ended(1)
        assert [client.connections for client in clients] == connections, "a client was cut"
        logs = await ground.logs(session)
        await ground.finish(clients, logs)
    ground.judge.check(logs, "I1", "I2", "I3", "I4", "I6", "I12", "I13")


async def heard_that_it_is_away(ground: Ground, client: Client) -> None:
    def told() -> bool:
        heartbeats = ground.judge.history.named("stream.heartbeat")
        return any(each.process == client.name for each in heartbeats)

    await until(told, f"{client.name} was not told")


# --- F15 -------------------------------------------------------------------------------------------


@pytest.mark.fault("F15")
@pytest.mark.parametrize("how", ["cut", "half-open"])
async def test_a_node_that_hears_no_hints_any_more_tells_its_clients_all_the_same(
    ground: Ground, how: str
) -> None:
    session, deaf = ground.session(), ground.nodes[0]
    await ground.caller("a", ground.nodes[1]).create(session, agent="echo")
    async with ground.watched(session, deaf) as watcher:
        await watcher.until_type("session.created")
        with broken(await hint_connections(ground.nodes, deaf), how):
            caller = ground.caller("b", ground.nodes[1])
            for number in range(3):
                await caller.call(session, "send", text="one", options={"interval_ms": 1})
                await watcher.until_ended(number + 1, seconds=HINT_LOST_SECONDS)
        logs = await ground.logs(session)
        await ground.finish([watcher], logs)
    ground.judge.check(logs, "I1", "I3", "I4", "I6", "I12", "I13")


async def hint_connections(nodes: Nodes, node: Node) -> list[Connection]:
    """Return a node's connections on which it listens for hints, as its proxy has them."""
    assert node.way is not None
    db = await asyncpg.connect(nodes.database)
    try:
        # It may have been lost in the test before, and be on its way.
        async with asyncio.timeout(30):
            while True:
                ways = {
                    each.server.get_extra_info("sockname")[1]: each for each in node.way.connections
                }
                rows = await db.fetch(
                    "SELECT client_port FROM pg_stat_activity"
                    " WHERE application_name LIKE '%hint%' AND client_port = ANY($1)",
                    list(ways),
                )
                if rows:
                    return [ways[row["client_port"]] for row in rows]
                await asyncio.sleep(0.05)
    finally:
        await db.close()


@contextmanager
def broken(connections: list[Connection], how: str) -> Iterator[None]:
    """Cut connections, or let them go silent for the length of a block."""
    for connection in connections:
        if how == "cut":
            connection.cut(reset=True)
        else:
            connection.faults.silent = True
    yield
    for connection in connections:
        connection.cut()


@pytest.mark.fault("F15")
async def test_nodes_behind_a_pooler_of_transactions_lose_nothing(
    cluster: Cluster,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    judge: Judge,
    random: Random,
) -> None:
    url = await asyncio.to_thread(cluster.create_database, "pooled")
    async with pgbouncer_before(cluster, tmp_path) as port:
        pooled = f"{through(url, port)}?statement_cache_size=0"
        settings = {"TIDEGATE_ENGINE_DIRECT": url}
        async with running_nodes(pooled, tmp_path, 2, settings=settings) as running:
            ground = Ground(Nodes(list(running), url), http, judge, random)
            async with busy(ground) as load:
                await asyncio.sleep(2)
    judge.check(load.logs, *ALL)


# --- F18 -------------------------------------------------------------------------------------------


@pytest.mark.fault("F18")
async def test_a_slow_database_and_a_stampede_of_readers_make_nobody_take_a_run_over(
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
    http: aiohttp.ClientSession,
    judge: Judge,
    random: Random,
) -> None:
    folder = tmp_path_factory.mktemp("slow")
    url = await asyncio.to_thread(cluster.create_database, "slow")
    settings = {"TIDEGATE_LEASE_S": "8"}  # a busy machine must not be what takes it away
    async with running_nodes(url, folder, 2, settings=settings, apart=True) as nodes:
        await work_slowly(Ground(nodes, http, judge, random), delay=0.3, seconds=8.5)


@pytest.mark.fault("F18")
@pytest.mark.long
async def test_two_seconds_a_query_make_nobody_take_a_run_over(
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
    http: aiohttp.ClientSession,
    judge: Judge,
    random: Random,
) -> None:
    folder = tmp_path_factory.mktemp("slower")
    url = await asyncio.to_thread(cluster.create_database, "slower")
    settings = {"TIDEGATE_LEASE_S": "20"}
    async with running_nodes(url, folder, 2, settings=settings, apart=True) as nodes:
        await work_slowly(Ground(nodes, http, judge, random), delay=1.0, seconds=45.0)


async def work_slowly(ground: Ground, *, delay: float, seconds: float) -> None:
    """Let one node work for longer than a lease with a slow database and its pool exhausted."""
    slow, quick = ground.nodes
    assert slow.way is not None
    sessions = [ground.session(str(number)) for number in range(4)]
    caller = ground.caller("a", slow)
    for session in sessions:
        await caller.create(session, agent="echo")
    clients = [ground.client(f"client of {session}", session, quick) for session in sessions]
    words = " ".join("word" for _ in range(int(seconds)))
    async with following(clients), asyncio.TaskGroup() as tasks:
        for session in sessions:
            await caller.call(session, "send", text=words, options={"interval_ms": 1000})
        ground.judge.history.fault("slow", seconds=delay)
        slow.way.change_all(delay=delay)
        until_when = time.monotonic() + seconds
        stampede = [tasks.create_task(ask(ground, slow, sessions, until_when)) for _ in range(30)]
        await asyncio.wait(stampede)
        slow.way.change_all(delay=0.0)
        logs = await ground.logs(*sessions)
        await ground.finish(clients, logs)
    asked = sum(task.result() for task in stampede)
    assert asked > 0
    ends = [log.events[-1]["type"] for log in logs]
    assert ends == ["run.completed"] * len(sessions)
    taken = sum(e["type"] == "run.attempt_started" for log in logs for e in log.events)
    assert taken == 0, "a run was taken over from a node that lives"
    ground.judge.check(logs, "I1", "I2", "I3", "I4", "I5", "I6", "I12", "I13")
    ground.judge.say(f"{asked} requests to a node with {2 * delay:g} s a query, no take-over")


async def ask(ground: Ground, node: Node, sessions: list[str], until_when: float) -> int:
    """Ask for pages of events, one after the other; return how often there was any answer."""
    answers = 0
    while time.monotonic() < until_when:
        session = ground.random.choice(sessions)
        url = f"{node.url}/v1/sessions/{session}/events?after=0&limit=10"
        try:
            async with ground.http.get(url, headers={"Accept": "application/json"}) as response:
                answers += response.status in {200, 503}
        except LOST:
            continue
    return answers
