"""F32, F44: nodes are replaced one after the other, and two versions share a database."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from pathlib import Path
from random import Random

import aiohttp
import pytest

from tests.faults.endings import following
from tests.faults.history import History
from tests.faults.invariants import FinalLog
from tests.faults.plugin import Judge
from tests.nodes.ground import Ground, until
from tests.nodes.load import ALL, SMALL, Load, busy
from tests.nodes.newer import OLDER, PROGRAM
from tests.nodes.nodes import HURRIED, Node, running_nodes
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]

HAND_OVER_SECONDS = 10.0
"""Within which a run goes on at another node whose node was told to stop, on a busy machine. That it
was not taken over when its lease was over is seen from the reason."""

ORDERLY = {"the server ended it", "closed with 1012"}
"""How streams end at a node that stops; 1012 is what WebSockets are closed with."""


@pytest.mark.fault("F32")
@pytest.mark.rule("drain.orderly")
async def test_nodes_are_replaced_one_after_the_other_and_hand_their_runs_over_at_once(
    cluster: Cluster,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    judge: Judge,
    random: Random,
) -> None:
    """With the lease that users have: no run goes on because one was over."""
    url = await asyncio.to_thread(cluster.create_database, "deploy")
    settings = {**HURRIED, "TIDEGATE_LEASE_S": "20"}
    async with running_nodes(url, tmp_path, settings=settings) as nodes:
        ground = Ground(nodes, http, judge, random)
        at_work = []
        async with busy(ground, SMALL, cuts=False) as load:
            for node in nodes:
                await everybody_works(load)
                at_work.append(await ground.put_to_work(node))
                await replace(ground, node)
        logs = [*load.logs, *await ground.logs(*at_work)]
    ground.judge.check(logs, *ALL)
    why = endings(ground.judge.history)
    assert set(why) == ORDERLY, why
    gaps = [gap for log in logs for gap in hand_overs(log)]
    assert len(gaps) >= len(at_work), "a run was not handed over"
    ground.judge.say(f"{len(gaps)} runs handed over, the slowest in {max(gaps):.2f} s")
    assert max(gaps) < HAND_OVER_SECONDS
    reasons = {
        e["reason"] for log in logs for e in log.events if e["type"] == "run.attempt_started"
    }
    assert reasons == {"handed_over"}


def endings(history: History) -> Counter[str]:
    """Return how streams ended that had begun, and how often each; of pages none has begun."""
    there: set[str] = set()
    why: Counter[str] = Counter()
    for each in history.named("connect", "disconnect"):
        if each.name == "connect" and each.kind == "ok" and each.value["transport"] != "pages":
            there.add(each.process)
        elif each.name == "disconnect" and each.process in there:
            why[each.value["why"]] += 1
        if each.name == "disconnect" or each.kind == "invoke":
            there.discard(each.process)
    return why


async def everybody_works(load: Load) -> None:
    """Wait until each user of a crowd has begun one more run."""
    begun = [user.runs for user in load.crowd.users]
    await until(
        lambda: all(
            user.runs > before for user, before in zip(load.crowd.users, begun, strict=True)
        ),
        "a user does not come to his next run",
    )


async def replace(ground: Ground, node: Node) -> None:
    """Stop a node as a deployment does, and start the next one in its place."""
    ground.judge.history.fault("stop", node=node.name)
    assert await node.stop() == 0, "".join(node.output[-20:])
    await node.restart()


def hand_overs(log: FinalLog) -> list[float]:
    """Return how many seconds each hand-over took, from letting go to going on."""
    let_go: dict[str, float] = {}
    gaps = []
    for event in log.events:
        if event["type"] == "run.attempt_released":
            let_go[event["run_id"]] = datetime.fromisoformat(event["ts"]).timestamp()
        elif event["type"] == "run.attempt_started" and event["run_id"] in let_go:
            went_on = datetime.fromisoformat(event["ts"]).timestamp()
            gaps.append(went_on - let_go.pop(event["run_id"]))
    return gaps


# --- F44 -------------------------------------------------------------------------------------------

NEXT_REVISION = """
ALTER TABLE session ADD COLUMN tide real;
CREATE TABLE tide (session bigint PRIMARY KEY, height real NOT NULL);
UPDATE alembic_version SET version_num = '0999';
"""
"""What the next version may do to the schema: add to it. What works with it stays the same."""


@pytest.mark.fault("F44")
async def test_two_versions_share_a_database_and_each_passes_on_what_it_does_not_know(
    cluster: Cluster,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    judge: Judge,
    random: Random,
) -> None:
    url = await asyncio.to_thread(cluster.create_database, "versions")
    each = [{}, {OLDER: "1"}]
    async with running_nodes(
        url, tmp_path, 2, settings=HURRIED, each=each, programs=[PROGRAM] * 2
    ) as nodes:
        ground = Ground(nodes, http, judge, random)
        newer, older = nodes
        session, other = ground.session("a"), ground.session("b")
        await asyncio.to_thread(cluster.psql, NEXT_REVISION, "versions")
        await ground.caller("a", newer).create(session)
        await ground.caller("b", older).create(other)
        clients = [
            ground.client(f"{name} {node.name}", name, node)
            for name in (session, other)
            for node in nodes
        ]
        async with following(clients):
            await ground.caller("c", newer).call(session, "send", text="go")
            await clients[1].until_type("tide.forecast")
            await clients[1].until_type("message.delta", 2)
            # The older one goes on with what the newer one began, and then the other way round.
            assert await newer.stop() == 0
            await clients[1].until_ended(1)
            await newer.restart()
            await ground.caller("d", older).call(other, "send", text="go")
            await clients[3].until_type("message.delta", 2)
            assert await older.stop() == 0
            await clients[2].until_ended(1)
            await older.restart()  # which finds a schema that is newer than it knows
            logs = await ground.logs(session, other)
            await ground.finish(clients, logs)
    for log in logs:
        types = [event["type"] for event in log.events]
        assert types.count("tide.forecast") == 1
        assert types.count("run.attempt_started") == 1
        assert types[-1] == "run.completed"
    judge.check(logs, "I1", "I2", "I3", "I4", "I5", "I6", "I8", "I12", "I13")
