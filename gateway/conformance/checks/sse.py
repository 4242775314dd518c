"""Section 5 of PROTOCOL.md: server-sent events, one session on a stream."""

from __future__ import annotations

import asyncio
import time

from gateway.conformance.check import Broken, Checks, NotObservable, must, must_equal
from gateway.conformance.events import shown
from gateway.conformance.stories import talk
from gateway.conformance.streams import SSE, Ended, Frame, SseStream, open_sse
from gateway.conformance.target import Target

CHECKS = Checks()

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
RETRY_MS = range(1000, 4001)
"""When a client is to come back."""

CONNECTIONS = 8
"""So many are told the same time only once in a server's life, if it is drawn at random."""

KEEPALIVE_SECONDS = 15.0
LATE = 2.0
"""Seconds that a timer and a network may be late."""


def _compact(value: str) -> str:
    return value.replace(" ", "").lower()


@CHECKS.of("sse.headers", needs=("echo",))
async def streams_have_their_headers(target: Target) -> None:
    """A stream says that it is one, and that nothing may keep, change, hold back or compress it."""
    told = await target.once(talk)
    path = f"/v1/sessions/{told.session_id}/events?after=0"
    for accept in (SSE, "*/*"):
        said = {"Accept": accept, "Accept-Encoding": "gzip, deflate, br"}
        answer = await target.head(path, said)
        answer.must_be(200)
        for name, wanted in HEADERS.items():
            seen = answer.headers.get(name, "none")
            must(_compact(seen) == _compact(wanted), f"{name}: {wanted}", seen, answer.request)
        coding = answer.headers.get("Content-Encoding")
        must(coding in {None, "identity"}, "no Content-Encoding", coding, answer.request)


async def _prime(stream: SseStream) -> Frame:
    """Return the first frame, if it comes at once."""
    try:
        async with asyncio.timeout(1.0):
            return await stream.frame()
    except (TimeoutError, Ended):
        raise Broken("the first frame at once", "none within 1 s", stream.request) from None


@CHECKS.of("sse.prime", needs=("echo",))
async def the_first_bytes_come_at_once(target: Target) -> None:
    """A quiet stream begins at once with `retry:` and an `id:` without data."""
    told = await target.once(talk)
    cursor = told.log[-1].cursor
    for after, wanted in (("$", cursor), (cursor, cursor)):
        path = f"/v1/sessions/{told.session_id}/events?after={after}"
        async with open_sse(target, path) as stream:
            frame = await _prime(stream)
        retry = frame.get("retry") or ""
        must(retry.isdecimal(), "`retry:` in the first frame", shown(frame.raw), stream.request)
        must(int(retry) in RETRY_MS, "retry: 1000 to 4000", retry, stream.request)
        must(frame.get("data") is None, "no data in it", shown(frame.raw), stream.request)
        must_equal(frame.get("id"), wanted, "the first `id:`", stream.request)


@CHECKS.of("sse.prime", needs=("echo",))
async def retry_is_different_for_each_connection(target: Target) -> None:
    """`retry:` is spread, so that the clients of a server do not all come back at once."""
    told = await target.once(talk)
    path, found = f"/v1/sessions/{told.session_id}/events?after=$", set()
    for _ in range(CONNECTIONS):
        async with open_sse(target, path) as stream:
            found.add((await _prime(stream)).get("retry"))
    must(len(found) > 1, f"different times for {CONNECTIONS} connections", found, f"GET {path}")


@CHECKS.of("sse.frame", needs=("echo",))
async def frames_have_their_form(target: Target) -> None:
    """An event's frame is `id: <cursor>`, `data: <event>`, a blank line, and nothing else."""
    told = await target.once(talk)
    path = f"/v1/sessions/{told.session_id}/events?after=0"
    for query in ("", "&named=1"):
        async with open_sse(target, path + query) as stream:
            await stream.until("the last event", told.log[-1].seq)
        frames = [frame for frame in stream.frames if frame.get("data")]
        events = dict(zip((event.raw.decode() for event in told.log), told.log, strict=True))
        for frame in frames:
            event = events.get(frame.get("data") or "")
            if event is None:
                continue
            fields = {"id": event.cursor, "data": event.raw.decode()}
            fields |= {"event": event.type} if query else {}
            wanted = f"exactly {', '.join(f'{name}:' for name in fields)}"
            same = len(frame.fields) == len(fields) and dict(frame.fields) == fields
            must(same, wanted, shown(frame.raw), stream.request)
        seen = sum((frame.get("data") or "") in events for frame in frames)
        must_equal(seen, len(told.log), "the number of frames with the log's bytes", stream.request)


@CHECKS.of("sse.resume", needs=("echo",))
async def last_event_id_wins(target: Target) -> None:
    """`Last-Event-ID` wins over `?after=`; every event after it comes once, in order."""
    told = await target.once(talk)
    last, path = told.log[-1].seq, f"/v1/sessions/{told.session_id}/events"
    for place in (1, last // 2, last - 1):
        cursor = told.log[place - 1].cursor
        for query in ("?after=0", "?after=$", ""):
            async with open_sse(target, path + query, Last_Event_ID=cursor) as stream:
                events = await stream.events("the last event", last)
            seqs = [event.seq for event in events]
            must_equal(seqs, list(range(place + 1, last + 1)), "the seqs", stream.request)


@CHECKS.of("sse.resume", needs=("echo",))
async def a_browser_resumes_by_its_last_id(target: Target) -> None:
    """What a browser keeps as its last id at any moment resumes right after what it has seen."""
    told = await target.once(talk)
    path = f"/v1/sessions/{told.session_id}/events"
    async with open_sse(target, f"{path}?after=0") as stream:
        seen = (await stream.events("message.delta"))[-1].seq
        last_id = stream.last_id
    async with open_sse(target, f"{path}?after=0", Last_Event_ID=last_id) as stream:
        event = (await stream.events("an event", seen + 1))[0]
    must_equal(event.seq, seen + 1, "the next seq", stream.request)


@CHECKS.of("sse.keepalive", slow=True, limit=40.0)
async def a_quiet_stream_is_kept_alive(target: Target) -> None:
    """A quiet stream has a comment at least every 15 s."""
    path = f"/v1/sessions/{await target.session()}/events?after=$"
    async with open_sse(target, path) as stream:
        await stream.until("stream.caught_up")
        began = time.monotonic()
        for _ in range(2):
            try:
                async with asyncio.timeout(KEEPALIVE_SECONDS + LATE):
                    frame = await stream.frame()
            except TimeoutError:
                seconds = f"nothing for {time.monotonic() - began:.0f} s"
                raise Broken("a comment every 15 s", seconds, stream.request) from None
            comment = all(name == "" for name, _ in frame.fields)
            must(comment, "a comment", shown(frame.raw), stream.request)


@CHECKS.of("sse.end")
async def a_deleted_session_ends_its_streams(target: Target) -> None:
    """The stream of a session that is deleted ends, and a reconnect gets 410."""
    session_id = await target.session()
    path = f"/v1/sessions/{session_id}/events"
    async with open_sse(target, f"{path}?after=0") as stream:
        await stream.until("stream.caught_up")
        (await target.ask("DELETE", f"/v1/sessions/{session_id}")).must_be(204)
        await stream.rest()
    again = await target.head(path, {"Accept": SSE, "Last-Event-ID": stream.last_id})
    again.must_be(410)
    (await target.ask("GET", f"/v1/sessions/{session_id}")).must_be(410)


@CHECKS.of("sse.end")
async def a_closed_session_ends_its_streams(target: Target) -> None:
    """The stream of a session that is closed ends, and a reconnect at its end gets 204."""
    raise NotObservable("a client can delete a session, but not close it and keep it")


@CHECKS.of("sse.end", needs=("echo",))
async def the_stream_of_one_run_ends(target: Target) -> None:
    """A message that is answered by SSE streams its run, and closes."""
    session_id = await target.session("echo")
    path = f"/v1/sessions/{session_id}/messages"
    async with open_sse(target, path, method="POST", body={"text": "hello"}) as stream:
        found, _ = await stream.rest()
    events = [event for event in found if not event.is_control]
    runs = {event.get("run_id") for event in events}
    must_equal(len(runs), 1, "the number of runs on the stream", stream.request)
    types = [event.type for event in events]
    must("run.started" in types[:2], "the run from its start", types[:2], stream.request)
    must_equal(types[-1:], ["run.completed"], "the last event", stream.request)
