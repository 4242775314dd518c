"""What every transport promises: each test runs over SSE, NDJSON and WebSocket."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from gateway.codecs.native import event_json
from gateway.log.entry import Entry
from gateway.log.position import Position
from tests.support.readers import READERS, Message, Refused
from tests.support.site import Site, Talk

WORDS = ("one", "two", "three")


async def entries(talk: Talk) -> list[Entry]:
    head = await talk.site.engine.head(talk.session_id)
    return list(await talk.site.engine.read(talk.session_id, head.start, limit=1000))


def seqs(messages: list[Message]) -> list[int]:
    return [message["seq"] for message in messages if message.is_event]


@pytest.mark.rule("log.order", "wire.same")
async def test_from_the_start_the_whole_log_comes_in_order(site: Site, transport: str) -> None:
    talk = await site.talk()
    await talk.tell(*WORDS)
    expected = await entries(talk)
    reader = await site.read(transport, talk.session_id, "0")
    messages = await reader.take(len(expected))
    assert [message.raw for message in messages] == [event_json(entry) for entry in expected]


@pytest.mark.rule("resume.exact")
async def test_with_any_cursor_the_stream_goes_on_at_the_next_event(
    site: Site, transport: str
) -> None:
    talk = await site.talk()
    await talk.tell(*WORDS)
    whole = await entries(talk)
    for index, entry in enumerate(whole):
        reader = await site.read(transport, talk.session_id, str(entry.position))
        messages = await reader.until("stream.caught_up")
        assert seqs(messages) == [later.seq for later in whole[index + 1 :]]
        await reader.cut()


@pytest.mark.rule("resume.exact")
async def test_a_reader_that_is_cut_misses_nothing_and_repeats_nothing(
    site: Site, transport: str
) -> None:
    talk = await site.talk()
    reader = await site.read(transport, talk.session_id, "0")
    seen: list[int] = []
    for number in range(12):
        await talk.tell(number)
        seen += seqs([await reader.next()])
        await reader.cut()
        reader = await site.read(transport, talk.session_id, reader.cursor)
    seen += seqs(await reader.until("stream.caught_up"))
    assert seen == [entry.seq for entry in await entries(talk)]


@pytest.mark.rule("join.late", "reset.honest")
async def test_without_a_cursor_a_snapshot_comes_first_and_then_what_is_new(
    site: Site, transport: str
) -> None:
    talk = await site.talk()
    _, tail = await talk.head()
    reader = await site.read(transport, talk.session_id)
    reset, caught_up = await reader.take(2)
    assert (reset.type, reset["reason"], reset["cursor"]) == ("stream.reset", "joined", tail)
    assert reset["session_id"] == talk.session_id
    assert reset["snapshot"]["cursor"] == tail
    assert reset["snapshot"]["status"] == "running"
    assert reset["snapshot"]["messages"][0]["text"] == "go"
    assert caught_up.type == "stream.caught_up"
    await talk.tell("new")
    assert (await reader.next())["payload"] == "new"


async def test_only_new_events_come_if_that_is_asked_for(site: Site, transport: str) -> None:
    talk = await site.talk()
    reader = await site.read(transport, talk.session_id, "$")
    assert (await reader.next()).type == "stream.caught_up"
    await talk.tell("new")
    assert (await reader.next())["payload"] == "new"


@pytest.mark.rule("reset.honest")
@pytest.mark.parametrize("reason", ["epoch_changed", "trimmed", "cursor_ahead", "fork"])
async def test_a_cursor_that_cannot_be_served_gets_the_reason_and_a_snapshot(
    site: Site, transport: str, reason: str
) -> None:
    talk = await site.talk()
    await talk.tell(*WORDS)
    whole = await entries(talk)
    first, last = whole[0].position, whole[-1].position
    asked = {
        "epoch_changed": Position("zzzzzzzz", last.seq, last.tag),
        "trimmed": first,
        "cursor_ahead": Position(last.epoch, last.seq + 5, last.tag),
        "fork": Position(last.epoch, last.seq, f"{int(last.tag, 16) ^ 1:08x}"),
    }[reason]
    if reason == "trimmed":
        await site.engine.trim(talk.session_id, first.seq + 2)
    reader = await site.read(transport, talk.session_id, str(asked))
    reset = await reader.next()
    assert (reset.type, reset["reason"]) == ("stream.reset", reason)
    assert reset["snapshot"]["cursor"] == reset["cursor"] == str(last)
    assert (await reader.next()).type == "stream.caught_up"
    await talk.tell("new")
    assert (await reader.next())["payload"] == "new"


@pytest.mark.parametrize(
    "cursor", ["nonsense", "a.b.c", "e.-1.00000000", "x" * 300, "€", "1", "$$"]
)
async def test_a_cursor_that_cannot_be_read_is_refused(
    site: Site, transport: str, cursor: str
) -> None:
    talk = await site.talk()
    with pytest.raises(Refused) as refused:
        await site.read(transport, talk.session_id, cursor)
    assert refused.value.code == "cursor_malformed"


async def test_a_session_that_is_not_there_is_refused(site: Site, transport: str) -> None:
    with pytest.raises(Refused) as refused:
        await site.read(transport, "nobody", "0")
    assert refused.value.code == "session_unknown"


@pytest.mark.rows("K21")
@pytest.mark.rule("wire.same", "ws.equal")
async def test_the_bytes_of_an_event_are_the_same_everywhere(site: Site) -> None:
    talk = await site.talk()
    readers = [await site.read(name, talk.session_id, "0") for name in READERS]
    odd: dict[str, object] = {
        "text": 'line\nbreak\r\n"quote"  \u0000 \U0001f600 é',
        "nested": [1, 2.5, None, {}],
    }
    await talk.tell(odd, "x" * 70_000)
    whole = await entries(talk)
    streams = [[message.raw for message in await reader.events(len(whole))] for reader in readers]
    async with site.http.get(
        f"/v1/sessions/{talk.session_id}/events", headers={"Accept": "application/json"}
    ) as response:
        page = await response.read()
    joined = b'{"events":[' + b",".join(event_json(entry) for entry in whole) + b"]"
    assert page.startswith(joined)
    for stream in streams:
        assert stream == [event_json(entry) for entry in whole]
    assert orjson.loads(streams[0][-2])["payload"] == odd


async def test_caught_up_comes_once_between_what_was_and_what_comes(
    site: Site, transport: str
) -> None:
    talk = await site.talk()
    count = len(await entries(talk))
    reader = await site.read(transport, talk.session_id, "0")
    messages = await reader.take(count + 1)
    assert messages[-1].type == "stream.caught_up"
    assert messages[-1]["cursor"] == messages[-2]["cursor"]
    await talk.tell(*WORDS)
    assert [message.type for message in await reader.take(3)] == ["custom"] * 3


async def test_control_objects_are_no_events(site: Site, transport: str) -> None:
    talk = await site.talk()
    reader = await site.read(transport, talk.session_id)
    for message in await reader.take(2):
        assert message.type.startswith("stream.")
        assert "seq" not in message.data
        assert "v" not in message.data


@pytest.mark.rule("resume.no_hole", "log.commit")
async def test_no_event_falls_between_what_was_and_what_comes(site: Site, transport: str) -> None:
    talk = await site.talk()
    written = 0
    stop = asyncio.Event()

    async def write() -> None:
        nonlocal written
        while not stop.is_set():
            await talk.tell(written)
            written += 1

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        for _ in range(20):
            reader = await site.read(transport, talk.session_id, "0")
            caught_up = seqs(await reader.until("stream.caught_up"))
            live = seqs(await reader.events(20))
            seen = caught_up + live
            assert seen == list(range(1, len(seen) + 1))
            await reader.cut()
        stop.set()
    assert written > 400, "there were events all the time"


@pytest.mark.rule("sse.end")
async def test_the_stream_of_a_session_ends_when_it_is_closed(site: Site, transport: str) -> None:
    talk = await site.talk()
    reader = await site.read(transport, talk.session_id, "0")
    await reader.until("stream.caught_up")
    await site.manager.close(talk.session_id, "done")
    messages = await reader.until("stream.closing")
    assert messages[-2].type == "session.closed"
    assert messages[-1].data == {
        "type": "stream.closing",
        "session_id": talk.session_id,
        "reason": "closed",
    }


async def test_a_closed_session_can_be_read_to_its_end(site: Site, transport: str) -> None:
    session_id = await site.create()
    await site.manager.close(session_id, "done")
    for after in ("0", None):
        reader = await site.read(transport, session_id, after)
        messages = await reader.until("stream.closing")
        assert [message.type for message in messages][-2:] == ["stream.caught_up", "stream.closing"]


async def test_readers_of_a_deleted_session_are_told(site: Site, transport: str) -> None:
    talk = await site.talk()
    reader = await site.read(transport, talk.session_id, "$")
    assert (await reader.next()).type == "stream.caught_up"
    async with site.http.delete(f"/v1/sessions/{talk.session_id}") as response:
        assert response.status == 204
    last = (await reader.until("stream.closing"))[-1]
    assert last["reason"] in {"closed", "deleted"}
    with pytest.raises(Refused) as refused:
        await site.read(transport, talk.session_id, "0")
    assert refused.value.code == "session_gone"


@pytest.mark.rows("W-L2")
@pytest.mark.rule("disconnect.not_cancel")
async def test_a_reader_that_goes_away_ends_no_run(site: Site, transport: str) -> None:
    talk = await site.talk()
    reader = await site.read(transport, talk.session_id, "$")
    await reader.next()
    await reader.cut()
    await talk.tell("still here")
    await talk.end("bye")
    again = await site.read(transport, talk.session_id, "0")
    assert (await again.until("stream.caught_up"))[-2].type == "run.completed"


async def test_two_readers_of_one_session_get_the_same(site: Site, transport: str) -> None:
    talk = await site.talk()
    left = await site.read(transport, talk.session_id, "0")
    right = await site.read(transport, talk.session_id, "0")
    await talk.tell(*WORDS)
    count = len(await entries(talk))
    assert [m.raw for m in await left.events(count)] == [m.raw for m in await right.events(count)]


async def test_a_crowd_gets_every_event_though_it_rests_between_rounds(
    site: Site, transport: str
) -> None:
    talk = await site.talk()
    readers = [await site.read(transport, talk.session_id, "$") for _ in range(30)]
    for reader in readers:
        await reader.next()
    await talk.tell(*range(50))
    for reader in readers:
        assert [message["payload"] for message in await reader.take(50)] == list(range(50))
