"""Beginning a run, doing it and ending it properly, whatever it is that runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from runtime.errors import RuntimeFault
from runtime.events import ErrorInfo, Event, RunCancelled, RunCompleted, RunFailed, RunStarted
from runtime.failure import CANCELLED, error_info, timed_out
from runtime.report import Reporter
from runtime.runnable import RunOptions, RunRequest

__all__ = ["StoppedAfterStep", "conduct", "run_started", "shortest"]

_logger = logging.getLogger(__name__)


ABANDONED = ErrorInfo(code="abandoned", message="the run was done before this was")
"""Why things are closed that a run has left open at its end."""


class StoppedAfterStep(Exception):
    """Raised by the work of a run that was asked to stop after its current step."""


def run_started(
    report: Reporter,
    request: RunRequest,
    *,
    agent: str | None = None,
    graph: str | None = None,
    options: RunOptions | None = None,
) -> RunStarted:
    """Return the event that a run begins with.

    Args:
        report: The run's way out.
        request: What it was asked.
        agent: Its agent.
        graph: Or its graph.
        options: Those that it takes; only what is no default is told.
    """
    told = None
    if options is not None and options.model_fields_set:
        told = options.model_dump(mode="json", exclude_defaults=True) or None
    return RunStarted(
        run_id=report.run_id,
        path=report.path,
        agent=agent,
        graph=graph,
        attempt=request.attempt,
        parent_run_id=request.parent_run_id,
        options=told,
    )


def shortest(*limits: float | None) -> float | None:
    """Return the least of these limits, or moments; None if there is none."""
    return min((limit for limit in limits if limit is not None), default=None)


async def conduct(
    report: Reporter, work: Callable[[], Awaitable[Sequence[Event]]], *, limit: float | None
) -> None:
    """Do the work of a run and report its end; the promises are those of `Runnable.execute`.

    Args:
        report: The run's way out.
        work: Does the run and returns what is still to be reported, the run's end last. What it
            has opened when it raises is closed here.
        limit: Seconds until the run ends as `run.cancelled`, reason `timeout`; None for no limit.

    Raises:
        asyncio.CancelledError: If the task is cancelled; the end is reported first.
        BaseException: Whatever the run's `emit` raises.
    """
    clock = asyncio.timeout(limit)
    try:
        async with clock:
            last = await work()
        if last and isinstance(last[-1], RunCompleted):
            last = [*report.boundaries.closing(ABANDONED), *last]
    except asyncio.CancelledError:
        await report.end(_cancelled(report, CANCELLED, "cancel"))
        raise
    except BaseException as error:
        report.check()
        if isinstance(error, TimeoutError) and clock.expired():
            last = _cancelled(report, timed_out(limit), "timeout")
        elif isinstance(error, StoppedAfterStep):
            last = _cancelled(report, CANCELLED, "cancel")
        elif isinstance(error, Exception):
            last = _failed(report, error)
        else:
            raise
    await report.end(last)


def _cancelled(
    report: Reporter, error: ErrorInfo, reason: Literal["cancel", "timeout"]
) -> list[Event]:
    """Return what ends a run that was stopped before it was done."""
    return [
        *report.boundaries.closing(error),
        RunCancelled(
            run_id=report.run_id,
            path=report.path,
            reason=reason,
            partial_output=report.partial_output(),
        ),
    ]


def _failed(report: Reporter, error: Exception) -> list[Event]:
    """Return what ends a run that failed."""
    if isinstance(error, RuntimeFault):
        _logger.warning("run %s failed: %s", report.run_id, error, exc_info=error.__cause__)
    else:
        _logger.error("run %s failed unexpectedly", report.run_id, exc_info=error)
    info = error_info(error)
    return [
        *report.boundaries.closing(info),
        RunFailed(run_id=report.run_id, path=report.path, error=info).caused_by(error),
    ]
