"""What the tests of sessions share: small graphs, and readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from runtime.graph import END, Graph, Key, ListKey, View
from runtime.graph.compiled import CompiledGraph
from runtime.graph.memory_store import MemoryStore
from runtime.graph.runner import Runner
from runtime.graph.sqlite_store import SqliteStore
from runtime.graph.store import CheckpointStore
from runtime.graph.stream_event import StreamEvent

PATIENCE = 30.0
"""Seconds after which a test that waits has failed."""

N = Key("n", 0)
DONE: ListKey[str] = ListKey("done", str)

STORES: dict[str, Callable[[Path], CheckpointStore]] = {
    "memory": lambda _: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(folder / "sessions.db"),
}
"""Every kind of store, made in a folder."""

LINEAR = ["node_start", "node_end", "edge_transition", "node_start", "node_end", "completed"]


class Work:
    """Nodes that count how often they ran, and wait at gates."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.reached: dict[str, asyncio.Event] = {}

    def gate(self, name: str) -> asyncio.Event:
        self.reached[name] = asyncio.Event()
        self.gates[name] = asyncio.Event()
        return self.gates[name]

    async def until(self, name: str) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.reached[name].wait()

    def node(self, name: str) -> Any:
        async def work(view: View) -> dict[str, Any]:
            self.ran.append(name)
            if name in self.gates:
                self.reached[name].set()
                await self.gates[name].wait()
            return {"n": view.get(N) + 1, "done": [name]}

        return work


def linear(work: Work, *, ask: str | None = None, names: str = "ab") -> CompiledGraph:
    """Return a graph of nodes one after the other; a human is asked before `ask`."""
    graph = Graph(N, DONE, name="g")
    for name, after in zip(names, [*names[1:], END], strict=True):
        graph.node(name, work.node(name), after, interrupt_before=name == ask)
    return graph.start(names[0]).build()


async def collect(events: AsyncIterator[StreamEvent]) -> list[StreamEvent]:
    async with asyncio.timeout(PATIENCE):
        return [event async for event in events]


async def read(runner: Runner, session_id: str | None = None, **more: Any) -> list[StreamEvent]:
    return await collect(runner.stream(session_id, **more))


def types(events: list[StreamEvent]) -> list[str]:
    return [event.type for event in events]


def told(events: list[StreamEvent]) -> list[str]:
    """Return types with nodes, such as `node_start a`."""
    return [f"{event.type} {event.node_id or ''}".strip() for event in events]


async def boom(view: View) -> dict[str, Any]:
    raise ValueError("a secret")
