"""Who counts as there, on each way to follow a session, and when they count as gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from gateway.log.follow import follow
from gateway.log.serde import load
from runtime.events import RunCancelled
from tests.support.raw import host_of, raw
from tests.support.site import Site, running_site
from tests.support.vanishing import vanish
from tests.support.waiting import proven_blocked

pytestmark = pytest.mark.rule("disconnect.cancel_after")

WAYS = ("sse", "ndjson", "websocket", "client")

GRACE = 1.0
"""Seconds in which a reader comes back, on a busy machine too."""


@asynccontextmanager
async def following(
    site: Site, way: str, session_id: str, role: str | None = None
) -> AsyncIterator[Any]:
    """Follow a session in one way; at the end the connection is cut."""
    query = {} if role is None else {"role": role}
    if way == "websocket":
        async with site.http.ws_connect("/v1/ws") as socket:
            await socket.receive_json()
            subscribe = {"type": "subscribe", "id": "s", "session_id": session_id, "after": "$"}
            await socket.send_json(subscribe | query)
            assert (await socket.receive_json())["type"] == "ack"
            yield socket
        return
    path = f"/v1/sessions/{session_id}/events"
    if way == "client":
        async with site.http.put(f"/v1/clients/me/subscriptions/{session_id}") as response:
            assert response.status == 204
        path = "/v1/clients/me/events"
    accept = "application/x-ndjson" if way == "ndjson" else "text/event-stream"
    async with site.http.get(path, params=query, headers={"Accept": accept}) as response:
        assert response.status == 200
        await response.content.readuntil(b"stream.caught_up")
        yield response
        response.close()


async def cancelled(site: Site, session_id: str) -> RunCancelled:
    """Wait until the session's run is cancelled."""
    head = await site.engine.head(session_id)
    async for batch in follow(site.engine, session_id, head.start):
        for entry in batch:
            if isinstance(event := load(entry), RunCancelled):
                return event
    raise AssertionError("the log ended")


async def begun(site: Site, session_id: str, **fields: Any) -> asyncio.Task[RunCancelled]:
    """Begin a run that is cancelled once nobody is there; return what waits for that."""
    fields = {"text": "go", "on_disconnect": {"cancel_after": 0}} | fields
    await site.command(session_id, "send", **fields)
    return asyncio.create_task(cancelled(site, session_id))


async def reason(ending: asyncio.Task[RunCancelled]) -> str:
    async with asyncio.timeout(30):
        return (await ending).reason


@pytest.mark.parametrize("way", WAYS)
async def test_the_run_goes_on_until_the_last_tab_is_closed(site: Site, way: str) -> None:
    await site.create("s")
    async with AsyncExitStack() as other:
        await other.enter_async_context(following(site, "websocket", "s"))
        async with following(site, way, "s"):
            ending = await begun(site, "s")
            await other.aclose()
            await proven_blocked(ending)
        assert await reason(ending) == "disconnect"


@pytest.mark.parametrize("way", WAYS)
async def test_an_observer_stays_and_the_run_is_cancelled_all_the_same(
    site: Site, way: str
) -> None:
    await site.create("s")
    async with following(site, way, "s", role="observer"):
        async with following(site, "ndjson", "s", role="controller"):
            ending = await begun(site, "s")
            await proven_blocked(ending)
        assert await reason(ending) == "disconnect"


async def test_whoever_comes_back_by_another_way_keeps_the_run(site: Site) -> None:
    """All ways at the same time: it is the grace that takes long."""

    async def come_back(way: str) -> None:
        session_id = f"by-{way}"
        await site.create(session_id)
        async with following(site, "sse" if way != "sse" else "websocket", session_id):
            ending = await begun(site, session_id, on_disconnect={"cancel_after": GRACE})
        async with following(site, way, session_id):
            done, _ = await asyncio.wait([ending], timeout=1.2 * GRACE)
            assert not done, way
        assert await reason(ending) == "disconnect"

    async with asyncio.TaskGroup() as tasks:
        for way in WAYS:
            tasks.create_task(come_back(way))


async def test_leaving_a_session_counts_though_the_connection_stays(site: Site) -> None:
    await site.create("s")
    async with following(site, "websocket", "s") as socket:
        ending = await begun(site, "s")
        await proven_blocked(ending)
        await socket.send_json({"type": "unsubscribe", "session_id": "s"})
        assert await reason(ending) == "disconnect"


async def test_so_does_taking_a_session_off_a_clients_open_stream(site: Site) -> None:
    await site.create("s")
    async with following(site, "client", "s"):
        ending = await begun(site, "s")
        await proven_blocked(ending)
        async with site.http.delete("/v1/clients/me/subscriptions/s") as response:
            assert response.status == 204
        assert await reason(ending) == "disconnect"


@pytest.mark.parametrize("way", ["websocket", "client"])
async def test_many_sessions_on_one_connection_are_judged_each_by_itself(
    site: Site, way: str
) -> None:
    await site.create("s")
    await site.create("t")
    async with following(site, way, "t"):
        attended, alone = await begun(site, "t"), await begun(site, "s")
        assert await reason(alone) == "disconnect"
        await proven_blocked(attended)
    assert await reason(attended) == "disconnect"


async def test_subscribing_anew_does_not_count_as_having_left(site: Site) -> None:
    await site.create("s")
    async with following(site, "websocket", "s") as socket:
        ending = await begun(site, "s")
        for number in range(20):
            again = {"type": "subscribe", "id": f"{number}", "session_id": "s", "after": "$"}
            await socket.send_json(again)
        while (await socket.receive_json()).get("id") != "19":
            pass
        await proven_blocked(ending)
    assert await reason(ending) == "disconnect"


@pytest.mark.parametrize(
    "accept", ["application/json", "text/event-stream", "application/x-ndjson"]
)
async def test_whoever_waits_for_the_answer_is_there(site: Site, accept: str) -> None:
    await site.create("s")
    asked = {"text": "go", "on_disconnect": {"cancel_after": 0}}
    path, headers = "/v1/sessions/s/messages", {"Accept": accept}
    asking = asyncio.create_task(site.http.post(path, json=asked, headers=headers))
    async with asyncio.timeout(30):
        await site.begun.wait()
    ending = asyncio.create_task(cancelled(site, "s"))
    await proven_blocked(ending)
    if accept == "application/json":
        asking.cancel()
    else:
        (await asking).close()
    assert await reason(ending) == "disconnect"


async def test_a_reader_that_vanishes_counts_as_gone_once_it_is_given_up() -> None:
    async with running_site(keepalive_s=0.2, write_timeout_s=0.5) as site:
        await site.create("s")
        async with raw(site.address) as peer:
            peer.ask("/v1/sessions/s/events?after=$", **host_of(site.address))
            await peer.until(b"stream.caught_up")
            ending = await begun(site, "s")
            await proven_blocked(ending)
            vanish(peer.writer.get_extra_info("socket"))
            assert await reason(ending) == "disconnect"


async def test_so_does_a_websocket_whose_peer_answers_no_ping() -> None:
    impatient = aiohttp.ClientWSTimeout(ws_close=0.1)
    async with running_site(ws_heartbeat_s=0.4) as site:
        await site.create("s")
        async with site.http.ws_connect("/v1/ws", timeout=impatient) as socket:
            await socket.receive_json()
            subscribe = {"type": "subscribe", "id": "s", "session_id": "s", "after": "$"}
            await socket.send_json(subscribe)
            assert (await socket.receive_json())["type"] == "ack"
            ending = await begun(site, "s")
            await proven_blocked(ending)
            vanish(socket.get_extra_info("socket"))
            assert await reason(ending) == "disconnect"


@pytest.mark.parametrize("path", ["/v1/sessions/s/events", "/v1/clients/me/events"])
@pytest.mark.parametrize("role", ["", "Controller", "boss"])
async def test_other_roles_are_refused(site: Site, path: str, role: str) -> None:
    await site.create("s")
    async with site.http.get(path, params={"role": role}) as response:
        assert response.status == 422
        assert "controller" in (await response.json())["detail"]
    async with site.http.ws_connect("/v1/ws") as socket:
        await socket.receive_json()
        await socket.send_json({"type": "subscribe", "id": "a", "session_id": "s", "role": role})
        assert (await socket.receive_json())["error"]["code"] == "command_malformed"


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ("cancel", "on_disconnect"),
        ({}, "missing field `cancel_after`"),
        ({"cancel_after": -1}, "on_disconnect"),
        ({"cancel_after": "inf"}, "on_disconnect"),
        ({"cancel_after": 1, "more": 1}, "unknown field `more`"),
    ],
)
@pytest.mark.parametrize("kind", ["send", "continue"])
async def test_other_policies_are_refused(
    site: Site, kind: str, policy: object, named: str
) -> None:
    await site.create("s")
    body = {"type": kind, "id": "c", "on_disconnect": policy}
    body |= {"text": "hi"} if kind == "send" else {}
    async with site.http.post("/v1/sessions/s/commands", json=body) as response:
        assert response.status == 422
        assert named in (await response.json())["detail"]
