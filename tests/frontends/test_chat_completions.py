"""`POST /v1/chat/completions` on a whole server: what no client library shows."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.builtin.scripted import echo, tools
from runtime.agent import Agent
from runtime.errors import ModelUnavailable
from runtime.graph import END, Graph, Key, View, set_
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel, call_tools, say
from runtime.retry import RetryPolicy
from runtime.tools import tool
from tests.support.chat_site import LOOK, SESSION, Gated, chat_site, looker, user
from tests.support.waiting import proven_blocked

ECHO = {"model": "echo", "messages": user("so it is")}
GATED = {"model": "gated", "messages": user("x")}


async def chunks_of(response: Any) -> list[dict[str, Any]]:
    """Return what a stream says, `[DONE]` as `{}`."""
    frames = (await response.text()).split("\n\n")
    data = [frame.removeprefix("data: ") for frame in frames if frame.startswith("data: ")]
    return [{} if text == "[DONE]" else json.loads(text) for text in data]


def said(chunks: list[dict[str, Any]]) -> str:
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", [])]
    return "".join(delta.get("content") or "" for delta in deltas)


async def test_a_stream_is_to_the_byte_what_curl_shows() -> None:
    async with (
        chat_site(echo()) as site,
        await site.post(
            {**ECHO, "stream": True, "stream_options": {"include_usage": True}}
        ) as response,
    ):
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        text = await response.text()
        session_id = await site.only_session()
        assert response.headers[SESSION] == session_id
    text = re.sub(rf"chatcmpl-{session_id}\.run_\w+", "ID", text)
    text = re.sub(r'"created":\d+', '"created":1', text)
    head = '{"id":"ID","object":"chat.completion.chunk","created":1,"model":"echo","choices":['

    def chunk(delta: str, reason: str = "null") -> str:
        choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}'
        return f'data: {head}{choice}],"usage":null}}\n\n'

    assert text == (
        ":\n\n"
        + chunk('{"role":"assistant","content":"","refusal":null}')
        + chunk('{"content":"so"}')
        + chunk('{"content":" it"}')
        + chunk('{"content":" is"}')
        + chunk("{}", '"stop"')
        + f'data: {head}],"usage":{{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6,'
        '"prompt_tokens_details":{"cached_tokens":0},'
        '"completion_tokens_details":{"reasoning_tokens":0}}}\n\n'
        "data: [DONE]\n\n"
    )


# --- requests that are refused -----------------------------------------------------------------


async def test_a_body_that_cannot_be_read_is_refused_in_the_shape_of_openai() -> None:
    async with chat_site(echo(), max_history_bytes=2048) as site:
        url = "/v1/chat/completions"
        is_json = {"Content-Type": "application/json"}
        answers = [
            (await site.http.post(url, data=b"{", headers=is_json), 400),
            (await site.http.post(url, data=b"[]", headers=is_json), 400),
            (await site.http.post(url, data=b"x" * 3000, headers=is_json), 413),
            (await site.http.post(url, data=b"{}", headers={"Content-Type": "text/plain"}), 415),
            (await site.http.post(url, json={"model": "echo", "messages": user(" ")}), 400),
        ]
        for response, status in answers:
            assert response.status == status
            body = await response.json()
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert body["error"]["type"] == "invalid_request_error"
        assert await site.sessions() == []


async def test_a_tool_that_the_agent_has_itself_cannot_be_the_clients() -> None:
    weather = {"type": "function", "function": {"name": "get_weather"}}
    async with chat_site(tools()) as site:
        body = {"model": "tools", "messages": user("hi"), "tools": [weather]}
        async with await site.post(body) as response:
            assert response.status == 400
            assert "get_weather" in (await response.json())["error"]["message"]


# --- ends that are no answers ------------------------------------------------------------------


async def test_a_cancelled_run_is_an_error_and_never_looks_like_an_answer() -> None:
    gated = Gated()
    async with chat_site(gated.agent) as site:
        whole = asyncio.create_task(site.post(GATED))
        await gated.begun.wait()
        await site.until(session_id := await site.only_session(), "message.delta")
        command = {"type": "cancel", "id": "c1"}
        async with site.http.post(f"/v1/sessions/{session_id}/commands", json=command) as ack:
            assert ack.status == 202
        async with await whole as response:
            assert response.status == 410, "no client tries again by itself"
            assert response.headers["x-should-retry"] == "false"
            assert (await response.json())["error"]["code"] == "run_cancelled"


async def test_a_stream_that_breaks_off_says_why_and_has_no_done() -> None:
    gated = Gated()
    async with (
        chat_site(gated.agent) as site,
        await site.post({**GATED, "stream": True}) as response,
    ):
        session_id = response.headers[SESSION]
        await site.until(session_id, "message.delta")
        command = {"type": "cancel", "id": "c1"}
        async with site.http.post(f"/v1/sessions/{session_id}/commands", json=command) as ack:
            assert ack.status == 202
        chunks = await chunks_of(response)
    assert said(chunks) == "Hello"
    assert chunks[-1]["error"]["code"] == "run_cancelled"
    assert {} not in chunks
    assert all(choice["finish_reason"] is None for c in chunks[:-1] for choice in c["choices"])


async def test_too_many_requests_to_the_model_are_too_many_here() -> None:
    busy = ModelUnavailable("too many", status_code=429, retry_after=7)
    model = ScriptedModel([[busy]])
    agent = Agent("busy", model, retry=RetryPolicy(attempts=1))
    async with (
        chat_site(agent) as site,
        await site.post({"model": "busy", "messages": user("x")}) as response,
    ):
        assert response.status == 429
        assert response.headers["Retry-After"] == "7"
        assert (await response.json())["error"]["type"] == "rate_limit_error"


async def test_a_server_that_stops_says_so_on_a_stream_and_to_those_who_wait() -> None:
    gated = Gated()
    async with AsyncExitStack() as clients:
        async with chat_site(gated.agent) as site:
            http = await clients.enter_async_context(aiohttp.ClientSession(site.url))

            path = "/v1/chat/completions"
            stream = await http.post(path, json={**GATED, "stream": True})
            await site.until(stream.headers[SESSION], "message.delta")
            plain = asyncio.create_task(http.post(path, json=GATED))
            key = {"Idempotency-Key": "k1"}
            keyed = asyncio.create_task(http.post(path, json=GATED, headers=key))
            while gated.model.calls < 3:
                gated.begun.clear()
                await gated.begun.wait()
        chunks = await chunks_of(stream)
        assert said(chunks) == "Hello"
        assert chunks[-1]["error"]["code"] == "shutting_down"
        assert (await plain).status == (await keyed).status == 503
        # Only under a key does another try meet the same run again.
        assert (await plain).headers["x-should-retry"] == "false"
        assert "Retry-After" not in (await plain).headers
        assert "x-should-retry" not in (await keyed).headers
        assert (await keyed).headers["Retry-After"] in {"1", "2", "3", "4"}


# --- trying again ------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
async def test_under_a_key_the_same_request_meets_the_same_run(*, streaming: bool) -> None:
    gated = Gated()
    body = {**GATED, "tools": [LOOK]}
    async with chat_site(gated.agent) as site:
        first = asyncio.create_task(site.post({**body, "stream": streaming}, Idempotency_Key="k1"))
        await gated.begun.wait()
        session_id = await site.only_session()
        await site.until(session_id, "message.delta")
        if streaming:
            (await first).close()
        else:
            first.cancel()
        second = asyncio.create_task(site.post(body, Idempotency_Key="k1"))
        await proven_blocked(second)  # its run has outlived the first connection
        gated.gate.set()
        async with await second as response:
            assert response.headers[SESSION] == session_id
            answer = await response.json()
            assert answer["choices"][0]["message"]["content"] == "Hello again"
        async with await site.post({**body, "stream": True}, Idempotency_Key="k1") as third:
            chunks = await chunks_of(third)
        assert said(chunks) == "Hello again"
        assert chunks[0]["id"] == answer["id"]
        assert gated.model.calls == 1
        await site.post(body, Idempotency_Key="k2")
        assert gated.model.calls == 2


@pytest.mark.parametrize(
    "other",
    [
        {"messages": user("y")},
        {"messages": [*user("before"), *user("x")]},
        {"max_tokens": 1},
        {"tools": [LOOK]},
    ],
    ids=["input", "history", "options", "tools"],
)
async def test_under_a_key_another_request_is_a_conflict(other: dict[str, Any]) -> None:
    gated = Gated()
    gated.gate.set()
    async with chat_site(gated.agent) as site:
        assert (await site.post(GATED, Idempotency_Key="k1")).status == 200
        async with await site.post({**GATED, **other}, Idempotency_Key="k1") as response:
            assert response.status == 409
            assert response.headers["x-should-retry"] == "false"
        assert gated.model.calls == 1


async def test_under_a_key_an_answer_survives_the_server_and_says_nothing_twice(
    tmp_path: Path,
) -> None:
    stored = {"engine": "sqlite", "data": tmp_path, "drain_runs_s": 0}
    gated = Gated()
    async with chat_site(gated.agent, **stored) as site:
        stream = await site.post({**GATED, "stream": True}, Idempotency_Key="k1")
        await site.until(stream.headers[SESSION], "message.delta")
    gated.gate.set()
    async with chat_site(gated.agent, **stored) as site:
        async with await site.post(GATED, Idempotency_Key="k1") as response:
            answer = await response.json()
        async with await site.post({**GATED, "stream": True}, Idempotency_Key="k1") as response:
            chunks = await chunks_of(response)
    assert answer["choices"][0]["message"]["content"] == said(chunks) == "Hello again"
    assert gated.model.calls == 2, "the server took the run over"


# --- tools -------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_run_that_waits_for_the_clients_tool_ends_once_the_client_was_told(
    *, streaming: bool
) -> None:
    body = {"model": "looker", "messages": user("north"), "tools": [LOOK], "stream": streaming}
    async with chat_site(looker()) as site:
        async with await site.post(body) as response:
            await response.read()
        ended = await site.until(await site.only_session(), "run.cancelled")
        assert ended["reason"] == "cancel"


async def test_a_run_that_also_waits_for_an_approval_is_left_to_be_gone_on_with() -> None:
    @tool(needs_approval=True)
    async def burn() -> str:
        """Burn it."""
        return "burnt"

    def script(request: ModelRequest) -> Any:
        calls = [
            ToolCall(id="c1", name="look", arguments=""),
            ToolCall(id="c2", name="burn", arguments=""),
        ]
        return call_tools(*calls)

    agent = Agent("both", ScriptedModel(script), tools=(burn,))
    body = {"model": "both", "messages": user("x"), "tools": [LOOK]}
    async with chat_site(agent) as site:
        async with await site.post(body) as response:
            assert response.status == 403
            assert (await response.json())["error"]["code"] == "approval_required"
        (session,) = await site.sessions()
        assert session["status"] == "interrupted"


async def test_offering_no_tools_of_the_clients_is_a_choice() -> None:
    model = ScriptedModel([say("none")])
    body = {"model": "a", "messages": user("x"), "tools": [LOOK], "tool_choice": "none"}
    async with chat_site(Agent("a", model)) as site:
        assert (await site.post(body)).status == 200
    assert model.requests[0].tools == ()


# --- graphs ------------------------------------------------------------------------------------


async def test_a_graph_says_what_its_nodes_say_one_after_the_other() -> None:
    """Both speak at the same time; the second is heard once the first is done."""
    other_began, first_may_end = asyncio.Event(), asyncio.Event()

    def second(request: ModelRequest) -> Any:
        other_began.set()
        return say("two two")

    def first(request: ModelRequest) -> Any:
        return ["one", first_may_end, *say(" one")]

    def ask(view: View) -> str:
        return "say it"

    one, two = Key("one", ""), Key("two", "")
    graph = Graph(two, one, name="duet")
    graph.start("first", "second")
    graph.node("first", Agent("a", ScriptedModel(first)), END, ask=ask, into=one)
    graph.node("second", Agent("b", ScriptedModel(second)), END, ask=ask, into=two)
    body = {"model": "duet", "messages": user("x"), "stream": True}
    async with (
        chat_site(graph.build(input=lambda history: {})) as site,
        await site.post(body) as response,
    ):
        await other_began.wait()
        first_may_end.set()
        chunks = await chunks_of(response)
    assert sorted(said(chunks).split("\n\n")) == ["one one", "two two"]


async def test_a_graph_that_only_computes_says_its_result() -> None:
    total = Key("total", "")

    def compute(view: View) -> object:
        return set_(total, "42")

    graph = Graph(total, name="sum")
    graph.start("compute").node("compute", compute, END)
    body = {"model": "sum", "messages": user("x")}
    async with chat_site(graph.build(input=lambda history: {})) as site:
        async with await site.post(body) as response:
            assert (await response.json())["choices"][0]["message"]["content"] == "42"
        async with await site.post({**body, "stream": True}) as response:
            assert said(await chunks_of(response)) == "42"
