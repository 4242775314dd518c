"""What must be true of every log, by rule. Pure: each raises `Broken` or returns."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

from gateway.conformance.check import Broken, must, must_equal
from gateway.conformance.events import ENDS, Event, Log, shown

__all__ = [
    "boundaries_are_closed",
    "cursors_are_formed",
    "deltas_make_the_text",
    "graphs_go_in_supersteps",
    "paths_lead_to_the_speaker",
    "runs_end_once",
    "seq_is_whole",
]

# By opener: what it opens, the fields that name it, and what closes it.
_OPENS: dict[str, tuple[str, tuple[str, ...], frozenset[str]]] = {
    "message.started": ("message", ("message_id",), frozenset({"message.completed"})),
    "reasoning.started": ("reasoning", ("message_id",), frozenset({"reasoning.completed"})),
    "tool_call.started": ("call", ("path", "call_id"), frozenset({"tool_call.ready"})),
    "tool.started": (
        "tool",
        ("path", "call_id"),
        frozenset({"tool.completed", "tool.failed", "tool.unknown_outcome"}),
    ),
    "approval.requested": ("approval", ("approval_id",), frozenset({"approval.resolved"})),
    "node.started": ("node", ("path", "node"), frozenset({"node.completed", "node.failed"})),
    "superstep.started": ("superstep", ("path", "index"), frozenset({"superstep.completed"})),
    "agent.started": ("agent", ("path", "agent"), frozenset({"agent.completed"})),
}
_CURSOR = re.compile(r"[!-~]+\.([0-9]+)\.[!-~]+")
_CURSOR_BYTES = 64


def seq_is_whole(log: Log) -> None:
    """Check [log.order]: `seq` is 1, 2, 3 … without holes."""
    for place, event in enumerate(log, start=1):
        if event.get("seq") != place:
            raise Broken(f"seq {place} in {place}. place of the log", shown(event.raw))


def cursors_are_formed(log: Log) -> None:
    """Check [cursor.form]: `epoch.seq.tag`, printable, short, one epoch."""
    epochs = set()
    for event in log:
        cursor = event.get("cursor")
        must(isinstance(cursor, str), "a cursor in each event", shown(event.raw))
        form = _CURSOR.fullmatch(cursor)
        must(form, "a cursor `epoch.seq.tag` of printable ASCII", repr(cursor))
        must(len(cursor) <= _CURSOR_BYTES, "at most 64 bytes in a cursor", repr(cursor))
        must_equal(
            cursor.split(".")[1], str(event.get("seq")), "the cursor's seq", shown(event.raw)
        )
        epochs.add(cursor.split(".")[0])
    must(len(epochs) <= 1, "one epoch in the life of a log", sorted(epochs))


def runs_end_once(log: Log) -> None:
    """Check [run.one_end]: one end for each run, and nothing of it after that."""
    ended: dict[str, str] = {}
    for event in log:
        run_id = event.get("run_id")
        if run_id in ended:
            raise Broken(f"nothing of a run after its {ended[run_id]}", shown(event.raw))
        if event.type in ENDS:
            ended[run_id] = event.type
    begun = {event.get("run_id") for event in log if event.type == "input.accepted"}
    waits = {event.get("run_id") for event in log if event.type == "run.interrupted"}
    missing = begun - ended.keys() - waits
    must(not missing, "an end for each run", f"none for {', '.join(map(str, missing))}")


def _name(event: Event, fields: tuple[str, ...]) -> Hashable:
    return tuple(str(event.get(name)) for name in fields)


def boundaries_are_closed(log: Log) -> None:
    """Check [run.boundaries]: what a run opened is closed before it ends, and once."""
    closers: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for what, fields, closed_by in _OPENS.values():
        for closer in closed_by:
            closers.setdefault(closer, []).append((what, fields))
    opened: dict[tuple[str, Hashable], Event] = {}
    for event in log:
        if event.type in _OPENS:
            what, fields, _ = _OPENS[event.type]
            opened[what, _name(event, fields)] = event
        elif event.type in closers and not event.get("will_retry"):
            for what, fields in closers[event.type]:
                opened.pop((what, _name(event, fields)), None)
        elif event.type in {*ENDS, "run.interrupted"}:
            waits = event.type == "run.interrupted"
            left = [
                opening
                for (what, _), opening in opened.items()
                if opening.get("run_id") == event.get("run_id")
                and not (waits and what == "approval")
            ]
            if left:
                raise Broken(
                    f"what {left[0].type} opened to be closed before {event.type}",
                    f"still open: {shown(left[0].raw)}",
                )


def deltas_make_the_text(log: Log) -> None:
    """Check [delta.coalesce]: merged or not, the deltas are the message."""
    said: dict[str, str] = {}
    for event in log:
        message_id = str(event.get("message_id"))
        if event.type == "message.started":
            said[message_id] = ""
        elif event.type == "message.delta":
            must(message_id in said, "message.started before a delta", shown(event.raw))
            said[message_id] += str(event.get("text"))
        elif event.type == "message.completed" and message_id in said:
            must_equal(
                shown(str(event.get("text"))),
                shown(said[message_id]),
                "the text of message.completed",
                shown(event.raw),
            )


def paths_lead_to_the_speaker(log: Log) -> None:
    """Check [path.below]: one part for the run, graph and node, `call_id:name` for a call."""
    heads: dict[str, str] = {}
    nodes: set[str] = set()
    calls: set[str] = set()
    for event in log:
        path: Any = event.get("path")
        must(isinstance(path, list), "a `path` in each event", shown(event.raw))
        run_id = str(event.get("run_id"))
        if event.type == "run.started":
            heads[run_id] = str(event.get("agent") or event.get("graph"))
        if event.type.startswith("run."):
            must(len(path) <= 1, "a path of one part for the run's own events", shown(event.raw))
        if run_id in heads and path:
            must_equal(path[0], heads[run_id], "the path's first part", shown(event.raw))
        nodes |= {str(event.get("node"))} if event.type == "node.started" else set()
        calls |= {str(event.get("call_id"))} if event.type == "tool.started" else set()
        for part in path[1:2]:
            known = part in nodes or part.partition(":")[0] in calls
            must(known, "a node or a `call_id:name` as the path's second part", shown(event.raw))


def graphs_go_in_supersteps(log: Log) -> None:
    """Check [graph.run]: what starts and ends in each superstep, and the ways on."""
    graph = next((str(event.get("graph")) for event in log if event.get("graph")), None)
    must(graph is not None, "run.started with `graph`", "none in the log")
    progress = _Supersteps()
    for event in log:
        if event.get("path") == [graph]:
            progress.take(event)


class _Supersteps:
    """How far a graph is: which superstep, and which of its nodes have begun and ended."""

    def __init__(self) -> None:
        self.nodes: list[str] | None = None  # of the superstep that is open
        self.index = 0
        self.begun: set[str] = set()
        self.done: set[str] = set()
        self.asked = False

    def take(self, event: Event) -> None:
        """Go on by one event."""
        what, _, how = event.type.partition(".")
        if what == "superstep":
            self._superstep(event, begins=how == "started")
        elif what == "node":
            self._node(event, how)
        elif event.type == "run.interrupted":
            self.asked = True
        elif event.type == "edge.taken" and event.get("source"):
            known = event.get("source") in self.done
            must(known, "a way on from a node that is done", shown(event.raw))

    def _superstep(self, event: Event, *, begins: bool) -> None:
        if begins:
            must(self.nodes is None, "the superstep before to be completed", shown(event.raw))
            self.index += not self.asked  # one that waited for a human goes on
            must_equal(event.get("index"), self.index, "the index", shown(event.raw))
            self.nodes, self.asked = list(event.get("nodes")), False
            self.begun, self.done = set(), set()
            return
        must(self.nodes is not None, "superstep.started before", shown(event.raw))
        must_equal(event.get("index"), self.index, "the superstep's index", shown(event.raw))
        for what, found in (("began", self.begun), ("ended", self.done)):
            wanted = sorted(self.nodes or ())
            must_equal(sorted(found), wanted, f"the nodes that {what}", shown(event.raw))
        self.nodes = None

    def _node(self, event: Event, how: str) -> None:
        node = str(event.get("node"))
        if how == "started":
            must(node in (self.nodes or ()), "a node of the superstep", shown(event.raw))
            self.begun.add(node)
            return
        must(node in self.begun - self.done, "a node that works", shown(event.raw))
        if how == "completed":
            must("duration_ms" in event.data, "duration_ms", shown(event.raw))
        if how == "completed" or (how == "failed" and not event.get("will_retry")):
            self.done.add(node)
