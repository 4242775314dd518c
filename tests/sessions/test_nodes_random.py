"""Three nodes, random commands on random nodes, random kills: every log is legal, and nothing is lost."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import orjson
import pytest

from gateway.codecs.native import event_json
from gateway.commands import Ack
from gateway.conformance import logs
from gateway.conformance.events import Event
from gateway.engines.memory import MemoryEngine
from gateway.errors import CommandRefused, EngineUnavailable
from gateway.log.engine import LEASE_SECONDS
from gateway.log.follow import kept
from gateway.sessions import working, writer
from runtime.events import RunCancelled
from tests.faults.history import History
from tests.faults.invariants import FinalLog, check
from tests.support.logs import SetClock
from tests.support.nodes import Node, node
from tests.support.puppet import Part

LEASE = round(LEASE_SECONDS * 1000)
SESSIONS = ("s", "t")
COMMANDS = 60


class World:
    """A store, its nodes, and clients that want something all the time."""

    def __init__(self, seed: int, stack: AsyncExitStack) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - the same each time
        self.clock = SetClock()
        self.engine = MemoryEngine(clock=self.clock, shared=True)
        self.nodes: list[Node] = []
        self.acks: dict[str, Ack] = {}
        self.sent: set[str] = set()
        self._stack = stack

    async def play(self, part: Part) -> None:
        token, steered = part.request.cancel, part.request.steered
        assert token is not None
        assert steered is not None
        for turn in range(part.request.turns + 1, part.request.turns + 4):
            message_id = f"msg_{part.run_id}_{part.request.attempt}_{turn}"
            await part.begin(message_id, turn)
            for n in range(5):
                await part.say(f"{n} ", message_id)
                await asyncio.sleep(self.dice.choice((0, 0, 0.001)))
            await part.finish_step("0 1 2 3 4 ", message_id=message_id, turn=turn)
            await steered()
            if token.stopping:
                await part.emit(RunCancelled(run_id=part.run_id, reason="cancel"))
                return
        await part.end("done")

    async def add_node(self) -> None:
        opened = node(
            self.engine,
            self.play,
            places=self.dice.choice((None, None, 1)),
            deaf=self.dice.random() < 0.3,
            delta_interval=self.dice.choice((0, 0.001)),
        )
        new = await self._stack.enter_async_context(opened)
        for session_id in SESSIONS:
            await new.at(session_id).make()
        new.line.doubt, new.line.dice = 0.05, self.dice
        self.nodes.append(new)

    async def break_something(self) -> None:
        what = self.dice.random()
        one = self.dice.choice(self.nodes)
        if what < 0.3:
            one.kill()
            self.nodes.remove(one)
            self.clock.now += LEASE + 1
            await self.add_node()
        elif what < 0.5:
            self.clock.now += LEASE + 1  # all of them slept
        elif what < 0.8:
            one.line.away = not one.line.away
        else:
            await one.manager.hand_over(0.001)
            self.nodes.remove(one)
            await self.add_node()

    async def command(self, number: int) -> None:
        kind = self.dice.choice(("send", "send", "send", "cancel", "edit_queue", "continue"))
        fields: dict[str, object] = {"id": f"c{number}"}
        session_id = self.dice.choice(SESSIONS)
        if kind == "send":
            self.sent.add(f"c{number}")
            fields["text"] = f"text of c{number}"
            fields["policy"] = self.dice.choice(
                ("enqueue", "enqueue", "reject", "interrupt", "rollback", "steer")
            )
        elif kind == "cancel":
            fields["mode"] = self.dice.choice(("now", "after_step"))
        elif kind == "edit_queue":
            kept_first = await self._queued(session_id)
            fields |= {"drop": kept_first[:1], "order": kept_first[2:3]}
            if not kept_first:
                return
        while True:
            at = self.dice.choice(self.nodes).at(session_id)
            try:
                self.acks[f"c{number}"] = await at.command(kind, **fields)
            except CommandRefused:
                return
            except EngineUnavailable:
                await asyncio.sleep(0.001)
                if all(each.line.away for each in self.nodes):
                    self.dice.choice(self.nodes).line.away = False
            else:
                return

    async def _queued(self, session_id: str) -> list[str]:
        try:
            snapshot = await self.dice.choice(self.nodes).manager.snapshot(session_id)
        except EngineUnavailable:
            return []
        return [item.run_id for item in snapshot.queue]

    async def lines(self, session_id: str) -> list[bytes]:
        start = (await self.engine.head(session_id)).start
        return [event_json(entry) async for entry in kept(self.engine, session_id, start)]


@pytest.mark.fault("F3", "F4", "F11", "F16", "F34", holds=("I4", "I5", "I6", "I12"))
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_every_log_is_legal_and_no_command_is_lost_or_done_twice(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "STORE_RETRY", (0.001, 0.005))
    monkeypatch.setattr(working, "STORE_RETRY", 0.01)
    async with AsyncExitStack() as stack:
        world = World(seed, stack)
        for _ in range(3):
            await world.add_node()
        for number in range(COMMANDS):
            await world.command(number)
            if world.dice.random() < 0.15:
                await world.break_something()
            await asyncio.sleep(world.dice.choice((0, 0.002, 0.01)))
        for each in world.nodes:
            each.line.away, each.line.doubt = False, 0.0
        logs_of: list[FinalLog] = []
        for name in SESSIONS:
            await _idle(world, name)
            lines = await world.lines(name)
            logs_of.append(FinalLog(name, lines))
            _is_legal(lines)
            _each_command_once(world, name, lines)
            first, *others = [(await each.manager.snapshot(name)).as_json() for each in world.nodes]
            assert all(other == first for other in others)
            assert (await world.engine.session(name)).claim is None
        verdict = check(History(), logs_of)
        assert not verdict.violations
        assert verdict.facts["I6"] > 0


async def _idle(world: World, session_id: str) -> None:
    """Return when nothing runs or waits; leases that a killed node holds run out on the way.

    Nobody beats so fast, so a lease lasts for a second here: a run must come to its end in that.
    """
    async with asyncio.timeout(100):
        while (await world.nodes[0].manager.snapshot(session_id)).status != "idle":
            world.clock.now += LEASE // 50
            await asyncio.sleep(0.02)


def _is_legal(lines: list[bytes]) -> None:
    log = [Event(line, orjson.loads(line)) for line in lines]
    for rule in (
        logs.seq_is_whole,
        logs.cursors_are_formed,
        logs.runs_end_once,
        logs.boundaries_are_closed,
        logs.deltas_make_the_text,
    ):
        rule(log)


def _each_command_once(world: World, session_id: str, lines: list[bytes]) -> None:
    events = [orjson.loads(line) for line in lines]
    inputs = [
        event["command_id"]
        for event in events
        if event["type"] in {"input.accepted", "input.steered"}
        or (event["type"] == "input.dequeued" and event["reason"] in {"cancelled", "edited"})
    ]
    assert len(inputs) == len({*inputs})
    cursors = {event["cursor"] for event in events}
    for ack in world.acks.values():
        if ack.session_id == session_id:
            assert ack.cursor in cursors
            assert ack.id not in world.sent or ack.id in inputs
