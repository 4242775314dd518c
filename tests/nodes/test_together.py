"""Several nodes are one server: whatever is done at one is seen at all, and may go on at another."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tests.faults.clients import TRANSPORTS, Client, ManyClient, Transport
from tests.faults.endings import following
from tests.nodes.ground import PATIENCE, Ground, until
from tests.nodes.nodes import Node

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(300)]

WORDS = "one two three four five six seven eight nine ten"
PACE = {"interval_ms": 20}
SLOW = {"interval_ms": 200}
REVOKED_SECONDS = 5.0
"""Within which streams everywhere end whose session is there no more."""


@pytest.mark.fault("F22")
async def test_clients_that_come_back_to_any_node_over_any_transport_read_one_log(
    ground: Ground,
) -> None:
    session = ground.session()
    callers = [ground.caller(), ground.caller("talker", transport="websocket")]
    await callers[0].create(session, agent="echo")
    clients = [ground.client(f"{kind}-client", session, transport=kind) for kind in TRANSPORTS]
    many = ManyClient(ground.world, ground.session("many"), [session])
    await many.subscribe()
    async with following([*clients, many]):
        for number in range(4):
            sent = await callers[number % 2].call(session, "send", text=WORDS, options=PACE)
            for client in clients:
                await client.until_type("message.delta", 2 * number + 1)
                client.switch(ground.random.choice(TRANSPORTS))
            many.cut()
            await ended(clients[0], sent["run_id"])
        logs = await ground.logs(session)
        await ground.finish(clients, logs)
        await many.until(lambda: many.seqs[session] >= logs[0].last)
        many.finished(session)
    ground.judge.check(logs, "I1", "I2", "I3", "I4", "I6", "I8", "I11", "I12", "I13")


async def test_what_is_put_on_a_client_s_stream_at_one_node_comes_on_its_stream_at_another(
    ground: Ground,
) -> None:
    session, other = ground.session("a"), ground.session("b")
    caller = ground.caller()
    for name in (session, other):
        await caller.create(name, agent="echo")
    many = ManyClient(ground.at(ground.nodes[0]), ground.session("many"), [session])
    await many.subscribe()
    async with following([many]):
        await many.until(lambda: many.seqs[session] > 0)
        many.seqs[other] = 0
        path = f"{ground.nodes[1].url}/v1/clients/{many.name}/subscriptions/{other}"
        async with ground.http.put(path, json={"after": "0"}) as response:
            response.raise_for_status()
        await many.until(lambda: many.seqs[other] > 0)


@pytest.mark.fault("F37")
async def test_a_session_that_is_deleted_at_one_node_ends_its_run_and_its_streams_at_the_others(
    ground: Ground,
) -> None:
    session = ground.session()
    first, owner, _ = ground.nodes
    await ground.caller("a", owner).create(session, agent="echo")
    transports: tuple[Transport, ...] = ("sse", "websocket", "ndjson")
    clients = [
        ground.client(f"{kind} {node.name}", session, node, kind)
        for kind in transports
        for node in ground.nodes
    ]
    async with following(clients):
        await ground.caller("b", owner).call(session, "send", text=WORDS, options=SLOW)
        for client in clients:
            await client.until_type("message.delta")
        url = f"{first.url}/v1/sessions/{session}"
        async with ground.http.delete(url) as response:
            assert response.status == 204, await response.text()
        async with asyncio.timeout(REVOKED_SECONDS):
            for client in clients:
                await _is_told_of_the_end(ground, client.name)
    for node in ground.nodes:
        async with ground.http.get(f"{node.url}/v1/sessions/{session}") as response:
            assert response.status == 410, f"{node.name}: {await response.text()}"
    ground.judge.note("I11", len(clients))


async def _is_told_of_the_end(ground: Ground, name: str) -> None:
    """Wait until a client's stream of the session was ended."""

    def told() -> bool:
        return any(each.process == name for each in ground.judge.history.named("stream.closing"))

    await until(told, f"{name} is not told")


# --- F34: cancel, at another node ------------------------------------------------------------------

PLACES = {
    "before it begins": ("echo", WORDS, None),
    "in the model's words": ("echo", WORDS, "message.delta"),
    "in a tool": ("tools", "weather in Oslo and Rome", "tool.started"),
    "while a human is asked": ("tools", "delete x", "run.interrupted"),
    "in its last moments": ("echo", "one two", "message.completed"),
    "when it is over": ("echo", "one", "run.completed"),
}


@pytest.mark.fault("F34")
@pytest.mark.rule("cancel.bounded", "run.one_end", "command.once")
async def test_cancels_at_several_nodes_end_a_run_once_wherever_it_is(ground: Ground) -> None:
    async def race(number: int, place: str) -> None:
        agent, text, sign = PLACES[place]
        session = ground.session(str(number))
        owner, *others = (ground.caller(f"{node.name}-{number}", node) for node in ground.nodes)
        await owner.create(session, agent=agent)
        async with ground.watched(session) as watcher, asyncio.TaskGroup() as tasks:
            sent = await owner.call(session, "send", text=text)
            if sign is not None:
                await watcher.until_type(sign)
            await asyncio.sleep(ground.random.uniform(0, 0.03))
            for who in others:
                tasks.create_task(who.call(session, "cancel", run_id=sent["run_id"]))
            for who in (owner, *others):
                again = who.call(session, "cancel", command_id=f"stop-{number}")
                tasks.create_task(again)

    places = list(PLACES) * 2
    async with asyncio.TaskGroup() as races:
        for number, place in enumerate(places):
            races.create_task(race(number, place))
    logs = await ground.logs(*(ground.session(str(number)) for number in range(len(places))))
    ends = [log.events[-1]["type"] for log in logs]
    assert ends.count("run.cancelled") >= len(places) // 2
    ground.judge.check(logs, "I1", "I4", "I6", "I10", "I12", "I13")


@pytest.mark.fault("F34")
@pytest.mark.rule("cancel.bounded")
async def test_a_cancel_ends_a_run_whose_node_dies_at_the_same_moment(ground: Ground) -> None:
    session, owner = ground.session(), ground.nodes[0]
    beginner, caller = ground.caller("a", owner), ground.caller("b", ground.nodes[1])
    await caller.create(session, agent="echo")
    async with ground.watched(session, ground.nodes[2]) as watcher:
        for _ in range(2):
            words = watcher.types.get("message.delta", 0)
            sent = await beginner.call(session, "send", text=WORDS, options=SLOW)
            await watcher.until_type("message.delta", words + 2)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(caller.call(session, "cancel", run_id=sent["run_id"]))
                await asyncio.sleep(ground.random.uniform(0, 0.01))
                await kill(ground, owner)
            await owner.restart()
            await ended(watcher, sent["run_id"])
        logs = await ground.logs(session)
        await ground.finish([watcher], logs)
    assert [e["type"] for e in logs[0].events].count("run.cancelled") == 2
    ground.judge.check(logs, "I1", "I3", "I4", "I6", "I10", "I12", "I13")


async def ended(client: Client, run_id: str) -> None:
    await client.until(lambda: run_id in client.ended, seconds=PATIENCE)


async def kill(ground: Ground, node: Node) -> None:
    ground.judge.history.fault("kill", node=node.name)
    await node.kill()


# --- F2, F3, F4: who works on a run ----------------------------------------------------------------


@pytest.mark.fault("F2")
@pytest.mark.rule("run.taken_over")
async def test_a_run_whose_node_dies_goes_on_at_another_and_nobody_sees_a_gap(
    ground: Ground,
) -> None:
    session = ground.session()
    await ground.caller("a", ground.nodes[1]).create(session, agent="echo")
    await ground.caller("b", ground.nodes[1]).call(session, "send", text=WORDS, options=SLOW)
    clients = [ground.client(f"client-{number}", session) for number in range(6)]
    async with following(clients):
        for client in clients:
            await client.until_type("message.delta", 3)
        await kill(ground, ground.nodes[1])
        await clients[0].until_ended(1, seconds=PATIENCE)
        await ground.nodes[1].restart()
        logs = await ground.logs(session)
        await ground.finish(clients, logs)
    (taken,) = (e for e in logs[0].events if e["type"] == "run.attempt_started")
    assert taken["reason"] == "lease_expired"
    assert logs[0].events[-1]["type"] == "run.completed"
    ground.judge.check(logs, "I1", "I2", "I3", "I4", "I5", "I6", "I8", "I12", "I13")


@pytest.mark.fault("F3")
async def test_a_node_that_stood_still_until_another_finished_its_run_adds_nothing_to_it(
    ground: Ground,
) -> None:
    session, zombie = ground.session(), ground.nodes[0]
    await ground.caller("a", zombie).create(session, agent="echo")
    async with (
        ground.watched(session, ground.nodes[1]) as watcher,
        following([waiting := ground.client("waits there", session, zombie)]),
    ):
        await ground.caller("b", zombie).call(session, "send", text=WORDS, options=SLOW)
        await waiting.until_type("message.delta", 2)
        ground.judge.history.fault("freeze", node=zombie.name)
        zombie.freeze()
        await watcher.until_ended(1, seconds=PATIENCE)
        before = watcher.seq
        ground.judge.history.fault("thaw", node=zombie.name)
        zombie.thaw()
        # Who waited there is told of all that happened elsewhere, and so is who asks there now.
        await waiting.until_ended(1, seconds=PATIENCE)
        await ground.caller("c", zombie).call(session, "send", text="again", options=PACE)
        await watcher.until_ended(2, seconds=PATIENCE)
        logs = await ground.logs(session)
        await ground.finish([watcher, waiting], logs)
    assert logs[0].events[before]["type"] == "input.accepted", "the zombie wrote"
    ground.judge.check(logs, "I1", "I2", "I3", "I4", "I5", "I6", "I8", "I12", "I13")


@pytest.mark.fault("F3", "F34")
async def test_a_cancel_ends_a_run_whose_node_stands_still_and_it_stays_cancelled(
    ground: Ground,
) -> None:
    session, zombie = ground.session(), ground.nodes[2]
    await ground.caller("a", zombie).create(session, agent="echo")
    async with ground.watched(session, ground.nodes[1]) as watcher:
        sent = await ground.caller("b", zombie).call(session, "send", text=WORDS, options=SLOW)
        await watcher.until_type("message.delta", 2)
        zombie.freeze()
        await ground.caller("c", ground.nodes[0]).call(session, "cancel", run_id=sent["run_id"])
        await watcher.until_ended(1)
        zombie.thaw()
        await ground.caller("d", zombie).call(session, "send", text="again", options=PACE)
        await watcher.until_ended(2)
        logs = await ground.logs(session)
        await ground.finish([watcher], logs)
    ends = [e["type"] for e in logs[0].events if e["type"] in {"run.cancelled", "run.completed"}]
    assert ends == ["run.cancelled", "run.completed"]
    ground.judge.check(logs, "I1", "I3", "I4", "I5", "I6", "I10", "I12", "I13")


async def lease_is_over(ground: Ground, session: str) -> None:
    """Wait until nobody has a right to work on a session's run any more, by the database's clock."""
    db = await asyncpg.connect(ground.nodes.database)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await db.fetchval(  # noqa: ASYNC110 - time passes, and nobody tells
                "SELECT claim_until < 1000 * extract(epoch FROM clock_timestamp()) FROM session"
                " WHERE session_id = $1",
                session,
            ):
                await asyncio.sleep(0.05)
    finally:
        await db.close()


@pytest.mark.fault("F4", "F3")
async def test_a_node_that_takes_up_its_own_run_again_writes_nothing_of_the_time_before(
    ground: Ground,
) -> None:
    """The other two stand still; this one is awake, and cannot reach the database for a while."""
    session = ground.session()
    alone, *others = ground.nodes
    assert alone.way is not None
    await ground.caller("a", alone).create(session, agent="echo")
    async with ground.watched(session, alone) as watcher:
        await ground.caller("b", alone).call(session, "send", text=f"{WORDS} {WORDS}", options=SLOW)
        await watcher.until_type("message.delta", 2)
        for other in others:
            other.freeze()
        ground.judge.history.fault("no database", node=alone.name)
        alone.way.refuse = True
        alone.way.cut_all(reset=True)
        await lease_is_over(ground, session)
        alone.way.refuse = False
        await watcher.until_ended(1, seconds=PATIENCE)
        for other in others:
            other.thaw()
        logs = await ground.logs(session)
        await ground.finish([watcher], logs)
    assert logs[0].events[-1]["type"] == "run.completed"
    ground.judge.check(logs, "I1", "I2", "I3", "I4", "I5", "I6", "I12", "I13")
