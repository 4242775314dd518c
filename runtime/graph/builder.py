"""Putting a graph together, and checking it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard

from runtime.errors import GraphBuildError
from runtime.graph.checks import problems_of
from runtime.graph.compiled import CompiledGraph
from runtime.graph.definition import Branch, Definition, Guard, NodeSpec
from runtime.graph.keys import Key
from runtime.graph.messages import MESSAGES, first_of
from runtime.graph.nodes import Ask, Enter, Leave, agent_node, graph_node
from runtime.graph.plan import following
from runtime.graph.view import View
from runtime.messages import Message
from runtime.retry import RetryPolicy
from runtime.runnable import Runnable

__all__ = ["Graph", "MessageGraph"]

Work = Callable[..., Any] | Runnable
"""What a node does: a function of a context and a view, or of a view only; an agent; a graph."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a caller said about a node, before it is checked."""

    name: str
    work: Work
    targets: tuple[str, ...]
    retry: RetryPolicy | None
    timeout: float | None
    guard: Guard
    kind: Literal["node", "flow_step"]
    ask: Ask | None
    into: Key[Any] | None
    enter: Enter | None
    leave: Leave | None


class Graph:
    """A graph that is being put together. `build` checks it, and tells all that is wrong at once.

    graph = Graph(COUNT, DATA, name="counter")
    graph.node("fetch", fetch, "process")
    graph.node("process", process, END)
    graph.start("fetch")
    counter = graph.build()
    """

    def __init__(self, *keys: Key[Any], name: str = "graph") -> None:
        """Begin a graph.

        Args:
            *keys: Its keys; the first one is the output, unless `build` is told otherwise.
            name: The name under which it is registered.
        """
        self._name = name
        self._keys = keys
        self._asked: list[_Asked] = []
        self._branches: list[tuple[str, Branch]] = []
        self._start: tuple[str, ...] = ()

    def node(
        self,
        name: str,
        work: Work,
        *targets: str,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        interrupt_before: Guard = False,
        kind: Literal["node", "flow_step"] = "node",
        ask: Ask | None = None,
        into: Key[Any] | None = None,
        enter: Enter | None = None,
        leave: Leave | None = None,
    ) -> Graph:
        """Add a node.

        Args:
            name: Its name.
            work: An async function; a sync one, which runs in a thread; an agent; a built graph. A
                function takes a `NodeContext` and a `View`, or only the `View`, and returns a
                `Command`, a mapping of updates, or None.
            *targets: Where it may go, `END` included. It goes to all of them at the same time,
                unless its command chooses.
            retry: When a failure is tried again; by default never.
            timeout: Seconds that one attempt may take.
            interrupt_before: Whether a human must agree before it runs. A text is the reason; a
                function is asked, with the state.
            kind: `flow_step` for graphs that are shown as a flow of steps.
            ask: For an agent: makes the question; by default it sees the conversation in
                `MESSAGES`.
            into: For an agent: takes the answer; by default `MESSAGES`.
            enter: For a graph: makes its first values; by default those of keys of the same name.
            leave: For a graph: makes the updates of its last state; by default those of keys of
                the same name.
        """
        self._asked.append(
            _Asked(
                name=name,
                work=work,
                targets=targets,
                retry=retry,
                timeout=timeout,
                guard=interrupt_before,
                kind=kind,
                ask=ask,
                into=into,
                enter=enter,
                leave=leave,
            )
        )
        return self

    def branch(
        self, node: str, choose: Callable[[View], str | Sequence[str]], *targets: str
    ) -> Graph:
        """Add a conditional edge: after `node`, `choose` names one or more of `targets`.

        It sees the state with what the node has written. What it chose is kept with the node, so
        it is not asked again when a run goes on.
        """
        self._branches.append((node, Branch(choose, targets)))
        return self

    def start(self, *nodes: str) -> Graph:
        """Say with which nodes a run begins."""
        self._start += nodes
        return self

    def build(
        self,
        *,
        output: Key[Any] | None = None,
        input: Callable[[tuple[Message, ...]], Mapping[Any, Any]] | None = None,
        description: str = "",
        max_steps: int = 100,
        timeout: float | None = 600.0,
        show_state: bool = False,
    ) -> CompiledGraph:
        """Check the graph and return it as something that can run.

        Args:
            output: The key whose value is the result; by default the first one.
            input: Makes the first values of a conversation. By default it goes to `MESSAGES`, or
                else what the user said last to the first key that holds a text.
            description: One sentence for people who choose it.
            max_steps: How many supersteps a run may take.
            timeout: Seconds that a run may take.
            show_state: Whether nodes report the state before and after them; see
                `CompiledGraph.showing_state`.

        Raises:
            GraphBuildError: If anything is wrong; it lists everything.
        """
        keys = {key.name: key for key in self._keys}
        problems = self._early_problems(keys, output, max_steps, timeout)
        nodes: dict[str, NodeSpec] = {}
        for asked in self._asked:
            if asked.name not in nodes:
                nodes[asked.name] = self._spec(asked, keys, len(nodes), problems)
        problems += problems_of(nodes, self._start)
        if problems:
            raise GraphBuildError(problems)
        nodes = {
            name: replace(spec, following=following(nodes, spec.edges))
            for name, spec in nodes.items()
        }
        definition = Definition(
            name=self._name,
            keys=keys,
            nodes=nodes,
            start=tuple(sorted(dict.fromkeys(self._start), key=lambda name: nodes[name].place)),
            output=output or self._keys[0],
            first=input or _first(keys),
            max_steps=max_steps,
            timeout=timeout,
            show_state=show_state,
        )
        parts = {a.name: a.work for a in self._asked if _is_runnable(a.work)}
        return CompiledGraph(definition, description=description, parts=parts)

    def _early_problems(
        self,
        keys: Mapping[str, Key[Any]],
        output: Key[Any] | None,
        max_steps: int,
        timeout: float | None,
    ) -> list[str]:
        names = [key.name for key in self._keys]
        nodes = [asked.name for asked in self._asked]
        branched = [node for node, _ in self._branches]
        problems = [f"key {name!r} is declared twice" for name in _twice(names)]
        problems += [f"node {name!r} is declared twice" for name in _twice(nodes)]
        problems += [f"node {name!r} has two branches" for name in _twice(branched)]
        problems += [
            f"there is a branch of {name!r}, which is no node"
            for name in dict.fromkeys(branched)
            if name not in nodes
        ]
        if not self._keys:
            problems.append("there is no key: declare what the graph keeps")
        if output is not None and keys.get(output.name) is not output:
            problems.append(f"the output {output.name!r} is no key of the graph")
        if max_steps < 1 or (timeout is not None and timeout <= 0):
            problems.append("max_steps and timeout must be positive")
        return problems

    def _spec(
        self, asked: _Asked, keys: Mapping[str, Key[Any]], place: int, problems: list[str]
    ) -> NodeSpec:
        function = self._function(asked, keys, problems)
        branch = next((b for node, b in self._branches if node == asked.name), None)
        declared = dict.fromkeys((*asked.targets, *(branch.targets if branch else ())))
        count = _parameters(function)
        if count not in {1, 2}:
            problems.append(
                f"node {asked.name!r}: its function takes a context and a view, or only a view"
            )
        work = asked.work
        return NodeSpec(
            name=asked.name,
            function=function,
            targets=asked.targets,
            declared=tuple(declared),
            place=place,
            branch=branch,
            retry=asked.retry,
            timeout=asked.timeout,
            guard=asked.guard,
            kind=asked.kind,
            agent=work.name if _is_runnable(work) and work.kind == "agent" else None,
            nested=_is_runnable(work),
            context=count == 2,  # noqa: PLR2004 - context and view
            is_async=_is_async(function),
        )

    def _function(
        self, asked: _Asked, keys: Mapping[str, Key[Any]], problems: list[str]
    ) -> Callable[..., Any]:
        work = asked.work
        if isinstance(work, CompiledGraph):
            return graph_node(work, asked.enter, asked.leave, keys)
        if _is_runnable(work):
            talks = keys.get(MESSAGES.name) is MESSAGES
            if asked.ask is None and not talks:
                problems.append(f"node {asked.name!r}: an agent needs ask=, or the key MESSAGES")
            if asked.into is None and not talks:
                problems.append(f"node {asked.name!r}: an agent needs into=, or the key MESSAGES")
            return agent_node(work, asked.ask, asked.into or MESSAGES)
        if callable(work):
            return work
        problems.append(f"node {asked.name!r}: {work!r} is no function, agent or built graph")
        return lambda view: None


class MessageGraph(Graph):
    """A graph that holds a conversation: `MESSAGES` is its first key, and so its output.

    It is given messages, its nodes append messages, and it returns all of them.
    """

    def __init__(self, *keys: Key[Any], name: str = "graph") -> None:
        """Begin a graph; `keys` are those that it has beside `MESSAGES`."""
        super().__init__(MESSAGES, *keys, name=name)


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _is_runnable(work: Any) -> TypeGuard[Runnable]:
    return hasattr(work, "execute") and hasattr(work, "kind")


def _is_async(function: Callable[..., Any]) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - an object with an async `__call__`
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _parameters(function: Callable[..., Any]) -> int:
    """Return with how many arguments a function can be called, two at most; -1 if it cannot."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return -1
    for count in (2, 1):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    return -1


def _first(
    keys: Mapping[str, Key[Any]],
) -> Callable[[tuple[Message, ...]], Mapping[Any, Any]]:
    if keys.get(MESSAGES.name) is MESSAGES:
        return lambda history: {MESSAGES: history}
    text = next((key for key in keys.values() if key.holds_text), None)
    return lambda history: {} if text is None or not history else {text: first_of(history)}
