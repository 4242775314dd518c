"""Section 1 and 2 of PROTOCOL.md: the log, its cursors, its bytes."""

from __future__ import annotations

import asyncio

from gateway.conformance import logs
from gateway.conformance.check import Checks, must, must_equal
from gateway.conformance.events import Event, shown, the
from gateway.conformance.stories import STORIES, WORDS, many_writers, talk
from gateway.conformance.streams import TRANSPORTS, open_events, open_sse
from gateway.conformance.target import Target

CHECKS = Checks()


@CHECKS.of("log.order", needs=("echo",))
async def seq_has_no_holes(target: Target) -> None:
    """A log is seq 1, 2, 3 … without holes, also when commands come at the same time."""
    for story in STORIES["echo"]:
        told = await target.once(story)
        logs.seq_is_whole(told.log)
        async with open_sse(target, f"/v1/sessions/{told.session_id}/events?after=0") as stream:
            streamed = await stream.events("the last event", told.log[-1].seq)
        logs.seq_is_whole(streamed)


@CHECKS.of("log.commit", needs=("echo",))
async def what_is_streamed_is_in_the_log(target: Target) -> None:
    """What a live stream shows can be read from the log at that moment."""
    session_id = await target.session("echo")
    async with open_events(target, "sse", session_id, "$") as stream:
        await stream.until("stream.caught_up")
        await target.send(session_id, "one two three four five", options={"interval_ms": 100})
        event = None
        while event is None or event.type != "run.completed":
            event = await stream.next("an event")
            log = await target.log(session_id)
            must(
                any(kept.raw == event.raw for kept in log),
                "the event in the log as soon as it is streamed",
                f"the log ends with seq {log[-1].seq if log else 0}, without {shown(event.raw)}",
                stream.request,
            )


@CHECKS.of("log.commit", needs=("echo",), phase="kill")
async def what_was_streamed_survives_a_kill(target: Target) -> None:
    """What a client has seen before kill -9 is in the log after it."""
    session_id = await target.session("echo")
    seen: list[Event] = []
    async with open_events(target, "sse", session_id, "0") as stream:
        await target.send(session_id, WORDS, options={"interval_ms": 150})
        seen += await stream.events("message.delta")
        await target.restart()
    after = [event.raw for event in await target.log(session_id)]
    for event in seen:
        must(event.raw in after, "the event in the log after the restart", shown(event.raw))


@CHECKS.of("log.immutable", needs=("echo",))
async def a_log_reads_the_same_again(target: Target) -> None:
    """A log that is read again, after more was written to it, begins with the same bytes."""
    session_id = await target.session("echo")
    before = await target.say(session_id, "first")
    await target.say(session_id, "second")
    _must_begin_with(await target.log(session_id), before)


@CHECKS.of("log.immutable", needs=("echo",), phase="kill")
async def a_log_reads_the_same_after_a_kill(target: Target) -> None:
    """A log has the same bytes after kill -9 and a restart."""
    session_id = await target.session("echo")
    before = await target.say(session_id, "before")
    await target.restart()
    _must_begin_with(await target.log(session_id), before)


def _must_begin_with(log: list[Event], before: list[Event]) -> None:
    must(len(log) >= len(before), f"at least {len(before)} events", f"{len(log)} events")
    for first, again in zip(before, log, strict=False):
        must_equal(shown(again.raw), shown(first.raw), f"event {first.seq}, read again,")


@CHECKS.of("cursor.form", needs=("echo",))
async def cursors_are_epoch_seq_tag(target: Target) -> None:
    """A cursor is `epoch.seq.tag`, printable, at most 64 bytes, with another epoch for each log."""
    first, second = await target.once(talk), await target.once(many_writers)
    for told in (first, second):
        logs.cursors_are_formed(told.log)
    epochs = {told.log[0].cursor.split(".")[0] for told in (first, second)}
    must(len(epochs) > 1, "different epochs in different logs", epochs)


@CHECKS.of("cursor.form", needs=("echo",))
async def zero_and_dollar_stand_for_the_ends(target: Target) -> None:
    """Where a cursor is expected, `0` is the start and `$` is only what comes next."""
    told = await target.once(talk)
    for transport in TRANSPORTS:
        async with open_events(target, transport, told.session_id, "0") as stream:
            events = await stream.events("stream.caught_up")
            must_equal(events[0].seq if events else 0, 1, "the first seq", stream.request)
        async with open_events(target, transport, told.session_id, "$") as stream:
            events = await stream.events("stream.caught_up")
            must_equal([event.seq for event in events], [], "what is old", stream.request)


@CHECKS.of("wire.same", needs=("echo", "tools"))
async def all_transports_say_the_same_bytes(target: Target) -> None:
    """An event has the same bytes over SSE, NDJSON, WebSocket and in a page."""
    for story in (talk, STORIES["tools"][0]):
        told = await target.once(story)
        for transport in TRANSPORTS:
            async with open_events(target, transport, told.session_id, "0") as stream:
                events = await stream.events("the last event", told.log[-1].seq)
            paged = {event.seq: event.raw for event in told.log}
            for event in events:
                must_equal(
                    shown(event.raw),
                    shown(paged.get(event.seq, b"")),
                    f"event {event.seq} over {transport}, as in a page of JSON,",
                    stream.request,
                )


@CHECKS.of("wire.same", needs=("echo",))
async def an_event_is_one_object_on_one_line(target: Target) -> None:
    """An event is a JSON object of version 1 on one line, with its session, seq, cursor and time."""
    told = await target.once(talk)
    for event in told.log:
        must(b"\n" not in event.raw, "one line", shown(event.raw))
        wanted = {"v", "type", "session_id", "seq", "cursor", "ts"}
        missing = wanted - event.data.keys()
        must(not missing, f"the fields {', '.join(sorted(wanted))}", shown(event.raw))
        must_equal(event.get("v"), 1, "`v`", shown(event.raw))
        must("." in event.type, "a dotted type", shown(event.raw))
        must(None not in event.data.values(), "absent fields left out", shown(event.raw))


@CHECKS.of("delta.coalesce", needs=("echo",))
async def the_first_delta_comes_at_once(target: Target) -> None:
    """Deltas, merged or not, are the text; the first one does not wait for others."""
    session_id = await target.session("echo")
    async with open_events(target, "sse", session_id, "$") as stream:
        await stream.until("stream.caught_up")
        await target.send(session_id, "one two three", options={"interval_ms": 1000})
        await stream.until("message.started")
        clock = asyncio.get_running_loop().time
        began = clock()
        delta = await stream.next("message.delta")
        seconds = clock() - began
        must_equal(delta.type, "message.delta", "what follows message.started", stream.request)
        must(seconds < 0.8, "the first word at once", f"after {seconds:.1f} s", stream.request)  # noqa: PLR2004
        log = await stream.events("run.completed")
    must_equal(sum(event.type == "message.delta" for event in log), 2, "deltas after the first")
    told = await target.once(talk)
    logs.deltas_make_the_text(told.log)


@CHECKS.of("delta.coalesce", needs=("echo",))
async def deltas_of_a_flood_are_the_text(target: Target) -> None:
    """A flood of words, and what is not ASCII, comes out of the deltas as it went in."""
    session_id = await target.session("echo")
    said = "grüße 世界 🌊 “tide” " * 100 + "end"
    log = await target.say(session_id, said, options={"interval_ms": 0})
    logs.deltas_make_the_text(log)
    last = the(log[::-1], "message.completed")
    must_equal(shown(str(last.get("text"))), shown(said), "the text that was said")


@CHECKS.of("control.no_id", needs=("echo",))
async def control_objects_have_no_seq(target: Target) -> None:
    """Control objects begin with `stream.`, have no seq, and on SSE no id."""
    told = await target.once(talk)
    for after in (None, "0", "$"):
        for transport in TRANSPORTS:
            async with open_events(target, transport, told.session_id, after) as stream:
                found = await stream.until("stream.caught_up")
            for each in found:
                if each.is_control:
                    must("seq" not in each.data, "no seq", shown(each.raw), stream.request)
                else:
                    must(each.seq, "`stream.` or a seq", shown(each.raw), stream.request)
    for after in ("", "?after=0"):
        path = f"/v1/sessions/{told.session_id}/events{after}"
        async with open_sse(target, path) as stream:
            await stream.until("stream.caught_up")
        for frame in stream.frames:
            if '"type":"stream.' in (frame.get("data") or "").replace(" ", ""):
                must(frame.get("id") is None, "no id: with it", shown(frame.raw), stream.request)


@CHECKS.of("control.no_id", needs=("echo",))
async def caught_up_and_reset_say_where(target: Target) -> None:
    """`stream.caught_up` and `stream.reset` name their session and its cursor."""
    told = await target.once(talk)
    for transport in TRANSPORTS:
        async with open_events(target, transport, told.session_id) as stream:
            found = await stream.until("stream.caught_up")
        must_equal(
            [each.type for each in found],
            ["stream.reset", "stream.caught_up"],
            "what a reader without a cursor is told",
            stream.request,
        )
        for each in found:
            must_equal(each.get("session_id"), told.session_id, "session_id", stream.request)
            must_equal(each.cursor, told.log[-1].cursor, "the cursor", stream.request)
        must(isinstance(found[0].get("snapshot"), dict), "a snapshot", shown(found[0].raw))
