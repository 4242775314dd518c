"""What only SSE has: headers, ids, names, keepalives, and 204."""

from __future__ import annotations

import asyncio
import re
import shutil

import pytest

from tests.support.raw import host_of, raw
from tests.support.readers import SseReader
from tests.support.site import Site, running_site


async def sse(site: Site, session_id: str, after: str | None = None) -> SseReader:
    reader = await site.read("sse", session_id, after)
    assert isinstance(reader, SseReader)
    return reader


@pytest.mark.rule("sse.headers")
async def test_the_head_keeps_proxies_and_caches_away(site: Site) -> None:
    reader = await sse(site, await site.create())
    assert reader.response is not None
    headers = reader.response.headers
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["Cache-Control"] == "no-store, no-transform"
    assert headers["X-Accel-Buffering"] == "no"
    assert "Content-Encoding" not in headers
    assert "Content-Length" not in headers


@pytest.mark.rows("L9")
@pytest.mark.rule("sse.prime")
async def test_the_first_frame_comes_at_once_and_says_where_the_stream_stands(site: Site) -> None:
    talk = await site.talk()
    start, tail = await talk.head()
    for after, last_event_id in (("0", start), ("$", tail), (tail, tail)):
        reader = await sse(site, talk.session_id, after)
        prime = await reader.frame()
        assert 1000 <= int(prime["retry"]) <= 4000
        assert prime["id"].decode() == last_event_id
        assert "data" not in prime


@pytest.mark.rule("sse.prime")
async def test_clients_are_told_to_come_back_at_different_times(site: Site) -> None:
    session_id = await site.create()
    times = {(await (await sse(site, session_id, "$")).frame())["retry"] for _ in range(12)}
    assert len(times) > 1


async def test_before_the_snapshot_there_is_no_id_and_after_it_there_is(site: Site) -> None:
    session_id = await site.create()
    reader = await sse(site, session_id)
    prime, reset, after_reset = [await reader.frame() for _ in range(3)]
    assert set(prime) == {"retry"}, "a cut before the snapshot must bring the snapshot again"
    assert set(reset) == {"data"}
    assert set(after_reset) == {"id"}
    head = await site.engine.head(session_id)
    assert reader.last_event_id == str(head.tail)


@pytest.mark.rule("sse.frame", "control.no_id")
async def test_events_have_their_cursor_as_id_and_control_objects_have_none(site: Site) -> None:
    talk = await site.talk()
    reader = await sse(site, talk.session_id, "0")
    for message in await reader.until("stream.caught_up"):
        frame = reader.frames[-1] if not message.is_event else None
        if message.is_event:
            frame = next(f for f in reader.frames if f.get("data") == message.raw)
            assert frame["id"].decode() == message["cursor"]
            assert set(frame) == {"id", "data"}
        else:
            assert set(frame or {}) == {"data"}


async def test_frames_are_named_if_that_is_asked_for(site: Site) -> None:
    talk = await site.talk()
    path = f"/v1/sessions/{talk.session_id}/events?after=0&named=1"
    async with site.http.get(path, headers={"Accept": "text/event-stream"}) as response:
        text = b""
        while b"stream.caught_up" not in text:
            text += await response.content.readany()
    assert b"\nevent: session.created\n" in b"\n" + text.replace(b"event", b"\nevent")
    names = re.findall(rb"event: (\S+)\nid: \S+\ndata: {\"v\":1,\"type\":\"(\S+?)\"", text)
    assert len(names) >= 2
    assert all(name == kind for name, kind in names)


@pytest.mark.rule("sse.resume")
async def test_the_last_event_id_wins_over_the_address(site: Site) -> None:
    talk = await site.talk()
    await talk.tell("a", "b")
    head = await site.engine.head(talk.session_id)
    whole = await site.engine.read(talk.session_id, head.start, limit=100)
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(whole[-2].position)}
    path = f"/v1/sessions/{talk.session_id}/events?after=0"
    async with site.http.get(path, headers=headers) as response:
        text = await response.content.readuntil(b"data: ") + await response.content.readline()
    assert b'"payload":"b"' in text


@pytest.mark.rule("sse.keepalive")
async def test_a_quiet_stream_is_kept_alive_by_comments() -> None:
    async with running_site(keepalive_s=0.05) as site:
        reader = await sse(site, await site.create(), "$")
        await reader.frame()
        assert (await reader.next()).type == "stream.caught_up"
        async with asyncio.timeout(30):
            comments = [await reader.frame() for _ in range(3)]
        assert comments == [{"": b""}] * 3


@pytest.mark.rule("sse.end")
async def test_coming_back_at_the_end_of_a_closed_session_gets_no_content(site: Site) -> None:
    session_id = await site.create()
    await site.manager.close(session_id, "done")
    reader = await sse(site, session_id, "0")
    _, status = await reader.end()
    assert status == 200
    again = await sse(site, session_id, reader.last_event_id)
    assert again.response is not None
    assert again.response.status == 204


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE"])
async def test_other_methods_are_not_possible(site: Site, method: str) -> None:
    session_id = await site.create()
    async with site.http.request(method, f"/v1/sessions/{session_id}/events") as response:
        assert response.status == 405


async def test_a_client_of_http_1_0_gets_a_plain_body(site: Site) -> None:
    talk = await site.talk()
    async with raw(site.address) as client:
        path = f"/v1/sessions/{talk.session_id}/events?after=0"
        client.ask(path, version="1.0", **host_of(site.address))
        status, headers = await client.head()
        assert status == 200
        assert "transfer-encoding" not in headers
        assert (await client.until(b"\n\n")).startswith(b"retry: ")
        assert (await client.until(b"\n\n")).startswith(b"id: ")


async def test_each_write_is_a_whole_chunk(site: Site) -> None:
    talk = await site.talk()
    async with raw(site.address) as client:
        client.ask(f"/v1/sessions/{talk.session_id}/events?after=$", **host_of(site.address))
        await client.head()
        assert (await client.body()).startswith(b"retry: ")
        assert b"stream.caught_up" in await client.body()
        await talk.tell("x")
        chunk = await client.body()
        assert chunk.startswith(b"id: ")
        assert chunk.endswith(b"\n\n")


@pytest.mark.rows("L12")
@pytest.mark.rule("sse.prime")
async def test_stock_curl_shows_events_as_they_come(site: Site) -> None:
    curl = shutil.which("curl")
    assert curl is not None, "this test needs curl"
    talk = await site.talk()
    process = await asyncio.create_subprocess_exec(
        curl,
        "-sN",
        f"{site.url}/v1/sessions/{talk.session_id}/events?after=$",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            await process.stdout.readuntil(b'"stream.caught_up"')
            await talk.tell("seen")
            await process.stdout.readuntil(b'"payload":"seen"')
            await site.manager.close(talk.session_id, "done")
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
