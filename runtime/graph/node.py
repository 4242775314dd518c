"""Running one node: its attempts, its limits, what it says and what it answers."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Mapping
from functools import partial
from time import monotonic
from typing import Any

from runtime.abandon import in_thread, stop
from runtime.conduct import shortest
from runtime.errors import NodeError, NodeTimedOut, RuntimeFault
from runtime.events import NodeCompleted, NodeFailed, NodeStarted
from runtime.failure import error_info
from runtime.graph.command import Command, Writes, writes_of
from runtime.graph.context import NodeContext, NodeScope
from runtime.graph.definition import NodeSpec
from runtime.graph.keys import JSON_ATOMS, Key
from runtime.graph.merge import merged
from runtime.graph.plan import chosen
from runtime.graph.replay import Finished
from runtime.graph.run import Run
from runtime.graph.view import View
from runtime.nested import Paused
from runtime.scope import enter

__all__ = ["Step", "state_of", "visit"]

_logger = logging.getLogger(__name__)


class Step:
    """What the nodes of one superstep share.

    Attributes:
        index: Its number, from 1.
        values: What was committed before it.
        view: The same, as nodes see it.
        finished: Takes what nodes that are done wrote and chose.
    """

    __slots__ = ("finished", "index", "values", "view")

    def __init__(
        self, index: int, values: Mapping[str, Any], view: View, finished: dict[str, Finished]
    ) -> None:
        self.index = index
        self.values = values
        self.view = view
        self.finished = finished


async def visit(run: Run, spec: NodeSpec, step: Step) -> None:
    """Run a node, report it, and put what it wrote and chose into `step.finished`.

    Raises:
        NodeError: If it failed for good; that was reported.
        Paused: If it waits for a human.
        asyncio.CancelledError: If the run stops it.
        BaseException: Whatever `report` raises.
    """
    definition = run.definition
    if run.yields is None:
        run.open_nodes[spec.name] = started = NodeStarted(
            run_id=run.run_id,
            path=run.path,
            node=spec.name,
            kind=spec.kind,
            superstep=step.index,
            agent=spec.agent,
            state=state_of(definition.keys, step.values) if definition.show_state else None,
        )
        await run.say(started)
    began = monotonic()
    scope = NodeScope(run, spec, step.index, 1)
    enter(scope)
    try:
        answer = await (
            spec.function(step.view) if spec.bare else _called(run, spec, scope, step.view)
        )
        writes, targets = writes_of(answer, definition.keys), None
        if spec.branch is not None or isinstance(answer, Command):
            targets = _targets(run, spec, step, answer, writes)
        if scope.box is not None:
            await scope.flush()
    except BaseException as error:  # noqa: BLE001 - raised again there, or the node is retried
        writes, targets = await _again(run, spec, step, scope, error)
    finally:
        scope.over = True
    if run.watch is not None and run.yields is not None:
        await run.yields(run.watch.finished(spec.name, writes))
    else:
        completed = _completed(run, spec, step, (writes, targets), monotonic() - began)
        del run.open_nodes[spec.name]
        await run.say(completed)
    step.finished[spec.name] = (writes, targets)


async def _again(
    run: Run, spec: NodeSpec, step: Step, scope: NodeScope, error: BaseException
) -> Finished:
    """Deal with an attempt that did not succeed, and with those after it."""
    while True:
        await _not_done(run, spec, scope, error)
        scope.over = True
        scope = NodeScope(run, spec, step.index, scope.attempt + 1)
        enter(scope)
        try:
            answer = await _called(run, spec, scope, step.view)
            writes = writes_of(answer, run.definition.keys)
            targets = _targets(run, spec, step, answer, writes)
            await scope.flush()
        except BaseException as failed:  # noqa: BLE001 - as above
            error = failed
        else:
            return writes, targets


def _called(run: Run, spec: NodeSpec, scope: NodeScope, view: View) -> Awaitable[Any]:
    """Call a node's function once, and return what is to be awaited."""
    if not spec.plain:
        return _attempt(run, spec, scope, view)
    if spec.bare:
        called: Awaitable[Any] = spec.function(view)
    else:
        called = spec.function(NodeContext(run, scope, run.deadline), view)
    return called


def _targets(
    run: Run, spec: NodeSpec, step: Step, answer: Any, writes: Writes
) -> tuple[str, ...] | None:
    asked = answer.targets if isinstance(answer, Command) else None
    if asked is None and spec.branch is None:
        return None
    after = merged(step.values, ((spec.name, writes),))
    return chosen(spec, asked, View(run.definition.keys, after))


def _completed(
    run: Run, spec: NodeSpec, step: Step, outcome: Finished, seconds: float
) -> NodeCompleted:
    writes, targets = outcome
    updates = {
        key.name: value if value.__class__ in JSON_ATOMS else key.dump(value)
        for key, value in writes.items()
    }
    shown = None
    if run.definition.show_state:
        after = merged(step.values, ((spec.name, writes),))
        shown = state_of(run.definition.keys, after)
    return NodeCompleted(
        run_id=run.run_id,
        path=run.path,
        node=spec.name,
        kind=spec.kind,
        updates=updates or None,
        result=_result(updates) if spec.kind == "flow_step" else None,
        targets=targets,
        state=shown,
        duration_ms=int(seconds * 1e6) / 1e3,
    )


async def _not_done(run: Run, spec: NodeSpec, scope: NodeScope, error: BaseException) -> None:
    """Tell how an attempt ended that did not succeed; return if there is to be another one."""
    if isinstance(error, asyncio.CancelledError):
        if run.stopping:
            await scope.aclose()
            raise error
        error = _cancelled_itself(error)
    await scope.flush()
    if isinstance(error, Exception):
        await _failed(run, spec, scope.attempt, error)
        return
    if (paused := _paused(error)) is not None:
        raise paused from None
    raise error


async def _attempt(run: Run, spec: NodeSpec, scope: NodeScope, view: View) -> Any:
    """Run a node's function once, in a thread or with a limit."""
    limit = spec.timeout
    until = None if limit is None else monotonic() + limit
    given: tuple[Any, ...] = (view,)
    if spec.context:
        given = (NodeContext(run, scope, shortest(run.deadline, until)), view)
    if limit is None:
        return await _answer(spec, given)
    task = asyncio.get_running_loop().create_task(_answer(spec, given))
    try:
        await asyncio.wait((task,), timeout=limit)
        if task.done():
            return task.result()
    finally:
        await stop((task,), "node")
    raise NodeTimedOut(limit)


async def _answer(spec: NodeSpec, given: tuple[Any, ...]) -> Any:
    answer = (
        spec.function(*given)
        if spec.is_async
        else await in_thread(partial(spec.function, *given), "node")
    )
    return await answer if inspect.isawaitable(answer) else answer


async def _failed(run: Run, spec: NodeSpec, attempt: int, error: Exception) -> None:
    """Report a failure; wait if the node is to be tried again.

    Raises:
        NodeError: If it is not.
    """
    delay = spec.retry.delay(attempt, error) if spec.retry is not None else None
    failed = _node_error(spec, error)
    if delay is None:
        run.open_nodes.pop(spec.name, None)
    await run.report(
        NodeFailed(
            run_id=run.run_id,
            path=run.path,
            node=spec.name,
            kind=spec.kind,
            error=error_info(failed),
            will_retry=delay is not None,
        )
    )
    if delay is None:
        raise failed from failed.__cause__
    _logger.warning("node %r failed, trying again", spec.name, exc_info=error)
    await asyncio.sleep(delay)


def _node_error(spec: NodeSpec, error: Exception) -> NodeError:
    """Return the error of a node; one of a node inside it is told as that one's."""
    cause: BaseException = error
    name = spec.name
    if isinstance(error, NodeError) and error.__cause__ is not None:
        name, cause = f"{spec.name}/{error.node}", error.__cause__
    failed = NodeError(name, cause)
    failed.__cause__ = cause
    return failed


def _cancelled_itself(error: asyncio.CancelledError) -> RuntimeFault:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
    fault = RuntimeFault("it cancelled itself")
    fault.__cause__ = error
    return fault


def _paused(error: BaseException) -> Paused | None:
    """Return what a node waits for, also if several things in it do."""
    if isinstance(error, Paused):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    found = [_paused(part) for part in error.exceptions]
    waits = [paused for paused in found if paused is not None]
    if not waits or len(waits) < len(found):
        return None
    return Paused([approval for paused in waits for approval in paused.approvals], waits[0].reason)


def _result(updates: Mapping[str, Any]) -> Any:
    """Return the result of a step of a flow: what it wrote, without a name if that is one key."""
    return next(iter(updates.values())) if len(updates) == 1 else updates or None


def state_of(keys: Mapping[str, Key[Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as plain JSON."""
    return {name: keys[name].dump(value) for name, value in values.items()}
