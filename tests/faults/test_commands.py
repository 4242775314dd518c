"""F34, F35, F36: commands that race a run, whose answers are lost, or that come two at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Literal

import pytest
import pytest_asyncio

from tests.faults.clients import Client, World, connecting
from tests.faults.commands import Caller
from tests.faults.endings import all_idle, database, final_logs, following
from tests.faults.invariants import FinalLog
from tests.faults.plugin import Judge
from tests.faults.proxy import Faults, Proxy, running_proxy
from tests.support.server import Server, running_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = "one two three four five six seven eight"


@dataclass(frozen=True)
class Ground:
    """A server, a proxy before it, and who goes to either."""

    server: Server
    proxy: Proxy
    world: World
    data: Path

    def caller(self, name: str, transport: Literal["http", "websocket"] = "http") -> Caller:
        return Caller(self.world, name, transport=transport)

    def behind_proxy(self, name: str, transport: Literal["http", "websocket"] = "http") -> Caller:
        return Caller(replace(self.world, url=self.proxy.url), name, transport=transport)

    async def logs(self, *sessions: str) -> list[FinalLog]:
        """Return the logs once nothing happens any more."""
        await all_idle(self.world.http, self.server.url, sessions)
        file = database(self.data)
        return await final_logs(self.world.http, self.server.url, sessions, file)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of the server."""
    return tmp_path_factory.mktemp("data")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(data: Path) -> AsyncIterator[Server]:
    """One for all tests here, each of which has sessions of its own."""
    async with running_server(data) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def ground(server: Server, data: Path, judge: Judge, random: Random) -> AsyncIterator[Ground]:
    async with running_proxy(server.port) as proxy, connecting() as http:
        world = World(judge.history, http, server.url, random, pauses=(0.01, 0.2))
        yield Ground(server, proxy, world, data)


# --- F34: cancel, at every place of a run ------------------------------------------------------

SLOW = {"interval_ms": 5_000}
"""Whoever wants to stop it comes in time."""

CANCELLED, COMPLETED = "run.cancelled", "run.completed"


@dataclass(frozen=True)
class Place:
    """Where a run is when it is cancelled.

    Attributes:
        agent: Whose run it is.
        text: What it is sent.
        sign: The event by which it is known to be there; None: it is not waited for.
        options: Of the agent.
        ends: How the run may end.
    """

    agent: str
    text: str
    sign: str | None
    options: Mapping[str, int] = field(default_factory=dict)
    ends: Sequence[str] = (CANCELLED, COMPLETED)


PLACES = {
    "before it begins": Place("echo", WORDS, None, SLOW, ends=(CANCELLED,)),
    "in the model's words": Place("echo", WORDS, "message.delta", SLOW, ends=(CANCELLED,)),
    "in a tool": Place("tools", "weather in Oslo and Rome", "tool.started"),
    "while a human is asked": Place("tools", "delete x", "run.interrupted", ends=(CANCELLED,)),
    "in its last moments": Place("echo", "one two", "message.completed"),
    "when it is over": Place("echo", "one", COMPLETED, ends=(COMPLETED,)),
}


@asynccontextmanager
async def watched(ground: Ground, session_id: str) -> AsyncIterator[Client]:
    client = Client(ground.world, f"watcher of {session_id}", session_id, "sse")
    async with following([client]):
        yield client


@pytest.mark.fault("F34")
@pytest.mark.rule("cancel.bounded", "run.one_end", "command.once")
async def test_a_cancel_ends_the_run_wherever_it_is_and_twice_is_once(
    ground: Ground, judge: Judge, random: Random
) -> None:
    async def race(number: int, place: Place) -> None:
        session_id = f"race-{number}"
        caller, other = ground.caller(f"a{number}"), ground.caller(f"b{number}", "websocket")
        await caller.create(session_id, agent=place.agent)
        async with watched(ground, session_id) as watcher, asyncio.TaskGroup() as tasks:
            sent = await caller.call(session_id, "send", text=place.text, options=place.options)
            if place.sign is not None:
                await watcher.until_type(place.sign)
            await asyncio.sleep(random.uniform(0, 0.03))
            for who in (caller, other):
                tasks.create_task(who.call(session_id, "cancel", run_id=sent["run_id"]))
            tasks.create_task(other.call(session_id, "cancel", command_id=f"stop-{number}"))
            tasks.create_task(caller.call(session_id, "cancel", command_id=f"stop-{number}"))

    places = [*PLACES.items()] * 4
    async with asyncio.TaskGroup() as races:
        for number, (_, place) in enumerate(places):
            races.create_task(race(number, place))
    logs = await ground.logs(*(f"race-{number}" for number in range(len(places))))
    for (name, place), log in zip(places, logs, strict=True):
        assert log.events[-1]["type"] in place.ends, name
    judge.check(logs, "I1", "I4", "I6", "I10", "I12", "I13")


@pytest.mark.fault("F34")
@pytest.mark.rule("cancel.bounded")
async def test_a_cancel_that_meets_a_kill_is_kept_or_was_never_acknowledged(
    ground: Ground, judge: Judge, random: Random
) -> None:
    caller = ground.caller("caller")
    await caller.create("killed", agent="echo")
    async with watched(ground, "killed") as watcher:
        for _ in range(2):
            words = watcher.types.get("message.delta", 0)
            sent = await caller.call("killed", "send", text=WORDS, options={"interval_ms": 60})
            await watcher.until_type("message.delta", words + 2)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(caller.call("killed", "cancel", run_id=sent["run_id"]))
                await asyncio.sleep(random.uniform(0, 0.004))
                judge.history.fault("kill", pid=ground.server.pid)
                await ground.server.kill()
                await ground.server.restart()
            await watcher.until(lambda sent=sent: sent["run_id"] in watcher.ended)  # type: ignore[misc] # mypy does not see the default
        watcher_log = await ground.logs("killed")
        await watcher.until(lambda: watcher.seq >= watcher_log[0].last)
        watcher.finished("killed")
    judge.check(watcher_log, "I1", "I3", "I4", "I6", "I10", "I12", "I13")


# --- F35: the answer is lost -------------------------------------------------------------------


@pytest.mark.fault("F35")
@pytest.mark.rule("command.once", "command.ack")
async def test_a_command_whose_answer_was_lost_is_tried_again_and_has_one_effect(
    ground: Ground, judge: Judge, random: Random
) -> None:
    callers = ground.behind_proxy("http"), ground.behind_proxy("websocket", "websocket")
    direct = ground.caller("direct")
    plan: list[Faults] = []
    ground.proxy.choose = lambda: plan.pop(0) if plan else Faults()

    def lose_answers() -> None:
        """Let the next one or two connections break somewhere in their answer."""
        plan[:] = [
            Faults(cut_to_client_after=random.choice((0, random.randint(1, 420))))
            for _ in range(random.randint(1, 2))
        ]
        ground.proxy.cut_all()  # no command goes over a connection that was there before

    sessions = [f"lost-{number}" for number in range(8)]
    for number, session_id in enumerate(sessions):
        caller = callers[number // 2 % 2]
        lose_answers()
        await caller.create(session_id, agent="tools" if number % 2 else "echo")
        async with watched(ground, session_id) as watcher:
            lose_answers()
            text = "delete x" if number % 2 else WORDS
            sent = await caller.call(session_id, "send", text=text)
            if number % 2:
                await watcher.until_type("run.interrupted")
                snapshot = await direct.create(session_id, agent="tools")
                approval = snapshot["approvals"][0]["approval_id"]
                decision = {"approval_id": approval, "decision": "approve"}
                lose_answers()
                await caller.call(session_id, "continue", decisions=[decision])
                await watcher.until_ended(1)
            else:
                lose_answers()
                await caller.call(session_id, "cancel", run_id=sent["run_id"])
        async with asyncio.TaskGroup() as tasks:  # the same one twice, at the same time
            for who in callers:
                again = who.call(session_id, "send", command_id=f"twin-{number}", text="one")
                tasks.create_task(again)
    lost = sum(each.kind == "unknown" for each in judge.history.operations)
    assert lost >= len(sessions)
    judge.check(await ground.logs(*sessions), "I1", "I4", "I6", "I12", "I13")
    judge.say(f"{lost} answers lost")


# --- F36: two at once --------------------------------------------------------------------------


INPUTS = ("input.accepted", "input.queued", "run.started")


@pytest.mark.fault("F36")
@pytest.mark.rule("command.same")
async def test_two_that_send_at_once_never_have_two_runs_at_once(
    ground: Ground, judge: Judge
) -> None:
    policies = {
        f"{policy}-{number}": policy for policy in ("enqueue", "reject") for number in range(5)
    }
    logs = await two_send_twice(ground, policies)
    for log in logs:
        events = {kind: [e["run_id"] for e in log.events if e["type"] == kind] for kind in INPUTS}
        enqueued = policies[log.session_id] == "enqueue"
        assert len(events["input.accepted"]) == (4 if enqueued else 1)
        assert events["run.started"][1:] == events["input.queued"]
        assert one_after_the_other(log)
    refused = [each.value for each in judge.history.named("send") if each.kind == "fail"]
    assert {each["code"] for each in refused} == {"run_active"}
    assert [each["session_id"] for each in refused] == [
        session_id
        for session_id, policy in policies.items()
        if policy == "reject"
        for _ in range(3)
    ]
    judge.check(logs, "I1", "I4", "I6", "I12", "I13")


@pytest.mark.fault("F36")
@pytest.mark.rule("send.policies", "send.steer")
async def test_two_that_interrupt_roll_back_and_steer_at_once_are_each_heard_once(
    ground: Ground, judge: Judge
) -> None:
    policies = {
        f"{policy}-{number}": policy
        for policy in ("interrupt", "rollback", "steer")
        for number in range(3)
    }
    logs = await two_send_twice(ground, policies)
    for log in logs:
        heard = [e for e in log.events if e["type"] in {"input.accepted", "input.steered"}]
        assert len({e["command_id"] for e in heard}) == len(heard) == 4
        superseded = [e for e in log.events if e.get("reason") == "superseded"]
        rolled_back = [e for e in log.events if e["type"] == "history.rolled_back"]
        policy = policies[log.session_id]
        assert len(superseded) == (0 if policy == "steer" else 3)
        assert len(rolled_back) == (3 if policy == "rollback" else 0)
        assert one_after_the_other(log)
    assert not [each for each in judge.history.named("send") if each.kind == "fail"]
    judge.check(logs, "I1", "I4", "I6", "I12", "I13")


async def two_send_twice(ground: Ground, policies: Mapping[str, str]) -> list[FinalLog]:
    """Let two callers send at once, each with its session's policy; return how the logs end."""
    first, second = ground.caller("first"), ground.caller("second", "websocket")
    for session_id, policy in policies.items():
        await first.create(session_id, agent="echo")
        async with asyncio.TaskGroup() as tasks:
            for who in (first, second, first, second):
                tasks.create_task(
                    who.call(session_id, "send", text=f"{who.name} {WORDS}", policy=policy)
                )
    return await ground.logs(*policies)


def one_after_the_other(log: FinalLog) -> bool:
    """Say whether each run had ended before the next one began."""
    active = 0
    for event in log.events:
        active += event["type"] == "run.started"
        active -= event["type"] in {"run.completed", "run.failed", "run.cancelled"}
        if active > 1:
            return False
    return active == 0
