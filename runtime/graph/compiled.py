"""A built graph: something that can be served, and run from a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from runtime.cancel import CancelToken
from runtime.graph.definition import Definition
from runtime.graph.execution import execute
from runtime.graph.keys import Key
from runtime.graph.mermaid import mermaid
from runtime.graph.results import ExecutionResult, Watch
from runtime.messages import ClientTool, Message
from runtime.report import new_id
from runtime.run_stream import RunStream
from runtime.runnable import ChecksTools, Emit, Runnable, RunOptions, RunRequest, ToolInfo

__all__ = ["CompiledGraph", "Input"]

Input = Mapping[Any, Any] | Sequence[Message] | Message | str | None
"""What a run is given: values by key or by name, or a conversation, or what the user says."""


NO_OPTIONS = RunOptions()


class CompiledGraph:
    """A graph that was checked. It is a `Runnable`, never changes, and may run many times at once.

    Made by `Graph.build`.
    """

    def __init__(
        self,
        definition: Definition,
        *,
        description: str = "",
        parts: Mapping[str, Runnable] | None = None,
    ) -> None:
        """Take a definition that was checked.

        Args:
            definition: The graph.
            description: One sentence for people who choose it.
            parts: The agents and graphs in it, by node.
        """
        self._definition = definition
        self._description = description
        self._parts = dict(parts or {})

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        return self._definition.name

    @property
    def kind(self) -> Literal["graph"]:
        """What it is."""
        return "graph"

    @property
    def description(self) -> str:
        """One sentence for people who choose an agent."""
        return self._description

    @property
    def options_type(self) -> type[RunOptions]:
        """The options that it takes: they go to the agents in it."""
        return RunOptions

    @property
    def keys(self) -> Mapping[str, Key[Any]]:
        """Its keys, by name."""
        return self._definition.keys

    @property
    def definition(self) -> Definition:
        """What it was built from."""
        return self._definition

    @property
    def parts(self) -> tuple[Runnable, ...]:
        """The agents and graphs in its nodes."""
        return tuple(self._parts.values())

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        """Return the tools of the agents in it, as clients see them."""
        infos = {info.name: info for part in self._parts.values() for info in part.tool_infos()}
        return tuple(infos.values())

    def check_tools(self, tools: Sequence[ClientTool]) -> None:
        """Return if a run may have these tools of a client's: the agents in its nodes are given them.

        Raises:
            ToolsRefused: If one of the nodes cannot take them.
        """
        for part in self._parts.values():
            if isinstance(part, ChecksTools):
                part.check_tools(tools)

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        """Do a run and report it; the promises are those of `Runnable.execute`."""
        await execute(self._definition, request, emit)

    async def aclose(self) -> None:
        """Let go of the agents and graphs in it. Safe to call twice."""
        for part in self._parts.values():
            await part.aclose()

    def run(
        self,
        input: Input = None,
        *,
        timeout: float | None = None,
        cancel: CancelToken | None = None,
        options: RunOptions | None = None,
        run_id: str | None = None,
    ) -> RunStream[ExecutionResult[Any]]:
        """Prepare a run; it begins with the first `anext`, and ends when it is left.

            async for result in compiled.run({"count": 3}):
                print(result.node, result.updates)

        What is yielded: each update that a node reports while it works (`partial`), what each node
        has written when it is done, and at last the output.

        Args:
            input: The first values of keys, or a conversation.
            timeout: Seconds that the run may take; the graph's own limit holds too.
            cancel: Stops it from anywhere.
            options: For the agents in it.
            run_id: Its id; by default a fresh one.
        """
        state, history = _given(input)
        request = RunRequest(
            run_id=run_id or new_id("run"),
            history=history,
            state=state,
            timeout=timeout,
            options=options or NO_OPTIONS,
            cancel=cancel,
        )
        return self.stream(request)

    def stream(self, request: RunRequest) -> RunStream[ExecutionResult[Any]]:
        """Prepare a run from a whole request: to go on after an interrupt, or from a checkpoint."""
        watched = Watched(self, request.path or (self.name,))
        watch = watched.watch
        stream = RunStream(watched, request, watch.project, cancel=request.cancel)
        watch.yields = stream.put
        return stream

    def showing_state(self) -> CompiledGraph:
        """Return the same graph with nodes that report the state before and after them.

        It costs time and room: each event holds all of the state.
        """
        return CompiledGraph(
            replace(self._definition, show_state=True),
            description=self._description,
            parts=self._parts,
        )

    def mermaid(self) -> str:
        """Return a drawing of the graph, in the language of Mermaid."""
        return mermaid(self._definition)


class Watched(CompiledGraph):
    """A graph for one run, which is watched from within the process.

    Attributes:
        watch: What sees it.
    """

    def __init__(self, compiled: CompiledGraph, path: tuple[str, ...]) -> None:
        super().__init__(
            compiled.definition,
            description=compiled.description,
            parts=compiled._parts,  # noqa: SLF001 - a graph too
        )
        self.watch = Watch(compiled.keys, path)

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        """Do the run, and watch it."""
        await execute(self.definition, request, emit, self.watch)


def _given(given: Input) -> tuple[Mapping[Any, Any] | None, tuple[Message, ...]]:
    """Return first values and conversation."""
    match given:
        case None:
            return {}, ()
        case str():
            return None, (Message(role="user", content=given),)
        case Message():
            return None, (given,)
        case Mapping():
            return dict(given), ()
        case _:
            return None, tuple(given)
