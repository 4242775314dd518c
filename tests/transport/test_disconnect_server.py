"""Runs that end with their clients, on a server that is started, stopped and killed as users do it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.support.server import Server, running_server

pytestmark = pytest.mark.rule("disconnect.cancel_after")

SLOWLY = {"text": "one two three four five six", "options": {"interval_ms": 60_000}}
"""A run of `echo` that says a word at once, and the next one in a minute."""

NOBODY = {"role": "observer", "after": "0"}
LINES = {"Accept": "application/x-ndjson"}


async def ask(server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.post(path, json=body) as response,
    ):
        answer: dict[str, Any] = await response.json()
        assert response.status < 300, answer
        return answer


async def create(server: Server, session_id: str = "s") -> None:
    await ask(server, "/v1/sessions", {"session_id": session_id, "agent": "echo"})


async def begin(server: Server, seconds: float | None, session_id: str = "s") -> None:
    """Begin a run that ends when nobody was there for so long; None: it does not."""
    policy = "continue" if seconds is None else {"cancel_after": seconds}
    send = {"type": "send", "id": "c1", **SLOWLY, "on_disconnect": policy}
    await ask(server, f"/v1/sessions/{session_id}/commands", send)


async def log_until(server: Server, kind: str, session_id: str = "s") -> list[dict[str, Any]]:
    """Watch a session's log from its start until an event of a type; return all up to that."""
    path = f"/v1/sessions/{session_id}/events"
    found: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(60),
        aiohttp.ClientSession(server.url) as http,
        http.get(path, params=NOBODY, headers=LINES) as response,
    ):
        async for line in response.content:
            if line.strip():
                found.append(orjson.loads(line))
                if found[-1]["type"] == kind:
                    return found
    raise AssertionError(f"the stream ended without {kind}")


async def log(server: Server, session_id: str = "s") -> list[str]:
    """Return the types of all events so far."""
    return [event["type"] for event in await log_until(server, "stream.caught_up", session_id)]


@asynccontextmanager
async def tab(server: Server, transport: str, session_id: str = "s") -> AsyncIterator[None]:
    """Follow a session as a page does; at the end its connection is gone."""
    async with aiohttp.ClientSession(server.url) as http:
        if transport == "websocket":
            async with http.ws_connect("/v1/ws") as socket:
                await socket.receive_json()
                subscribe = {"type": "subscribe", "id": "s", "session_id": session_id}
                await socket.send_json(subscribe)
                assert (await socket.receive_json())["type"] == "ack"
                yield
            return
        path = f"/v1/sessions/{session_id}/events"
        async with http.get(path, headers={"Accept": "text/event-stream"}) as response:
            await response.content.readuntil(b"stream.caught_up")
            yield
            response.close()


async def test_a_person_who_changes_connections_keeps_the_run_until_the_last_is_gone(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path) as server:
        await create(server)
        async with tab(server, "websocket"):
            async with tab(server, "sse"):
                await begin(server, 1.5)
            await asyncio.sleep(1.7)  # longer than the grace: a tab is still open
            assert "run.cancelled" not in await log(server)
        for transport in ("sse", "websocket", "sse"):  # it flaps, and is back in time
            await asyncio.sleep(0.3)
            async with tab(server, transport):
                assert "run.cancelled" not in await log(server)
        cancelled = (await log_until(server, "run.cancelled"))[-1]
        assert cancelled["reason"] == "disconnect"
        assert (await log(server)).count("run.cancelled") == 1


async def test_it_holds_across_a_stop_and_a_kill_of_the_server_for_every_wire(
    tmp_path: Path,
) -> None:
    chat = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "w " * 5000}]}
    in_a_hurry = {"TIDEGATE_DRAIN_RUNS_S": "0.1"}
    async with running_server(tmp_path, environment=in_a_hurry) as server:
        for name in ("gone", "back", "free"):
            await create(server, name)
        async with (
            tab(server, "sse", "back"),
            tab(server, "websocket", "gone"),
            aiohttp.ClientSession(server.url) as http,
            http.post("/v1/chat/completions", json=chat) as wire,
        ):
            wired = wire.headers["X-Tidegate-Session-Id"]
            await begin(server, 1, "gone")
            await begin(server, 1, "back")
            await begin(server, None, "free")
            await server.stop()
        names = ("gone", "back", "free", wired)
        await server.restart()
        for name in names:
            await log_until(server, "run.attempt_started", name)
            assert "run.cancelled" not in await log(server, name), (
                "a server that stops ends nothing"
            )
        await server.kill()  # in the grace
        await server.restart()
        async with tab(server, "sse", "back"):
            for name in ("gone", wired):
                ended = await log_until(server, "run.cancelled", name)
                assert ended[-1]["reason"] == "disconnect"
                assert sum(event["type"] == "run.attempt_started" for event in ended) == 2
            for name in ("back", "free"):
                assert "run.cancelled" not in await log(server, name)
