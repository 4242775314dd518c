"""Section 4 of PROTOCOL.md: runs that end when nobody who controls their session is there."""

from __future__ import annotations

from gateway.conformance.check import Checks, must, must_equal
from gateway.conformance.events import Event, shown, the
from gateway.conformance.stories import WORDS
from gateway.conformance.streams import open_sse
from gateway.conformance.target import Target

CHECKS = Checks()

GRACE = {"cancel_after": 0.3}
STEADY = {"interval_ms": 40}
"""The run lasts for much longer than the grace."""


def _must_be_left(log: list[Event]) -> None:
    end = the(log, "run.cancelled")
    must_equal(end.get("reason"), "disconnect", "the reason of the end", shown(end.raw))


@CHECKS.of("disconnect.cancel_after", needs=("echo",))
async def a_run_that_nobody_follows_is_cancelled(target: Target) -> None:
    """A run with `cancel_after` whose session nobody follows is cancelled, reason `disconnect`."""
    session_id = await target.session("echo")
    ack = await target.send(session_id, WORDS, options=STEADY, on_disconnect=GRACE)
    _must_be_left(await target.ended(session_id, ack["run_id"]))


@CHECKS.of("disconnect.cancel_after", needs=("echo",))
async def who_follows_keeps_it(target: Target) -> None:
    """While somebody follows the session, the run goes on; when the last one leaves, it ends."""
    session_id = await target.session("echo")
    path = f"/v1/sessions/{session_id}/events?after=0"
    async with open_sse(target, path) as stream:
        ack = await target.send(session_id, WORDS, options=STEADY, on_disconnect=GRACE)
        events = await stream.events("run.completed")
        must_equal(events[-1].get("run_id"), ack["run_id"], "the run that ends", stream.request)
    async with open_sse(target, path) as stream:
        ack = await target.send(session_id, WORDS, options=STEADY, on_disconnect=GRACE)
        await stream.until("stream.caught_up")
    log = await target.ended(session_id, ack["run_id"])
    _must_be_left(log)
    must(log[-1].type == "run.cancelled", "run.cancelled as the log's end", shown(log[-1].raw))


@CHECKS.of("disconnect.cancel_after", needs=("echo",))
async def an_observer_keeps_nothing(target: Target) -> None:
    """Who follows with `role=observer` does not keep the run."""
    session_id = await target.session("echo")
    path = f"/v1/sessions/{session_id}/events?after=0&role=observer"
    async with open_sse(target, path):
        ack = await target.send(session_id, WORDS, options=STEADY, on_disconnect=GRACE)
        _must_be_left(await target.ended(session_id, ack["run_id"]))
