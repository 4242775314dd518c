"""Section 7 of PROTOCOL.md: going on, resets and snapshots."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.conformance.check import Checks, NotChecked, NotObservable, must, must_equal
from gateway.conformance.events import Event, shown
from gateway.conformance.fold import folded, of_snapshot
from gateway.conformance.logs import seq_is_whole
from gateway.conformance.stories import STORIES, WORDS, talk, weather
from gateway.conformance.streams import TRANSPORTS, open_events, open_socket, open_sse
from gateway.conformance.target import JSON, Target

CHECKS = Checks()

READERS = 24
"""Readers that come one by one while a run writes: one in a gap is enough."""

FAST = {"interval_ms": 5}


def _epoch_seq_tag(cursor: str) -> tuple[str, int, str]:
    epoch, seq, tag = cursor.split(".")
    return epoch, int(seq), tag


@CHECKS.of("resume.exact", needs=("echo",))
async def a_reader_goes_on_over_any_transport(target: Target) -> None:
    """A live reader that is cut again and again, and changes transport, misses nothing."""
    session_id = await target.session("echo")
    ack = await target.send(session_id, WORDS, options={"interval_ms": 30})
    seen: list[Event] = []
    cursor, turn = "0", 0
    while not seen or seen[-1].type != "run.completed":
        transport = TRANSPORTS[turn % len(TRANSPORTS)]
        async with open_events(target, transport, session_id, cursor) as stream:
            for _ in range(4):
                event = await stream.next("the next event")
                if not event.is_control:
                    seen.append(event)
                    cursor = event.cursor
                    must_equal(event.seq, len(seen), "the next seq", stream.request)
                if event.type == "run.completed":
                    break
        turn += 1
    log = await target.ended(session_id, ack["run_id"])
    same = [event.raw for event in seen] == [event.raw for event in log]
    must(same, "what the log has", "other bytes", f"GET /v1/sessions/{session_id}/events")


@CHECKS.of("resume.exact", needs=("echo",))
async def every_cursor_of_a_log_can_be_resumed(target: Target) -> None:
    """Each cursor that a log has goes on with the event after it, on each transport."""
    told = await target.once(talk)
    for place in range(0, len(told.log) - 1, 5):
        for transport in TRANSPORTS:
            cursor = told.log[place].cursor
            async with open_events(target, transport, told.session_id, cursor) as stream:
                event = await stream.next("the next event")
            wanted = told.log[place + 1].raw
            must_equal(shown(event.raw), shown(wanted), "the next event", stream.request)
    path = f"/v1/sessions/{told.session_id}/events?after={told.log[3].cursor}&limit=2"
    page = (await target.ask("GET", path, headers={"Accept": JSON})).must_be(200)
    seqs = [event["seq"] for event in page.json["events"]]
    must_equal(seqs, [5, 6], "the seqs of a page", page.request)


@CHECKS.of("resume.exact", needs=("echo",), phase="kill")
async def readers_go_on_after_a_kill(target: Target) -> None:
    """After kill -9 a reader goes on with its cursor: no event is lost, none comes twice."""
    session_id = await target.session("echo")
    await target.send(session_id, WORDS, options={"interval_ms": 150})
    seen: dict[str, list[Event]] = {}
    for transport in TRANSPORTS:
        async with open_events(target, transport, session_id, "0") as stream:
            seen[transport] = await stream.events("message.delta")
    await target.restart()
    log = await target.until(
        session_id, lambda event: event.type == "run.completed", "run.completed", limit=30.0
    )
    for transport in TRANSPORTS:
        mine = seen[transport]
        async with open_events(target, transport, session_id, mine[-1].cursor) as stream:
            mine += await stream.events("the last event", log[-1].seq)
        same = [event.raw for event in mine] == [event.raw for event in log]
        must(same, "what the log has", f"{len(mine)} of {len(log)} events", stream.request)


@CHECKS.of("resume.no_hole", needs=("echo",))
async def nothing_falls_between_replay_and_live(target: Target) -> None:
    """Readers that come while a run writes fast get every event once, in order."""
    session_id = await target.session("echo")
    ack = await target.send(session_id, " ".join([WORDS] * 5), options=FAST)
    async with asyncio.TaskGroup() as tasks:
        for number in range(READERS):
            tasks.create_task(_read_all(target, session_id, number))
            await asyncio.sleep(0.02)
    await target.ended(session_id, ack["run_id"])


async def _read_all(target: Target, session_id: str, number: int) -> None:
    transport = TRANSPORTS[number % len(TRANSPORTS)]
    async with open_events(target, transport, session_id, "0") as stream:
        place = 0
        while True:
            event = await stream.next("the next event")
            if event.is_control:
                continue
            place += 1
            must_equal(event.seq, place, "the next seq", f"{stream.request} while a run writes")
            if event.type == "run.completed":
                return


@CHECKS.of("reset.honest", needs=("echo", "tools"))
async def what_cannot_be_served_is_reset(target: Target) -> None:
    """A cursor of another log, ahead of this one, or of another history gets the true reason."""
    told, other = await target.once(talk), await target.once(weather)
    epoch, seq, tag = _epoch_seq_tag(told.log[5].cursor)
    wrong = tag[:-1] + ("0" if tag[-1] != "0" else "1")
    cases = {
        "epoch_changed": other.log[3].cursor,
        "cursor_ahead": f"{epoch}.{seq + 100_000}.{tag}",
        "fork": f"{epoch}.{seq}.{wrong}",
    }
    for reason, cursor in cases.items():
        for transport in TRANSPORTS:
            async with open_events(target, transport, told.session_id, cursor) as stream:
                first = await stream.next("stream.reset")
                must_equal(first.type, "stream.reset", "the first object", stream.request)
                must_equal(first.get("reason"), reason, "the reason", stream.request)
                _must_have_snapshot(first, told.session_id, stream.request)


def _must_have_snapshot(reset: Event, session_id: str, request: str) -> None:
    snapshot = reset.get("snapshot")
    must(isinstance(snapshot, dict), "a snapshot", shown(reset.raw), request)
    must_equal(snapshot.get("session_id"), session_id, "the snapshot's session_id", request)
    must_equal(snapshot.get("cursor"), reset.cursor, "the snapshot's cursor", request)


@CHECKS.of("reset.honest", needs=("echo",))
async def what_cannot_be_parsed_is_refused(target: Target) -> None:
    """A cursor that cannot be parsed gets 400, over WebSocket a nack."""
    told = await target.once(talk)
    path = f"/v1/sessions/{told.session_id}/events"
    for cursor in ("nonsense", "a.b.c", "-1", "1", told.log[2].cursor + "x" * 64):
        for accept in ("text/event-stream", "application/x-ndjson", JSON):
            (await target.head(f"{path}?after={cursor}", {"Accept": accept})).must_be(400)
        said = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
        (await target.head(path, said)).must_be(400)
        async with open_socket(target) as socket:
            await socket.say({"type": "subscribe", "session_id": told.session_id, "after": cursor})
            heard = await socket.next("a nack")
            must_equal(heard.type, "nack", "the answer", socket.request)


@CHECKS.of("reset.honest", needs=("echo", "tools"))
async def after_a_reset_the_tail_follows(target: Target) -> None:
    """After a reset on SSE an `id:` without data follows, and then the events after it."""
    told = await target.once(weather)
    session_id = await target.session("echo")
    path = f"/v1/sessions/{session_id}/events"
    async with open_sse(target, path, Last_Event_ID=told.log[3].cursor) as stream:
        reset = await stream.next("stream.reset")
        must_equal(reset.type, "stream.reset", "the first object", stream.request)
        await stream.until("stream.caught_up")
        must_equal(stream.last_id, reset.cursor, "the id after the reset", stream.request)
        ack = await target.send(session_id, "hello")
        event = await stream.next("the next event")
    must_equal(event.cursor, ack["cursor"], "the next cursor", stream.request)


@CHECKS.of("reset.honest")
async def what_was_trimmed_is_reset(target: Target) -> None:
    """A cursor of what is no longer kept gets the reason `trimmed`."""
    raise NotObservable("a server keeps its events for hours; see its own settings")


@CHECKS.of("snapshot.fold")
async def snapshots_are_the_fold_of_the_log(target: Target) -> None:
    """A snapshot, at any moment of a run, is what the log says up to its cursor."""
    stories = [story for role in STORIES if role in target.agents for story in STORIES[role]]
    if not stories:
        raise NotChecked("needs an agent like `echo`, `tools` or `research`")
    for story in stories:
        told = await target.once(story)
        shows: list[dict[str, Any]] = [*told.snapshots, await target.snapshot(told.session_id)]
        log = await target.log(told.session_id)
        seq_is_whole(log)
        for snapshot in shows:
            _, seq, _ = _epoch_seq_tag(snapshot["cursor"])
            must(seq <= len(log), "a cursor within the log", snapshot["cursor"])
            difference = folded(log[:seq]).difference(of_snapshot(snapshot))
            request = f"GET /v1/sessions/{told.session_id} at seq {seq}"
            must(not difference, "what the log says up to there", difference, request)


@CHECKS.of("snapshot.fold", needs=("echo",))
async def a_joiner_in_the_middle_can_go_on_from_the_snapshot(target: Target) -> None:
    """A snapshot in the middle of an answer, and the deltas after it, are the whole answer."""
    session_id = await target.session("echo")
    await target.send(session_id, WORDS, options={"interval_ms": 40})
    await target.until(session_id, lambda event: event.type == "message.delta", "message.delta")
    async with open_events(target, "sse", session_id) as stream:
        reset = await stream.next("stream.reset")
        opened = reset.get("snapshot")["open"]["messages"]
        must_equal(len(opened), 1, "the number of open messages", stream.request)
        rest = await stream.events("message.completed")
    text = opened[0]["text"] + "".join(
        str(event.get("text")) for event in rest if event.type == "message.delta"
    )
    must_equal(text, WORDS, "the text so far and the rest", stream.request)


@CHECKS.of("join.late", needs=("echo",))
async def who_joins_gets_the_snapshot_and_the_tail(target: Target) -> None:
    """Without `after`: a reset with reason `joined` and the snapshot, then the tail."""
    session_id = await target.session("echo")
    await target.say(session_id, "hello")
    wanted = await target.snapshot(session_id)
    for transport in TRANSPORTS:
        async with open_events(target, transport, session_id) as stream:
            reset = await stream.next("stream.reset")
            must_equal(reset.type, "stream.reset", "the first object", stream.request)
            must_equal(reset.get("reason"), "joined", "the reason", stream.request)
            _must_have_snapshot(reset, session_id, stream.request)
            await stream.until("stream.caught_up")
            if transport == "sse":
                must_equal(reset.get("snapshot"), wanted, "the snapshot", stream.request)
            ack = await target.send(session_id, "more")
            event = await stream.next("the next event")
            must_equal(event.cursor, ack["cursor"], "the next cursor", stream.request)
        await target.ended(session_id, ack["run_id"])


@CHECKS.of("join.late", needs=("echo",))
async def zero_is_the_whole_log(target: Target) -> None:
    """`after=0` is the whole log, and no reset."""
    told = await target.once(talk)
    for transport in TRANSPORTS:
        async with open_events(target, transport, told.session_id, "0") as stream:
            found = await stream.until("stream.caught_up")
        must(found[0].seq == 1, "seq 1 first", shown(found[0].raw), stream.request)
        must_equal(found[-2].seq >= told.log[-1].seq, True, "all events", stream.request)
