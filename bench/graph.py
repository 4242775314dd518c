"""What a graph costs beside its nodes' own work, compared with LangGraph.

Two graphs whose nodes do next to nothing: a chain of nodes, one superstep each, that count; and one
superstep of many nodes, each appending to a list. Each is run plainly (`ainvoke`, and
`last(compiled.run())`) and streamed (`astream(stream_mode="updates")`, and `async for`). All take
turns in one process and on one event loop, that of the standard library or, with `--uvloop`, the
one that servers run on; a turn is a few runs in a row. Of each, the quickest turn and the median of
all turns are printed, by superstep for the chain and by node for the wide one.

The figure is CPU time of the process: nothing here waits for anything, and other processes disturb
it less. Ours yields each node's result in both cases: there is only one way to run. It does not make the
events that its program could not see; `execute`, which the gateway uses, makes all of them.

To repeat: `python bench/graph.py`, on a machine that does little else. LangGraph is needed:
`pip install langgraph`.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median
from typing import Annotated, Any, TypedDict

import uvloop

from runtime.graph import END, CompiledGraph, Graph, Key, ListKey, View, last

__all__ = ["main"]

TARGET = 15
"""How many times less time ours is to take."""

RUNS = 5
"""Runs in a row: one alone would mostly measure how cold the processor's caches are after the other
library has had its turn."""

COUNT = Key("count", 0)
ITEMS = ListKey("items", str)

Go = Callable[[], Awaitable[object]]


@dataclass
class Case:
    """One comparison: two ways to do the same, and how many units of work they do."""

    name: str
    unit: str
    units: int
    ours: Go
    theirs: Go
    times: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "theirs": []})

    def figures(self, who: str) -> tuple[float, float]:
        """Return the quickest and the median, in microseconds for each unit."""
        times = self.times[who]
        return min(times) / self.units * 1e6, median(times) / self.units * 1e6


# --- ours ------------------------------------------------------------------------------------------


def our_chain(length: int) -> CompiledGraph:
    async def count(view: View) -> Mapping[str, int]:
        return {"count": view[COUNT] + 1}

    graph = Graph(COUNT, name="chain")
    for place in range(length):
        graph.node(f"n{place}", count, f"n{place + 1}" if place + 1 < length else END)
    return graph.start("n0").build()


def our_wide(width: int) -> CompiledGraph:
    async def work(view: View) -> Mapping[str, list[str]]:
        return {"items": ["done"]}

    graph = Graph(ITEMS, name="wide")
    for place in range(width):
        graph.node(f"n{place}", work, END)
    return graph.start(*(f"n{place}" for place in range(width))).build()


def our_plain(graph: CompiledGraph, expected: object) -> Go:
    async def go() -> None:
        result = await last(graph.run({}))
        assert result.output == expected

    return go


def our_stream(graph: CompiledGraph, expected: int) -> Go:
    async def go() -> None:
        count = 0
        async for result in graph.run({}):
            count += result.updates is not None
        assert count == expected

    return go


# --- theirs ----------------------------------------------------------------------------------------


class Counted(TypedDict):
    """The state of their chain."""

    count: int


class Collected(TypedDict):
    """The state of their wide graph."""

    items: Annotated[list[str], operator.add]


def their_chain(length: int) -> Any:
    from langgraph.graph import END as THE_END  # noqa: PLC0415 - a development dependency
    from langgraph.graph import START, StateGraph  # noqa: PLC0415 - as above

    async def count(state: Counted) -> dict[str, int]:
        return {"count": state["count"] + 1}

    graph = StateGraph(Counted)
    names = [f"n{place}" for place in range(length)]
    for name in names:
        graph.add_node(name, count)
    for source, target in zip([START, *names], [*names, THE_END], strict=True):
        graph.add_edge(source, target)
    return graph.compile()


def their_wide(width: int) -> Any:
    from langgraph.graph import END as THE_END  # noqa: PLC0415 - a development dependency
    from langgraph.graph import START, StateGraph  # noqa: PLC0415 - as above

    async def work(state: Collected) -> dict[str, list[str]]:
        return {"items": ["done"]}

    graph = StateGraph(Collected)
    for place in range(width):
        graph.add_node(f"n{place}", work)
        graph.add_edge(START, f"n{place}")
        graph.add_edge(f"n{place}", THE_END)
    return graph.compile()


def their_plain(graph: Any, first: dict[str, Any], key: str, expected: object) -> Go:
    async def go() -> None:
        result = await graph.ainvoke(first)
        assert result[key] == expected

    return go


def their_stream(graph: Any, first: dict[str, Any], expected: int) -> Go:
    async def go() -> None:
        count = 0
        async for update in graph.astream(first, stream_mode="updates"):
            count += len(update)
        assert count == expected

    return go


# --- both ------------------------------------------------------------------------------------------


def cases(length: int, width: int) -> list[Case]:
    ours, theirs = our_chain(length), their_chain(length)
    our_many, their_many = our_wide(width), their_wide(width)
    zero: dict[str, Any] = {"count": 0}
    none: dict[str, Any] = {"items": []}
    items = ["done"] * width
    return [
        Case(
            f"chain of {length}, plain",
            "superstep",
            length,
            our_plain(ours, length),
            their_plain(theirs, zero, "count", length),
        ),
        Case(
            f"chain of {length}, streaming",
            "superstep",
            length,
            our_stream(ours, length),
            their_stream(theirs, zero, length),
        ),
        Case(
            f"{width} side by side, plain",
            "node",
            width,
            our_plain(our_many, items),
            their_plain(their_many, none, "items", items),
        ),
        Case(
            f"{width} side by side, streaming",
            "node",
            width,
            our_stream(our_many, width),
            their_stream(their_many, none, width),
        ),
    ]


async def timed(go: Go, runs: int) -> float:
    """Return the seconds that one run takes, of several in a row."""
    began = time.process_time()
    for _ in range(runs):
        await go()
    return (time.process_time() - began) / runs


async def measure(compared: list[Case], rounds: int) -> None:
    for turn in range(rounds + 1):
        for case in compared:
            for who, go in (("ours", case.ours), ("theirs", case.theirs)):
                seconds = await timed(go, RUNS)
                if turn:  # the first round warms up
                    case.times[who].append(seconds)


def show(compared: list[Case]) -> bool:
    """Print the figures; tell whether the target is met in all cases."""
    print(f"{'':32}{'ours µs':>18}{'LangGraph µs':>20}{'ratio':>16}")
    print(f"{'':32}{'min':>9}{'median':>9}{'min':>10}{'median':>10}{'min':>8}{'median':>8}")
    met = True
    for case in compared:
        (least, usual), (their_least, their_usual) = case.figures("ours"), case.figures("theirs")
        by_least, by_usual = their_least / least, their_usual / usual
        met = met and min(by_least, by_usual) >= TARGET
        print(
            f"{case.name:32}{least:9.2f}{usual:9.2f}{their_least:10.2f}{their_usual:10.2f}"
            f"{by_least:8.1f}{by_usual:8.1f}  per {case.unit}"
        )
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--length", type=int, default=20, help="nodes of the chain")
    parser.add_argument("--width", type=int, default=100, help="nodes of the wide superstep")
    parser.add_argument("--uvloop", action="store_true")
    arguments = parser.parse_args()
    try:
        compared = cases(arguments.length, arguments.width)
    except ModuleNotFoundError as missing:
        sys.exit(f"{missing.name} is missing; this compares with it: pip install langgraph")
    loop = uvloop.new_event_loop if arguments.uvloop else None
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(measure(compared, arguments.rounds))
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {python}, LangGraph {version('langgraph')}, {arguments.rounds} rounds")
    met = show(compared)
    print(f"at least {TARGET} times less: {'yes' if met else 'no'}")
    sys.exit(not met)


if __name__ == "__main__":
    main()
