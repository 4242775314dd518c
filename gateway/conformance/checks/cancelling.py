"""Section 4 of PROTOCOL.md: an acknowledged cancel has ended the run."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.conformance import logs
from gateway.conformance.check import Checks, Role, must, must_equal
from gateway.conformance.events import ENDS, Event, shown, the
from gateway.conformance.stories import WORDS
from gateway.conformance.target import Target

CHECKS = Checks()

SECONDS = 1.0
"""What a cancel may take, on one machine."""

STEADY = {"interval_ms": 100}


async def _cancelled(target: Target, session_id: str, **fields: str) -> list[Event]:
    """Cancel, and return the log as it is when that is acknowledged."""
    began = time.monotonic()
    await target.command(session_id, "ping")
    asked = time.monotonic()
    answer = (await target.command(session_id, "cancel", **fields)).must_be(202)
    seconds = (time.monotonic() - asked) - (asked - began)  # what the way there takes apart
    log = await target.log(session_id)
    ends = [event for event in log if event.type in ENDS]
    must(
        ends and ends[-1].type == "run.cancelled",
        "run.cancelled in the log once the cancel is acknowledged",
        f"the log ends with {shown(log[-1].raw)}",
        answer.request,
    )
    must(seconds <= SECONDS, "an answer within 1 s", f"{seconds:.2f} s", answer.request)
    logs.runs_end_once(log)
    logs.boundaries_are_closed(log)
    return log


async def _cancel_at(
    target: Target, role: Role, said: str, moment: Callable[[Event], object], what: str
) -> None:
    session_id = await target.session(role)
    options = {"options": STEADY} if role == "echo" else {}
    await target.send(session_id, said, **options)
    await target.until(session_id, moment, what)
    log = await _cancelled(target, session_id)
    again = await target.command(session_id, "cancel", run_id=log[-1].get("run_id"))
    again.must_be(202, because="cancelling twice is cancelling once")
    must_equal(len(await target.log(session_id)), len(log), "the log's length", again.request)


@CHECKS.of("cancel.bounded", needs=("echo",))
async def a_cancel_ends_an_answer(target: Target) -> None:
    """A cancel in the middle of an answer ends the run, and the partial answer stays."""
    session_id = await target.session("echo")
    await target.send(session_id, WORDS, options=STEADY)
    await target.until(session_id, lambda event: event.type == "message.delta", "message.delta")
    log = await _cancelled(target, session_id)
    cut = the(log[::-1], "message.completed")
    must(cut.get("incomplete"), "`incomplete` on what was cut", shown(cut.raw))
    must(WORDS.startswith(cut.get("text")), "the beginning of the answer", shown(cut.raw))
    shows = (await target.snapshot(session_id))["messages"][-1]
    must(shows.get("incomplete"), "the partial answer in the snapshot", shows)


@CHECKS.of("cancel.bounded", needs=("echo",))
async def a_cancel_ends_a_run_that_has_hardly_begun(target: Target) -> None:
    """A cancel right after the ack of `send`, without a run_id, ends that run."""
    session_id = await target.session("echo")
    ack = await target.send(session_id, WORDS, options=STEADY)
    log = await _cancelled(target, session_id)
    must_equal(log[-1].get("run_id"), ack["run_id"], "the run that was cancelled")


@CHECKS.of("cancel.bounded", needs=("echo",))
async def a_cancel_ends_what_waits_in_the_queue(target: Target) -> None:
    """A cancel of a queued run takes it out of the queue; the active run goes on."""
    session_id = await target.session("echo")
    first = await target.send(session_id, WORDS, options={"interval_ms": 30})
    second = await target.send(session_id, "next")
    (await target.command(session_id, "cancel", run_id=second["run_id"])).must_be(202)
    must_equal((await target.snapshot(session_id))["queue"], [], "the queue")
    log = await target.ended(session_id, first["run_id"])
    ends = {event.get("run_id"): event.type for event in log if event.type in ENDS}
    wanted = {first["run_id"]: "run.completed", second["run_id"]: "run.cancelled"}
    must_equal(ends, wanted, "the ends of both runs")


@CHECKS.of("cancel.bounded", needs=("tools",))
async def a_cancel_ends_tools(target: Target) -> None:
    """A cancel ends a run that is in its tools; cancelling twice is cancelling once."""
    moment = "tool.started"
    await _cancel_at(target, "tools", "weather in Oslo", lambda e: e.type == moment, moment)


@CHECKS.of("cancel.bounded", needs=("tools",))
async def a_cancel_ends_the_waiting_for_a_human(target: Target) -> None:
    """A cancel ends a run that waits for an approval, and settles that."""
    moment = "run.interrupted"
    await _cancel_at(target, "tools", "delete a.txt", lambda e: e.type == moment, moment)


@CHECKS.of("cancel.bounded", needs=("research",))
async def a_cancel_ends_a_graph(target: Target) -> None:
    """A cancel ends a graph whose nodes work side by side."""
    await _cancel_at(target, "research", "tides", lambda e: e.get("index") == 2, "superstep 2")  # noqa: PLR2004


@CHECKS.of("cancel.after_step", needs=("tools",))
async def a_stop_after_the_step_lets_it_finish(target: Target) -> None:
    """`after_step` lets the tools finish, says so in log and snapshot, and then ends the run."""
    session_id = await target.session("tools")
    sent = await target.send(session_id, "weather in Oslo")
    await target.until(session_id, lambda event: event.type == "tool.started", "tool.started")
    answer = await target.command(session_id, "cancel", mode="after_step", id="stop")
    ack = answer.must_be(202).json
    run = (await target.snapshot(session_id))["run"]
    must(run.get("stopping"), "`run.stopping` in the snapshot", run, answer.request)
    (await target.command(session_id, "cancel", mode="after_step")).must_be(202)
    log = await target.ended(session_id, sent["run_id"])
    asked = [event for event in log if event.type == "run.stop_requested"]
    must_equal(len(asked), 1, "the number of run.stop_requested", answer.request)
    must_equal(asked[0].get("command_id"), "stop", "its command_id", shown(asked[0].raw))
    must_equal(ack["cursor"], asked[0].cursor, "the ack's cursor", answer.request)
    types = [event.type for event in log]
    must("tool.completed" in types, "the tool to finish", types[-3:], answer.request)
    must_equal(types[-1], "run.cancelled", "the end", answer.request)
    must_equal(types.count("model.started"), 1, "the number of model calls", answer.request)


@CHECKS.of("cancel.after_step", needs=("tools",))
async def a_stop_ends_at_once_what_does_no_step(target: Target) -> None:
    """A run that waits for a human ends at once with `after_step`; `now` wins over it."""
    session_id = await target.session("tools")
    await target.say(session_id, "delete notes.txt")
    await _cancelled(target, session_id, mode="after_step")
    await target.send(session_id, "weather in Oslo")
    await target.until(session_id, lambda event: event.type == "tool.started", "tool.started")
    (await target.command(session_id, "cancel", mode="after_step")).must_be(202)
    log = await _cancelled(target, session_id, mode="now")
    last = log[-1].get("run_id")
    done = [e for e in log if e.type == "tool.completed" and e.get("run_id") == last]
    must_equal(len(done), 0, "the number of tools that finished")


@CHECKS.of("cancel.after_step", needs=("tools",), phase="kill")
async def a_stop_holds_across_a_kill(target: Target) -> None:
    """A run that was to end after its step ends so after kill -9, too."""
    session_id = await target.session("tools")
    sent = await target.send(session_id, "weather in Oslo")
    await target.until(session_id, lambda event: event.type == "tool.started", "tool.started")
    (await target.command(session_id, "cancel", mode="after_step")).must_be(202)
    await target.restart()
    log = await target.ended(session_id, sent["run_id"])
    must_equal(log[-1].type, "run.cancelled", "the end", shown(log[-1].raw))
