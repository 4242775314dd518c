"""A client's stream under faults: cuts at bad moments, kills, and sessions that change beneath it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.log.engine import Checkpoint
from gateway.log.position import After
from gateway.transports.subscriptions import Subscription
from tests.support.server import Server, running_server
from tests.support.site import Site, running_site
from tests.transport.test_clients import drop, listen, put

pytestmark = pytest.mark.rule("sse.many")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server that keeps things as users keep them: a checkpoint takes as long as it does there."""
    async with running_site(engine="sqlite", data=tmp_path, drain_runs_s=0) as site:
        yield site


async def sessions_of_a_client(site: Site, count: int) -> list[str]:
    """Make sessions, and put each on the client's stream from its start."""
    names = [await site.create(f"many{number}") for number in range(count)]
    for name in names:
        await put(site, name, "0")
    return names


async def test_catching_up_with_many_sessions_makes_few_checkpoints(site: Site) -> None:
    names = await sessions_of_a_client(site, 60)
    stream = await listen(site)
    checkpoints, caught_up = 0, 0
    while caught_up < len(names) or not checkpoints:
        frame = await stream.frame()
        checkpoints += "id" in frame
        caught_up += "stream.caught_up" in frame.get("data", "")
    # One when the first has moved, one each second, one when all is caught up.
    assert checkpoints <= 4


async def test_a_client_that_is_cut_again_and_again_while_it_catches_up_is_not_reset(
    site: Site,
) -> None:
    names = await sessions_of_a_client(site, 30)
    stream = await listen(site)
    for _ in names:
        await stream.until("stream.caught_up")
    stood = await stream.next_checkpoint()
    stream.response.close()
    for _ in range(10):
        cut = await listen(site, last_event_id=stood)
        for _ in names:  # the server has said all this; the client has read none of it
            await cut.until("stream.caught_up")
        cut.response.close()
    back = await listen(site, last_event_id=stood)
    caught_up: set[str] = set()
    while len(caught_up) < len(names):
        message = await back.next()
        assert message["type"] != "stream.reset"
        if message["type"] == "stream.caught_up":
            caught_up.add(message["session_id"])


async def test_a_client_that_comes_back_to_nothing_new_keeps_its_checkpoint_and_gets_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = await site.talk()
    await put(site, talk.session_id, "0")
    stream = await listen(site)
    await stream.until("stream.caught_up")
    await stream.next_checkpoint()
    await talk.tell("more")
    stood = await stream.next_checkpoint()
    stream.response.close()
    saved: list[str] = []
    save = site.engine.save_checkpoint

    async def noted(client_id: str, checkpoint: Checkpoint) -> None:
        saved.append(checkpoint.checkpoint_id)
        await save(client_id, checkpoint)

    monkeypatch.setattr(site.engine, "save_checkpoint", noted)
    back = await listen(site, last_event_id=stood)
    await back.until("stream.caught_up")
    await talk.tell("new")
    kept = await site.engine.load_checkpoint("me", await back.next_checkpoint())
    assert kept is not None
    assert saved == [stood, kept.checkpoint_id]
    tail = (await site.engine.head(talk.session_id)).tail
    assert Subscription.parse(kept.cursors[talk.session_id]).after == tail, "it is of what was new"


async def reached(site: Site, checkpoint_id: str) -> dict[str, After]:
    """Return where a checkpoint of the client stands in each session."""
    kept = await site.engine.load_checkpoint("me", checkpoint_id)
    cursors = {} if kept is None else kept.cursors
    return {name: Subscription.parse(place).after for name, place in cursors.items()}


async def test_a_session_that_was_trimmed_meanwhile_is_reset_and_the_others_go_on_exactly(
    site: Site,
) -> None:
    trimmed, other = await site.talk(), await site.talk()
    for talk in (trimmed, other):
        await put(site, talk.session_id, "0")
    stream = await listen(site)
    for _ in (trimmed, other):
        await stream.until("stream.caught_up")
    tails = {t.session_id: (await site.engine.head(t.session_id)).tail for t in (trimmed, other)}
    while await reached(site, stood := stream.checkpoint) != tails:
        await stream.next_checkpoint()
    stream.response.close()
    seen = tails[other.session_id].seq
    for talk in (trimmed, other):
        await talk.tell(*range(10))
    head = await site.engine.head(trimmed.session_id)
    await site.engine.trim(trimmed.session_id, head.tail.seq - 2)
    back = await listen(site, last_event_id=stood)
    numbers: list[int] = []
    resets: list[tuple[str, str, str]] = []
    while len(numbers) < 10 or not resets:
        message = await back.next()
        if message["type"] == "stream.reset":
            resets.append((message["session_id"], message["reason"], message["cursor"]))
        elif message["session_id"] == other.session_id and message.get("seq", 0) > seen:
            numbers.append(message["payload"])
    assert resets == [(trimmed.session_id, "trimmed", str(head.tail))]
    assert numbers == list(range(10))


async def test_changes_hold_on_two_open_streams_and_for_one_that_comes_later(site: Site) -> None:
    first, second = await site.talk(), await site.talk()
    streams = [await listen(site), await listen(site)]
    await put(site, first.session_id)
    await put(site, second.session_id)
    for stream in streams:
        for _ in range(2):
            await stream.until("stream.caught_up")
    await drop(site, first.session_id)
    streams.append(await listen(site))
    await streams[-1].until("stream.caught_up", session_id=second.session_id)
    await first.tell("unheard")
    await second.tell("heard")
    for stream in streams:
        assert (await stream.until("custom"))["payload"] == "heard"
    await put(site, first.session_id, "0")  # again, and from its start
    for stream in streams:
        assert (await stream.until("custom", session_id=first.session_id))["payload"] == "unheard"


async def test_a_session_that_does_not_exist_yet_cannot_be_put_on_a_stream(site: Site) -> None:
    async with site.http.put("/v1/clients/me/subscriptions/later", json={}) as response:
        assert response.status == 404
    stream = await listen(site)
    await site.create("later")
    await put(site, "later", "0")
    assert (await stream.next())["type"] == "session.created"


async def request(server: Server, method: str, path: str, **body: Any) -> int:
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.request(method, path, json=body or None) as response,
    ):
        return response.status


def apply(applied: dict[str, list[int]], message: dict[str, Any]) -> None:
    """Take an event as a client does: drop what it has."""
    if "seq" in message and message["seq"] > len(applied[message["session_id"]]):
        applied[message["session_id"]].append(message["seq"])


@asynccontextmanager
async def frames(
    server: Server, last_event_id: str
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Open the client's stream; yield what it says, ids as `{"id": …}`."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}

    async def told(content: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
        async with asyncio.timeout(30):
            async for line in content:
                name, _, value = line.decode().strip().partition(": ")
                if name == "data":
                    yield orjson.loads(value)
                elif name == "id":
                    yield {"type": "id", "id": value}

    async with (
        aiohttp.ClientSession(server.url) as http,
        http.get("/v1/clients/me/events", headers=headers) as response,
    ):
        yield told(response.content)


@pytest.mark.rule("resume.exact")
async def test_subscriptions_and_checkpoints_outlive_a_killed_server(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        for name in ("stays", "goes", "comes"):
            await request(server, "POST", "/v1/sessions", session_id=name, agent="echo")
        for name in ("stays", "goes"):
            path = f"/v1/clients/me/subscriptions/{name}"
            assert await request(server, "PUT", path, after="0") == 204
        stood, caught_up = "", 0
        applied: dict[str, list[int]] = {"stays": [], "goes": [], "comes": []}
        async with frames(server, "") as told:
            async for message in told:
                apply(applied, message)
                caught_up += message["type"] == "stream.caught_up"
                if message["type"] == "id" and caught_up == 2:
                    stood = message["id"]
                    break
        assert await request(server, "DELETE", "/v1/clients/me/subscriptions/goes") == 204
        path = "/v1/clients/me/subscriptions/comes"
        assert await request(server, "PUT", path, after="0") == 204
        await server.kill()
        await server.restart()
        for name in ("stays", "goes", "comes"):
            await request(server, "POST", f"/v1/sessions/{name}/messages", text="hi")
        async with frames(server, stood) as told:
            async for message in told:
                assert message["type"] != "stream.reset"
                apply(applied, message)
                caught_up += message["type"] == "stream.caught_up"
                if caught_up == 4:
                    break
        assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in applied.values())
        assert len(applied["goes"]) == 1 < len(applied["comes"]) == len(applied["stays"])
