"""Other protocols' clients whose requests come to different nodes, and to nodes without their store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from tests.frontends.serving import Staged
from tests.support.shared import Node, Unsteady, sharing

Nodes = list[Node]

LIMIT = aiohttp.ClientTimeout(total=30)


@pytest.fixture
def store() -> Unsteady:
    return Unsteady()


@pytest.fixture
def agents() -> list[Staged]:
    """The agent of each node: says two pieces, the second when it is let."""
    staged = [Staged("Hel", "lo") for _ in range(2)]
    for agent in staged:
        agent.let(0)
    return staged


@pytest.fixture
async def nodes(store: Unsteady, agents: list[Staged]) -> AsyncIterator[Nodes]:
    fleets = [(agent.puppet,) for agent in agents]
    async with sharing(store, *fleets, command_timeout_s=10, keepalive_s=0.5) as nodes:
        yield nodes


def agui(thread: str, run: str, text: str = "hi") -> dict[str, Any]:
    message = {"id": f"m-{run}", "role": "user", "content": text}
    fields: dict[str, Any] = {"tools": [], "context": [], "state": {}, "forwardedProps": {}}
    return {"threadId": thread, "runId": run, "messages": [message], **fields}


async def body_of(node: Node, path: str, body: object, **headers: str) -> bytes:
    async with node.http.post(path, json=body, headers=headers, timeout=LIMIT) as response:
        assert response.status == 200, await response.text()
        return await response.read()


async def sessions(node: Node) -> list[str]:
    found = (await node.manager.sessions(limit=100, after=None))["sessions"]
    return [session["session_id"] for session in found]


async def test_a_stop_that_overtakes_its_run_is_known_on_every_node(
    nodes: Nodes, agents: list[Staged]
) -> None:
    here, there = nodes
    stopped = await there.ask("POST", "/agui/assistant/stop", {"threadId": "t", "runId": "r1"})
    assert stopped == (202, {"threadId": "t", "status": "noted"})
    told = await body_of(here, "/agui/assistant", agui("t", "r1"))
    assert b"RUN_FINISHED" in told or b"RUN_ERROR" in told
    assert [agent.runs for agent in agents] == [0, 0]
    agents[0].let(1)
    assert b"lo" in await body_of(here, "/agui/assistant", agui("t", "r2")), "others are not meant"


async def test_a_run_can_be_stopped_under_the_name_that_a_client_gave_it_on_another_node(
    nodes: Nodes, agents: list[Staged]
) -> None:
    here, there = nodes
    asking = asyncio.create_task(body_of(here, "/agui/assistant", agui("t", "r1")))
    async with asyncio.timeout(30):
        await agents[0].puppet.came.wait()
    join = {"threadId": "t", "runId": "mine"}
    async with here.http.post("/agui/assistant/connect", json=join, timeout=LIMIT) as joined:
        assert joined.status == 200
        status, said = await there.ask("POST", "/agui/assistant/stop", join)
        assert (status, said["status"]) == (200, "stopped")
        await joined.read()
    await asking
    assert (await here.manager.snapshot("t")).status == "idle"


async def test_a_key_stands_for_one_answer_on_every_node(
    nodes: Nodes, agents: list[Staged]
) -> None:
    for agent in agents:
        agent.let(1)
    chat = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}
    responses = {"model": "assistant", "input": "hi"}
    for path, body in (("/v1/chat/completions", chat), ("/v1/responses", responses)):
        answers = [
            orjson.loads(await body_of(node, path, body, **{"Idempotency-Key": "k1"}))
            for node in (*nodes, *nodes)
        ]
        assert len({answer["id"] for answer in answers}) == 1, path
    assert len(await sessions(nodes[0])) == 2
    assert sum(agent.runs for agent in agents) == 2


async def test_a_conversation_of_responses_goes_on_from_node_to_node(
    nodes: Nodes, agents: list[Staged]
) -> None:
    for agent in agents:
        agent.let(1)
    body: dict[str, Any] = {"model": "assistant", "input": "hi"}
    for number in range(6):
        answer = orjson.loads(await body_of(nodes[number % 2], "/v1/responses", body))
        other = nodes[(number + 1) % 2]
        status, found = await other.ask("GET", f"/v1/responses/{answer['id']}")
        assert (status, found) == (200, answer)
        body["previous_response_id"] = answer["id"]
    assert len(await sessions(nodes[0])) == 1


async def test_a_chat_that_is_being_answered_on_one_node_is_resumed_on_another_and_stopped_there(
    nodes: Nodes, agents: list[Staged]
) -> None:
    here, there = nodes
    said = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
    asking = asyncio.create_task(body_of(here, "/api/chat", {"id": "chat", "messages": [said]}))
    async with asyncio.timeout(30):
        await agents[0].puppet.came.wait()
    async with there.http.get("/api/chat/chat/stream", timeout=LIMIT) as resumed:
        assert resumed.status == 200
        await resumed.content.readuntil(b"Hel")
        assert (await there.ask("POST", "/api/chat/chat/stop"))[0] == 200
        rest = await resumed.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert (await asking).endswith(b"data: [DONE]\n\n")


async def test_a_task_that_was_begun_on_one_node_is_the_same_on_another(
    nodes: Nodes, agents: list[Staged]
) -> None:
    here, there = nodes
    for agent in agents:
        agent.let(1)
    message = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
    tasks = [await rpc(node, "SendMessage", {"message": message}) for node in (here, there)]
    assert tasks[0]["task"]["id"] == tasks[1]["task"]["id"], "sent again, it is not done again"
    task = await rpc(there, "GetTask", {"id": tasks[0]["task"]["id"]})
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert sum(agent.runs for agent in agents) == 1


async def rpc(node: Node, method: str, params: dict[str, Any]) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = orjson.loads(await body_of(node, "/a2a", body, **{"A2A-Version": "1.0"}))
    assert "result" in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


@pytest.mark.rule("resume.exact")
async def test_an_event_source_comes_back_to_another_node_exactly_where_it_was(
    nodes: Nodes, agents: list[Staged]
) -> None:
    here, there = nodes
    path = "/chat/stream?message=hi&session_id=s"
    async with here.http.get(path, timeout=LIMIT) as first:
        seen = await first.content.readuntil(b"Hel")
        seen += await first.content.readuntil(b"\n\n")
    last = seen.decode().rpartition("id: ")[2].partition("\n")[0]
    agents[0].let(1)
    async with there.http.get(path, headers={"Last-Event-ID": last}, timeout=LIMIT) as again:
        assert again.status == 200
        rest = await again.read()
    assert b"Hel" not in rest.replace(b"Hello", b"")
    assert b"lo" in rest
    assert sum(agent.runs for agent in agents) == 1


CHAT = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}
UI = {
    "id": "c",
    "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "x"}]}],
}
A2A = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "SendStreamingMessage",
    "params": {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}},
}


@pytest.mark.rule("store.away")
@pytest.mark.parametrize(
    ("path", "body", "end"),
    [
        ("/v1/chat/completions", CHAT, b"assistant"),
        ("/v1/chat/completions", {**CHAT, "stream": True}, b"data: [DONE]"),
        ("/v1/responses", {"model": "assistant", "input": "hi"}, b'"completed"'),
        ("/v1/responses", {"model": "assistant", "input": "hi", "stream": True}, b"completed"),
        ("/api/chat", UI, b"data: [DONE]"),
        ("/agui/assistant", agui("t", "r"), b"RUN_FINISHED"),
        ("/a2a", A2A, b"TASK_STATE_COMPLETED"),
        ("/chat/stream", {"message": "hi"}, b"lo"),
        ("/chat", {"message": "hi"}, b"lo"),
        ("/api/graph/stream", {"messages": [{"role": "user", "content": "hi"}]}, b"lo"),
        ("/agents/assistant", {"message": "hi"}, b"Hello"),
    ],
)
async def test_an_answer_is_whole_though_the_store_was_away_in_the_middle_of_it(
    nodes: Nodes, agents: list[Staged], path: str, body: object, end: bytes
) -> None:
    store = nodes[0].manager.engine
    assert isinstance(store, Unsteady)
    version = {"A2A-Version": "1.0"} if path == "/a2a" else {}
    asking = asyncio.create_task(body_of(nodes[0], path, body, **version))
    async with asyncio.timeout(30):
        await agents[0].puppet.came.wait()
        (session_id,) = await sessions(nodes[0])
        while b"Hel" not in await log(store, session_id):  # noqa: ASYNC110 - said in its time
            await asyncio.sleep(0.01)
        store.is_away = True
        store.wake()
        await store.failed(3)
        store.is_away = False
        agents[0].let(1)
        assert end in await asking
    assert agents[0].runs == 1


async def log(store: Unsteady, session_id: str) -> bytes:
    head = await store.head(session_id)
    return b"\n".join([e.body for e in await store.read(session_id, head.start, limit=100)])
