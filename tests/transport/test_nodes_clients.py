"""A client subscribes on one node, and its stream is open on another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.log.engine import Write
from gateway.log.serde import dump
from gateway.transports.listeners import Listeners
from runtime.events import Custom
from tests.support.puppet import Part, Puppet
from tests.support.shared import Hintless, Node, Unsteady, sharing
from tests.transport.test_clients import Stream

pytestmark = pytest.mark.rule("sse.many")

Nodes = list[Node]


@pytest.fixture(params=[Unsteady, Hintless], ids=["hints", "no hints"])
def store(request: pytest.FixtureRequest) -> Unsteady:
    """A shared store; where its hints are lost, all takes longer, and nothing else is different."""
    made: Unsteady = request.param()
    return made


async def _ends(part: Part) -> None:
    await part.end("done")


@pytest.fixture
async def nodes(store: Unsteady) -> AsyncIterator[Nodes]:
    async with sharing(store, (Puppet(_ends),), (Puppet(_ends),)) as nodes:
        for session_id in ("s", "t"):
            await nodes[0].create(session_id)
        yield nodes


async def put(node: Node, session_id: str, after: str | None = "$") -> None:
    path = f"/v1/clients/me/subscriptions/{session_id}"
    status, problem = await node.ask("PUT", path, {} if after is None else {"after": after})
    assert status == 204, problem


async def drop(node: Node, session_id: str) -> None:
    assert (await node.ask("DELETE", f"/v1/clients/me/subscriptions/{session_id}"))[0] == 204


async def listen(node: Node, last_event_id: str = "") -> Stream:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    response = await node.http.get("/v1/clients/me/events", headers=headers)
    assert response.status == 200
    node.responses.append(response)
    return Stream(response, last_event_id)


async def tell(store: Unsteady, session_id: str, payload: str) -> None:
    event = Custom(run_id="run_0", name="told", payload=payload)
    await store.append(Write(session_id, [dump(event)]))


async def test_what_is_subscribed_to_on_one_node_comes_on_streams_of_all_nodes(
    nodes: Nodes, store: Unsteady
) -> None:
    streams = [await listen(node) for node in nodes]
    for node, session_id in zip(nodes, ("s", "t"), strict=True):
        await put(node, session_id, "0")
    for stream in streams:
        caught_up = {(await stream.until("stream.caught_up"))["session_id"] for _ in range(2)}
        assert caught_up == {"s", "t"}
    await tell(store, "s", "heard")
    for stream in streams:
        assert (await stream.until("custom"))["payload"] == "heard"


async def test_what_is_taken_off_on_one_node_stops_on_the_stream_of_another(
    nodes: Nodes, store: Unsteady
) -> None:
    here, there = nodes
    for session_id in ("s", "t"):
        await put(here, session_id)
    stream = await listen(there)
    for _ in range(2):
        await stream.until("stream.caught_up")
    await drop(here, "s")
    await put(here, "t", None)  # again: a stream that has begun anew has also heard of the other
    assert (await stream.until("stream.reset"))["session_id"] == "t"
    await tell(store, "s", "unheard")
    await tell(store, "t", "heard")
    assert (await stream.until("custom"))["payload"] == "heard"


async def test_who_subscribes_again_starts_anew_and_other_sessions_go_on_as_they_were(
    nodes: Nodes, store: Unsteady
) -> None:
    here, there = nodes
    for session_id in ("s", "t"):
        await put(here, session_id, "0")
    stream = await listen(there)
    for _ in range(2):
        await stream.until("stream.caught_up")
    await put(here, "s", "0")
    again = await stream.next()
    assert (again["type"], again["session_id"]) == ("session.created", "s")
    await stream.until("stream.caught_up", session_id="s")
    await tell(store, "t", "once")
    assert (await stream.next())["payload"] == "once"


async def test_on_the_node_itself_an_open_stream_has_it_when_the_request_is_answered(
    nodes: Nodes, store: Unsteady
) -> None:
    stream = await listen(nodes[0])
    for payload in ("one", "two", "three"):
        await put(nodes[0], "s")
        await tell(store, "s", payload)
        await drop(nodes[0], "s")
        await tell(store, "s", "unheard")
    await put(nodes[0], "t")
    heard = []
    while (message := await stream.next()).get("session_id") != "t":
        heard += [message["payload"]] if message["type"] == "custom" else []
    assert "unheard" not in heard


async def test_a_session_that_is_deleted_on_another_node_is_closed_on_the_stream(
    nodes: Nodes,
) -> None:
    here, there = nodes
    await put(here, "s")
    stream = await listen(there)
    await stream.until("stream.caught_up")
    assert (await here.ask("DELETE", "/v1/sessions/s"))[0] == 204
    closing = await stream.until("stream.closing")
    assert closing["session_id"] == "s"
    assert closing["reason"] in {"closed", "deleted"}, "it is closed first"


@pytest.mark.rule("resume.exact")
async def test_a_checkpoint_of_one_node_resumes_on_another(nodes: Nodes, store: Unsteady) -> None:
    here, there = nodes
    for session_id in ("s", "t"):
        await put(here, session_id, "0")
    stream = await listen(here)
    for _ in range(2):
        await stream.until("stream.caught_up")
    await tell(store, "s", "seen")
    await stream.until("custom")
    stood = await stream.next_checkpoint()
    stream.response.close()
    await tell(store, "t", "next")
    back = await listen(there, stood)
    seen = [await back.next()]
    while seen[-1].get("payload") != "next":
        seen.append(await back.next())
    assert "stream.reset" not in {message["type"] for message in seen}
    assert [m["payload"] for m in seen if m["type"] == "custom"] == ["next"]


async def test_a_client_is_told_of_the_streams_that_it_has_on_the_node_that_it_asks(
    nodes: Nodes,
) -> None:
    await put(nodes[0], "s")
    stream = await listen(nodes[1])
    await stream.until("stream.caught_up")
    counts = [(await node.ask("GET", "/v1/clients/me"))[1]["streams"] for node in nodes]
    assert counts == [0, 1]


class Taking:
    """A stream that only notes what it was told to carry."""

    def __init__(self) -> None:
        self.taken: list[set[str]] = []

    def take(self, kept: object) -> None:
        assert isinstance(kept, dict)
        self.taken.append(set(kept))


async def watches() -> int:
    """Count the tasks that watch a client."""
    await asyncio.sleep(0)
    return sum("_Client.watch" in str(task.get_coro()) for task in asyncio.all_tasks())


async def test_there_is_one_watch_for_a_client_with_streams_and_none_without() -> None:
    engine, listeners = Unsteady(), Listeners()
    await listeners.changed("me")
    assert await watches() == 0
    async with listeners.listening(engine, "me", Taking()):
        async with listeners.listening(engine, "me", Taking()):
            assert (listeners.count("me"), await watches()) == (2, 1)
        assert (listeners.count("me"), await watches()) == (1, 1)
    assert (listeners.count("me"), await watches()) == (0, 0)
    engine.shared = False
    async with listeners.listening(engine, "me", Taking()):
        assert await watches() == 0, "nobody else could change it"


async def test_a_watch_outlives_an_outage_and_a_stream_that_cannot_begin_leaves_nothing() -> None:
    engine, listeners, stream = Unsteady(), Listeners(), Taking()
    async with asyncio.timeout(30), listeners.listening(engine, "me", stream):
        assert await watches() == 1
        engine.is_away = True
        engine.wake()
        await engine.failed(2)
        engine.is_away = False
        await engine.subscribe("me", "s", "#1")
        while stream.taken[-1] != {"s"}:  # noqa: ASYNC110 - a stream that knows no event
            await asyncio.sleep(0.01)
    engine.is_away = True
    with pytest.raises(Exception, match="not available"):
        async with listeners.listening(engine, "me", stream):
            pass
    assert (listeners.count("me"), await watches()) == (0, 0)
