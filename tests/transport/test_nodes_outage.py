"""A store that is away for a while: streams stay, commands are to be tried again, nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from gateway.config import Settings
from gateway.log.engine import Write
from gateway.log.serde import dump
from gateway.transports.reading import HEARTBEAT, Control, Reading
from gateway.transports.services import Services
from runtime.events import Custom
from tests.support.puppet import Part, Puppet
from tests.support.readers import Refused
from tests.support.shared import Node, Unsteady, sharing
from tests.transport.test_clients import Stream

pytestmark = pytest.mark.rule("store.away")

QUIET = 0.5
"""Seconds between keepalives of these servers."""

_numbers = itertools.count(1)


@pytest.fixture
def store() -> Unsteady:
    return Unsteady()


async def _ends(part: Part) -> None:
    await part.end("done")


@pytest.fixture
async def node(store: Unsteady) -> AsyncIterator[Node]:
    async with sharing(store, (Puppet(_ends),), keepalive_s=QUIET, command_timeout_s=1) as nodes:
        await nodes[0].create("s")
        await nodes[0].create("t")
        yield nodes[0]
        store.is_away = False
        store.answers.set()


async def tell(store: Unsteady, *session_ids: str) -> list[int]:
    """Put an event in each session's log; return what they say."""
    said = []
    for session_id in session_ids or ("s",):
        said.append(next(_numbers))
        event = Custom(run_id="run_0", name="told", payload=said[-1])
        await store.append(Write(session_id, [dump(event)]))
    return said


@pytest.mark.rule("resume.exact")
async def test_a_stream_stays_hears_of_the_outage_and_goes_on_exactly(
    node: Node, store: Unsteady, transport: str
) -> None:
    reader = await node.read(transport, "s", "$")
    await reader.until("stream.caught_up")
    said = await tell(store)
    assert (await reader.next())["payload"] == said[0]
    for _ in range(2):
        store.is_away = True
        heartbeat = await reader.next()
        assert heartbeat.data == {"type": "stream.heartbeat", "reason": "engine_unavailable"}
        again = await reader.next()
        assert again.data == heartbeat.data, "as long as it lasts"
        store.is_away = False
        said = await tell(store) + await tell(store)
        while (message := await reader.next()).type == "stream.heartbeat":
            pass
        assert [message["payload"], (await reader.next())["payload"]] == said


async def test_an_outage_that_is_short_is_not_spoken_of(
    node: Node, store: Unsteady, transport: str
) -> None:
    reader = await node.read(transport, "s", "$")
    await reader.until("stream.caught_up")
    store.is_away = True
    store.wake()
    await store.failed(1)
    store.is_away = False
    said = await tell(store)
    assert (await reader.next())["payload"] == said[0]


async def test_a_stream_cannot_be_opened_meanwhile_and_its_client_is_told_when_to_ask_again(
    node: Node, store: Unsteady, transport: str
) -> None:
    store.is_away = True
    with pytest.raises(Refused) as refused:
        await node.read(transport, "s", "$")
    assert refused.value.code == "engine_unavailable"
    if transport == "websocket":
        assert refused.value.problem["retryable"]
        return
    accept = {"sse": "text/event-stream", "ndjson": "application/x-ndjson"}[transport]
    for path in ("/v1/sessions/s/events", "/v1/clients/me/events"):
        async with node.http.get(path, headers={"Accept": f"{accept}, */*"}) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] in {"1", "2", "3", "4"}


async def test_a_websocket_says_it_once_for_all_its_sessions_and_refuses_commands_until_the_store_is_back(
    node: Node, store: Unsteady
) -> None:
    async with node.http.ws_connect("/v1/ws") as socket:
        assert (await socket.receive_json())["type"] == "hello"
        for session_id in ("s", "t"):
            await socket.send_json({"type": "subscribe", "session_id": session_id, "after": "$"})
            assert (await socket.receive_json())["type"] == "stream.caught_up"
        store.is_away = True
        store.wake()
        heartbeats = [await socket.receive_json(timeout=10) for _ in range(2)]
        assert [beat["type"] for beat in heartbeats] == ["stream.heartbeat"] * 2
        send = {"type": "send", "id": "c1", "session_id": "s", "text": "hi"}
        await socket.send_json(send)
        while (nack := await socket.receive_json(timeout=10))["type"] == "stream.heartbeat":
            pass
        assert (nack["id"], nack["error"]["code"]) == ("c1", "engine_unavailable")
        assert nack["error"]["retryable"]
        store.is_away = False
        await socket.send_json(send)
        seen: list[dict[str, Any]] = []
        while not {"ack", "run.completed"} <= {message["type"] for message in seen}:
            seen.append(await socket.receive_json(timeout=10))
        said = await tell(store, "t")
        while (message := await socket.receive_json(timeout=10)).get("session_id") != "t":
            pass
        assert message["payload"] == said[0]


@pytest.mark.rule("command.once")
async def test_commands_are_refused_at_once_with_the_time_to_ask_again(
    node: Node, store: Unsteady
) -> None:
    store.is_away = True
    body = {"type": "send", "id": "c1", "text": "hi"}
    for path, sent in (
        ("/v1/sessions/s/commands", body),
        ("/v1/sessions/s/messages", {"id": "c2", "text": "hi"}),
        ("/v1/sessions", {"session_id": "new"}),
    ):
        async with node.http.post(path, json=sent) as response:
            assert response.status == 503
            assert (await response.json(content_type=None))["code"] == "engine_unavailable"
            assert response.headers["Retry-After"] in {"1", "2", "3", "4"}
    store.is_away = False
    await node.command("s", "c1", type="send", text="hi")


@pytest.mark.rule("command.once")
async def test_a_store_that_does_not_answer_holds_a_command_up_for_so_long_and_it_takes_effect_once(
    node: Node, store: Unsteady
) -> None:
    store.answers.clear()
    status, problem = await node.ask(
        "POST", "/v1/sessions/s/commands", {"type": "send", "id": "c1", "text": "hi"}
    )
    assert (status, problem["code"]) == (503, "engine_unavailable")
    store.answers.set()
    ack = await node.command("s", "c1", type="send", text="hi")
    reader = await node.read("sse", "s", "0")
    seen = await reader.until("run.completed")
    accepted = [message for message in seen if message.type == "input.accepted"]
    assert [message["run_id"] for message in accepted] == [ack["run_id"]]
    assert accepted[0]["cursor"] == ack["cursor"]


async def open_client_stream(node: Node, last_event_id: str = "") -> Stream:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    response = await node.http.get("/v1/clients/me/events", headers=headers)
    assert response.status == 200
    node.responses.append(response)
    return Stream(response, last_event_id)


@pytest.mark.rule("sse.many", "resume.exact")
async def test_a_client_s_stream_stays_too_with_all_its_sessions_and_its_checkpoints(
    node: Node, store: Unsteady
) -> None:
    for session_id in ("s", "t"):
        path = f"/v1/clients/me/subscriptions/{session_id}"
        assert (await node.ask("PUT", path, {"after": "$"}))[0] == 204
    stream = await open_client_stream(node)
    for _ in range(2):
        await stream.until("stream.caught_up")
    store.is_away = True
    store.wake()
    assert (await stream.next())["type"] == "stream.heartbeat"
    assert (await node.ask("DELETE", "/v1/clients/me/subscriptions/s"))[0] == 503
    store.is_away = False
    said = set(await tell(store, "s", "t"))
    heard = {(await stream.until("custom"))["payload"] for _ in range(2)}
    assert heard == said
    stood = stream.checkpoint
    async with asyncio.timeout(30):
        while not stood or any(seq < 2 for seq in await reached(store, stood)):
            stood = await stream.next_checkpoint()
    stream.response.close()
    later = set(await tell(store, "s", "t"))
    back = await open_client_stream(node, stood)
    assert {(await back.until("custom"))["payload"] for _ in range(2)} == later


async def reached(store: Unsteady, checkpoint_id: str) -> list[int]:
    kept = await store.load_checkpoint("me", checkpoint_id)
    assert kept is not None
    return [int(cursor.split(".")[1]) for cursor in kept.cursors.values()]


async def test_a_reader_that_is_reset_while_the_store_goes_away_waits_for_its_snapshot(
    node: Node, store: Unsteady
) -> None:
    services = Services(node.manager, Settings())
    reading = await Reading.open(services, "s", None)
    store.is_away = True
    node.manager._forget("s")  # it has to be loaded
    async with aclosing(reading.steps(idle=0.1)) as steps:
        async with asyncio.timeout(30):
            assert await anext(steps) is HEARTBEAT
            assert await anext(steps) is HEARTBEAT
            store.is_away = False
            while (step := await anext(steps)) is HEARTBEAT:
                pass
            assert isinstance(step, Control)
            assert step.message["reason"] == "joined"
            caught_up = await anext(steps)
            assert isinstance(caught_up, Control)
            assert caught_up.message["type"] == "stream.caught_up"


async def test_a_server_without_its_store_is_alive_and_ready_and_says_what_is_wrong(
    node: Node, store: Unsteady
) -> None:
    assert await node.ask("GET", "/readyz") == (200, {"status": "ready"})
    store.is_away = True
    assert await node.ask("GET", "/healthz") == (200, {"status": "ok"})
    assert await node.ask("GET", "/readyz") == (200, {"status": "ready", "store": "away"})
    store.is_away = False
    assert await node.ask("GET", "/readyz") == (200, {"status": "ready"})
