"""A program that runs a session of a graph, and is killed at a chosen moment.

    python -m tests.graph.dying FOLDER MOMENT

The nodes a, b1 and b2 (side by side), ask and c each append their name to `FOLDER/effects`, and
then the result of `resume` or `run` is printed. MOMENT is `never`, or where the process kills
itself: in a node (`in a`), or when an event has been kept (`node_end a`, `checkpoint 1`).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from runtime.broker import Broker, BrokerEvent
from runtime.errors import CheckpointUnknown
from runtime.graph import END, Graph, Key, ListKey, View
from runtime.graph.runner import Runner
from runtime.graph.sqlite_store import SqliteStore

__all__ = ["main"]

N = Key("n", 0)
DONE: ListKey[str] = ListKey("done", str)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(Broker):
    """Kills the process when it is told a certain event; knows when node b1 is done and kept."""

    def __init__(self, moment: str) -> None:
        super().__init__()
        self.b1_done = asyncio.Event()
        self._moment = moment

    def publish(self, event: BrokerEvent) -> None:
        node = event.data.get("node_id")
        step = (event.data.get("data") or {}).get("superstep")
        if self._moment in {f"{event.type} {node}", f"{event.type} {step}"}:
            die()
        if (event.type, node) == ("node_end", "b1"):
            self.b1_done.set()


def graph_for(folder: Path, moment: str, broker: Deadly) -> Graph:
    def node(name: str) -> Any:
        async def work(view: View) -> dict[str, Any]:
            if moment == f"in {name}":
                if name == "b2":
                    await broker.b1_done.wait()
                die()
            with (folder / "effects").open("a") as effects:
                effects.write(f"{name}\n")
                effects.flush()
                os.fsync(effects.fileno())
            return {"done": [name], "n": 1} if name == "a" else {"done": [name]}

        return work

    graph = Graph(N, DONE, name="g").node("a", node("a"), "b1", "b2")
    graph.node("b1", node("b1"), "ask").node("b2", node("b2"), "ask")
    graph.node("ask", node("ask"), "c", interrupt_before=True)
    return graph.node("c", node("c"), END).start("a")


async def main(folder: Path, moment: str) -> None:
    """Go on with the session if there is one, or begin it; print how it stands."""
    store = SqliteStore(folder / "sessions.db")
    broker = Deadly(moment)
    runner = Runner(graph_for(folder, moment, broker).build(), store, broker=broker)
    try:
        state = await runner.resume("s")
    except CheckpointUnknown:
        state = await runner.run("s", {"n": 0})
    print(json.dumps([state.status, state.state]))  # noqa: T201 - it is a program
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
