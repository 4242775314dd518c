"""What a node knows of its run: its context, and the scope from which it speaks."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError, Future
from typing import Any

import orjson

from runtime.errors import RunAborted
from runtime.events import ApprovalRequested
from runtime.graph.definition import NodeSpec
from runtime.graph.run import Run, nobody_listens
from runtime.nested import Paused
from runtime.outbox import Outbox
from runtime.plain import plain
from runtime.runnable import Decision, RunRequest
from runtime.scope import Scope, StreamWriter, get_stream_writer

__all__ = ["NodeContext", "NodeScope"]


class NodeScope(Scope):
    """The scope of one attempt at a node. Its outbox is made when something is said.

    Attributes:
        attempt: Which attempt it is, from 1.
        box: The outbox, once something was said.
        over: Whether it is done: what is said later goes nowhere.
        superstep: The superstep, from 1.
    """

    __slots__ = ("_run", "_spec", "attempt", "box", "over", "superstep")

    def __init__(self, run: Run, spec: NodeSpec, superstep: int, attempt: int) -> None:
        self._run = run
        self._spec = spec
        self.box: Outbox | None = None
        self.over = False
        self.superstep = superstep
        self.attempt = attempt

    @property
    def request(self) -> RunRequest:
        """The run's request, with the journal of this visit."""
        return self._run.request_for(self._spec.name, self.superstep, self.attempt)

    @property
    def path(self) -> tuple[str, ...]:
        """The path of what is said here."""
        return (*self._run.path, self._spec.name)

    @property
    def node(self) -> str:
        """The node."""
        return self._spec.name

    @property
    def call_id(self) -> None:
        """A node is no tool call."""

    @property
    def outbox(self) -> Outbox:
        """Takes what is said."""
        return self.box or self._open()

    def _open(self) -> Outbox:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._open_from_thread()
        if self.over:
            return Outbox(nobody_listens)
        self.box = Outbox(self._run.relay, on_failure=self._run.abort)
        return self.box

    def _open_from_thread(self) -> Outbox:
        opened: Future[Outbox] = Future()
        try:
            self._run.loop.call_soon_threadsafe(lambda: opened.set_result(self.outbox))
            return opened.result()
        except (CancelledError, RuntimeError):  # RuntimeError: the loop is closed
            raise RunAborted("nobody listens any more") from None

    async def flush(self) -> None:
        """Return once all that was said is reported; then take no more.

        Raises:
            BaseException: Whatever reporting raised.
        """
        self.over = True
        if self.box is not None:
            try:
                await self.box.flush()
            finally:
                await self.box.aclose()

    async def aclose(self) -> None:
        """Take no more, and drop what waits."""
        self.over = True
        if self.box is not None:
            await self.box.aclose()


class NodeContext:
    """What a node is given beside the state.

    Attributes:
        scope: From where it speaks, and where it runs agents and graphs: `run_below`.
        node: Its name.
        run_id: The run.
        superstep: The superstep, from 1.
        attempt: 1, and one more each time that the node is tried again.
        deadline: When it is cut off, on the clock of `time.monotonic()`, in seconds; None if
            nothing limits it.
    """

    __slots__ = ("_asked", "_run", "deadline", "node", "run_id", "scope")

    def __init__(self, run: Run, scope: NodeScope, deadline: float | None) -> None:
        self._run = run
        self._asked = 0
        self.scope = scope
        self.node = scope.node
        self.run_id = run.run_id
        self.deadline = deadline

    @property
    def superstep(self) -> int:
        """The superstep, from 1."""
        return self.scope.superstep

    @property
    def attempt(self) -> int:
        """Which attempt at the node this is, from 1."""
        return self.scope.attempt

    @property
    def writer(self) -> StreamWriter:
        """Report updates while the node works; they do not touch the state."""
        writer = get_stream_writer(self)
        assert writer is not None  # noqa: S101 - for the type checker: there is a scope
        return writer

    async def interrupt(self, reason: str = "approval", payload: Any = None) -> Decision:
        """Ask a human, and return the answer.

        The first time, the run pauses here: it ends, and goes on when there is an answer. The node
        then runs again from its beginning, and the same call returns. So what comes before it is
        done twice; put what must not be into a node of its own.

        Args:
            reason: What is asked, for people.
            payload: What it is about: any value that pydantic can write as JSON.
        """
        self._asked += 1
        run, scope = self._run, self.scope
        approval = run.question(scope.superstep, self.node, self._asked)
        decision = run.decision(approval)
        if decision is not None:
            return decision
        if run.asks(approval):
            said = None if payload is None else orjson.dumps(plain(payload, f"node {self.node!r}"))
            await scope.outbox.send(
                ApprovalRequested(
                    run_id=run.run_id,
                    path=run.path,
                    approval_id=approval,
                    node=self.node,
                    arguments=None if said is None else said.decode(),
                    reason=reason,
                )
            )
        raise Paused((approval,), reason)
