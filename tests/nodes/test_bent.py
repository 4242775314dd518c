"""F16, F19: hints that are lost, late, doubled or out of order, and nodes whose clocks are wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random

import aiohttp
import pytest
import pytest_asyncio

from tests.faults.endings import following
from tests.faults.plugin import Judge
from tests.nodes.bent import CLOCK, HINTS, PROGRAM
from tests.nodes.ground import PATIENCE, Ground
from tests.nodes.load import ALL, SMALL, busy
from tests.nodes.nodes import LEASE, Nodes, running_nodes
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]

HOUR = 3600
CLOCKS = (HOUR, 0, -HOUR)
"""Seconds by which the clocks of the three nodes are ahead."""

NO_HINT_SECONDS = 15.0
"""Within which everything is told, and a cancel ends a run, of which there was no hint: 5, and what a
busy machine takes for it."""


@dataclass
class Bent:
    """Three nodes whose clocks are an hour ahead, right, and an hour behind.

    Attributes:
        hints: Says what happens to hints.
    """

    nodes: Nodes
    hints: Path


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def bent(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bent]:
    folder = tmp_path_factory.mktemp("bent")
    hints = folder / "hints"
    hints.write_text("as they come")
    url = cluster.create_database("bent")
    each = [{CLOCK: str(seconds), HINTS: str(hints)} for seconds in CLOCKS]
    async with running_nodes(url, folder, each=each, programs=[PROGRAM] * len(CLOCKS)) as nodes:
        yield Bent(nodes, hints)


@pytest_asyncio.fixture(loop_scope="package")
async def ground(
    bent: Bent,
    http: aiohttp.ClientSession,
    judge: Judge,
    random: Random,
) -> AsyncIterator[Ground]:
    await bent.nodes.refresh()
    yield Ground(bent.nodes, http, judge, random)
    bent.hints.write_text("as they come")


@pytest.mark.fault("F16")
@pytest.mark.parametrize("how", ["lost", "late"])
@pytest.mark.rule("cancel.bounded")
async def test_without_hints_all_is_told_and_a_cancel_works_within_seconds(
    ground: Ground, bent: Bent, how: str
) -> None:
    session = ground.session()
    owner, other, _ = ground.nodes
    await ground.caller("a", owner).create(session, agent="echo")
    clients = [ground.client(node.name, session, node) for node in ground.nodes]
    async with following(clients):
        for client in clients:
            await client.until_type("session.created")
        bent.hints.write_text(how)
        ground.judge.history.fault("hints", how=how)
        options = {"interval_ms": 60_000}
        await ground.caller("b", owner).call(session, "send", text="one two", options=options)
        for client in clients:
            await client.until_type("message.delta", seconds=NO_HINT_SECONDS)
        await ground.caller("c", other).call(session, "cancel")
        for client in clients:
            await client.until_ended(1, seconds=NO_HINT_SECONDS)
        # The run is over where it was at work, too: that node begins the next one.
        await ground.caller("d", owner).call(
            session, "send", text="one", options={"interval_ms": 1}
        )
        for client in clients:
            await client.until_ended(2, seconds=NO_HINT_SECONDS)
        logs = await ground.logs(session)
        await ground.finish(clients, logs)
    ground.judge.check(logs, "I1", "I2", "I3", "I4", "I6", "I8", "I10", "I12", "I13")


@pytest.mark.fault("F16")
async def test_a_busy_crowd_loses_nothing_and_sees_nothing_twice_whatever_becomes_of_hints(
    ground: Ground, bent: Bent
) -> None:
    async with busy(ground, SMALL) as load:
        for how in ("lost", "twice", "shuffled"):
            ground.judge.history.fault("hints", how=how)
            bent.hints.write_text(how)
            await asyncio.sleep(1.5)
    ground.judge.check(load.logs, *ALL)


@pytest.mark.fault("F19")
async def test_nodes_whose_clocks_are_hours_apart_take_no_run_from_each_other_that_is_at_work(
    ground: Ground,
) -> None:
    sessions = [ground.session(node.name) for node in ground.nodes]
    words = " ".join("word" for _ in range(9))
    clients = [ground.client(session, session) for session in sessions]
    for node, session in zip(ground.nodes, sessions, strict=True):
        caller = ground.caller(node.name, node)
        await caller.create(session, agent="echo")
        options = {"interval_ms": LEASE * 1000 / 6}
        await caller.call(session, "send", text=words, options=options)  # longer than a lease
    async with following(clients):
        for client in clients:
            await client.until_ended(1)
        logs = await ground.logs(*sessions)
        await ground.finish(clients, logs)
    for log in logs:
        assert log.events[-1]["type"] == "run.completed"
        assert all(e["type"] != "run.attempt_started" for e in log.events), "it was taken over"
        said = datetime.fromisoformat(log.events[-1]["ts"]).timestamp()
        assert abs(said - time.time()) < HOUR / 2, "an event has the time of a wrong clock"
    ground.judge.check(logs, "I1", "I3", "I4", "I5", "I6", "I12", "I13")


@pytest.mark.fault("F19")
async def test_runs_of_dead_nodes_are_taken_over_in_time_whatever_their_clocks_said(
    ground: Ground,
) -> None:
    """The dead ones were an hour ahead and an hour behind of the one that takes over."""
    ahead, survivor, behind = ground.nodes
    dead = {ground.session(node.name): node for node in (ahead, behind)}
    watchers = [ground.client(f"watcher of {session}", session, survivor) for session in dead]
    async with following(watchers):
        for session, node in dead.items():
            caller = ground.caller(node.name, node)
            await caller.create(session, agent="echo")
            text, options = "one two three four five six", {"interval_ms": 300}
            await caller.call(session, "send", text=text, options=options)
        for watcher in watchers:
            await watcher.until_type("message.delta")
        for node in dead.values():
            ground.judge.history.fault("kill", node=node.name)
            await node.kill()
        for watcher in watchers:
            await watcher.until_ended(1, seconds=PATIENCE)
        await ground.nodes.refresh()
        logs = await ground.logs(*dead)
        await ground.finish(watchers, logs)
    for log in logs:
        (taken,) = (e for e in log.events if e["type"] == "run.attempt_started")
        assert taken["reason"] == "lease_expired"
    ground.judge.check(logs, "I1", "I3", "I4", "I5", "I6", "I12", "I13")
