"""Where code that runs inside a run finds the run: nodes, tools, hooks, and all that they call.

The scope follows the call by a context variable: into tasks and threads that are started with the
context (`asyncio.create_task`, `asyncio.to_thread`), and into child agents and graphs, which have
scopes of their own. Outside a run there is none, and what is said there goes nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from runtime.events import Custom, Event, NodeUpdate, ToolProgress
from runtime.outbox import Outbox
from runtime.plain import plain
from runtime.runnable import RunRequest

__all__ = ["Scope", "StreamWriter", "current_scope", "emit", "enter", "get_stream_writer", "write"]

_current: ContextVar[Scope | None] = ContextVar("tidegate_scope", default=None)


class Scope:
    """A place inside a run from which events can be said.

    Read-only, and not a frozen dataclass: a graph makes one for each visit to a node, with
    attributes that are worked out when they are asked for.
    """

    __slots__ = ("_call_id", "_node", "_outbox", "_path", "_request")

    def __init__(
        self,
        request: RunRequest,
        path: tuple[str, ...],
        outbox: Outbox,
        node: str | None = None,
        call_id: str | None = None,
    ) -> None:
        self._request = request
        self._path = path
        self._outbox = outbox
        self._node = node
        self._call_id = call_id

    @property
    def request(self) -> RunRequest:
        """The run's request, as its root or the nearest nested run was given it."""
        return self._request

    @property
    def path(self) -> tuple[str, ...]:
        """The path of what is said here."""
        return self._path

    @property
    def outbox(self) -> Outbox:
        """Takes what is said."""
        return self._outbox

    @property
    def node(self) -> str | None:
        """The graph node that runs here, if one does; `path` ends with it."""
        return self._node

    @property
    def call_id(self) -> str | None:
        """The tool call that runs here, if one does."""
        return self._call_id

    @contextmanager
    def active(self) -> Iterator[Scope]:
        """Make this the current scope of the task, for the time of a `with` block."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    def update(self, updates: Mapping[str, Any]) -> Event:
        """Return the event that reports `updates` from here."""
        if self.node is not None:
            return NodeUpdate(
                run_id=self.request.run_id,
                path=self.path[:-1],
                node=self.node,
                updates=_fields(updates, f"node {self.node!r}"),
            )
        if self.call_id is not None:
            return ToolProgress(
                run_id=self.request.run_id,
                path=self.path,
                call_id=self.call_id,
                data=plain(dict(updates), f"tool call {self.call_id!r}"),
            )
        return self.custom("update", dict(updates))

    def custom(self, name: str, payload: Any) -> Custom:
        """Return a custom event from here."""
        return Custom(
            run_id=self.request.run_id,
            path=self.path,
            name=name,
            payload=plain(payload, f"custom event {name!r}"),
        )


class StreamWriter:
    """Reports updates from where it was made; they are shown, and do not touch any state.

    Calling it never waits on the event loop, and may be done from any task; from another thread it
    waits while too much is waiting. On the loop, what is too much is merged: later values of a key
    replace earlier ones. `send` waits instead, and loses nothing.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __call__(self, updates: Mapping[str, Any]) -> None:
        """Report updates; any value that pydantic can write as JSON."""
        self._scope.outbox.put(self._scope.update(updates))

    async def send(self, updates: Mapping[str, Any]) -> None:
        """Report updates and return once they are out.

        Raises:
            RunAborted: If the node or tool is over.
        """
        await self._scope.outbox.send(self._scope.update(updates))


def _fields(updates: Mapping[str, Any], speaker: str) -> dict[str, Any]:
    """Return updates as plain JSON; what cannot be written at all, under one name."""
    data = plain(dict(updates), speaker)
    return data if isinstance(data, dict) else {"updates": data}


enter: Callable[[Scope], object] = _current.set
"""Make a scope the current one for the rest of the task, which is the caller's own."""


def current_scope() -> Scope | None:
    """Return the scope that this code runs in; None outside a run."""
    return _current.get()


def get_stream_writer(context: object | None = None) -> StreamWriter | None:
    """Return the writer of the node or tool that this code runs in; None outside a run.

    Args:
        context: The context that the node or tool was given, if it is at hand; it works from
            anywhere, also where the context variable does not reach.
    """
    scope = getattr(context, "scope", None) if context is not None else _current.get()
    return StreamWriter(scope) if isinstance(scope, Scope) else None


def write(updates: Mapping[str, Any]) -> None:
    """Report updates from the node or tool that this code runs in; outside a run, do nothing."""
    if (scope := _current.get()) is not None:
        scope.outbox.put(scope.update(updates))


def emit(name: str, payload: Any | Callable[[], Any] = None) -> None:
    """Report a custom event from the run that this code runs in; outside a run, do nothing.

    Args:
        name: What clients know it by.
        payload: Any value that pydantic can write as JSON; or a function that makes it, which is
            not called outside a run.
    """
    if (scope := _current.get()) is not None:
        scope.outbox.put(scope.custom(name, payload() if callable(payload) else payload))
