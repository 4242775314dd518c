"""What a run yields to a program: one result for each update, each finished node, and the output."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from runtime.errors import EmptySequenceError
from runtime.events import Event, NodeUpdate, RunCompleted
from runtime.graph.command import Writes
from runtime.graph.keys import Key
from runtime.graph.merge import merged
from runtime.graph.view import View

__all__ = ["ExecutionResult", "Watch", "collect", "last"]

T = TypeVar("T")
R = TypeVar("R")


class ExecutionResult(Generic[R]):
    """One result of a run. Immutable."""

    __slots__ = ("_before", "_keys", "_node", "_output", "_updates", "_writes")

    def __init__(
        self,
        node: str,
        keys: Mapping[str, Key[Any]],
        before: Mapping[str, Any],
        writes: Writes | None = None,
        *,
        updates: Mapping[str, Any] | None = None,
        output: R | None = None,
    ) -> None:
        """Take what is known; what is rarely looked at is made when it is.

        Args:
            node: The node.
            keys: The graph's keys.
            before: What was committed at that time.
            writes: What the node has written.
            updates: What the node said while it worked.
            output: The output.
        """
        self._node = node
        self._keys = keys
        self._before = before
        self._writes = writes
        self._updates = updates
        self._output = output

    @property
    def node(self) -> str:
        """The node that produced it; `outer/inner` for updates from inside a subgraph.

        In the last result, the last node of the run.
        """
        return self._node

    @property
    def updates(self) -> Mapping[str, Any] | None:
        """What the node said while it worked (`partial`), or what it wrote to the state.

        For lists, the items that it appended. None in the last result.
        """
        if self._updates is None and self._writes is not None:
            self._updates = {key.name: key.read(value) for key, value in self._writes.items()}
        return self._updates

    @property
    def output(self) -> R | None:
        """The value of the graph's output key, in the last result only."""
        return self._output

    @property
    def partial(self) -> bool:
        """Whether the node was still working. Such updates are not part of the state."""
        return self._writes is None and self._updates is not None

    @property
    def state(self) -> View:
        """The state of that time: with the writes of the node when it is done."""
        if self._writes is None:
            return View(self._keys, self._before)
        return View(self._keys, merged(self._before, [(self._node, self._writes)]))

    def get(self, key: Key[T]) -> T:
        """Return the value of a key in the state of that time, or its default."""
        return self.state.get(key)

    def __repr__(self) -> str:
        said = f"node={self.node!r}, updates={self.updates!r}, output={self.output!r}"
        return f"ExecutionResult({said}, partial={self.partial!r})"


class Watch:
    """What a program in the same process sees of a run: values as they are, and results.

    Attributes:
        values: What is committed.
        output: The value of the output key, at the end.
        yields: Takes the result of a node that is done. Only a program that iterates over the run
            of a root gives one: it sees nothing else, so that events which only say where the run
            is are not made for it.
    """

    def __init__(self, keys: Mapping[str, Key[Any]], path: tuple[str, ...]) -> None:
        self.values: Mapping[str, Any] = {}
        self.output: Any = None
        self.yields: Callable[[ExecutionResult[Any]], Awaitable[None]] | None = None
        self._keys = keys
        self._path = path

    def finished(self, node: str, writes: Writes) -> ExecutionResult[Any]:
        """Return the result of a node that is done."""
        return ExecutionResult(node, self._keys, self.values, writes)

    def project(self, event: Event) -> ExecutionResult[Any] | None:
        """Return the result that an event means, if it does."""
        match event:
            case NodeUpdate():
                node = "/".join((*event.path[len(self._path) :: 2], event.node))
                return ExecutionResult(node, self._keys, self.values, updates=event.updates)
            case RunCompleted():
                last_node = event.last_node or ""
                return ExecutionResult(last_node, self._keys, self.values, output=self.output)
            case _:
                return None


async def last(results: AsyncIterable[T]) -> T:
    """Consume a run and return its last result: the one with the output.

    Raises:
        EmptySequenceError: If there was no result.
        Exception: What ended the run.
    """
    newest: tuple[T] | None = None
    async for item in results:
        newest = (item,)
    if newest is None:
        raise EmptySequenceError("there was no result")
    return newest[0]


async def collect(results: AsyncIterable[T]) -> list[T]:
    """Consume a run and return all its results.

    Raises:
        Exception: What ended the run.
    """
    return [result async for result in results]
