"""Section 4 of PROTOCOL.md: what is said while a run is active."""

from __future__ import annotations

from typing import Any

from gateway.conformance import logs
from gateway.conformance.check import Checks, must, must_equal
from gateway.conformance.events import Event, shown, the
from gateway.conformance.stories import WORDS
from gateway.conformance.target import Target

CHECKS = Checks()

SLOW = {"interval_ms": 60}
"""The active run lasts for two seconds."""


async def _working(target: Target) -> tuple[str, str]:
    """Return a session and its run, which is in the middle of an answer."""
    session_id = await target.session("echo")
    ack = await target.send(session_id, WORDS, options=SLOW, message_id="first")
    await target.until(session_id, lambda event: event.type == "message.delta", "message.delta")
    return session_id, str(ack["run_id"])


def _of(log: list[Event], run_id: str) -> list[str]:
    return [event.type for event in log if event.get("run_id") == run_id]


async def _takes_over(
    target: Target, policy: str
) -> tuple[list[Event], dict[str, Any], list[dict[str, Any]]]:
    """Say something with a policy that ends the active run; return log, ack and messages."""
    session_id, run_id = await _working(target)
    ack = await target.send(session_id, "now this", policy=policy, id="over")
    log = await target.ended(session_id, ack["run_id"])
    logs.runs_end_once(log)
    logs.boundaries_are_closed(log)
    end = the(log, "run.cancelled")
    seen = (end.get("run_id"), end.get("reason"), end.get("command_id"))
    wanted = (run_id, "superseded", "over")
    must_equal(seen, wanted, "run_id, reason and command_id of the end", shown(end.raw))
    must_equal(log[-1].type, "run.completed", "the end of the new run", shown(log[-1].raw))
    return log, ack, (await target.snapshot(session_id))["messages"]


@CHECKS.of("send.policies", needs=("echo",))
async def enqueue_waits_for_its_turn(target: Target) -> None:
    """`enqueue` waits as input.queued, and starts with input.dequeued and input.accepted."""
    session_id, first = await _working(target)
    ack = await target.send(session_id, "next", policy="enqueue")
    (item,) = (await target.snapshot(session_id))["queue"]
    must_equal(item["run_id"], ack["run_id"], "the run in the queue")
    log = await target.ended(session_id, ack["run_id"])
    wanted = ["input.queued", "input.dequeued", "input.accepted", "run.started"]
    must_equal(_of(log, ack["run_id"])[:4], wanted, "how the run begins")
    must_equal(_of(log, first)[-1], "run.completed", "the end of the run before")


@CHECKS.of("send.policies", needs=("echo",))
async def reject_refuses_while_a_run_is_active(target: Target) -> None:
    """`reject` gets 409 `run_active` while a run is active; else it is an ordinary `send`."""
    session_id, run_id = await _working(target)
    refused = await target.command(session_id, "send", text="x", policy="reject")
    refused.must_be_refused("run_active", 409)
    await target.ended(session_id, run_id)
    await target.say(session_id, "x", policy="reject")


@CHECKS.of("send.policies", needs=("echo",))
async def interrupt_ends_the_run_and_keeps_its_words(target: Target) -> None:
    """`interrupt` cancels the run, keeps its partial answer, and starts its own at once."""
    log, ack, shows = await _takes_over(target, "interrupt")
    must(any(each.get("incomplete") for each in shows), "the partial answer", shows)
    must_equal(shows[0]["text"], WORDS, "the first message")
    cancelled = the(log, "run.cancelled")
    accepted = the(log, "input.accepted", run_id=ack["run_id"])
    same = accepted.cursor.split(".")[2] == cancelled.cursor.split(".")[2]
    must(same, "the end and the new input in one append, with one tag", shown(accepted.raw))


@CHECKS.of("send.policies", needs=("echo",))
async def rollback_takes_the_turn_out(target: Target) -> None:
    """`rollback` cancels the run, and takes its turn out of the conversation."""
    log, _, shows = await _takes_over(target, "rollback")
    back = [event for event in log if event.type == "history.rolled_back"]
    must_equal(len(back), 1, "the number of history.rolled_back")
    must("first" in back[0].get("message_ids"), "the turn's input in it", shown(back[0].raw))
    texts = [each["text"] for each in shows]
    must_equal(texts, ["now this", "now this"], "the messages that are left")


@CHECKS.of("send.steer", needs=("echo",))
async def steer_is_taken_by_the_active_run(target: Target) -> None:
    """`steer` is taken by the active run at its next model call, or at its end, and once."""
    session_id, run_id = await _working(target)
    ack = await target.send(session_id, "and this", policy="steer")
    (item,) = (await target.snapshot(session_id))["queue"]
    must_equal(item["policy"], "steer", "the policy in the queue")
    log = await target.ended(session_id, run_id)
    steered = [event for event in log if event.type == "input.steered"]
    must_equal(len(steered), 1, "the number of input.steered", shown(log[-1].raw))
    must_equal(steered[0].get("run_id"), run_id, "the run that takes it", shown(steered[0].raw))
    out = log[steered[0].seq - 2]
    seen = (out.type, out.get("reason"), out.get("run_id"))
    must_equal(seen, ("input.dequeued", "steered", ack["run_id"]), "what is right before it")
    calls = [event for event in log if event.type == "model.started"]
    must_equal(len(calls), 2, "the number of model calls", shown(log[-1].raw))
    must(calls[1].seq > steered[0].seq, "a model call that sees it", shown(calls[1].raw))
    shows = await target.snapshot(session_id)
    texts = [each["text"] for each in shows["messages"]]
    must_equal(texts, [WORDS, WORDS, "and this", "and this"], "the messages")
    must_equal(shows["queue"], [], "the queue")


@CHECKS.of("send.steer", needs=("echo",))
async def steer_without_a_run_is_a_send(target: Target) -> None:
    """While nothing runs `steer` is an ordinary `send`; with `rewind_to` it is refused."""
    session_id = await target.session("echo")
    log = await target.say(session_id, "hello", policy="steer", message_id="m")
    must_equal(log[-1].type, "run.completed", "the end", shown(log[-1].raw))
    both = await target.command(session_id, "send", text="x", policy="steer", rewind_to="m")
    must(400 <= both.status < 500, "a refusal", both.shown, both.request)  # noqa: PLR2004


@CHECKS.of("queue.edit", needs=("echo",))
async def the_queue_can_be_edited(target: Target) -> None:
    """`edit_queue` drops and reorders what waits, in one step, and the log and snapshot say so."""
    session_id, run_id = await _working(target)
    waits = [str((await target.send(session_id, text))["run_id"]) for text in ("a", "b", "c")]
    a, b, c = waits
    before = (await target.snapshot(session_id))["queue"]
    must_equal([item["run_id"] for item in before], waits, "the queue")
    must_equal([item["position"] for item in before], [1, 2, 3], "the positions")
    fields = {"run_id", "command_id", "message", "position", "policy"}
    must(fields <= before[0].keys(), f"the fields {', '.join(sorted(fields))}", before[0])
    edited = await target.command(session_id, "edit_queue", drop=[a], order=[c])
    edited.must_be(202)
    after = [item["run_id"] for item in (await target.snapshot(session_id))["queue"]]
    must_equal(after, [c, b], "the queue", edited.request)
    log = await target.log(session_id)
    must_equal(_of(log, a), ["input.queued", "input.dequeued", "run.cancelled"], "the dropped run")
    new = the(log, "input.reordered")
    must_equal(new.get("run_ids"), [c, b], "run_ids", shown(new.raw))
    (await target.command(session_id, "cancel", run_id=b)).must_be(202)
    (await target.command(session_id, "cancel", run_id=c)).must_be(202)
    (await target.command(session_id, "cancel", run_id=run_id)).must_be(202)


@CHECKS.of("queue.edit", needs=("echo",))
async def an_edit_happens_whole_or_not(target: Target) -> None:
    """A run that waits no more gets 409, an unknown one 404, one named twice 422; nothing is done."""
    session_id, run_id = await _working(target)
    waits = str((await target.send(session_id, "a"))["run_id"])
    length = len([e for e in await target.log(session_id) if e.type.startswith("input.")])
    cases: list[tuple[list[str], str, int]] = [
        ([waits, run_id], "not_queued", 409),
        ([waits, "run_unheard_of"], "run_unknown", 404),
    ]
    for drop, code, status in cases:
        refused = await target.command(session_id, "edit_queue", drop=drop)
        refused.must_be_refused(code, status)
    (await target.command(session_id, "edit_queue", drop=[waits], order=[waits])).must_be(422)
    (await target.command(session_id, "edit_queue", order=[waits])).must_be(202)
    found = [e for e in await target.log(session_id) if e.type.startswith("input.")]
    must_equal(len(found), length, "the number of events of the queue: nothing has changed")
    (await target.command(session_id, "cancel", run_id=waits)).must_be(202)
