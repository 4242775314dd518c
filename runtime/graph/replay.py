"""From a journal to the place where a run goes on. Pure.

A superstep whose nodes are all in the journal is finished; of the one after it, the nodes that are
there are finished, and what they wrote is kept until the others are done too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from runtime.checkpoint import Checkpoint
from runtime.errors import GraphError, UpdateInvalid
from runtime.events import Event, NodeCompleted, NodeFailed
from runtime.graph.command import Writes, update_of
from runtime.graph.definition import Definition
from runtime.graph.keys import Key
from runtime.graph.merge import merged
from runtime.graph.plan import following, transitions
from runtime.messages import Message
from runtime.runnable import Decision, RunRequest

__all__ = [
    "Finished",
    "Place",
    "advanced",
    "begun",
    "edited",
    "first_values",
    "left_over",
    "replayed",
]

Finished = tuple[Writes, tuple[str, ...] | None]
"""What a node wrote, and the targets that it chose."""

Ask = Callable[[int, str], str]
"""Gives the id of the question before a node of a superstep."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is.

    Attributes:
        values: What was committed, by key name.
        superstep: How many supersteps are finished.
        due: The nodes of the next one.
        finished: Those of them that are done already.
        last: The last node of the last finished superstep.
    """

    values: Mapping[str, Any]
    superstep: int
    due: tuple[str, ...]
    finished: Mapping[str, Finished] = field(default_factory=dict)
    last: str | None = None


def first_values(definition: Definition, request: RunRequest) -> Mapping[str, Any]:
    """Return the values that a run begins with.

    Raises:
        UpdateInvalid: If one does not fit its key, or a key is not declared.
    """
    if request.state is not None:
        if not request.state:
            return {}
        return merged({}, [("", given(request.state, definition.keys))])
    history = _at_first(request)
    return merged({}, [("", update_of(definition.first(history), definition.keys))])


def given(state: Mapping[Any, Any], keys: Mapping[str, Key[Any]]) -> Writes:
    """Return the writes of values from outside, which may be plain JSON."""
    writes: dict[Key[Any], Any] = {}
    for name, value in state.items():
        try:
            writes |= update_of({name: value}, keys)
        except UpdateInvalid:
            key = keys.get(name.name if isinstance(name, Key) else name)
            if key is None:
                raise
            try:
                writes[key] = key.load(value, strict=True)
            except (UpdateInvalid, TypeError):
                loaded = False
            else:
                loaded = True
            if not loaded:
                raise
    return writes


def _at_first(request: RunRequest) -> tuple[Message, ...]:
    """Return the conversation as it was when the run began, without what the run itself said."""
    history = request.history
    if not request.journal and request.attempt == 1:
        return history
    for place in range(len(history), 0, -1):
        if history[place - 1].role == "user":
            return history[:place]
    return history


def begun(definition: Definition, request: RunRequest) -> Place:
    """Return the place at a checkpoint, or at the beginning.

    Raises:
        UpdateInvalid: If a value does not fit its key, or a key is not declared.
        GraphError: If the checkpoint is of another graph.
    """
    if request.checkpoint is None:
        return Place(first_values(definition, request), 0, definition.start)
    return _at_checkpoint(definition, request.checkpoint)


def _at_checkpoint(definition: Definition, checkpoint: Checkpoint) -> Place:
    for name in checkpoint.next:
        if name not in definition.nodes:
            raise _misfit("checkpoint", name)
    values: dict[str, Any] = {}
    for name, data in checkpoint.state.items():
        key = definition.keys.get(name)
        if key is None:
            raise UpdateInvalid(name, "the checkpoint has it, and the graph does not declare it")
        values[name] = key.load(data)
    return Place(values, checkpoint.superstep, checkpoint.next)


def replayed(
    definition: Definition,
    place: Place,
    journal: Iterable[Event],
    decisions: Mapping[str, Decision],
    ask: Ask,
) -> Place:
    """Return the place after what the journal tells.

    Args:
        definition: The graph.
        place: Where the journal begins.
        journal: The events at the graph's own path.
        decisions: What humans said, by approval.
        ask: Gives the id of a question.

    Raises:
        GraphError: If the journal is of another graph.
    """
    finished: dict[str, Finished] = {}
    for event in journal:
        if not isinstance(event, NodeCompleted):
            continue
        if event.node not in place.due or event.node in finished:
            raise _misfit("journal", event.node)
        finished[event.node] = (_loaded(definition, event), event.targets)
        if len(finished) == len(place.due):
            values = edited(definition, place, decisions, ask)
            last = place.due[-1]
            values, _, due = advanced(definition, values, place.due, finished)
            place = Place(values, place.superstep + 1, due, {}, last)
            finished = {}
    return replace(place, finished=finished)


def advanced(
    definition: Definition,
    values: Mapping[str, Any],
    done: Sequence[str],
    finished: Mapping[str, Finished],
) -> tuple[Mapping[str, Any], Sequence[tuple[str, str]], tuple[str, ...]]:
    """Return what a superstep leads to: the values, the transitions, and the nodes that are due.

    Raises:
        ConflictingWrites: If several nodes set a key that keeps one value.
        UpdateInvalid: If a reducer fails.
    """
    if len(done) == 1:
        writes, targets = finished[done[0]]
        after = merged(values, ((done[0], writes),))
        spec = definition.nodes[done[0]]
        if targets is None:
            return after, spec.edges, spec.following
    else:
        after = merged(values, [(name, finished[name][0]) for name in done])
    edges = transitions(definition.nodes, [(name, finished[name][1]) for name in done])
    return after, edges, following(definition.nodes, edges)


def edited(
    definition: Definition, place: Place, decisions: Mapping[str, Decision], ask: Ask
) -> Mapping[str, Any]:
    """Return the values with which the next superstep begins: with what humans have changed.

    Raises:
        UpdateInvalid: If what a human gave does not fit.
    """
    values = place.values
    if not decisions:
        return values
    for node in place.due:
        decision = decisions.get(ask(place.superstep + 1, node))
        if decision is not None and decision.kind == "edited" and decision.arguments:
            changes = orjson.loads(decision.arguments)
            if not isinstance(changes, Mapping):
                raise UpdateInvalid(node, "an edit is a JSON object of keys and values")
            values = merged(values, [(node, given(changes, definition.keys))])
    return values


def left_over(journal: Sequence[Event], path: tuple[str, ...], node: str) -> tuple[Event, ...]:
    """Return what the journal holds of a node's unfinished visit, below the graph's path."""
    begins = 0
    for place, event in enumerate(journal):
        if event.path == path and (
            (isinstance(event, NodeCompleted) and event.node == node)
            or (isinstance(event, NodeFailed) and event.node == node and event.will_retry)
        ):
            begins = place + 1
    below = (*path, node)
    return tuple(event for event in journal[begins:] if event.path[: len(below)] == below)


def _loaded(definition: Definition, event: NodeCompleted) -> Writes:
    writes: dict[Key[Any], Any] = {}
    for name, data in (event.updates or {}).items():
        key = definition.keys.get(name)
        if key is None:
            raise UpdateInvalid(name, "the journal has it, and the graph does not declare it")
        writes[key] = key.load(data)
    return writes


def _misfit(kept: str, node: str) -> GraphError:
    return GraphError(f"the {kept} is of another graph: node {node!r} was not due in this one")
