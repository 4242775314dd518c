"""The supersteps of a run, from the place where it begins to its last event."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.conduct import StoppedAfterStep, run_started
from runtime.errors import ApprovalRejected, StepLimitExceeded
from runtime.events import (
    ApprovalRequested,
    EdgeTaken,
    ErrorInfo,
    Event,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    NodeFailed,
    RunCompleted,
    RunInterrupted,
    SuperstepCompleted,
    SuperstepStarted,
)
from runtime.failure import CANCELLED
from runtime.graph.definition import NodeSpec
from runtime.graph.keeping import Keeping
from runtime.graph.node import Step, state_of, visit
from runtime.graph.replay import Finished, Place, advanced, begun, edited, replayed
from runtime.graph.run import Run
from runtime.graph.speech import count_of, text_of, words_of
from runtime.graph.together import together
from runtime.graph.view import View
from runtime.journal import at
from runtime.nested import Paused
from runtime.report import new_id

__all__ = ["Supersteps"]

INTERRUPTED = ErrorInfo(code="interrupted", message="it waits for a human")
"""Why a node is closed that asked in the middle of its work; it is run again with the answer."""


class Supersteps:
    """Does the work of a run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._keeping = Keeping(run)
        self._values: Mapping[str, Any] = {}
        self._superstep = 0  # finished ones
        self._due: tuple[str, ...] = ()
        self._finished: dict[str, Finished] = {}  # of those that are due
        self._last: str | None = None

    @property
    def _place(self) -> Place:
        return Place(self._values, self._superstep, self._due, self._finished, self._last)

    async def work(self) -> Event:
        """Do the run and return its last event, which is still to be reported.

        Raises:
            NodeError: If a node failed for good.
            GraphError: If what nodes wrote, or where they went, does not fit.
            StoppedAfterStep: If it was asked to stop.
            StepLimitExceeded: If there is more to do than the graph allows.
            BaseException: Whatever `report` raises.
        """
        run, definition = self._run, self._run.definition
        if run.request.announce:
            await run.report(
                run_started(
                    run.reporter, run.request, graph=definition.name, options=run.request.options
                )
            )
        await self._begin()
        cancel = run.request.cancel
        while self._due:
            if self._superstep >= definition.max_steps:
                raise StepLimitExceeded(definition.max_steps, "supersteps")
            if cancel is not None and cancel.stopping:
                raise StoppedAfterStep
            waits = await self._ask() if definition.guarded else ()
            waits = waits or await self._step()
            if waits:
                return self._interrupted(waits)
        return await self._completed()

    async def _begin(self) -> None:
        run, request = self._run, self._run.request
        place = begun(run.definition, request)
        if request.journal:
            own = at(request.journal, run.path)
            place = replayed(run.definition, place, own, request.decisions, run.question)
        self._values, self._superstep, self._due = place.values, place.superstep, place.due
        self._finished, self._last = dict(place.finished), place.last
        run.resumed = place.superstep + 1
        if request.save is not None and not request.journal and request.checkpoint is None:
            await self._keeping.save(place)

    # --- one superstep -------------------------------------------------------------------------

    async def _ask(self) -> Sequence[tuple[str, Paused]]:
        """Ask humans about nodes that want it, and return what is to be waited for.

        Raises:
            ApprovalRejected: If a human said no, or nobody said anything in time.
        """
        run, index = self._run, self._superstep + 1
        waits: list[tuple[str, Paused]] = []
        for spec in self._unfinished():
            if spec.guard is False:
                continue
            approval = run.question(index, spec.name)
            decision = run.decision(approval)
            if decision is not None:
                if decision.kind in {"rejected", "expired"}:
                    raise ApprovalRejected(spec.name, decision.message, decision.kind)
                continue
            guard = spec.guard
            asked = guard(View(run.definition.keys, self._values)) if callable(guard) else guard
            if not asked:
                continue
            reason = asked if isinstance(asked, str) else "approval"
            waits.append((spec.name, Paused((approval,), reason)))
            if run.asks(approval):
                await run.report(
                    ApprovalRequested(
                        run_id=run.run_id,
                        path=run.path,
                        approval_id=approval,
                        node=spec.name,
                        reason=reason,
                    )
                )
        return waits

    def _unfinished(self) -> list[NodeSpec]:
        nodes, finished = self._run.definition.nodes, self._finished
        if not finished:
            return [nodes[name] for name in self._due]
        return [nodes[name] for name in self._due if name not in finished]

    async def _step(self) -> Sequence[tuple[str, Paused]]:
        """Do a superstep; return what is to be waited for, if it could not be finished."""
        run, definition, index, done = (
            self._run,
            self._run.definition,
            self._superstep + 1,
            self._due,
        )
        values = self._values
        if run.request.decisions:
            values = edited(definition, self._place, run.request.decisions, run.question)
        if run.watch is not None:
            run.watch.values = values
        todo = self._unfinished()
        names = done if len(todo) == len(done) else tuple([spec.name for spec in todo])
        if run.yields is None:
            run.open_superstep = started = SuperstepStarted(
                run_id=run.run_id, path=run.path, index=index, nodes=names
            )
            await run.say(started)
        step = Step(index, values, View(definition.keys, values), self._finished)
        waits: Sequence[tuple[str, Paused]] = ()
        if len(todo) > 1:
            waits = await self._together(todo, step)
        else:
            try:
                await visit(run, todo[0], step)
            except Paused as paused:
                waits = ((todo[0].name, paused),)
        edges: Sequence[tuple[str, str]] = ()
        if waits:
            await self._close(waits)
        else:
            self._values, edges, self._due = advanced(definition, values, done, self._finished)
            self._superstep, self._last, self._finished = index, done[-1], {}
        if run.yields is None:
            run.open_superstep = None
            await run.say(
                SuperstepCompleted(run_id=run.run_id, path=run.path, index=index, nodes=names)
            )
            for source, target in edges:
                await run.say(
                    EdgeTaken(run_id=run.run_id, path=run.path, source=source, target=target)
                )
        if run.request.save is not None and not waits:
            await self._keeping.save(self._place)
        return waits

    async def _together(self, todo: Sequence[NodeSpec], step: Step) -> Sequence[tuple[str, Paused]]:
        run = self._run
        raised = await together([visit(run, spec, step) for spec in todo], run.stop)
        for error in raised:
            if error is not None and not isinstance(error, Paused | asyncio.CancelledError):
                for spec in todo:
                    await self._stopped(spec)
                raise error
        return [
            (spec.name, error)
            for spec, error in zip(todo, raised, strict=True)
            if isinstance(error, Paused)
        ]

    async def _stopped(self, spec: NodeSpec) -> None:
        """Report that a node was stopped because another one failed."""
        run = self._run
        if run.open_nodes.pop(spec.name, None) is not None:
            await run.report(
                NodeFailed(
                    run_id=run.run_id,
                    path=run.path,
                    node=spec.name,
                    kind=spec.kind,
                    error=CANCELLED.model_copy(update={"node": spec.name}),
                )
            )

    async def _close(self, waits: Sequence[tuple[str, Paused]]) -> None:
        """Close nodes that wait for a human in the middle of their work."""
        run = self._run
        for name, paused in waits:
            spec = run.definition.nodes[name]
            if run.open_nodes.pop(name, None) is None:
                continue  # nobody was told that it had begun
            await run.report(
                NodeFailed(
                    run_id=run.run_id,
                    path=run.path,
                    node=name,
                    kind=spec.kind,
                    error=INTERRUPTED.model_copy(
                        update={"node": name, "message": f"it waits for a human: {paused.reason}"}
                    ),
                )
            )

    # --- ends ----------------------------------------------------------------------------------

    def _interrupted(self, waits: Sequence[tuple[str, Paused]]) -> RunInterrupted:
        run = self._run
        return RunInterrupted(
            run_id=run.run_id,
            path=run.path,
            reason=waits[0][1].reason,
            node=waits[0][0],
            state=state_of(run.definition.keys, self._values),
            pending=tuple(approval for _, paused in waits for approval in paused.approvals),
            checkpoint_id=self._keeping.last,
        )

    async def _completed(self) -> RunCompleted:
        run, definition, values = self._run, self._run.definition, self._values
        key = definition.output
        output = key.read(values.get(key.name, key.default))
        if run.watch is not None:
            run.watch.values, run.watch.output = values, output
        if not run.request.path:
            await self._say(words_of(output))
        state = state_of(definition.keys, values)
        final = state[key.name] if key.name in state else key.dump(key.default)
        return RunCompleted(
            run_id=run.run_id,
            path=run.path,
            output=text_of(output, final),
            final_output=final,
            state=state,
            usage=run.usage,
            last_node=self._last,
            message_count=count_of(definition.keys, values) or len(run.request.history),
            num_turns=run.turns,
        )

    async def _say(self, text: str) -> None:
        """Say the graph's answer, if nobody in it did, so that those who read a chat see it."""
        run = self._run
        if not text or text in run.said:
            return
        spoken = {"run_id": run.run_id, "path": run.path, "message_id": new_id("msg")}
        await run.report(MessageStarted(**spoken))
        await run.report(MessageDelta(**spoken, text=text))
        await run.report(MessageCompleted(**spoken, text=text))
