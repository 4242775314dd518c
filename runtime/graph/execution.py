"""One run of a graph, from its request to its last event: its limits, and how it is stopped.

The work is done in a task of its own. So a node that does not want to stop is left behind, and the
run is over all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from runtime.abandon import finish, stop
from runtime.conduct import conduct, shortest
from runtime.errors import RuntimeFault
from runtime.events import Event
from runtime.graph.definition import Definition
from runtime.graph.results import Watch
from runtime.graph.run import Run
from runtime.graph.supersteps import Supersteps
from runtime.report import Reporter
from runtime.runnable import Emit, RunRequest

__all__ = ["execute"]


async def execute(
    definition: Definition, request: RunRequest, emit: Emit, watch: Watch | None = None
) -> None:
    """Do a run and report it; the promises are those of `Runnable.execute`.

    Args:
        definition: The graph.
        request: What it is asked.
        emit: Takes the events.
        watch: Sees values as they are, for a program in this process.
    """
    report = Reporter(emit, run_id=request.run_id, path=request.path or (definition.name,))
    limit = shortest(definition.timeout, request.timeout)
    run = Run(definition, request, report, watch=watch, limit=limit)

    async def work() -> Sequence[Event]:
        try:
            await _work(run)
        finally:
            run.leave()
        return ()

    await conduct(report, work, limit=limit)


async def _work(run: Run) -> None:
    """Do the work and report the last event; leave behind what does not stop when told to."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    worker = run.worker = loop.create_task(_to_the_end(run, over))
    try:
        await over
    except asyncio.CancelledError:
        run.stop()
        try:
            if run.reporter.ended:
                await finish(worker)
                if not worker.cancelled():
                    worker.exception()  # its last report may have been refused: nobody asks
            else:
                await stop((worker,), "node")
        finally:
            run.mute()
        raise
    if worker.cancelled():
        run.reporter.check()
        raise RuntimeFault("the work was cancelled from inside")
    worker.result()


async def _to_the_end(run: Run, over: asyncio.Future[None]) -> None:
    try:
        last = await Supersteps(run).work()
        # Reported here, not by `conduct`, which would need another task for it.
        run.reporter.ended = True
        await run.report(last)
    finally:
        if not over.done():
            over.set_result(None)
