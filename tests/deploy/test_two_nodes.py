"""deploy/nginx.conf in front of two real nodes on one Postgres: a node that dies costs a reconnect."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser

from tests.browser.driver import Driver, opened_page
from tests.deploy.proxied import deployed_nginx
from tests.nodes.nodes import Node, Nodes
from tests.support.file_gates import let
from tests.support.followers import Follower, Transport, check_history

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

TRANSPORTS: tuple[Transport, ...] = ("sse", "websocket", "ndjson")
PATIENCE = 30.0
SHORT = {"proxy_read_timeout 60s;": "proxy_read_timeout 4s;"}
SILENCE = 4.5
"""Seconds: more than the proxy takes without a byte."""

SPEECH = " ".join(f"word{number}" for number in range(60))

_numbers = itertools.count(1)


def held(gate: object) -> str:
    """Return what `standing` is told to say: its last word comes once the gate is open."""
    return f"{SPEECH} |{gate}"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=None, sock_read=PATIENCE)
    async with aiohttp.ClientSession(url, timeout=timeout) as http:
        yield http


@asynccontextmanager
async def front(pair: Nodes, folder: Path, **changes: str) -> AsyncIterator[str]:
    async with deployed_nginx(pair[0].port, pair[1].port, folder, changes) as url:
        yield url


async def created(http: aiohttp.ClientSession, agent: str = "echo") -> str:
    session_id = f"deploy-{next(_numbers)}"
    body = {"session_id": session_id, "agent": agent}
    async with http.post("/v1/sessions", json=body) as answer:
        assert answer.status == 201, await answer.text()
    return session_id


async def sent(http: aiohttp.ClientSession, session_id: str, text: str, name: str = "c1") -> int:
    """Say something, once; return the status of the answer."""
    command = {"type": "send", "id": name, "text": text}
    async with http.post(f"/v1/sessions/{session_id}/commands", json=command) as answer:
        return answer.status


async def events_of(http: aiohttp.ClientSession, session_id: str) -> list[dict[str, Any]]:
    """Return a log, page by page: what a node knows of it by heart is a page that may not be the last."""
    found: list[dict[str, Any]] = []
    page = {"cursor": "0", "caught_up": False}
    while not page["caught_up"]:
        path = f"/v1/sessions/{session_id}/events?after={page['cursor']}"
        async with http.get(path, headers={"Accept": "application/json"}) as answer:
            page = await answer.json()
        found += page["events"]
    return found


def speaking(count: int) -> Callable[[Sequence[dict[str, Any]]], bool]:
    """Return what tells whether that many runs have begun to speak."""
    return lambda events: (
        len({e["run_id"] for e in events if e["type"] == "message.delta"}) >= count
    )


async def until(stream: aiohttp.StreamReader, words: bytes) -> None:
    heard = b""
    async with asyncio.timeout(PATIENCE):
        while words not in heard:
            chunk = await stream.readany()
            assert chunk, f"the stream ended before {words!r}: {heard!r}"
            heard += chunk


async def until_text(socket: aiohttp.ClientWebSocketResponse, words: str) -> None:
    async with asyncio.timeout(PATIENCE):
        async for message in socket:
            if words in message.data:
                return
    pytest.fail(f"the socket was closed before {words!r}")


@pytest.mark.fault("F42", holds=("I3",))
@pytest.mark.rule("sse.prime", "sse.keepalive", "ws.heartbeat")
async def test_streams_begin_at_once_and_outlive_silence(pair: Nodes, tmp_path: Path) -> None:
    async with front(pair, tmp_path, **SHORT) as url, connected(url) as http:
        session_id = await created(http)
        path = f"/v1/sessions/{session_id}/events?after=0"
        zipped = {"Accept-Encoding": "gzip, deflate, br"}
        async with (
            http.get(path, headers=zipped | {"Accept": "text/event-stream"}) as events,
            http.get(path, headers=zipped | {"Accept": "application/x-ndjson"}) as lines,
            http.ws_connect("/v1/ws") as socket,
        ):
            await socket.send_json({"type": "subscribe", "session_id": session_id, "after": "0"})
            await until(events.content, b"retry:")
            await until(lines.content, b"session.created")
            await until_text(socket, "session.created")
            assert "Content-Encoding" not in events.headers
            assert "Content-Encoding" not in lines.headers
            listening = asyncio.create_task(until_text(socket, "run.completed"))  # answers pings
            await asyncio.sleep(SILENCE)  # silence is what is tested
            assert await sent(http, session_id, "still there") == 202
            await until(events.content, b"run.completed")
            await until(lines.content, b"run.completed")
            await listening


@pytest.mark.fault("F1", "F35", holds=("I3", "I13"))
@pytest.mark.rule("resume.exact", "command.once", "run.taken_over")
async def test_whichever_node_dies_clients_go_on_exactly_and_commands_have_one_effect(
    pair: Nodes, gates: Path, tmp_path: Path, browser: Browser
) -> None:
    async with front(pair, tmp_path) as url, connected(url) as http, page_at(browser, url) as page:
        session_id = await created(http, "standing")
        followers = [Follower(url, session_id, transport) for transport in TRANSPORTS]
        async with following(followers):
            for number, node in enumerate(pair, 1):
                await pair.refresh()
                await page.say(held(number), "standing")
                assert await sent(http, session_id, held(number), f"c{number}") == 202
                for follower in followers:
                    await follower.until(speaking(number))
                await page.until_status("streaming")
                await node_dies_in_the_middle_of_commands(node, http)
                let(gates, str(number))
                for follower in followers:
                    await follower.until_runs_ended(number)
                await page.until_status("complete")
                assert (await page.texts())[-1] == held(number)
        for follower in followers:
            check_history(follower.events)
            assert follower.resets == []
            assert follower.connections > 1, "it was connected to one that died"
            assert follower.lines == followers[0].lines
        ends = [event for event in followers[0].events if event["type"] == "run.completed"]
        assert [event["output"] for event in ends] == [held(1), held(2)]
        texts = await page.texts()
        whole = [texts.count(held(1)), texts.count(held(2))]
        assert whole == [2, 2], "what was said and answered, each once"


@asynccontextmanager
async def page_at(browser: Browser, url: str) -> AsyncIterator[Driver]:
    page = await opened_page(browser, url, "websocket")
    try:
        yield page
    finally:
        await page.page.context.close()


@asynccontextmanager
async def following(followers: Sequence[Follower]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(follower.run()) for follower in followers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def node_dies_in_the_middle_of_commands(node: Node, http: aiohttp.ClientSession) -> None:
    sessions = [await created(http) for _ in range(8)]
    commands = [asyncio.create_task(sent(http, each, "once")) for each in sessions]
    await node.kill()
    async with asyncio.timeout(PATIENCE):
        assert [await each for each in commands] == [202] * 8, "and nobody asked twice"
    for each in sessions:
        kinds = [event["type"] for event in await events_of(http, each)]
        assert kinds.count("input.accepted") == 1
