"""Going on after a crash: what is in the journal is not done again."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.checkpoint import Checkpoint
from runtime.errors import CheckpointUnwritable, GraphError, UpdateInvalid
from runtime.events import CheckpointSaved, Event, NodeCompleted
from runtime.graph import END, Command, CompiledGraph, Graph, Key, ListKey, MessageGraph, View
from runtime.journal import JOURNALED
from runtime.messages import Message
from tests.graph.graphs import asked, failed, final_state, going_on, run
from tests.runtime.support import Log

N = Key("n", 0)
TOTAL = Key("total", 0, reducer=operator.add)
ITEMS: ListKey[str] = ListKey("items", str)


class Crash(BaseException):
    """Ends the process, as far as the run can tell."""


class Work:
    """Nodes with a side effect that is counted when it is done."""

    def __init__(self) -> None:
        self.effects: dict[str, int] = {}

    def node(self, name: str, targets: tuple[str, ...] | None = None) -> Any:
        async def work(view: View) -> Command:
            self.effects[name] = self.effects.get(name, 0) + 1
            await asyncio.sleep(0)
            command = Command().append(ITEMS, f"{name}:{len(view[ITEMS])}").set(TOTAL, 1)
            return command if targets is None else command.to(*targets)

        return work


async def until(graph: CompiledGraph, request: Any, cut: int) -> list[Event]:
    """Run until `cut` events are reported, and crash there; return them."""
    log = Log()

    async def emit(event: Event) -> None:
        if len(log.events) >= cut:
            raise Crash
        await log.emit(event)

    try:
        await graph.execute(request, emit)
    except Crash:
        pass
    except BaseExceptionGroup as crashes:
        assert crashes.subgroup(Crash) is not None  # noqa: PT017 - several nodes crashed at once
    return log.events


def diamond(work: Work) -> CompiledGraph:
    """Return begin → left, middle, right → join → (left again) → end."""

    async def join(view: View) -> Command:
        work.effects["join"] = work.effects.get("join", 0) + 1
        again = len(view[ITEMS]) < 6
        return Command().append(ITEMS, "join").to("left" if again else "end")

    graph = Graph(ITEMS, TOTAL, name="diamond")
    graph.node("begin", work.node("begin"), "left", "middle", "right")
    for name in ("left", "middle", "right"):
        graph.node(name, work.node(name), "join")
    graph.node("join", join, "left", "end").node("end", work.node("end"), END)
    return graph.start("begin").build()


@pytest.mark.rows("W-C6", "W-A5", "AX5")
async def test_after_a_crash_at_any_event_only_what_is_not_finished_is_done() -> None:
    whole = await run(diamond(Work()))
    state = final_state(whole)
    visits = [event.node for event in whole.of(NodeCompleted)]

    for cut in range(len(whole.events)):
        work = Work()
        graph = diamond(work)
        events = await until(graph, asked(), cut)
        done = [event.node for event in events if isinstance(event, NodeCompleted)]

        log = await run(graph, going_on(asked(), events))

        assert final_state(log) == state
        left = [event.node for event in log.of(NodeCompleted)]
        assert sorted(done + left) == sorted(visits)
        for name, count in work.effects.items():
            begun = sum(getattr(e, "node", "") == name for e in events if e.type == "node.started")
            unfinished = begun - done.count(name)
            assert visits.count(name) <= count <= visits.count(name) + unfinished


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, dict[int, list[int]], set[int]]:
    """Return a number of nodes, their edges (forward only), and which of them choose one."""
    size = draw(st.integers(1, 6))
    edges = {
        node: draw(st.lists(st.integers(node + 1, size), min_size=1, max_size=3, unique=True))
        for node in range(size)
    }
    return size, edges, draw(st.sets(st.integers(0, size - 1)))


def built(shape: tuple[int, dict[int, list[int]], set[int]], work: Work) -> CompiledGraph:
    size, edges, choosing = shape
    reached, ahead = {0}, [0]
    while ahead:
        for target in edges.get(ahead.pop(), []):
            if target < size and target not in reached:
                reached.add(target)
                ahead.append(target)
    graph = Graph(ITEMS, TOTAL, name="random")
    for node in sorted(reached):
        targets = [END if target == size else f"n{target}" for target in edges[node]]
        chosen = (targets[0],) if node in choosing else None
        graph.node(f"n{node}", work.node(f"n{node}", chosen), *targets)
    return graph.start("n0").build()


@pytest.mark.rows("W-C6", "W-A5")
@settings(max_examples=60)
@given(graphs(), st.data())
def test_any_graph_goes_on_from_any_crash_to_the_same_state(
    shape: tuple[int, dict[int, list[int]], set[int]], data: st.DataObject
) -> None:
    async def check() -> None:
        whole = await run(built(shape, Work()))
        cut = data.draw(st.integers(0, len(whole.events)))
        work = Work()
        graph = built(shape, work)
        events = await until(graph, asked(), cut)
        finished = [event.node for event in events if isinstance(event, NodeCompleted)]
        before = dict(work.effects)

        log = await run(graph, going_on(asked(), events))

        assert final_state(log) == final_state(whole)
        visits = [event.node for event in whole.of(NodeCompleted)]
        for name in set(visits):
            later = work.effects.get(name, 0) - before.get(name, 0)
            assert later == visits.count(name) - finished.count(name)

    asyncio.run(check())


@pytest.mark.rows("W-A5")
async def test_a_run_that_crashed_twice_goes_on_from_both_journals() -> None:
    state = final_state(await run(diamond(Work())))
    graph = diamond(Work())

    first = await until(graph, asked(), 9)
    second = await until(graph, going_on(asked(), first), 6)
    log = await run(graph, going_on(asked(), [*first, *second]))

    assert final_state(log) == state


@pytest.mark.rows("W-A5")
async def test_the_conversation_is_what_it_was_when_the_run_began() -> None:
    async def reply(view: View) -> Mapping[str, Any]:
        return {"messages": [Message(role="assistant", content=f"{len(view['messages'])} heard")]}

    async def end(view: View) -> None:
        """Nothing."""

    graph = MessageGraph().node("reply", reply, "end").node("end", end, END).start("reply").build()
    history = (Message(role="user", content="hi"),)
    events = await until(graph, asked(history=history), 6)
    assert any(isinstance(event, NodeCompleted) for event in events)

    said_meanwhile = (*history, Message(role="assistant", content="1 heard"))
    log = await run(graph, going_on(asked(history=said_meanwhile), events))

    assert [m["content"] for m in final_state(log)["messages"]] == ["hi", "1 heard"]


async def test_a_journal_of_another_graph_is_refused() -> None:
    other = Graph(ITEMS, TOTAL, name="diamond").node("x", Work().node("x"), END).start("x").build()
    events = (await run(diamond(Work()))).events

    log = await run(other, going_on(asked(), events))

    assert isinstance(failed(log).exception, GraphError)
    assert "the journal is of another graph: node 'begin' was not due" in failed(log).error.message


# --- checkpoints -----------------------------------------------------------------------------------


class Shelf:
    """Keeps checkpoints, and how much was reported before each."""

    def __init__(self) -> None:
        self.kept: list[tuple[Checkpoint, int]] = []
        self.log = Log()

    async def save(self, checkpoint: Checkpoint) -> None:
        self.kept.append((checkpoint, len(self.log.events)))


async def kept(graph: CompiledGraph, state: Mapping[str, Any] | None = None) -> Shelf:
    shelf = Shelf()
    await graph.execute(replace(asked(state), save=shelf.save), shelf.log.emit)
    return shelf


@pytest.mark.rows("AX5")
async def test_a_checkpoint_is_kept_for_the_input_and_after_each_superstep() -> None:
    shelf = await kept(diamond(Work()), {"items": ["x"]})
    checkpoints = [checkpoint for checkpoint, _ in shelf.kept]
    saved = shelf.log.of(CheckpointSaved)

    assert [c.superstep for c in checkpoints] == list(range(len(checkpoints)))
    assert checkpoints[0].state == {"items": ["x"]}
    assert checkpoints[0].next == ("begin",)
    assert checkpoints[1].next == ("left", "middle", "right")
    assert checkpoints[-1].next == ()
    assert dict(checkpoints[-1].state) == dict(final_state(shelf.log))
    assert [c.parent_id for c in checkpoints] == [
        None,
        *(c.checkpoint_id for c in checkpoints[:-1]),
    ]
    ids = [c.checkpoint_id for c in checkpoints]
    assert ids == sorted(ids)
    assert [event.checkpoint_id for event in saved] == ids
    assert [event.node for event in saved][:3] == [None, "begin", "right"]
    assert (await run(diamond(Work()))).of(CheckpointSaved) == []


@pytest.mark.rows("AX5", "W-C6")
async def test_a_run_goes_on_from_any_checkpoint_and_what_came_after_it() -> None:
    shelf = await kept(diamond(Work()))
    state, events = final_state(shelf.log), shelf.log.events

    for checkpoint, length in shelf.kept:
        for cut in range(length, len(events), 3):
            work = Work()
            request = replace(
                going_on(asked(), events[length:cut]), checkpoint=checkpoint, state={"items": ["!"]}
            )
            log = await run(diamond(work), request)
            assert final_state(log) == state
            done = sum(isinstance(e, NodeCompleted) for e in events[:cut])
            assert (
                len(log.of(NodeCompleted))
                == sum(isinstance(e, NodeCompleted) for e in events) - done
            )


async def test_checkpoints_of_a_run_that_goes_on_follow_the_one_it_went_on_from() -> None:
    shelf = await kept(diamond(Work()))
    start = shelf.kept[2][0]
    again = Shelf()

    await diamond(Work()).execute(
        replace(asked(), checkpoint=start, save=again.save), again.log.emit
    )

    assert again.kept[0][0].parent_id == start.checkpoint_id
    assert again.kept[0][0].superstep == 3


async def test_a_checkpoint_of_another_graph_is_refused() -> None:
    wrong = [
        Checkpoint(checkpoint_id="1", run_id="r", superstep=1, state={}, next=("ghost",)),
        Checkpoint(checkpoint_id="1", run_id="r", superstep=1, state={"x": 1}, next=("end",)),
    ]
    errors = []
    for checkpoint in wrong:
        log = await run(diamond(Work()), replace(asked(), checkpoint=checkpoint))
        errors.append(failed(log).exception)

    assert isinstance(errors[0], GraphError)
    assert isinstance(errors[1], UpdateInvalid)


async def test_a_state_that_cannot_be_written_fails_the_run_and_names_the_key() -> None:
    handle = Key("handle", None)

    async def work(view: View) -> Mapping[str, Any]:
        return {"handle": object()}

    graph = Graph(handle).node("work", work, END).start("work").build()

    shelf = await kept(graph)

    error = failed(shelf.log).exception
    assert isinstance(error, CheckpointUnwritable)
    assert error.key == "handle"
    assert (await run(graph)).types[-1] == "run.completed"


async def test_a_store_that_fails_fails_the_run() -> None:
    async def save(checkpoint: Checkpoint) -> None:
        raise OSError

    log = await run(diamond(Work()), replace(asked(), save=save))

    assert failed(log).error.code == "internal_error"


def test_the_journal_holds_what_is_needed() -> None:
    assert NodeCompleted in JOURNALED


async def test_values_come_back_from_the_journal_as_they_were() -> None:
    pair = Key("pair", (0, ""), type=tuple[int, str])
    seen: list[Any] = []

    async def write(view: View) -> Mapping[str, Any]:
        return {"pair": (3, "x"), "n": 1}

    async def read(view: View) -> None:
        seen.append(view[pair])

    graph = (
        Graph(pair, N).node("write", write, "read").node("read", read, END).start("write").build()
    )
    events = await until(graph, asked(), 5)

    await run(graph, going_on(asked(), events))

    assert seen == [(3, "x")]
