"""Sections 4 and 7 of PROTOCOL.md: conversations that branch off, and what is kept of them."""

from __future__ import annotations

from gateway.conformance.check import Checks, NotObservable, must, must_equal
from gateway.conformance.events import shown
from gateway.conformance.target import Target

CHECKS = Checks()

_GONE = 410


async def _talked(target: Target) -> tuple[str, str]:
    """Return a session with two turns, and the cursor after the first one."""
    session_id = await target.session("echo")
    log = await target.say(session_id, "one", message_id="first")
    await target.say(session_id, "two", message_id="second")
    return session_id, log[-1].cursor


@CHECKS.of("fork.history", needs=("echo",))
async def a_fork_has_the_same_conversation(target: Target) -> None:
    """A fork is a new session with the messages of this one, which it names."""
    session_id, _ = await _talked(target)
    parent = await target.snapshot(session_id)
    answer = (await target.command(session_id, "fork", id="branch", to=target.new_id())).must_be(
        202
    )
    forked = str(answer.json.get("forked"))
    child = await target.snapshot(forked)
    said = [(m["message_id"], m["role"], m["text"]) for m in child["messages"]]
    wanted = [(m["message_id"], m["role"], m["text"]) for m in parent["messages"]]
    must_equal(said, wanted, "the messages of the fork", answer.request)
    first = (await target.log(forked))[0]
    of = (first.get("forked_from") or {}).get("session_id")
    must_equal(
        (first.type, of), ("session.created", session_id), "its first event", shown(first.raw)
    )
    must(
        first.cursor.split(".")[0] != parent["cursor"].split(".")[0],
        "an epoch of its own",
        shown(first.raw),
    )
    after = await target.snapshot(session_id)
    must_equal(after["cursor"], parent["cursor"], "the cursor of the session that was forked")
    again = (await target.command(session_id, "fork", id="branch", to=forked)).must_be(202)
    must_equal(again.json.get("forked"), forked, "the session that the same command made")


@CHECKS.of("fork.history", needs=("echo",))
async def a_fork_goes_back_to_a_cursor(target: Target) -> None:
    """A fork at a cursor has what had been said there, and no more."""
    session_id, cursor = await _talked(target)
    answer = (await target.command(session_id, "fork", at=cursor, to=target.new_id())).must_be(202)
    child = await target.snapshot(str(answer.json.get("forked")))
    said = [message["text"] for message in child["messages"]]
    must_equal(said, ["one", "one"], "the texts of the fork", answer.request)
    ahead = cursor.split(".")
    refused = await target.command(session_id, "fork", at=f"{ahead[0]}.999999.{ahead[2]}")
    refused.must_be_refused("cursor_invalid", _GONE)


@CHECKS.of("retention.window", needs=("echo",))
async def a_short_log_is_kept_whole(target: Target) -> None:
    """A log of less than 2,000 events has all of them."""
    session_id, _ = await _talked(target)
    log = await target.log(session_id)
    must_equal(log[0].seq, 1, "the `seq` of the first event", shown(log[0].raw))


@CHECKS.of("retention.window")
async def a_deleted_session_is_remembered(target: Target) -> None:
    """The id of a deleted session gives 410."""
    session_id = await target.session()
    path = f"/v1/sessions/{session_id}"
    (await target.ask("DELETE", path)).must_be(204)
    (await target.ask("GET", path)).must_be_refused("session_gone", _GONE)


@CHECKS.of("retention.window")
async def old_events_may_be_trimmed(target: Target) -> None:
    """What is older than the window may be trimmed, and an active run is never."""
    raise NotObservable("a server keeps its events for hours; see its own settings")
