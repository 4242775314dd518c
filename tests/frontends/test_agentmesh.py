"""AgentMesh: `POST /api/graph/stream`, a graph's results as server-sent events or lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.config import Settings
from gateway.engines.memory import MemoryEngine
from gateway.frontends.sources.agentmesh import routes
from gateway.http.bodies import BODY_SECONDS
from gateway.sessions.manager import SessionManager
from gateway.transports.services import Services
from runtime.agent import Agent
from runtime.graph import END, CompiledGraph, Graph, Key, MessageGraph, View
from runtime.messages import Message
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, say
from runtime.registry import Registry
from runtime.scope import write
from tests.support.chat_site import ChatSite, chat_site
from tests.support.raw import Raw, host_of, raw

PATIENCE = 30.0
WHERE = "/api/graph/stream"
LINES = {"Accept": "application/x-ndjson"}
STATUS = Key("status", "")
HELLO = [{"role": "user", "content": "Hello"}]


class Work:
    """A graph of one node that says how far it is, and waits at a gate before it goes on."""

    def __init__(self, name: str = "work") -> None:
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.left = asyncio.Event()
        self.graph: CompiledGraph = (
            Graph(STATUS, name=name).node("process", self._process, END).start("process").build()
        )

    async def _process(self, view: View) -> Mapping[str, Any]:
        try:
            write({"progress": 0.5})
            self.begun.set()
            await self.gate.wait()
            return {"status": f"{view[STATUS]}: complete"}
        finally:
            self.left.set()


class Listener:
    """An agent that keeps what its model was asked."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Message]] = []
        self.agent = Agent("listener", ScriptedModel(self._answer))

    def _answer(self, request: ModelRequest) -> Sequence[Cue]:
        self.asked.append(request.messages)
        return say("I see.")


def told(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(text) for text in body.splitlines()]


async def post(site: ChatSite, accept: str | None = "application/x-ndjson", **body: Any) -> Any:
    """Ask, and return the whole answer as results."""
    headers = {} if accept is None else {"Accept": accept}
    async with site.http.post(WHERE, json={"messages": HELLO, **body}, headers=headers) as response:
        assert response.status == 200, await response.text()
        return told(await response.read())


@pytest.mark.rows("A33", "A34", "A37", "X6")
async def test_a_graph_is_streamed_under_exactly_these_headers() -> None:
    work = Work()
    work.gate.set()
    async with chat_site(work.graph) as site:
        async with site.http.post(WHERE, json={"messages": HELLO}) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            assert headers["content-type"] == "text/event-stream"
            assert headers["cache-control"] == "no-cache"
            assert headers["connection"] == "keep-alive"
            assert headers["x-accel-buffering"] == "no"
            assert await response.read() == (
                b":\n\n"
                b'data: {"Node":"process","Updates":{"progress":0.5},"Output":null}\n\n'
                b'data: {"Node":"process","Updates":{"status":"Hello: complete"},"Output":null}\n\n'
                b'data: {"Node":"process","Updates":null,"Output":"Hello: complete"}\n\n'
            )
        async with site.http.post(WHERE, json={"messages": HELLO}, headers=LINES) as response:
            assert response.headers["Content-Type"] == "application/x-ndjson"
            assert response.headers["Cache-Control"] == "no-cache"
            results = told(await response.read())
    assert [result["Output"] for result in results] == [None, None, "Hello: complete"]


@pytest.mark.rows("A33")
async def test_a_page_may_send_its_text_as_fetch_does_without_saying_that_it_is_json() -> None:
    work = Work()
    work.gate.set()
    async with chat_site(work.graph) as site:
        text = json.dumps({"messages": HELLO})
        for kind in ("text/plain;charset=UTF-8", "application/x-www-form-urlencoded"):
            headers = {"Content-Type": kind, **LINES}
            async with site.http.post(WHERE, data=text, headers=headers) as response:
                assert len(told(await response.read())) == 3
        other = {"Content-Type": "text/plain", "Sec-Fetch-Site": "cross-site"}
        async with site.http.post(WHERE, data=text, headers=other) as response:
            assert response.status == 403


@pytest.mark.rows("A37", "A33")
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_each_result_is_on_its_way_before_the_next_one_is_there(accept: str) -> None:
    work = Work()
    lines = accept == "application/x-ndjson"
    async with chat_site(work.graph) as site, connected(site) as client:
        ask(client, site, accept=accept)
        status, _ = await client.head()
        assert status == 200
        if not lines:
            assert await client.body() == b":\n\n"
        first = b'{"Node":"process","Updates":{"progress":0.5},"Output":null}'
        assert await client.body() == (first + b"\n" if lines else b"data: " + first + b"\n\n")
        assert not work.left.is_set()
        work.gate.set()
        assert b"complete" in await client.body()


@pytest.mark.rows("A36", "X3")
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
@pytest.mark.parametrize("early", [True, False])
async def test_a_client_that_leaves_cancels_the_run_though_nothing_is_written(
    *, accept: str, early: bool
) -> None:
    work = Work()
    async with chat_site(work.graph) as site:
        async with connected(site) as client:
            ask(client, site, accept=accept)
            if not early:
                await client.head()
            await work.begun.wait()
        async with asyncio.timeout(10):  # and not only when a comment is due
            await work.left.wait()
        assert not work.gate.is_set()
        session_id = (await site.sessions())[0]["session_id"]
        end = await site.until(session_id, "run.cancelled")
        assert end["reason"] == "disconnect"


@pytest.mark.rows("A36")
async def test_a_client_that_leaves_while_its_run_begins_cancels_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Work()
    async with chat_site(work.graph) as site:
        came, gate = asyncio.Event(), asyncio.Event()
        obey = site.manager.obey

        async def obey_slowly(command: Any) -> Any:
            came.set()
            await gate.wait()
            return await obey(command)

        monkeypatch.setattr(site.manager, "obey", obey_slowly)
        async with connected(site) as client:
            ask(client, site)
            await came.wait()
        await asyncio.sleep(0.05)  # the server has noticed; nothing says so
        gate.set()
        end = await site.until(await site.only_session(), "run.cancelled")
        assert end["reason"] == "disconnect"


@pytest.mark.rows("A38", "X1", "W-A6")
@pytest.mark.parametrize("lines", [False, True])
async def test_a_node_that_fails_ends_the_stream_with_one_error_and_in_order(
    *, lines: bool
) -> None:
    def fail(view: View) -> None:
        raise ValueError("secret")

    graph = Graph(STATUS, name="sad").node("critical", fail, END).start("critical").build()
    headers = LINES if lines else {}
    async with (
        chat_site(graph) as site,
        site.http.post(WHERE, json={"messages": HELLO}, headers=headers) as response,
    ):
        body = await response.read()
    mark = b"" if lines else b":\n\nevent: error\ndata: "
    assert body.startswith(mark)
    (error,) = told(body.removeprefix(mark).strip())
    assert (list(error), error["Node"]) == (["Node", "Error"], "critical")
    assert "secret" not in error["Error"]


@pytest.mark.rows("W-A6", "X1", "X2")
async def test_a_server_that_stops_ends_the_stream_with_an_error_and_the_run_goes_on_later(
    tmp_path: Path,
) -> None:
    work, later = Work(), Work()
    kept = {"engine": "sqlite", "data": tmp_path, "drain_runs_s": 0}
    async with contextlib.AsyncExitStack() as stack:
        async with chat_site(work.graph, **kept) as site:
            client = await stack.enter_async_context(connected(site))
            ask(client, site)
            await client.until(b"0.5")
            session_id = await site.only_session()
        rest = await client.rest()
    assert b'event: error\ndata: {"Node":"","Error":"the server is stopping;' in rest
    later.gate.set()
    async with chat_site(later.graph, **kept) as site:
        end = await site.until(session_id, "run.completed")
    assert end["final_output"] == "Hello: complete"


@pytest.mark.rows("W-A6")
async def test_silence_is_filled_with_what_readers_skip() -> None:
    work = Work()
    async with chat_site(work.graph, keepalive_s=0.02) as site:
        async with connected(site) as client:
            ask(client, site)
            await client.until(b"0.5")
            await client.until(b":\n\n")
        async with connected(site) as client:
            ask(client, site, accept="application/x-ndjson")
            await client.until(b"0.5")
            nothing = b'\n{"Node":"","Updates":null,"Output":null}\n'
            assert json.loads((await client.until(nothing)).splitlines()[-1])["Updates"] is None


@pytest.mark.rows("A33", "X2")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "`messages`"),
        (b'{"messages":[]}', "`messages`"),
        (b'{"messages":"hi"}', "`messages`"),
        (b'{"messages":[{"role":"robot","content":"x"}]}', "role"),
        (b'{"messages":[{"role":"assistant","content":"x"}]}', "the user's"),
        (b'{"messages":[{"role":"user","content":" "}]}', "empty"),
        (b'{"messages":[{"role":"user","content":"x"}],"sessionId":"s"}', "sessionId"),
        (b'{"messages":[{"role":"user","content":"x"}],"session_id":""}', "session_id"),
        (b'{"messages":[{"role":"user","content":"x"}],"options":{"nope":1}}', "nope"),
    ],
)
async def test_a_bad_body_is_refused_before_any_byte_of_a_stream(body: bytes, words: str) -> None:
    async with (
        chat_site(Work().graph) as site,
        site.http.post(WHERE, data=body) as response,
    ):
        assert (response.status, response.content_type) == (400, "application/json")
        refusal = await response.json()
        assert words in refusal["Error"]
        assert refusal["code"]
        assert await site.sessions() == [], "a refused request leaves nothing behind"


@pytest.mark.rows("X2")
async def test_what_else_is_wrong_is_said_before_the_stream_too() -> None:
    async with chat_site(Work().graph) as site:
        cases: list[tuple[dict[str, Any], dict[str, str], int]] = [
            ({"agent": "nobody"}, {}, 404),
            ({}, {"Accept": "image/png"}, 406),
            ({}, {"Origin": "https://elsewhere.example"}, 403),
        ]
        for more, headers, status in cases:
            body = {"messages": HELLO, **more}
            async with site.http.post(WHERE, json=body, headers=headers) as response:
                assert response.status == status
                assert "json" in response.content_type
        assert await site.sessions() == []


@pytest.mark.rows("A35")
async def test_where_nothing_can_be_streamed_the_answer_is_a_plain_500() -> None:
    """An adapter between aiohttp and another server may have a transport that only collects."""
    work = Work()
    manager = SessionManager(MemoryEngine(), Registry(work.graph))
    settings = Settings(engine="memory")
    (route,) = routes(Services(manager, settings))
    app = web.Application()
    app[BODY_SECONDS] = settings.body_timeout_s
    request = make_mocked_request(
        "POST", WHERE, app=app, transport=Collecting(), client_max_size=settings.max_history_bytes
    )
    request._read_bytes = json.dumps({"messages": HELLO}).encode()
    response = await route.handler(request)
    assert isinstance(response, web.Response)
    assert (response.status, response.content_type) == (500, "text/plain")
    assert response.body == b"Streaming not supported"
    assert not work.begun.is_set()
    assert (await manager.sessions(limit=1, after=None))["sessions"] == []
    await manager.aclose()


class Collecting:
    """A transport that gives all at the end."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


@pytest.mark.rows("A35")
async def test_a_client_of_http_1_0_gets_a_stream_that_ends_with_the_connection() -> None:
    work = Work()
    async with chat_site(work.graph) as site, connected(site) as client:
        ask(client, site, version="1.0", Connection="keep-alive")
        status, headers = await client.head()
        assert (status, headers["connection"]) == (200, "close")
        assert "transfer-encoding" not in headers
        assert b'"progress":0.5' in await client.until(b"null}\n\n")
        work.gate.set()
        assert (await client.rest()).endswith(b'"Output":"Hello: complete"}\n\n')


@pytest.mark.rows("A34")
async def test_a_client_that_wants_the_connection_closed_is_told_that_it_will_be() -> None:
    work = Work()
    work.gate.set()
    async with chat_site(work.graph) as site, connected(site) as client:
        ask(client, site, Connection="close")
        assert (await client.head())[1]["connection"] == "close"
        assert (await client.rest()).endswith(b"\r\n0\r\n\r\n")


@pytest.mark.rows("A33")
async def test_the_answer_comes_from_whom_one_asks_or_the_first_graph_or_the_default() -> None:
    work, listener = Work(), Listener()
    work.gate.set()
    async with chat_site(listener.agent, work.graph) as site:
        assert (await post(site))[-1]["Node"] == "process"
        assert (await post(site, agent="listener"))[-1]["Node"] == "listener"
        url = f"{WHERE}?agent=listener"
        async with site.http.post(url, json={"messages": HELLO}, headers=LINES) as response:
            assert told(await response.read())[-1]["Output"] == "I see."
    async with chat_site(listener.agent) as site:
        results = await post(site)
    tokens = [result["Updates"]["content"] for result in results[:-1]]
    assert "".join(tokens) == results[-1]["Output"] == "I see."
    assert {result["Node"] for result in results} == {"listener"}


@pytest.mark.rows("A25", "A33")
async def test_an_agent_in_a_node_streams_its_tokens_under_the_name_of_the_node() -> None:
    graph = MessageGraph(name="chat").node("assistant", Listener().agent, END).start("assistant")
    async with chat_site(graph.build()) as site:
        results = await post(site)
    tokens = [r["Updates"] for r in results if (r["Updates"] or {}).get("type") == "token"]
    assert "".join(token["content"] for token in tokens) == "I see."
    assert {result["Node"] for result in results} == {"assistant"}
    assert results[-1]["Updates"] is None


async def test_without_a_session_each_request_is_a_conversation_with_its_own_past() -> None:
    listener = Listener()
    before = [
        {"role": "system", "content": "Be brief."},
        {"role": "human", "content": "One"},
        {"role": "ai", "content": "Two"},
    ]
    async with chat_site(listener.agent) as site:
        await post(site, messages=[*before, {"role": "user", "content": "Three"}])
        await post(site, messages=[{"role": "user", "content": "Alone"}])
        assert len(await site.sessions()) == 2
    first, second = listener.asked
    said = [(message.role, message.content) for message in first]
    assert said[-3:] == [("user", "One"), ("assistant", "Two"), ("user", "Three")]
    assert "Be brief." in said[0][1]
    assert [message.content for message in second] == ["Alone"]


async def test_a_session_knows_what_was_said_and_takes_the_last_message_only() -> None:
    listener = Listener()
    async with chat_site(listener.agent, Work().graph) as site:
        await post(site, session_id="my talk/1", agent="listener")
        again = [*HELLO, {"role": "assistant", "content": "made up"}, *HELLO]
        body = {"messages": again, "session_id": "my talk/1"}
        async with site.http.post(WHERE, json=body, headers=LINES) as response:
            assert response.headers["X-Tidegate-Session-Id"] == await site.only_session()
            assert response.headers["X-Tidegate-Run-Id"].startswith("run_")
            assert told(await response.read())[-1]["Node"] == "listener", "the session's own agent"
    said = [message.content for message in listener.asked[1]]
    assert said == ["Hello", "I see.", "Hello"]


async def test_the_same_request_under_the_same_key_is_one_run() -> None:
    listener = Listener()
    async with chat_site(listener.agent) as site:
        bodies = []
        for _ in range(2):
            headers = {"Idempotency-Key": "k1", **LINES}
            async with site.http.post(WHERE, json={"messages": HELLO}, headers=headers) as response:
                bodies.append(await response.read())
        await site.only_session()
    assert bodies[0] == bodies[1]
    assert len(listener.asked) == 1


async def test_options_reach_the_run() -> None:
    listener = Listener()
    async with chat_site(listener.agent) as site:
        await post(site, options={"temperature": 0.5})
        started = await site.until(await site.only_session(), "run.started")
    assert started["options"] == {"temperature": 0.5}


async def test_a_pause_ends_the_stream_and_says_where_to_answer() -> None:
    work = Work()
    work.gate.set()
    graph = Graph(STATUS, name="guarded").node("risky", work._process, END, interrupt_before="ok?")
    async with chat_site(graph.start("risky").build()) as site:
        results = await post(site)
        pause = results[-1]["Updates"]
        assert (results[-1]["Node"], pause["type"], pause["reason"]) == (
            "risky",
            "interrupt",
            "ok?",
        )
        assert not work.begun.is_set()
        path = f"/v1/sessions/{pause['session_id']}/commands"
        (approval,) = pause["approvals"]
        decision = {"approval_id": approval, "decision": "approve"}
        answer = {"type": "continue", "id": "c", "run_id": pause["run_id"], "decisions": [decision]}
        async with site.http.post(path, json=answer) as response:
            assert response.status == 202
        end = await site.until(pause["session_id"], "run.completed")
        assert end["final_output"] == "Hello: complete"


@contextlib.asynccontextmanager
async def connected(site: ChatSite) -> AsyncIterator[Raw]:
    host, port = site.url.removeprefix("http://").split(":")
    async with raw((host, int(port))) as client:
        yield client


def ask(
    client: Raw, site: ChatSite, accept: str = "*/*", version: str = "1.1", **more: str
) -> None:
    host, port = site.url.removeprefix("http://").split(":")
    body = json.dumps({"messages": HELLO})
    client.ask(
        WHERE,
        method="POST",
        version=version,
        Content_Type="application/json",
        Content_Length=str(len(body)),
        Accept=accept,
        **host_of((host, int(port))),
        **more,
    )
    client.writer.write(body.encode())
