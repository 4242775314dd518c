"""Section 8 of PROTOCOL.md: how a server stops in order."""

from __future__ import annotations

import asyncio

from gateway.conformance import logs
from gateway.conformance.check import Checks, must, must_equal
from gateway.conformance.events import Event, shown, the
from gateway.conformance.stories import WORDS
from gateway.conformance.streams import Stream, open_events
from gateway.conformance.target import Target

CHECKS = Checks()

STOP_SECONDS = 30.0
"""What a server may take for what is at work."""


@CHECKS.of("drain.orderly", needs=("echo",), phase="stop")
async def streams_are_told_and_runs_go_on(target: Target) -> None:
    """Before a server stops, streams carry all and are told to come back; runs are handed over."""
    session_id = await target.session("echo")
    ack = await target.send(session_id, WORDS, options={"interval_ms": 150})
    await target.until(session_id, lambda event: event.type == "message.delta", "message.delta")
    async with (
        open_events(target, "sse", session_id, "0") as sse,
        open_events(target, "ndjson", session_id, "0") as ndjson,
        asyncio.TaskGroup() as tasks,
    ):
        told = [tasks.create_task(_closing(stream)) for stream in (sse, ndjson)]
        tasks.create_task(_restarted(target))
    seen = told[0].result()
    log = await target.ended(session_id, ack["run_id"])
    for rule in (logs.seq_is_whole, logs.runs_end_once, logs.boundaries_are_closed):
        rule(log)
    must_equal(log[-1].type, "run.completed", "the end of the run", shown(log[-1].raw))
    if any(event.type == "run.completed" for event in seen):
        return  # it came to its end before the server did
    released = the(log, "run.attempt_released", run_id=ack["run_id"])
    again = the(log, "run.attempt_started", run_id=ack["run_id"])
    must_equal(again.get("reason"), "handed_over", "its reason", shown(again.raw))
    must(released.seq < again.seq, "the release before the next attempt", shown(again.raw))
    carried = [event.seq for event in seen]
    must(released.seq in carried, "streams that carry the release", f"up to {carried[-1:]}")


async def _closing(stream: Stream) -> list[Event]:
    """Read until the server ends the stream; return its events."""
    found, _ = await stream.rest(patience=STOP_SECONDS)
    last = found[-1]
    seen = (last.type, last.get("reason"))
    must_equal(seen, ("stream.closing", "shutdown"), "the last object", stream.request)
    must(isinstance(last.get("retry_ms"), int), "retry_ms", shown(last.raw), stream.request)
    return [event for event in found if not event.is_control]


async def _restarted(target: Target) -> None:
    await target.restart()
