"""Section 5 of PROTOCOL.md: all sessions of one client on one stream."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable

from gateway.conformance.check import Broken, Checks, must, must_equal
from gateway.conformance.events import Event, decoded, shown
from gateway.conformance.stories import talk, weather
from gateway.conformance.streams import Frame, SseStream, open_sse
from gateway.conformance.target import PATIENCE, Target

CHECKS = Checks()


def _client() -> tuple[str, str]:
    client_id = f"conformance.{secrets.token_hex(6)}"
    return client_id, f"/v1/clients/{client_id}/events"


async def _checkpoint(stream: SseStream, complete: Iterable[tuple[str, int]]) -> list[Event]:
    """Read until each session has come so far, and an id after that; return the events."""
    missing, events = dict(complete), list[Event]()
    try:
        async with asyncio.timeout(2 * PATIENCE):
            while True:
                frame = await stream.frame()
                if (data := frame.get("data")) is not None:
                    event = decoded(data.encode(), stream.request)
                    events += [] if event.is_control else [event]
                    sid = str(event.get("session_id"))
                    if sid in missing and event.seq >= missing[sid]:
                        del missing[sid]
                elif frame.get("id") is not None and not missing:
                    return events
    except TimeoutError:
        wanted = "all events, and then a frame with nothing but an id"
        raise Broken(wanted, f"not in {2 * PATIENCE:g} s", stream.request) from None


def _must_be_whole(events: list[Event], logs: dict[str, list[bytes]], stream: SseStream) -> None:
    for session_id, log in logs.items():
        mine = [event.raw for event in events if event.get("session_id") == session_id]
        must_equal(
            [shown(raw) for raw in mine if raw not in log] + [len(mine)],
            [len(log)],
            f"what comes of {session_id}: strange events, and the number of all",
            stream.request,
        )


@CHECKS.of("sse.many", needs=("echo", "tools"))
async def all_sessions_come_on_one_stream(target: Target) -> None:
    """A client's stream has all of its sessions; frames have no id, their JSON has the cursor."""
    told = [await target.once(talk), await target.once(weather)]
    client_id, path = _client()
    for each in told:
        await target.subscribe(client_id, each.session_id, "0")
    async with open_sse(target, path) as stream:
        events = await _checkpoint(stream, [(each.session_id, each.log[-1].seq) for each in told])
    logs = {each.session_id: [event.raw for event in each.log] for each in told}
    _must_be_whole(events, logs, stream)
    for frame in stream.frames:
        if frame.get("data") is not None:
            must(frame.get("id") is None, "no id with data", shown(frame.raw), stream.request)
    must(_retry(stream.frames), "`retry:` first", shown(stream.frames[0].raw), stream.request)


def _retry(frames: list[Frame]) -> bool:
    return bool(frames) and frames[0].get("retry") is not None


@CHECKS.of("sse.many", needs=("echo",))
async def one_id_resumes_all_sessions(target: Target) -> None:
    """The id of a frame without data resumes all sessions at once; what repeats is as it was."""
    sessions = [await target.session("echo") for _ in range(3)]
    client_id, path = _client()
    ends = {}
    for session_id in sessions:
        await target.subscribe(client_id, session_id, "0")
        ends[session_id] = (await target.say(session_id, "before"))[-1].seq
    async with open_sse(target, path) as stream:
        before = await _checkpoint(stream, ends.items())
        last_id = stream.last_id
    logs = {session_id: await target.say(session_id, "after") for session_id in sessions}
    async with open_sse(target, path, Last_Event_ID=last_id) as stream:
        after = await _checkpoint(stream, [(sid, log[-1].seq) for sid, log in logs.items()])
    seen = {(str(event.get("session_id")), event.seq): event.raw for event in [*before, *after]}
    for session_id, log in logs.items():
        mine = [raw for (sid, _), raw in sorted(seen.items()) if sid == session_id]
        same = mine == [event.raw for event in log]
        must(same, f"all {len(log)} events in both streams", f"{len(mine)}", stream.request)
    again = [event for event in after if event.seq <= ends[str(event.get("session_id"))]]
    must(len(again) < len(before), "the way on", f"{len(again)} events again", stream.request)


@CHECKS.of("sse.many", needs=("echo",))
async def subscriptions_change_while_the_stream_is_open(target: Target) -> None:
    """A session that is put on an open stream comes on it; taken off, it does not."""
    session_id = await target.session("echo")
    log = await target.say(session_id, "before")
    client_id, path = _client()
    async with open_sse(target, path) as stream:
        await stream.frame()
        await target.subscribe(client_id, session_id, "0")
        events = await _checkpoint(stream, [(session_id, log[-1].seq)])
        must_equal(len(events), len(log), "the number of events", stream.request)
        kept = (await target.ask("GET", f"/v1/clients/{client_id}")).must_be(200).json
        must(session_id in kept["subscriptions"], "the session in its subscriptions", kept)
        must_equal(kept["streams"], 1, "`streams`", f"GET /v1/clients/{client_id}")
        subscription = f"/v1/clients/{client_id}/subscriptions/{session_id}"
        (await target.ask("DELETE", subscription)).must_be(204)
        await target.say(session_id, "after")
        other = await target.session("echo")
        await target.subscribe(client_id, other, "0")
        later = await stream.events("session.created")
    strange = [shown(event.raw) for event in later if event.get("session_id") == session_id]
    must_equal(strange, [], "what comes of a session that was taken off", stream.request)


@CHECKS.of("sse.many", needs=("echo",))
async def two_streams_of_one_client_both_live(target: Target) -> None:
    """Two streams with the same client id both get everything."""
    session_id = await target.session("echo")
    client_id, path = _client()
    await target.subscribe(client_id, session_id, "$")
    async with open_sse(target, path) as first, open_sse(target, path) as second:
        for stream in (first, second):
            await stream.until("stream.caught_up")
        await target.send(session_id, "both")
        one, two = [await stream.events("run.completed") for stream in (first, second)]
    same = [event.raw for event in one] == [event.raw for event in two]
    must(same, "the same events on both", f"{len(one)} and {len(two)}", first.request)


@CHECKS.of("sse.many", needs=("echo",))
async def a_broken_id_is_refused(target: Target) -> None:
    """An id that no client's stream gave is refused with 400, not served from somewhere."""
    client_id, path = _client()
    await target.subscribe(client_id, await target.session("echo"), "0")
    (await target.head(path, {"Last-Event-ID": "no such place!"})).must_be(400)
