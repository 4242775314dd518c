"""Runs of graphs: their nodes in the snapshot, their questions to humans, and how they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.engines.memory import MemoryEngine
from gateway.errors import ApprovalAlreadyResolved, RunActive
from gateway.sessions.manager import SessionManager
from gateway.sessions.state import SessionState
from runtime.events import (
    ApprovalRequested,
    ErrorInfo,
    MessageStarted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
    RunInterrupted,
)
from runtime.graph import END, Graph, Key, View
from runtime.registry import Registry
from tests.support.puppet import Part, Puppet
from tests.support.sessions import Desk, desk

PATH = ("flow",)


def flow(play: Callable[[Part], Awaitable[None]]) -> Puppet:
    return Puppet(play, name="flow", kind="graph")


async def start(part: Part, node: str, superstep: int = 1) -> None:
    await part.emit(NodeStarted(run_id=part.run_id, path=PATH, node=node, superstep=superstep))


async def update(part: Part, node: str, **updates: Any) -> None:
    await part.emit(NodeUpdate(run_id=part.run_id, path=PATH, node=node, updates=updates))


async def finish(part: Part, node: str) -> None:
    await part.emit(NodeCompleted(run_id=part.run_id, path=PATH, node=node, duration_ms=2.5))


async def interrupt(part: Part, node: str) -> None:
    await part.emit(
        ApprovalRequested(
            run_id=part.run_id,
            path=PATH,
            approval_id="apr_1",
            node=node,
            arguments='{"plan":["a"]}',
        )
    )
    await part.emit(
        RunInterrupted(run_id=part.run_id, path=PATH, reason="approval", pending=("apr_1",))
    )


async def nodes(at: Desk) -> list[dict[str, Any]]:
    snapshot = (await at.manager.snapshot("s")).as_json()
    found: list[dict[str, Any]] = snapshot["run"]["nodes"]
    return found


async def test_the_shape_of_a_graph_is_told_before_it_runs() -> None:
    graph = Graph(Key("text", ""), name="shaped")
    graph.node("a", _node, "b", "c").node("b", _node, END).node("c", _node, "a", END)
    async with desk(MemoryEngine(), graph.start("a").build(), flow(_nothing)) as at:
        shaped, puppet = at.manager.agents()
        assert shaped["kind"] == "graph"
        assert shaped["graph"] == {
            "start": ["a"],
            "edges": {"a": ["b", "c"], "b": [], "c": ["a"]},
        }
        assert "graph" not in puppet  # it does not tell


async def _node(view: View) -> None: ...


@pytest.mark.rule("graph.run")
async def test_a_run_of_a_graph_says_so_and_the_snapshot_names_it() -> None:
    async def play(part: Part) -> None:
        await part.end("done")

    other = Puppet(play)
    async with desk(MemoryEngine(), other, flow(play)) as at:
        await at.send("hi")
        await at.until("run.completed")
        await at.send("hi", agent="flow")
        await at.until("run.completed", 2)
        agent, graph = (e for e in await at.events() if e["type"] == "run.started")
        assert (agent["agent"], "graph" in agent) == ("puppet", False)
        assert (graph["graph"], "agent" in graph, graph["path"]) == ("flow", False, ["flow"])
        run = (await at.manager.snapshot("s")).as_json()["run"]
        assert (run["agent"], run["nodes"]) == ("flow", [])


async def test_a_graph_that_waited_in_the_queue_is_started_as_one() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await gate.wait()
        await part.end("done")

    async with desk(MemoryEngine(), flow(play)) as at:
        await at.send("a")
        await at.send("b")
        gate.set()
        await at.until("run.completed", 2)
        assert [e["graph"] for e in await at.events() if e["type"] == "run.started"] == ["flow"] * 2


@pytest.mark.rule("snapshot.nodes")
async def test_the_snapshot_shows_how_each_node_stands() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await start(part, "plan")
        await finish(part, "plan")
        await start(part, "fetch_1", 2)
        await start(part, "fetch_2", 2)
        await start(part, "fetch_3", 2)
        await update(part, "fetch_1", stage="asking", progress=0.2)
        await update(part, "fetch_1", stage="reading", progress=0.6)
        await part.emit(
            NodeFailed(
                run_id=part.run_id,
                path=PATH,
                node="fetch_2",
                error=ErrorInfo(code="node_failed", message="no answer"),
            )
        )
        error = ErrorInfo(code="node_failed", message="later")
        await part.emit(
            NodeFailed(run_id=part.run_id, path=PATH, node="fetch_3", error=error, will_retry=True)
        )
        await gate.wait()
        await finish(part, "fetch_1")
        await start(part, "plan", 3)
        await part.end("done")

    async with desk(MemoryEngine(), flow(play)) as at:
        await at.send("hi")
        await at.until("node.failed", 2)
        plan, first, second, third = await nodes(at)
        assert plan == {
            "node": "plan",
            "path": ["flow"],
            "status": "completed",
            "superstep": 1,
            "times": 1,
            "duration_ms": 2.5,
        }
        assert (first["status"], first["superstep"]) == ("running", 2)
        assert first["progress"] == {"stage": "reading", "progress": 0.6}
        assert (second["status"], second["error"]["message"]) == ("failed", "no answer")
        assert third["status"] == "running"
        await same_when_folded_anew(at)
        gate.set()
        await at.until("run.completed")
        stands = [(n["node"], n["status"], n["times"]) for n in await nodes(at)]
        assert stands[0] == ("fetch_1", "completed", 1)
        assert stands[-1] == ("plan", "skipped", 2)  # it was begun again, and the run ended
        assert "progress" not in (await nodes(at))[0]
        await same_when_folded_anew(at)


async def same_when_folded_anew(at: Desk) -> None:
    live = await at.manager.snapshot("s")
    reader = SessionManager(at.engine, Registry(flow(_nothing)))  # not started: it only folds
    assert (await reader.snapshot("s")).as_json() == live.as_json()
    stored = at.manager._sessions["s"].state.model_dump_json()
    assert SessionState.model_validate_json(stored).model_dump_json() == stored


async def _nothing(part: Part) -> None: ...


@pytest.mark.rule("approval.shared", "approval.node", "snapshot.nodes")
@pytest.mark.parametrize("restart", [False, True])
async def test_a_node_that_asks_is_answered_by_approval_id(*, restart: bool) -> None:
    async def play(part: Part) -> None:
        if part.request.decisions:
            await start(part, "write", 2)
            await finish(part, "write")
            await part.end("done")
            return
        await start(part, "plan")
        await finish(part, "plan")
        await interrupt(part, "write")

    engine, puppet = MemoryEngine(), flow(play)
    edit = {"approval_id": "apr_1", "decision": "edit", "arguments": {"plan": ["b"]}}
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("run.interrupted")
        assert [(n["node"], n["status"]) for n in await nodes(at)] == [
            ("plan", "completed"),
            ("write", "interrupted"),
        ]
        (asked,) = (await at.manager.snapshot("s")).approvals
        assert (asked.node, asked.call_id, asked.arguments) == ("write", None, '{"plan":["a"]}')
        if not restart:
            await at.command("continue", decisions=[edit])
            await at.until("run.completed")
    async with desk(engine, puppet) as at:
        if restart:
            await at.command("continue", decisions=[edit])
            await at.until("run.completed")
        request = puppet.played[1].request
        decision = request.decisions["apr_1"]
        assert (decision.kind, decision.arguments) == ("edited", '{"plan":["b"]}')
        assert [event.type for event in request.journal] == ["node.completed", "approval.requested"]
        assert [(n["node"], n["status"], n["times"]) for n in await nodes(at)] == [
            ("plan", "completed", 1),
            ("write", "completed", 1),
        ]


@pytest.mark.rule("approval.shared")
async def test_a_decision_that_comes_while_other_nodes_work_lets_the_run_go_on_by_itself() -> None:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        if part.request.decisions:
            await part.end("done")
            return
        await start(part, "slow")
        await part.emit(
            ApprovalRequested(run_id=part.run_id, path=PATH, approval_id="apr_1", node="write")
        )
        await gate.wait()
        await finish(part, "slow")
        await part.emit(
            RunInterrupted(run_id=part.run_id, path=PATH, reason="approval", pending=("apr_1",))
        )

    puppet = flow(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("hi")
        await at.until("approval.requested")
        with pytest.raises(RunActive):
            await at.command("continue")
        yes = {"approval_id": "apr_1", "decision": "approve"}
        await at.command("continue", decisions=[yes])
        assert (await at.types())[-1] == "approval.resolved"
        with pytest.raises(ApprovalAlreadyResolved):
            await at.command("continue", decisions=[yes])
        gate.set()
        await at.until("run.completed")
        types = await at.types()
        assert types[-3:] == ["node.completed", "run.resumed", "run.completed"]
        assert "run.interrupted" not in types  # it did not pause
        assert len((await at.manager.run("s")).segments) == 1
        assert puppet.played[1].request.decisions["apr_1"].kind == "approved"
        assert (await at.manager.snapshot("s")).status == "idle"


@pytest.mark.parametrize("early", [False, True])
async def test_a_run_that_waits_again_for_what_it_was_told_does_not_turn_in_circles(
    *, early: bool
) -> None:
    decided = asyncio.Event()

    async def play(part: Part) -> None:
        if not part.request.decisions:
            await part.emit(
                ApprovalRequested(run_id=part.run_id, path=PATH, approval_id="apr_1", node="a")
            )
            if early:
                await decided.wait()
        await part.emit(
            RunInterrupted(run_id=part.run_id, path=PATH, reason="approval", pending=("apr_1",))
        )

    puppet = flow(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("hi")
        await at.until("approval.requested" if early else "run.interrupted")
        yes = {"approval_id": "apr_1", "decision": "approve"}
        await at.command("continue", decisions=[yes])
        decided.set()
        await at.until("run.interrupted", 1 if early else 2)
        assert (await at.manager.snapshot("s")).status == "interrupted"
        assert len(puppet.played) == 2


async def test_a_node_that_still_waits_when_the_run_is_cancelled_is_skipped() -> None:
    async def play(part: Part) -> None:
        await interrupt(part, "write")

    async with desk(MemoryEngine(), flow(play)) as at:
        await at.send("hi")
        await at.until("run.interrupted")
        await at.command("cancel")
        assert [(n["node"], n["status"]) for n in await nodes(at)] == [("write", "skipped")]
        assert (await at.types())[-2:] == ["approval.resolved", "run.cancelled"]


@pytest.mark.rule("run.taken_over")
async def test_a_graph_that_died_goes_on_from_its_journal_and_says_its_open_words_anew() -> None:
    async def play(part: Part) -> None:
        if len(puppet.played) == 1:
            await start(part, "draft")
            draft = part.below("flow", "draft", "writer")
            await draft.begin("msg_draft")
            await draft.close_message("from a node that is done", "msg_draft")
            await finish(part, "draft")
            await start(part, "write", 2)
            writer = part.below("flow", "write", "writer")
            await writer.begin("msg_1")
            await writer.finish_step("a finished step", message_id="msg_1")
            await writer.begin("msg_2", turn=2)
            await writer.close_message("whole, but its step is not done", "msg_2")
            await writer.begin("msg_3", turn=2)
            await writer.say("half", "msg_3")
            await asyncio.Event().wait()
        await start(part, "write", 2)
        await finish(part, "write")
        await part.end("done")

    engine, puppet = MemoryEngine(), flow(play)
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("message.delta")
    async with desk(engine, puppet) as at:
        await at.until("run.completed")
        request = puppet.played[1].request
        assert [event.type for event in request.journal] == [
            "node.completed",
            "model.completed",
            "node.failed",
        ]
        assert [(m.role, m.content) for m in request.history] == [("user", "hi")]
        assert request.turns == 0
        said = (await at.manager.snapshot("s")).messages
        assert [m.message_id for m in said if m.superseded] == ["msg_2", "msg_3"]
        assert {m.message_id: m.path for m in said}["msg_1"] == ("flow", "write", "writer")
        events = await at.events()
        closed = next(e for e in events if e["type"] == "node.failed")
        assert (closed["node"], closed["error"]["code"]) == ("write", "taken_over")
        await at.send("and now?")
        await at.until("run.completed", 2)
        # What the nodes said speaks for the graph: the next turn knows of it.
        assert [m.content for m in puppet.played[2].request.history][1] == (
            "from a node that is done\n\na finished step"
        )


async def test_a_node_that_is_tried_again_says_anew_what_it_said_in_this_visit() -> None:
    error = ErrorInfo(code="node_failed", message="no")
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        writer = part.below("flow", "a", "writer")
        for superstep in (1, 2):
            await start(part, "a", superstep)
            await writer.begin(f"msg_{superstep}")
            await writer.finish_step("words", message_id=f"msg_{superstep}")
            if superstep == 1:
                await finish(part, "a")
        other = part.below("flow", "b", "writer")
        await other.begin("msg_b")
        await other.finish_step("meanwhile", message_id="msg_b")
        failed = NodeFailed(run_id=part.run_id, path=PATH, node="a", error=error, will_retry=True)
        await part.emit(failed)
        await gate.wait()

    async with desk(MemoryEngine(), flow(play)) as at:
        ack = await at.send("hi")
        await at.until("node.failed")
        said = (await at.manager.snapshot("s")).messages
        assert [m.message_id for m in said if m.superseded] == ["msg_2"]
        journal = at.manager._sessions["s"].state.runs[ack.run_id or ""].journal
        assert [event.type for event in journal] == [
            "model.completed",
            "node.completed",
            "model.completed",
            "model.completed",
            "node.failed",
        ]


async def test_a_node_that_is_tried_again_takes_back_nothing_of_an_earlier_run() -> None:
    error = ErrorInfo(code="node_failed", message="no")

    async def play(part: Part) -> None:
        again = len(puppet.played) > 1
        if again and not part.request.decisions:
            await interrupt(part, "a")
            return
        await start(part, "a")
        writer = part.below("flow", "a", "writer")
        await writer.begin(f"msg_{part.run_id}")
        await writer.finish_step("words", message_id=f"msg_{part.run_id}")
        if again:
            await part.emit(
                NodeFailed(run_id=part.run_id, path=PATH, node="a", error=error, will_retry=True)
            )
        await part.end("done")

    puppet = flow(play)
    async with desk(MemoryEngine(), puppet) as at:
        first = await at.send("hi")
        await at.until("run.completed")
        second = await at.send("again")
        await at.until("run.interrupted")
        yes = {"approval_id": "apr_1", "decision": "approve"}
        await at.command("continue", decisions=[yes])
        await at.until("run.completed", 2)
        said = (await at.manager.snapshot("s")).messages
        superseded = {m.run_id: m.superseded for m in said if m.role == "assistant"}
        assert superseded == {first.run_id: None, second.run_id: True}


async def test_a_node_that_asks_in_the_middle_of_its_work_waits_and_has_not_failed() -> None:
    async def play(part: Part) -> None:
        await start(part, "write")
        error = ErrorInfo(code="interrupted", message="it waits for a human")
        await part.emit(NodeFailed(run_id=part.run_id, path=PATH, node="write", error=error))
        await interrupt(part, "write")

    async with desk(MemoryEngine(), flow(play)) as at:
        await at.send("hi")
        await at.until("run.interrupted")
        (node,) = await nodes(at)
        assert (node["status"], node.get("error")) == ("interrupted", None)


async def test_what_a_graph_says_itself_has_its_name() -> None:
    async def play(part: Part) -> None:
        await part.emit(MessageStarted(run_id=part.run_id, path=PATH, message_id="msg_1"))
        await part.below("flow").close_message("the answer", "msg_1")
        await part.end("the answer")

    async with desk(MemoryEngine(), flow(play)) as at:
        await at.send("hi")
        await at.until("run.completed")
        said = (await at.manager.snapshot("s")).messages[-1]
        assert (said.agent, said.path) == ("flow", None)


@pytest.mark.rule("run.continued")
async def test_a_graph_that_was_cancelled_goes_on_after_its_finished_nodes() -> None:
    async def play(part: Part) -> None:
        if part.request.parent_run_id is not None:
            await part.end("done")
            return
        await start(part, "plan")
        await finish(part, "plan")
        await start(part, "write", 2)
        writer = part.below("flow", "write", "writer")
        await writer.begin("msg_1")
        await writer.say("half", "msg_1")
        await asyncio.Event().wait()

    engine, puppet = MemoryEngine(), flow(play)
    async with desk(engine, puppet) as at:
        await at.send("hi")
        await at.until("message.delta")
        await at.command("cancel")
    async with desk(engine, puppet) as at:
        await at.command("continue")
        await at.until("run.completed")
        request = puppet.played[1].request
        assert [(event.type, getattr(event, "node", "")) for event in request.journal] == [
            ("node.completed", "plan"),
            ("node.failed", "write"),
        ]
        assert [(m.role, m.content) for m in request.history] == [("user", "hi")]
        started = [e for e in await at.events() if e["type"] == "run.started"]
        assert started[1]["graph"] == "flow"
        assert [(n["node"], n["status"]) for n in await nodes(at)] == [("plan", "completed")]
        said = (await at.manager.snapshot("s")).messages
        assert [m.message_id for m in said if m.superseded] == ["msg_1"]


async def test_what_a_cancelled_graph_had_asked_is_asked_again_by_the_one_that_goes_on() -> None:
    async def play(part: Part) -> None:
        await start(part, "plan")
        await finish(part, "plan")
        await interrupt(part, "write")

    puppet = flow(play)
    async with desk(MemoryEngine(), puppet) as at:
        await at.send("hi")
        await at.until("run.interrupted")
        await at.command("cancel")
        await at.command("continue")
        await at.until("run.interrupted", 2)
        request = puppet.played[1].request
        assert [event.type for event in request.journal] == ["node.completed"]
        assert request.decisions == {}
