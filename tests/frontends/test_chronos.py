"""Chronos: `GET /events`, all sessions of a client as frames for a plain `EventSource`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from gateway.errors import CursorMalformed
from gateway.log.engine import Checkpoint, SessionRecord
from gateway.transports.subscriptions import Subscription, Whereabouts, starts
from tests.support.raw import Raw, host_of, raw
from tests.support.site import Site, Talk, running_site

PATIENCE = 30.0


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running_site() as running:
        yield running


class Stream:
    """A client's stream, frame by frame, and where it would come back to."""

    def __init__(self, response: aiohttp.ClientResponse, last_event_id: str = "") -> None:
        self.response = response
        self.last_event_id = last_event_id
        self.ids: list[str | None] = []
        self.types: list[str] = []

    async def block(self) -> bytes:
        """Return the next frame as it came."""
        async with asyncio.timeout(PATIENCE):
            return await self.response.content.readuntil(b"\n\n")

    async def next(self) -> dict[str, Any]:
        """Return the next message, as `onmessage` would get it."""
        while True:
            fields = dict(re.findall(r"^(\w+): (.*)$", (await self.block()).decode(), re.MULTILINE))
            self.last_event_id = fields.get("id", self.last_event_id)
            if "data" in fields:
                self.ids.append(fields.get("id"))
                message: dict[str, Any] = json.loads(fields["data"])
                self.types.append(message["type"])
                return message

    async def until(self, kind: str) -> dict[str, Any]:
        while (message := await self.next())["type"] != kind:
            pass
        return message

    async def told(self, count: int) -> list[Any]:
        return [(await self.until("told"))["data"] for _ in range(count)]


async def listen(
    site: Site, where: str = "/events?client_id=me", last_event_id: str = ""
) -> Stream:
    headers = {"Accept": "text/event-stream"}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    response = await site.http.get(where, headers=headers)
    site.responses.append(response)
    assert response.status == 200, await response.text()
    return Stream(response, last_event_id)


async def put(site: Site, talk: Talk, after: str | None = "$", client: str = "me") -> None:
    path = f"/v1/clients/{client}/subscriptions/{talk.session_id}"
    async with site.http.put(path, json={} if after is None else {"after": after}) as response:
        assert response.status == 204, await response.text()


async def streams(site: Site, client: str = "me") -> int:
    async with site.http.get(f"/v1/clients/{client}") as response:
        return int((await response.json())["streams"])


@pytest.mark.rows("C31", "X2")
@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("/events", "client_id_missing"),
        ("/events?client_id=", "client_id_malformed"),
        ("/events?client_id=a%20b", "client_id_malformed"),
        (f"/events/{'x' * 65}", "client_id_malformed"),
    ],
)
async def test_who_does_not_say_who_it_is_gets_an_error_and_no_stream(
    site: Site, where: str, code: str
) -> None:
    async with site.http.get(where) as response:
        assert (response.status, response.content_type) == (400, "application/json")
        body = await response.json()
        assert (body["code"], type(body["error"])) == (code, str)


@pytest.mark.rows("X2", "X4")
async def test_what_else_is_wrong_is_said_before_the_stream_too(site: Site) -> None:
    async with site.http.get("/events/me", headers={"Last-Event-ID": "?"}) as response:
        assert response.status == 400
        assert (await response.json())["code"] == "cursor_malformed"
    for method in ("POST", "HEAD"):
        async with site.http.request(method, "/events/me") as response:
            assert response.status == 405


@pytest.mark.rows("C31", "C32", "C33", "A34", "X6")
@pytest.mark.parametrize("where", ["/events?client_id=me", "/events/me"])
async def test_frames_are_exactly_type_and_data_and_have_no_name(site: Site, where: str) -> None:
    talk = await site.talk()
    await put(site, talk)
    stream = await listen(site, where)
    headers = {name.lower(): value for name, value in stream.response.headers.items()}
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["connection"] == "keep-alive"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers
    await stream.until("stream.caught_up")
    await talk.tell({"node": "extract", "status": "done"})
    frame = await stream.block()
    assert re.fullmatch(
        rb'id: [^\n]+\ndata: {"type":"told","data":{"node":"extract","status":"done"}}\n\n', frame
    )


@pytest.mark.rows("C32")
async def test_named_frames_have_the_type_for_a_name(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk)
    stream = await listen(site, "/events?client_id=me&named=1")
    assert await stream.block() == b":\n\n"
    assert b"\nevent: stream.caught_up\ndata: " in await stream.block()
    await talk.tell(1)
    assert b'\nevent: told\ndata: {"type":"told","data":1}\n\n' in await stream.block()


@pytest.mark.rows("C33")
async def test_each_event_is_on_its_way_before_the_next_one_happens(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk)
    async with raw(site.address) as client:
        client.ask("/events/me", **host_of(site.address))
        await client.head()
        assert await client.body() == b":\n\n"
        assert b"stream.caught_up" in await client.body()
        for number in range(3):
            await talk.tell(number)
            chunk = await client.body()
            assert chunk.count(b"data: ") == 1
            assert chunk.endswith(b'data: {"type":"told","data":%d}\n\n' % number)


@pytest.mark.rows("C31")
async def test_sessions_come_and_go_while_the_stream_is_open(site: Site) -> None:
    talk, other = await site.talk(), await site.talk()
    stream = await listen(site)
    await put(site, talk)
    await put(site, other)
    for _ in range(2):
        await stream.until("stream.caught_up")
    await talk.tell("one")
    await other.tell("two")
    assert sorted(await stream.told(2)) == ["one", "two"]
    async with site.http.delete(f"/v1/clients/me/subscriptions/{talk.session_id}") as response:
        assert response.status == 204
    await talk.tell("unheard")
    await other.tell("heard")
    assert await stream.told(1) == ["heard"]
    assert other.session_id in stream.last_event_id
    assert talk.session_id not in stream.last_event_id


async def test_who_joins_late_gets_a_snapshot_in_the_form_of_an_event(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk, None)
    stream = await listen(site)
    reset = await stream.next()
    assert (reset["type"], reset["data"]["reason"]) == ("stream.reset", "joined")
    assert reset["data"]["snapshot"]["session_id"] == talk.session_id
    await talk.tell("next")
    assert await stream.told(1) == ["next"]


@pytest.mark.rows("X7", "W-C8")
async def test_a_client_that_is_cut_after_any_frame_gets_the_rest_once(site: Site) -> None:
    talks = [await site.talk() for _ in range(3)]
    for talk in talks:
        await put(site, talk)
    stream, got = await listen(site), []
    for number in range(6):
        for talk in talks:
            await talk.tell([talk.session_id, number])
        for _ in range(number % 4):
            got += await stream.told(1)
        stream.response.close()
        assert stream.last_event_id or not number
        stream = await listen(site, last_event_id=stream.last_event_id)
    while len(got) < 18:
        got += await stream.told(1)
    await talks[0].tell("last")
    assert await stream.told(1) == ["last"]
    for talk in talks:
        mine = [number for session_id, number in got if session_id == talk.session_id]
        assert mine == list(range(6))


@pytest.mark.rows("X7")
async def test_a_comeback_may_say_in_the_query_where_it_stood(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk)
    stream = await listen(site)
    await stream.until("stream.caught_up")
    await talk.tell(1)
    await stream.told(1)
    await talk.tell(2)
    url = URL("/events/me").with_query(last_event_id=stream.last_event_id)
    assert await (await listen(site, str(url))).told(1) == [2]


@pytest.mark.rows("X7")
async def test_a_subscription_that_was_made_anew_is_read_from_its_new_start(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk)
    stream = await listen(site)
    await stream.until("stream.caught_up")
    await talk.tell(1)
    await stream.told(1)
    stream.response.close()
    await talk.tell(2)
    await put(site, talk, "0")
    again = await listen(site, last_event_id=stream.last_event_id)
    assert (await again.next())["type"] == "session.created"


async def crowd(site: Site) -> tuple[list[Talk], Stream]:
    """Return twelve sessions and a stream of them that has passed a checkpoint."""
    talks = [await site.talk() for _ in range(12)]
    for talk in talks:
        await put(site, talk, "0")
    stream = await listen(site)
    for _ in talks:
        await stream.until("stream.caught_up")
    await until_checkpoint(stream)
    return talks, stream


async def until_checkpoint(stream: Stream) -> None:
    """Read up to a frame that is nothing but an id."""
    while True:
        fields = dict(re.findall(r"^(\w+): (.*)$", (await stream.block()).decode(), re.MULTILINE))
        stream.last_event_id = fields.get("id", stream.last_event_id)
        if fields.keys() == {"id"}:
            return


@pytest.mark.rows("X7")
async def test_with_many_sessions_at_work_ids_name_checkpoints_and_nothing_comes_twice(
    site: Site,
) -> None:
    talks, stream = await crowd(site)
    assert None in stream.ids, "the first words of twelve sessions do not fit into one id"
    stream.ids.clear()
    for talk in talks[:3]:
        await talk.tell(talk.session_id)
        await stream.told(1)
    assert all(name and name.startswith("ckp_") for name in stream.ids)
    stream.response.close()
    for talk in talks:
        await talk.tell(talk.session_id)
    got = []
    for _ in range(3):  # and again: what did not move on one connection is known on the next
        stream = await listen(site, last_event_id=stream.last_event_id)
        got += await stream.told(2)
        assert set(stream.types) <= {"told", "stream.caught_up"}, "nothing is told from its start"
        stream.response.close()
    stream = await listen(site, last_event_id=stream.last_event_id)
    got += await stream.told(6)
    assert set(stream.types) <= {"told", "stream.caught_up"}
    assert sorted(got) == sorted(talk.session_id for talk in talks)


@pytest.mark.rows("X7")
async def test_what_moves_while_a_checkpoint_is_stored_is_named_beside_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    talks, stream = await crowd(site)
    gate, stored = asyncio.Event(), asyncio.Event()
    save = site.engine.save_checkpoint

    async def slowly(client_id: str, checkpoint: Checkpoint) -> None:
        stored.set()
        await gate.wait()
        await save(client_id, checkpoint)

    monkeypatch.setattr(site.engine, "save_checkpoint", slowly)
    for talk in talks[:9]:
        await talk.tell("x")
    async with asyncio.timeout(PATIENCE):
        await stored.wait()
    await talks[0].tell("during")
    await stream.told(10)
    gate.set()
    await until_checkpoint(stream)
    assert f",{talks[0].session_id}/{(await talks[0].head())[1]}#" in stream.last_event_id
    assert stream.last_event_id.count(",") == 1


@pytest.mark.rows("X7")
async def test_a_session_that_is_not_open_yet_is_in_a_checkpoint_all_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    talks, stream = await crowd(site)
    stream.response.close()
    gate, find = asyncio.Event(), site.engine.session

    async def find_slowly(session_id: str) -> SessionRecord:
        if session_id == talks[0].session_id:
            await gate.wait()
        return await find(session_id)

    monkeypatch.setattr(site.engine, "session", find_slowly)
    again = await listen(site, last_event_id=stream.last_event_id)
    for talk in talks[1:]:
        await talk.tell("x")
    await until_checkpoint(again)
    again.response.close()
    gate.set()
    late = await listen(site, last_event_id=again.last_event_id)
    await talks[0].tell("late")
    while (message := await late.next())["data"] != "late":
        assert message["type"] in {"told", "stream.caught_up"}, "it begins where it stood"


@pytest.mark.rows("X7")
async def test_a_comeback_that_is_too_old_is_told_so(site: Site) -> None:
    talk, still = await site.talk(), await site.talk()
    await put(site, talk)
    await put(site, still)
    head = await still.head()
    gone = f"ckp_0123456789abcdef,{still.session_id}/{head[1]}#00000000"
    stream = await listen(site, last_event_id=gone)
    resets = [await stream.until("stream.reset") for _ in range(2)]
    assert {reset["data"]["session_id"] for reset in resets} == {talk.session_id, still.session_id}
    again = await listen(site, last_event_id=stream.last_event_id)
    await talk.tell("next")
    assert await again.told(1) == ["next"]


@pytest.mark.rows("W-C2")
async def test_two_streams_of_one_client_live_and_leave_alone(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk)
    older, newer = await listen(site), await listen(site)
    assert await streams(site) == 2
    for stream in (older, newer):
        await stream.until("stream.caught_up")
    await talk.tell(1)
    assert [await older.told(1), await newer.told(1)] == [[1], [1]]
    older.response.close()
    await talk.tell(2)
    assert await newer.told(1) == [2]


@pytest.mark.rows("C34", "X3")
async def test_a_client_that_leaves_is_noticed_though_nothing_happens(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk)
    stream, stays = await listen(site), await listen(site)
    await stream.until("stream.caught_up")
    assert await streams(site) == 2
    stream.response.close()
    async with asyncio.timeout(10):  # and not only when a comment is due
        while await streams(site) > 1:
            pass
    await talk.tell("still here")
    assert await stays.told(1) == ["still here"]


@pytest.mark.rows("X5", "C28")
async def test_a_client_that_does_not_read_is_cut_and_slows_nobody() -> None:
    async with running_site(write_timeout_s=0.3) as site:
        talk = await site.talk()
        await put(site, talk)
        stream = await listen(site)
        await stream.until("stream.caught_up")
        async with raw(site.address, receive_buffer=4096) as stuck:
            stuck.ask("/events/me", **host_of(site.address))
            await stuck.head()
            size, count = 100_000, 40
            for number in range(count):
                await talk.tell([number, "x" * size])
                assert (await stream.told(1))[0][0] == number
            async with asyncio.timeout(PATIENCE):
                while await streams(site) > 1:
                    pass
            seen = await rest_of(stuck)
        # The last frame may have come in part only: then its id came, and its event did not.
        whole = seen.rpartition(b"\n\n")[0]
        last = re.findall(rb"^id: (.*)$", whole, re.MULTILINE)[-1].decode()
        numbers = [int(found) for found in re.findall(rb'"data":\[(\d+),', whole)]
        done = len(numbers)
        again = await listen(site, last_event_id=last)
        assert [number for number, _ in await again.told(count - done)] == list(range(done, count))
        assert numbers == list(range(done))


async def rest_of(client: Raw) -> bytes:
    """Return what comes until the server cuts the connection."""
    found = b""
    try:
        async with asyncio.timeout(PATIENCE):
            while data := await client.reader.read(65536):
                found += data
    except ConnectionError:
        pass
    return found


@pytest.mark.rows("X1", "X2")
async def test_a_server_that_stops_says_so_in_a_frame_that_parses() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with running_site() as site:
            client = await stack.enter_async_context(raw(site.address))
            client.ask("/events/me", **host_of(site.address))
            await client.head()
            assert await client.body() == b":\n\n"
        frame = (await client.body()).decode()
    closing = json.loads(frame.removeprefix("data: "))
    assert (closing["type"], closing["data"]["reason"]) == ("stream.closing", "shutdown")


async def test_a_deleted_session_leaves_the_stream_with_a_word(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk)
    stream = await listen(site)
    await stream.until("stream.caught_up")
    async with site.http.delete(f"/v1/sessions/{talk.session_id}") as response:
        assert response.status == 204
    closing = await stream.until("stream.closing")
    assert closing["data"] == {"reason": "closed", "session_id": talk.session_id}


async def test_a_client_of_http_1_0_gets_a_stream_that_ends_with_the_connection(
    site: Site,
) -> None:
    talk = await site.talk()
    await put(site, talk)
    async with raw(site.address) as client:
        client.ask("/events/me", version="1.0", Connection="keep-alive", **host_of(site.address))
        status, headers = await client.head()
        assert (status, headers["connection"]) == (200, "close")
        assert "transfer-encoding" not in headers
        await client.until(b"stream.caught_up")
        await talk.tell(1)
        await client.until(b'data: {"type":"told","data":1}\n\n')


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ckp_0123456789abcdef",
        "ckp_0123456789abcdef,s-1/e.5.00000000#1",
        ",s-1/e.5.00000000#1,s_2/e.6.00000000#2",
    ],
)
def test_an_id_says_where_a_stream_stood(name: str) -> None:
    assert str(Whereabouts.parse(name)) == name
    assert Whereabouts.parse(None) == Whereabouts()


@pytest.mark.parametrize(
    "name",
    ["ckp_1", "e.1.00000000", ",", ",s/?#1", ",/0#1", ",a b/0#1", "ckp_0123456789abcdef,"],
)
def test_an_id_that_no_stream_gave_is_refused(name: str) -> None:
    with pytest.raises(CursorMalformed):
        Whereabouts.parse(name)


def test_what_has_moved_since_a_checkpoint_counts_more_than_the_checkpoint() -> None:
    kept = {"a": "0#1", "b": "0#2", "c": "0#3"}
    checkpoint = Checkpoint("ckp", {"a": "e.5.00000000#1", "b": "e.6.00000000#2"})
    moved = {
        "a": Subscription.parse("e.9.00000000#1"),
        "b": Subscription.parse("e.9.00000000#old"),
        "gone": Subscription.parse("e.9.00000000#1"),
    }
    found = starts(kept, checkpoint, forgotten=False, moved=moved)
    assert {session_id: str(start) for session_id, start in found.items()} == {
        "a": "e.9.00000000#1",
        "b": "e.6.00000000#2",
        "c": "0#3",
    }
    lost = starts(kept, None, forgotten=True, moved=moved)
    assert {session_id: str(start) for session_id, start in lost.items()} == {
        "a": "e.9.00000000#1",
        "b": "#2",
        "c": "#3",
    }
