"""One run of a graph: what all its parts share."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import NoReturn

from runtime.errors import RunAborted
from runtime.events import (
    ApprovalRequested,
    Event,
    MessageCompleted,
    ModelCompleted,
    NodeStarted,
    SuperstepStarted,
)
from runtime.graph.definition import Definition
from runtime.graph.plan import approval_id
from runtime.graph.replay import left_over
from runtime.graph.results import Watch
from runtime.journal import below, spoken_below
from runtime.messages import Usage
from runtime.report import Reporter
from runtime.runnable import Decision, Emit, RunRequest

__all__ = ["Run", "nobody_listens"]

NO_USAGE = Usage()


class Run:
    """One run, while it lasts.

    Attributes:
        definition: The graph.
        request: What it was asked.
        run_id: The run.
        path: The graph's path.
        reporter: Takes all events, and knows what is open.
        report: Takes events; refuses them once the run has given up waiting.
        emit: The same for those events that every superstep makes; see `say`.
        open_nodes: Nodes that have begun and have not ended, by name.
        open_superstep: The superstep that has begun and has not ended.
        watch: Sees values as they are, for a program in this process.
        yields: The watch's own, see there; None for everybody who sees events.
        deadline: When the run is cut off, on the clock of `time.monotonic()`.
        loop: Where it runs.
        worker: The task that does the work.
        stopping: Whether its nodes are being cancelled by it.
        resumed: The superstep with which it goes on, of which the journal may hold a part.
        usage: What model calls below took.
        turns: How many they were.
        said: The texts of messages so far.
    """

    def __init__(
        self,
        definition: Definition,
        request: RunRequest,
        report: Reporter,
        *,
        watch: Watch | None = None,
        limit: float | None = None,
    ) -> None:
        self.definition = definition
        self.request = request
        self.run_id = request.run_id
        self.path = report.path
        self.reporter = report
        self.report: Emit = report.__call__
        self.emit: Emit = report.emit
        self.open_nodes: dict[str, NodeStarted] = {}
        self.open_superstep: SuperstepStarted | None = None
        self.watch = watch
        self.yields = watch.yields if watch is not None else None
        self.deadline = None if limit is None else time.monotonic() + limit
        self.loop = asyncio.get_running_loop()
        self.worker: asyncio.Task[None] | None = None
        self.stopping = False
        self.resumed = 0
        self.usage = NO_USAGE
        self.turns = 0
        self.said: set[str] = set()
        self._asked: set[str] = set()
        for event in below(request.journal, self.path) if request.journal else ():
            if isinstance(event, ApprovalRequested):
                self._asked.add(event.approval_id)
            else:
                self._note(event)

    async def relay(self, event: Event) -> None:
        """Report an event from inside a node."""
        self._note(event)
        await self.report(event)

    def _note(self, event: Event) -> None:
        match event:
            case ModelCompleted():
                self.turns += 1
                self.usage += event.usage or Usage()
                if event.content and not spoken_below(event.path):
                    self.said.add(event.content)
            case MessageCompleted() if not spoken_below(event.path):
                self.said.add(event.text)
            case _:
                pass

    async def say(self, event: Event) -> None:
        """Report an event of a superstep. Whoever calls it keeps `open_nodes` and `open_superstep`."""
        try:
            await self.emit(event)
        except BaseException as error:
            self._broken(error)
            raise

    def _broken(self, error: BaseException) -> None:
        """Know what `emit` raised: nothing more can be reported, unless the run was cancelled."""
        self.reporter.broken(error)
        if self.reporter.failure is not None:
            self.emit = self.report  # which raises it again

    def leave(self) -> None:
        """Hand over what is open, for others to close."""
        boundaries = self.reporter.boundaries
        if self.open_superstep is not None:
            boundaries.note(self.open_superstep)
        for started in self.open_nodes.values():
            boundaries.note(started)

    def stop(self) -> None:
        """Know that nodes are cancelled from now on because the run ends."""
        self.stopping = True

    def abort(self, error: BaseException) -> None:
        """Stop the nodes: what they say cannot be reported any more."""
        self.stopping = True
        if self.worker is not None:
            self.worker.cancel()

    def mute(self) -> None:
        """Refuse all that is still said by those who did not stop when they were told to."""
        self.report = self.emit = nobody_listens

    # --- questions -----------------------------------------------------------------------------

    def question(self, superstep: int, node: str, count: int = 0) -> str:
        """Return the id of a question; see `plan.approval_id`."""
        return approval_id(self.run_id, self.path, superstep, node, count)

    def decision(self, approval: str) -> Decision | None:
        """Return what a human said to a question."""
        return self.request.decisions.get(approval)

    def asks(self, approval: str) -> bool:
        """Tell whether a question is still to be reported, and count it as reported."""
        new = approval not in self._asked
        self._asked.add(approval)
        return new

    # --- nested runs ---------------------------------------------------------------------------

    def request_for(self, node: str, superstep: int, attempt: int) -> RunRequest:
        """Return the request as runs inside a node see it.

        Only the journal of this very visit counts there: a node that is visited again, or tried
        again, begins anew.
        """
        if not self.request.journal:
            return self.request
        goes_on = superstep == self.resumed and attempt == 1
        journal = left_over(self.request.journal, self.path, node) if goes_on else ()
        return replace(self.request, journal=journal)


async def nobody_listens(event: Event) -> NoReturn:
    """Refuse an event: the run, or the node, is over."""
    raise RunAborted("nobody listens any more")
