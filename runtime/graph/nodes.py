"""Agents and graphs as nodes of a graph.

What they say has the path of the graph, then the node, then their own name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from runtime.errors import UpdateInvalid
from runtime.events import RunCompleted
from runtime.graph.compiled import CompiledGraph, Watched
from runtime.graph.context import NodeContext
from runtime.graph.keys import Key
from runtime.graph.messages import MESSAGES
from runtime.graph.view import View
from runtime.messages import Message
from runtime.nested import run_below
from runtime.runnable import Runnable

__all__ = ["Ask", "Enter", "Leave", "agent_node", "graph_node"]

Ask = Callable[[View], str | Sequence[Message]]
"""Makes what an agent is asked: a text, or a whole conversation."""

Enter = Callable[[View], Mapping[Any, Any]]
"""Makes the first values of a subgraph."""

Leave = Callable[[View], Mapping[Any, Any]]
"""Makes the updates of the outer graph of the last state of a subgraph."""

NodeFunction = Callable[[NodeContext, View], Awaitable[Mapping[Any, Any]]]


def agent_node(agent: Runnable, ask: Ask | None, into: Key[Any]) -> NodeFunction:
    """Return a node that asks an agent and keeps its answer.

    Args:
        agent: The agent.
        ask: Makes the question; by default it is the conversation in `MESSAGES`.
        into: Takes the answer: its text, or for a list of messages the message; what the agent
            gave as `final_output`, if that is no text.
    """

    async def node(context: NodeContext, view: View) -> Mapping[Any, Any]:
        asked = view.get(MESSAGES) if ask is None else ask(view)
        if isinstance(asked, str):
            asked = (Message(role="user", content=asked),)
        scope = context.scope
        end = await run_below(agent, tuple(asked), scope, options=scope.request.options)
        return {into: _answer(end, into)}

    return node


def _answer(end: RunCompleted, into: Key[Any]) -> Any:
    data = end.output if end.final_output is None else end.final_output
    value = data if end.parsed is None else end.parsed
    if not into.appends:
        return _fitting(into, value)
    try:
        return into.check_update((Message(role="assistant", content=end.output),))
    except UpdateInvalid:
        return [value]


def _fitting(key: Key[Any], value: Any) -> Any:
    """Return a value as the key wants it: from an event it comes as plain JSON."""
    try:
        return key.check(value)
    except UpdateInvalid:
        return key.load(value)


def graph_node(
    graph: CompiledGraph, enter: Enter | None, leave: Leave | None, keys: Mapping[str, Key[Any]]
) -> NodeFunction:
    """Return a node that runs a graph.

    By default, keys of the same name go in and out: of lists, what was appended; of keys without a
    reducer, what was changed. Keys with a reducer begin anew inside, and what they have become is
    merged by the reducer of the outer graph.

    Args:
        graph: The subgraph.
        enter: Makes its first values.
        leave: Makes the updates of its last state.
        keys: Those of the outer graph.
    """
    shared = [(keys[name], key) for name, key in graph.keys.items() if name in keys]

    async def node(context: NodeContext, view: View) -> Mapping[Any, Any]:
        scope = context.scope
        if enter is not None:
            given = enter(view)
        else:
            given = {
                key.name: view.get(outer)
                for outer, key in shared
                if outer in view and outer.reducer is None
            }
        watched = Watched(graph, (*scope.path, graph.name))
        await run_below(watched, (), scope, state=given, options=scope.request.options)
        last = View(graph.keys, watched.watch.values)
        if leave is not None:
            return leave(last)
        return _changes(shared, view, last)

    return node


def _changes(
    shared: Sequence[tuple[Key[Any], Key[Any]]], before: View, after: View
) -> Mapping[Any, Any]:
    changes: dict[Key[Any], Any] = {}
    for outer, key in shared:
        if key not in after:
            continue
        value = after.get(key)
        if outer.appends:
            changes[outer] = value[len(before.get(outer)) :]
        elif outer.reducer is not None or outer not in before or before.get(outer) != value:
            changes[outer] = value
    return changes
