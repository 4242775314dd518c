"""nginx in front of the server, with its defaults: buffering on, HTTP/1.0 to the server.

Its defaults cut a connection on which nothing comes for 60 s, and the server is never silent for
more than 15 s. Here both are sixty times faster, so that a test can see it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import running
from gateway.config import Settings
from gateway.sessions.manager import SessionManager
from runtime.events import Custom
from runtime.registry import Registry
from tests.support.nginx import UPGRADE, nginx_before
from tests.support.puppet import Part, Puppet

PATIENCE = 30.0
READ_TIMEOUT = 4.0
KEEPALIVE = 0.25

_numbers = itertools.count(1)


@dataclass
class Stage:
    """A server whose runs say `Hello`, wait, and say the rest when the test lets them."""

    url: str
    manager: SessionManager
    gate: asyncio.Event
    puppet: Puppet


@asynccontextmanager
async def stage(**settings: Any) -> AsyncIterator[Stage]:
    gate = asyncio.Event()

    async def play(part: Part) -> None:
        await part.begin(f"msg_{part.run_id}")
        await part.emit(Custom(run_id=part.run_id, path=part.path, name="mood", payload="Moin"))
        await part.say("Hello", f"msg_{part.run_id}")
        await gate.wait()
        await part.say(" again", f"msg_{part.run_id}")
        await part.finish_step("Hello again", message_id=f"msg_{part.run_id}")
        await part.end("Hello again")

    puppet = Puppet(play)
    chosen = Settings.model_validate(
        {"engine": "memory", "port": 0, "delta_interval_ms": 0} | settings
    )
    async with running(chosen, Registry(puppet)) as server:
        yield Stage(server.url, server.manager, gate, puppet)


# --- the wires ---------------------------------------------------------------------------------

Http = aiohttp.ClientSession
Open = Callable[[Http], Awaitable[aiohttp.ClientResponse]]


async def started(http: Http) -> str:
    """Make a session whose run speaks, and return its id."""
    session_id = f"s{next(_numbers)}"
    async with http.post("/v1/sessions", json={"session_id": session_id}) as answer:
        assert answer.status == 201
    command = {"type": "send", "id": "c1", "text": "go"}
    async with http.post(f"/v1/sessions/{session_id}/commands", json=command) as answer:
        assert answer.status == 202
    return session_id


async def native_sse(http: Http) -> aiohttp.ClientResponse:
    path = f"/v1/sessions/{await started(http)}/events?after=0"
    return await http.get(path, headers={"Accept": "text/event-stream"})


async def ndjson(http: Http) -> aiohttp.ClientResponse:
    path = f"/v1/sessions/{await started(http)}/events?after=0"
    return await http.get(path, headers={"Accept": "application/x-ndjson"})


async def client_stream(http: Http) -> aiohttp.ClientResponse:
    client, session_id = f"tab{next(_numbers)}", await started(http)
    path = f"/v1/clients/{client}"
    async with http.put(f"{path}/subscriptions/{session_id}", json={"after": "0"}) as answer:
        assert answer.status == 204
    return await http.get(f"{path}/events", headers={"Accept": "text/event-stream"})


async def message_stream(http: Http) -> aiohttp.ClientResponse:
    session_id = f"s{next(_numbers)}"
    async with http.post("/v1/sessions", json={"session_id": session_id}) as answer:
        assert answer.status == 201
    return await http.post(
        f"/v1/sessions/{session_id}/messages",
        json={"text": "go"},
        headers={"Accept": "text/event-stream"},
    )


def posted(path: str, body: dict[str, Any], **headers: str) -> Open:
    """Return what asks for a stream by one POST, `{n}` in the body being new each time."""
    text = json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def opened(http: Http) -> aiohttp.ClientResponse:
        data = text.replace("{n}", str(next(_numbers)))
        return await http.post(
            path, data=data, headers={"Content-Type": "application/json", **named}
        )

    return opened


async def chronos(http: Http) -> aiohttp.ClientResponse:
    client, session_id = f"tab{next(_numbers)}", await started(http)
    async with http.put(
        f"/v1/clients/{client}/subscriptions/{session_id}", json={"after": "0"}
    ) as answer:
        assert answer.status == 204
    return await http.get(f"/events?client_id={client}")


async def sekuire(http: Http) -> aiohttp.ClientResponse:
    return await http.get("/chat/stream?message=go")


SAID = [{"role": "user", "content": "go"}]
PARTS = [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "go"}]}]
A2A_MESSAGE = {"messageId": "m{n}", "role": "ROLE_USER", "parts": [{"text": "go"}]}

WIRES: dict[str, Open] = {
    "SSE": native_sse,
    "NDJSON": ndjson,
    "client stream": client_stream,
    "messages": message_stream,
    "chat completions": posted(
        "/v1/chat/completions", {"model": "puppet", "messages": SAID, "stream": True}
    ),
    "responses": posted("/v1/responses", {"model": "puppet", "input": "go", "stream": True}),
    "AG-UI": posted(
        "/agui/puppet",
        {
            "threadId": "t{n}",
            "runId": "r{n}",
            "state": {},
            "messages": [{"id": "u1", **SAID[0]}],
            "tools": [],
            "context": [],
            "forwardedProps": {},
        },
    ),
    "Vercel": posted("/api/chat", {"id": "v{n}", "messages": PARTS, "trigger": "submit-message"}),
    "A2A": posted(
        "/a2a",
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "SendStreamingMessage",
            "params": {"message": A2A_MESSAGE},
        },
        A2A_Version="1.0",
    ),
    "Chronos": chronos,
    "AgentMesh SSE": posted(
        "/api/graph/stream", {"messages": SAID, "agent": "puppet"}, Accept="text/event-stream"
    ),
    "AgentMesh lines": posted("/api/graph/stream", {"messages": SAID, "agent": "puppet"}),
    "Stratus": posted("/chat", {"message": "go"}),
    "Sekuire": sekuire,
    "Agentlang": posted("/agents/puppet", {"message": "go"}, Accept="text/event-stream"),
}

ENDLESS = {"SSE", "NDJSON", "client stream", "Chronos"}
"""These follow sessions, not runs."""

FIRST = {"Agentlang": b"Moin"}
"""What is heard first on wires that do not tell pieces of text."""


async def until(response: aiohttp.ClientResponse, words: bytes) -> bytes:
    """Return what comes up to and including some words."""
    heard = b""
    async with asyncio.timeout(PATIENCE):
        while words not in heard:
            chunk = await response.content.readany()
            assert chunk, f"the stream ended before {words!r}: {heard!r}"
            heard += chunk
    return heard


def session_of(url: str, **more: Any) -> Http:
    return aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=None), **more)


# --- streams -----------------------------------------------------------------------------------


async def test_the_first_words_arrive_at_once_on_every_wire(tmp_path: Path) -> None:
    async with (
        stage() as site,
        nginx_before(site.url, tmp_path) as url,
        session_of(url) as http,
    ):
        for name, opened in WIRES.items():
            async with asyncio.timeout(PATIENCE), await opened(http) as response:
                assert response.status == 200, name
                heard = await until(response, FIRST.get(name, b"Hello"))
                assert b"again" not in heard, name
                assert response.headers["Server"].startswith("nginx")
        site.gate.set()


async def test_a_silent_stream_outlives_the_read_timeout_on_every_wire(tmp_path: Path) -> None:
    async with (
        stage(keepalive_s=KEEPALIVE) as site,
        nginx_before(site.url, tmp_path, f"proxy_read_timeout {READ_TIMEOUT * 1000:.0f}ms;") as url,
        session_of(url) as http,
        AsyncExitStack() as stack,
    ):
        responses = {
            name: await stack.enter_async_context(await opened(http))
            for name, opened in WIRES.items()
        }
        for name, response in responses.items():
            await until(response, FIRST.get(name, b"Hello"))
        await asyncio.sleep(READ_TIMEOUT * 1.5)  # silence is what is tested
        site.gate.set()
        for response in responses.values():
            await until(response, b"again")


async def test_without_keepalives_nginx_would_cut_it(tmp_path: Path) -> None:
    async with (
        stage(keepalive_s=60) as site,
        nginx_before(site.url, tmp_path, "proxy_read_timeout 300ms;") as url,
        session_of(url) as http,
        await WIRES["chat completions"](http) as response,
    ):
        await until(response, b"Hello")
        with pytest.raises(aiohttp.ClientPayloadError):
            await until(response, b"again")
        site.gate.set()


async def test_hanging_up_on_nginx_ends_a_run_that_nobody_can_come_back_to(
    tmp_path: Path,
) -> None:
    async with (
        stage() as site,
        nginx_before(site.url, tmp_path) as url,
        session_of(url) as http,
    ):
        response = await WIRES["chat completions"](http)
        await until(response, b"Hello")
        session_id = response.headers["X-Tidegate-Session-Id"]
        response.close()
        path = f"/v1/sessions/{session_id}/events?after=0&role=observer"
        accept = {"Accept": "text/event-stream"}
        async with http.get(path, headers=accept) as native:
            heard = await until(native, b'"reason":"disconnect"')
            assert heard.count(b'"type":"run.cancelled"') == 1


async def test_a_websocket_passes_with_its_upgrade_headers(tmp_path: Path) -> None:
    async with (
        stage(ws_heartbeat_s=KEEPALIVE) as site,
        nginx_before(
            site.url, tmp_path, f"{UPGRADE} proxy_read_timeout {READ_TIMEOUT * 1000:.0f}ms;"
        ) as url,
        session_of(url) as http,
    ):
        session_id = await started(http)
        async with asyncio.timeout(PATIENCE), http.ws_connect("/v1/ws") as socket:
            await socket.send_json({"type": "subscribe", "session_id": session_id, "after": "0"})
            assert "Hello" in await texts(socket, "Hello")
            listening = asyncio.create_task(texts(socket, " again"))  # pings are answered
            await asyncio.sleep(READ_TIMEOUT * 1.5)  # silence is what is tested
            site.gate.set()
            assert " again" in await listening


async def texts(socket: aiohttp.ClientWebSocketResponse, last: str) -> list[str]:
    """Return the texts that come, up to one; fewer if the socket is closed."""
    found: list[str] = []
    async for message in socket:
        found.append(message.json().get("text", ""))
        if found[-1] == last:
            break
    return found


# --- who may ask -------------------------------------------------------------------------------

PAGE = "https://chat.example.org"


async def asked_by_page(http: Http) -> int:
    async with http.post("/v1/sessions", json={}, headers={"Origin": PAGE}) as answer:
        return answer.status


async def test_a_page_behind_nginx_is_foreign_until_its_origin_is_allowed(tmp_path: Path) -> None:
    async with stage() as site, nginx_before(site.url, tmp_path) as url, session_of(url) as http:
        assert await asked_by_page(http) == 403
    async with (
        stage(allowed_origins=(PAGE,)) as site,
        nginx_before(site.url, tmp_path) as url,
        session_of(url) as http,
    ):
        assert await asked_by_page(http) == 201


async def test_a_host_that_nginx_passes_on_has_to_be_allowed(tmp_path: Path) -> None:
    passing_on = "proxy_set_header Host chat.example.org;"
    async with (
        stage() as site,
        nginx_before(site.url, tmp_path, passing_on) as url,
        session_of(url) as http,
    ):
        assert await asked_by_page(http) == 403
    async with (
        stage(allowed_hosts=("chat.example.org",)) as site,
        nginx_before(site.url, tmp_path, passing_on) as url,
        session_of(url) as http,
    ):
        assert await asked_by_page(http) == 201, "the page's own server"


# --- HTTP/1.0 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_over_http_1_0_the_end_of_the_connection_is_that_of_the_answer(
    connection: str,
) -> None:
    old = {"version": aiohttp.HttpVersion10, "headers": {"Connection": connection}}
    async with stage() as site, session_of(site.url, **old) as http:
        site.gate.set()
        for name in WIRES.keys() - ENDLESS:
            async with asyncio.timeout(PATIENCE), await WIRES[name](http) as response:
                assert response.status == 200, name
                assert "Transfer-Encoding" not in response.headers, name
                assert response.headers.get("Connection", "close") == "close", name
                assert b"again" in await response.read(), name
