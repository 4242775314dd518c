"""A client's stream: all of its sessions over one SSE connection."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.errors import CursorMalformed
from gateway.log.engine import Checkpoint
from gateway.transports.subscriptions import Subscription, parse_checkpoint_id, starts
from tests.support.site import Site, running_site


class Stream:
    """A client's stream, frame by frame."""

    def __init__(self, response: aiohttp.ClientResponse, checkpoint: str = "") -> None:
        self.response = response
        self.checkpoint = checkpoint
        self.comments = 0

    async def frame(self) -> dict[str, str]:
        async with asyncio.timeout(30):
            text = (await self.response.content.readuntil(b"\n\n")).decode()
        if text.startswith(":"):
            self.comments += 1
        found = re.findall(r"^(\w+): (.*)$", text, re.MULTILINE)
        return dict(found)

    async def next(self) -> dict[str, Any]:
        """Return the next object, passing over checkpoints and comments."""
        while "data" not in (frame := await self.frame()):
            self.checkpoint = frame.get("id", self.checkpoint)
        assert "id" not in frame
        message: dict[str, Any] = orjson.loads(frame["data"])
        return message

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        while True:
            message = await self.next()
            if message["type"] == kind and fields.items() <= message.items():
                return message

    async def next_checkpoint(self) -> str:
        while "id" not in (frame := await self.frame()):
            pass
        self.checkpoint = frame["id"]
        return self.checkpoint


async def listen(site: Site, client_id: str = "me", last_event_id: str = "") -> Stream:
    headers = {"Accept": "text/event-stream"} | (
        {"Last-Event-ID": last_event_id} if last_event_id else {}
    )
    response = await site.http.get(f"/v1/clients/{client_id}/events", headers=headers)
    site.responses.append(response)
    assert response.status == 200, await response.text()
    return Stream(response, last_event_id)


async def put(site: Site, session_id: str, after: str | None = "$", client: str = "me") -> None:
    path = f"/v1/clients/{client}/subscriptions/{session_id}"
    async with site.http.put(path, json={} if after is None else {"after": after}) as response:
        assert response.status == 204, await response.text()


async def drop(site: Site, session_id: str) -> None:
    async with site.http.delete(f"/v1/clients/me/subscriptions/{session_id}") as response:
        assert response.status == 204


@pytest.mark.rule("sse.many")
async def test_all_sessions_of_a_client_come_on_one_stream(site: Site) -> None:
    talks = [await site.talk() for _ in range(3)]
    for talk in talks:
        await put(site, talk.session_id)
    stream = await listen(site)
    for _ in talks:
        await stream.until("stream.caught_up")
    for number in range(4):
        for talk in talks:
            await talk.tell(number)
    seen = defaultdict(list)
    for _ in range(12):
        event = await stream.until("custom")
        assert re.fullmatch(r"\w+\.\d+\.\w+", event["cursor"])
        seen[event["session_id"]].append(event["payload"])
    assert dict(seen) == {talk.session_id: [0, 1, 2, 3] for talk in talks}


@pytest.mark.rule("sse.many")
async def test_subscriptions_take_effect_on_the_open_stream(site: Site) -> None:
    talk, other = await site.talk(), await site.talk()
    stream = await listen(site)
    await put(site, talk.session_id, None)
    reset = await stream.until("stream.reset")
    assert (reset["session_id"], reset["reason"]) == (talk.session_id, "joined")
    await put(site, other.session_id)
    await stream.until("stream.caught_up", session_id=other.session_id)
    await drop(site, talk.session_id)
    await talk.tell("unheard")
    await other.tell("heard")
    assert (await stream.until("custom"))["payload"] == "heard"


@pytest.mark.rule("sse.many", "resume.exact")
async def test_a_checkpoint_resumes_all_sessions_at_once(site: Site) -> None:
    talks = [await site.talk() for _ in range(3)]
    for talk in talks:
        await put(site, talk.session_id, "0")
    applied: dict[str, int] = defaultdict(int)

    def apply(message: dict[str, Any]) -> None:
        """Take an event as a client does: drop what it has, and never miss one."""
        if "seq" in message and message["seq"] > applied[message["session_id"]]:
            assert message["seq"] == applied[message["session_id"]] + 1
            applied[message["session_id"]] = message["seq"]

    stream = await listen(site)
    for number in range(10):
        for talk in talks:
            await talk.tell(number)
        for _ in range(number):
            apply(await stream.next())
        if number % 3 == 2:
            before = stream.checkpoint
            while stream.checkpoint == before:
                frame = await stream.frame()
                apply(orjson.loads(frame.get("data", "{}")))
                stream.checkpoint = frame.get("id", before)
        stream.response.close()
        stream = await listen(site, last_event_id=stream.checkpoint)
    heads = {talk.session_id: await site.engine.head(talk.session_id) for talk in talks}
    assert stream.checkpoint, "it did not begin anew each time"
    while any(applied[sid] < head.tail.seq for sid, head in heads.items()):
        apply(await stream.next())


async def test_a_checkpoint_comes_when_a_session_has_caught_up(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk.session_id, "0")
    stream = await listen(site)
    await stream.until("stream.caught_up")
    checkpoint_id = await stream.next_checkpoint()
    kept = await site.engine.load_checkpoint("me", checkpoint_id)
    assert kept is not None, "it is kept before it is sent"
    head = await site.engine.head(talk.session_id)
    assert Subscription.parse(kept.cursors[talk.session_id]).after == head.tail


async def test_a_checkpoint_that_is_forgotten_brings_snapshots(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk.session_id, "0")
    stream = await listen(site, last_event_id="ckp_0123456789abcdef")
    reset = await stream.next()
    assert (reset["type"], reset["reason"]) == ("stream.reset", "joined")


async def test_a_checkpoint_that_cannot_be_read_is_refused(site: Site) -> None:
    for text in ("x", "0", "ckp_", "ckp_0123456789abcdeF"):
        path = f"/v1/clients/me/events?after={text}"
        async with site.http.get(path) as response:
            assert response.status == 400
            assert (await response.json(content_type=None))["code"] == "cursor_malformed"


@pytest.mark.rule("sse.many")
async def test_two_streams_of_one_client_both_live(site: Site) -> None:
    talk = await site.talk()
    await put(site, talk.session_id)
    streams = [await listen(site), await listen(site)]
    for stream in streams:
        await stream.until("stream.caught_up")
    async with site.http.get("/v1/clients/me") as response:
        told = await response.json()
    _, tail = await talk.head()
    assert told == {"client_id": "me", "subscriptions": {talk.session_id: tail}, "streams": 2}
    await talk.tell("both")
    for stream in streams:
        assert (await stream.until("custom"))["payload"] == "both"


async def test_a_client_nobody_knows_listens_to_nothing(site: Site) -> None:
    async with site.http.get("/v1/clients/nobody") as response:
        assert await response.json() == {
            "client_id": "nobody",
            "subscriptions": {},
            "streams": 0,
        }


async def test_a_deleted_session_leaves_the_stream_and_the_others_go_on(site: Site) -> None:
    talk, other = await site.talk(), await site.talk()
    await put(site, talk.session_id)
    await put(site, other.session_id)
    stream = await listen(site)
    await stream.until("stream.caught_up", session_id=talk.session_id)
    await site.manager.delete(talk.session_id)
    await stream.until("stream.closing", session_id=talk.session_id)
    await other.tell("heard")
    assert (await stream.until("custom"))["payload"] == "heard"


async def test_a_quiet_stream_is_kept_alive() -> None:
    async with running_site(keepalive_s=0.05) as site:
        stream = await listen(site)
        await stream.frame()
        while stream.comments < 3:
            await stream.frame()


async def test_when_the_server_stops_the_client_is_told_to_come_back() -> None:
    async with aiohttp.ClientSession() as http:
        async with running_site() as site:
            response = await http.get(f"{site.url}/v1/clients/me/events")
            stream = Stream(response)
            await stream.frame()
        closing = await stream.next()
        assert (closing["type"], closing["reason"]) == ("stream.closing", "shutdown")


async def test_bad_requests_are_refused(site: Site) -> None:
    session_id = await site.create()
    path = "/v1/clients/me/subscriptions/"
    cases = [
        (path + "nobody", {"after": "0"}, 404, "session_unknown"),
        (path + session_id, {"after": "?"}, 400, "cursor_malformed"),
        (path + session_id, {"after": 1}, 422, "command_malformed"),
        (path + session_id, {"from": "0"}, 422, "command_malformed"),
        (f"/v1/clients/{'x' * 65}/subscriptions/{session_id}", {}, 422, "command_malformed"),
    ]
    for where, body, status, code in cases:
        async with site.http.put(where, json=body) as response:
            problem = await response.json(content_type=None)
            assert (response.status, problem["code"]) == (status, code)


async def test_there_is_a_limit_to_subscriptions() -> None:
    async with running_site(max_subscriptions=1) as site:
        first, second = await site.create(), await site.create()
        await put(site, first)
        await put(site, first)
        async with site.http.put(f"/v1/clients/me/subscriptions/{second}") as response:
            assert response.status == 409
            assert (await response.json(content_type=None))["code"] == "too_many_subscriptions"


def test_a_checkpoint_counts_only_for_the_subscription_that_it_was_made_for() -> None:
    kept = {"a": "0#1", "b": "0#9", "c": "#3"}
    checkpoint = Checkpoint(
        "ckp", {"a": "e.5.00000000#1", "b": "e.6.00000000#2", "gone": "e.7.00000000#1"}
    )
    found = {sid: str(start) for sid, start in starts(kept, checkpoint, forgotten=False).items()}
    assert found == {"a": "e.5.00000000#1", "b": "0#9", "c": "#3"}
    lost = starts(kept, None, forgotten=True)
    assert {sid: start.after for sid, start in lost.items()} == {"a": None, "b": None, "c": None}


def test_checkpoint_ids_are_checked() -> None:
    assert parse_checkpoint_id(None) is None
    assert parse_checkpoint_id("") is None
    assert parse_checkpoint_id("ckp_0123456789abcdef") == "ckp_0123456789abcdef"
    with pytest.raises(CursorMalformed):
        parse_checkpoint_id("e.1.00000000")
