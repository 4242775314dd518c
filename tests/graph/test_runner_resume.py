"""Sessions that wait, and go on: interrupts, answers, edits, forks and replays."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from runtime import Agent, ScriptedModel, ToolCall, tool
from runtime.errors import (
    ApprovalRejected,
    ApprovalSettled,
    ApprovalUnknown,
    CheckpointUnknown,
    NodeError,
    RuntimeFault,
    SessionBusy,
    UpdateInvalid,
)
from runtime.graph import END, MESSAGES, Graph, Key, NodeContext, View
from runtime.graph.memory_store import MemoryStore
from runtime.graph.runner import Runner
from runtime.graph.sqlite_store import SqliteStore
from runtime.models.scripted import call_tools, say
from runtime.runnable import Decision
from tests.graph.running import DONE, LINEAR, N, Work, linear, read, told, types
from tests.support.waiting import proven_blocked

YES = Decision("approved")


@pytest.mark.rows("C19", "C24", "W-C3")
async def test_a_run_pauses_before_a_node_that_needs_approval_and_its_readers_end() -> None:
    work = Work()
    runner = Runner(linear(work, ask="b"))
    reading = asyncio.create_task(read(runner))
    await proven_blocked(reading)
    state = await runner.run("s", {"n": 1})
    assert (state.status, state.state) == ("paused", {"n": 2, "done": ["a"]})
    assert work.ran == ["a"]
    events = await reading
    assert told(events) == ["node_start a", "node_end a", "edge_transition b", "interrupt b"]
    assert events[-1].state == {"n": 2, "done": ["a"]}
    (asked,) = await runner.pending("s")
    assert state.pending == (asked.approval_id,)
    assert asked.node == "b"
    assert await runner.state("s") == state


@pytest.mark.rows("W-C5", "CX5", "W-A5")
async def test_going_on_does_the_interrupted_node_once_and_nothing_again() -> None:
    work = Work()
    runner = Runner(linear(work, ask="b", names="abc"))
    paused = await runner.run("s", {"n": 1})
    state = await runner.resume("s")
    assert work.ran == ["a", "b", "c"]
    assert (state.run_id, state.status) == (paused.run_id, "completed")
    assert state.state == {"n": 4, "done": ["a", "b", "c"]}
    events = await read(runner)
    assert told(events) == [
        "node_start b",
        "node_end b",
        "edge_transition c",
        "node_start c",
        "node_end c",
        "completed",
    ]
    assert await read(runner, "s", after=paused.seq) == events
    assert await runner.pending("s") == ()


@pytest.mark.rows("W-C5")
async def test_a_node_that_asks_in_a_loop_is_asked_about_each_time() -> None:
    work = Work()
    graph = Graph(N, DONE, name="g").node("a", work.node("a"), interrupt_before="sure?")
    graph.branch("a", lambda view: "a" if view.get(N) < 3 else END, "a", END)
    runner = Runner(graph.start("a").build())
    state = await runner.run("s")
    asked: list[str] = []
    for ran in range(3):
        assert (state.status, len(work.ran)) == ("paused", ran)
        asked += state.pending
        state = await runner.resume("s")
    assert (state.status, len(work.ran)) == ("completed", 3)
    assert len(set(asked)) == 3


@pytest.mark.rows("W-C11")
async def test_what_gets_no_answer_is_still_waited_for_under_the_same_id() -> None:
    work = Work()
    graph = Graph(N, DONE, name="g")
    for name in "ab":
        graph.node(name, noting(work, name), END, interrupt_before=True)
    runner = Runner(graph.start("a", "b").build())
    paused = await runner.run("s")
    first, second = paused.pending
    assert first != second
    again = await runner.resume("s", {second: YES})
    assert (again.status, again.pending, work.ran) == ("paused", (first,), [])
    assert [asked.approval_id for asked in await runner.pending("s")] == [first]
    assert (await runner.resume("s", {})).pending == (first,)
    with pytest.raises(ApprovalSettled, match=second):
        await runner.resume("s", {second: YES})
    done = await runner.resume("s", {first: YES})
    assert (done.status, sorted(work.ran)) == ("completed", ["a", "b"])


def noting(work: Work, name: str) -> Any:
    async def node(view: View) -> dict[str, Any]:
        work.ran.append(name)
        return {"done": [name]}

    return node


@pytest.mark.rows("W-C11")
async def test_approvals_of_many_sessions_and_runs_never_collide() -> None:
    runner = Runner(linear(Work(), ask="a"))
    asked: list[str] = []
    for session_id in ("s1", "s2", "s1"):
        asked += (await runner.run(session_id)).pending
    assert len(set(asked)) == 3


@pytest.mark.rows("W-C11")
async def test_answers_to_what_is_not_asked_are_refused_and_change_nothing() -> None:
    work = Work()
    runner = Runner(linear(work, ask="b"))
    paused = await runner.run("s")
    (approval_id,) = paused.pending
    with pytest.raises(ApprovalUnknown, match="'apr_none'"):
        await runner.resume("s", {approval_id: YES, "apr_none": YES})
    with pytest.raises(ValueError, match="waits for a decision, not a result"):
        await runner.resume("s", {approval_id: Decision("answered", result=1)})
    assert await runner.state("s") == paused
    assert work.ran == ["a"]
    await runner.resume("s", {approval_id: YES})
    with pytest.raises(ApprovalSettled, match=approval_id):
        await runner.resume("s", {approval_id: YES})
    assert work.ran == ["a", "b"]


@pytest.mark.rows("W-C11", "C12")
async def test_approvals_survive_a_restart_of_the_store(tmp_path: Path) -> None:
    work = Work()
    store = SqliteStore(tmp_path / "sessions.db")
    paused = await Runner(linear(work, ask="b"), store).run("s", {"n": 1})
    await store.aclose()
    store = SqliteStore(tmp_path / "sessions.db")
    runner = Runner(linear(work, ask="b"), store)
    assert await runner.state("s") == paused
    assert [asked.approval_id for asked in await runner.pending("s")] == list(paused.pending)
    state = await runner.resume("s", {paused.pending[0]: YES})
    assert (state.status, work.ran, state.state["n"]) == ("completed", ["a", "b"], 3)
    await store.aclose()


@pytest.mark.parametrize("number", [2**64, math.factorial(30), math.inf])
async def test_a_number_that_json_cannot_say_is_the_same_after_a_pause(number: float) -> None:
    key = Key("number", number)
    seen: list[float] = []
    graph = Graph(key, name="counts").start("write", "ask")
    graph.node("write", lambda view: {"number": number}, "look")
    graph.node("ask", lambda view: None, "look", interrupt_before=True)
    graph.node("look", lambda view: seen.append(view[key]), END, interrupt_before=True)
    store = MemoryStore()
    compiled = graph.build()
    assert (await Runner(compiled, store).run("s")).status == "paused"
    assert (await Runner(compiled, store).resume("s")).status == "paused"
    assert (await Runner(compiled, store).resume("s")).status == "completed"
    assert seen == [number]
    assert type(seen[0]) is type(number)


async def test_a_rejected_node_fails_the_run() -> None:
    work = Work()
    runner = Runner(linear(work, ask="b"))
    (approval_id,) = (await runner.run("s")).pending
    with pytest.raises(ApprovalRejected, match="not today"):
        await runner.resume("s", {approval_id: Decision("rejected", "not today")})
    assert work.ran == ["a"]
    assert types(await read(runner)) == ["error"]


async def test_an_edited_answer_changes_the_state_before_the_node_runs() -> None:
    runner = Runner(linear(Work(), ask="b"))
    (approval_id,) = (await runner.run("s")).pending
    edit = Decision("edited", arguments='{"n": 10}')
    assert (await runner.resume("s", {approval_id: edit})).state["n"] == 11


async def test_a_node_can_ask_in_the_middle_of_its_work_and_gets_the_answer() -> None:
    async def ask(context: NodeContext, view: View) -> dict[str, Any]:
        decision = await context.interrupt("which?", {"of": [1, 2]})
        return {"n": int(decision.arguments or 0)}

    runner = Runner(Graph(N, name="g").node("a", ask, END).start("a").build())
    (approval_id,) = (await runner.run("s")).pending
    (asked,) = await runner.pending("s")
    assert (asked.reason, asked.arguments) == ("which?", '{"of":[1,2]}')
    assert told(await read(runner)) == ["node_start a", "interrupt a"]
    state = await runner.resume("s", {approval_id: Decision("edited", arguments="2")})
    assert state.state == {"n": 2}
    assert told(await read(runner)) == ["node_start a", "node_end a", "completed"]


async def test_an_agent_in_a_node_waits_for_approval_of_a_tool_and_goes_on() -> None:
    calls: list[str] = []

    @tool(needs_approval=True)
    async def wipe(disk: str) -> str:
        """Wipe a disk."""
        calls.append(disk)
        return "wiped"

    model = ScriptedModel(
        [call_tools(ToolCall(id="c1", name="wipe", arguments='{"disk":"a"}')), say("Done.")]
    )
    agent = Agent("operator", model, tools=[wipe])
    graph = Graph(MESSAGES, name="g").node("ops", agent, END).start("ops")
    runner = Runner(graph.build())
    paused = await runner.run("s", {"messages": [{"role": "user", "content": "wipe a"}]})
    assert (paused.status, calls) == ("paused", [])
    (asked,) = await runner.pending("s")
    assert asked.tool == "wipe"
    state = await runner.resume("s")
    assert (state.status, calls, len(model.requests)) == ("completed", ["a"], 2)
    assert state.state["messages"][-1]["content"] == "Done."


# --- what cannot go on ----------------------------------------------------------------------------


@pytest.mark.rows("CX5")
async def test_what_is_unknown_or_over_cannot_go_on() -> None:
    async def bad(view: View) -> None:
        raise ValueError

    runner = Runner(linear(Work()))
    unknown: Any
    for unknown in (
        runner.resume("nobody"),
        runner.state("nobody"),
        runner.pending("nobody"),
        runner.history("nobody"),
        runner.update_state("nobody", {}),
        runner.fork("nothing", "new"),
        runner.replay("nobody", "nothing"),
    ):
        with pytest.raises(CheckpointUnknown, match="there is no"):
            await unknown
    state = await runner.run("s")
    with pytest.raises(CheckpointUnknown, match="completed"):
        await runner.resume("s")
    with pytest.raises(CheckpointUnknown, match="completed"):
        await runner.update_state("s", {"n": 1})
    await runner.run("other")
    with pytest.raises(CheckpointUnknown, match="'other' has no checkpoint"):
        await runner.replay("other", str(state.checkpoint_id))
    with pytest.raises(SessionBusy, match="already"):
        await runner.fork(str(state.checkpoint_id), "other")

    failing = Runner(Graph(N, name="g").node("a", bad, END).start("a").build())
    with pytest.raises(NodeError):
        await failing.run("s")
    with pytest.raises(CheckpointUnknown, match="failed"):
        await failing.resume("s")


async def test_a_call_that_is_refused_leaves_the_last_run_to_be_read() -> None:
    runner = Runner(linear(Work()))
    await runner.run("s")
    for refused in (runner.resume("s"), runner.replay("s", "nothing"), runner.resume("t")):
        with pytest.raises(RuntimeFault):
            await refused
    assert types(await read(runner)) == LINEAR
    assert types(await read(runner, "s")) == LINEAR


# --- edits, forks, replays ------------------------------------------------------------------------


@pytest.mark.rows("CX6")
async def test_a_state_that_is_changed_while_it_waits_is_a_new_checkpoint_and_is_gone_on_with() -> (
    None
):
    work = Work()
    runner = Runner(linear(work, ask="b"))
    paused = await runner.run("s", {"n": 1})
    edited = await runner.update_state("s", {N: 40, "done": ["by hand"]})
    assert (edited.status, edited.pending) == ("paused", paused.pending)
    assert edited.state == {"n": 40, "done": ["a", "by hand"]}
    history = await runner.history("s")
    assert history[-1].parent_id == paused.checkpoint_id == history[-2].checkpoint_id
    assert history[-2].state == {"n": 2, "done": ["a"]}
    (said,) = [e async for e in _until(runner, paused.seq, edited.seq)]
    assert (said.type, said.data["checkpoint_id"]) == ("checkpoint", edited.checkpoint_id)
    state = await runner.resume("s")
    assert state.state == {"n": 41, "done": ["a", "by hand", "b"]}
    assert work.ran == ["a", "b"]


async def _until(runner: Runner, after: int, last: int) -> Any:
    async for event in runner.stream("s", after=after, modes=("debug",)):
        yield event
        if event.seq == last:
            return


@pytest.mark.rows("CX6", "AX5")
async def test_a_changed_state_keeps_what_was_done_beside_the_node_that_waits() -> None:
    work = Work()

    async def ask(context: NodeContext, view: View) -> dict[str, Any]:
        await context.interrupt()
        return {"done": [f"asked with {view.get(N)}"]}

    graph = Graph(N, DONE, name="g").node("a", noting(work, "a"), END).node("b", ask, END)
    runner = Runner(graph.start("a", "b").build())
    assert (await runner.run("s")).status == "paused"
    await runner.update_state("s", {"n": 7})
    state = await runner.resume("s")
    assert state.state == {"n": 7, "done": ["a", "asked with 7"]}
    assert work.ran == ["a"]


@pytest.mark.rows("CX6")
async def test_a_change_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    runner = Runner(linear(Work(), ask="b"))
    paused = await runner.run("s")
    for update in ({"unknown": 1}, {"n": "text"}):
        with pytest.raises(UpdateInvalid):
            await runner.update_state("s", update)
    assert await runner.state("s") == paused


@pytest.mark.rows("CX5")
async def test_a_fork_is_a_new_session_and_leaves_the_old_one_as_it_was() -> None:
    work = Work()
    store = MemoryStore()
    runner = Runner(linear(work, names="abc"), store)
    await runner.run("s")
    before = await store.events("s")
    at_b = (await runner.history("s"))[1]
    fork = await runner.fork(at_b.checkpoint_id, "t", {"n": 100})
    assert (fork.status, fork.state, fork.seq) == ("paused", {"n": 100, "done": ["a"]}, 2)
    (first,) = await runner.history("t")
    assert first.parent_id == at_b.checkpoint_id
    assert (await store.runs("t"))[0].parent_run_id == at_b.run_id
    state = await runner.resume("t")
    assert (state.status, state.state["n"]) == ("completed", 102)
    assert work.ran == ["a", "b", "c", "b", "c"]
    assert await store.events("s") == before
    assert (await runner.state("s")).state["n"] == 3
    with pytest.raises(UpdateInvalid):
        await runner.fork(at_b.checkpoint_id, "u", {"unknown": 1})
    assert await store.sessions() == ("s", "t")


@pytest.mark.rows("CX5")
async def test_a_fork_of_a_place_that_needs_approval_asks_anew() -> None:
    work = Work()
    runner = Runner(linear(work, ask="b"))
    paused = await runner.run("s")
    await runner.fork(str(paused.checkpoint_id), "t")
    forked = await runner.resume("t")
    assert forked.status == "paused"
    assert forked.pending != paused.pending
    assert (await runner.resume("t")).status == "completed"
    assert (await runner.state("s")) == paused
    assert (await runner.resume("s")).status == "completed"
    assert work.ran == ["a", "b", "b"]


@pytest.mark.rows("CX5", "CX4")
async def test_a_replay_is_a_new_run_from_a_checkpoint_of_the_same_session() -> None:
    work = Work()
    store = MemoryStore()
    runner = Runner(linear(work, names="abc"), store)
    first = await runner.run("s")
    at_b = (await runner.history("s"))[1]
    again = await runner.replay("s", at_b.checkpoint_id)
    assert again.run_id != first.run_id
    assert (again.status, again.state) == ("completed", first.state)
    assert work.ran == ["a", "b", "c", "b", "c"]
    events = await read(runner, "s", modes=("debug",))
    assert events[0].type == "run.started"
    assert events[0].data["parent_run_id"] == first.run_id
    assert [run.checkpoint_id for run in await store.runs("s")] == [None, at_b.checkpoint_id]
    assert (await runner.history("s"))[4].parent_id == at_b.checkpoint_id


async def test_a_run_of_another_graph_is_refused() -> None:
    store = MemoryStore()
    paused = await Runner(linear(Work(), ask="b"), store).run("s")
    other = Graph(Key("n", 0), DONE, name="other").node("x", noting(Work(), "x"), END).start("x")
    with pytest.raises(RuntimeFault, match="another graph"):
        await Runner(other.build(), store).replay("s", str(paused.checkpoint_id))
