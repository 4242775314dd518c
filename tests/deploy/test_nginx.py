"""What deploy/nginx.conf does with requests when a node refuses, dies or is gone.

The nodes are played, so that they die at a moment that is known: a test of nginx, not of nodes.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
from aiohttp import web

from gateway.config import Settings
from tests.deploy.proxied import DEPLOY, LOG, deployed_nginx

COMMANDS = "/v1/sessions/s/commands"
MESSAGES = "/v1/sessions/s/messages"
EVENTS = "/v1/sessions/s/events"
POSTS = (
    "/v1/sessions",
    MESSAGES,
    "/v1/chat/completions",
    "/agui/echo",
    "/v1/sessions/a/b/commands",
)
"""Requests that may not be made twice; the last one is no path of the gateway."""

Mood = Literal["well", "refuses", "dies"]


class Played:
    """A node that answers, refuses with 503, or closes the connection once it has the request."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mood: Mood = "well"
        self.heard: list[web.BaseRequest] = []
        self.port = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        self.heard.append(request)
        if self.mood == "refuses":
            return web.Response(status=503, headers={"Retry-After": "3"}, text="not now")
        if self.mood == "dies":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(text=self.name)


@asynccontextmanager
async def playing(*nodes: Played) -> AsyncIterator[None]:
    runners = []
    for node in nodes:
        runner = web.ServerRunner(web.Server(node.answer))
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        node.port = runner.addresses[0][1]
    try:
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


@asynccontextmanager
async def two_nodes(folder: Path) -> AsyncIterator[tuple[Played, Played, aiohttp.ClientSession]]:
    one, other = Played("one"), Played("other")
    async with (
        playing(one, other),
        deployed_nginx(one.port, other.port, folder) as url,
        aiohttp.ClientSession(url) as http,
    ):
        yield one, other, http


async def asked(
    http: aiohttp.ClientSession, path: str, method: str = "POST"
) -> tuple[int, str, str | None]:
    """Return status, text and `Retry-After`."""
    body = b"x" * 300_000 if method == "POST" else None  # more than nginx keeps in memory
    async with asyncio.timeout(20), http.request(method, path, data=body) as answer:
        return answer.status, await answer.text(), answer.headers.get("Retry-After")


@pytest.mark.fault("F35", holds=("I13",))
async def test_a_command_goes_on_to_the_other_node_wherever_the_first_one_dies(
    tmp_path: Path,
) -> None:
    async with two_nodes(tmp_path) as (one, _other, http):
        one.mood = "dies"
        for _ in range(4):
            assert await asked(http, COMMANDS) == (200, "other", None)
        assert one.heard, "it was asked, and nobody knows what it did before it died"
        one.mood = "refuses"
        for _ in range(4):
            assert await asked(http, COMMANDS) == (200, "other", None)


async def test_what_may_not_be_done_twice_is_sent_once(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, other, http):
        one.mood = other.mood = "dies"
        for count, path in enumerate(POSTS, 1):
            assert (await asked(http, path))[0] == 503
            assert len(one.heard) + len(other.heard) == count, path


async def test_a_reader_never_meets_the_node_that_refuses_or_dies(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, _other, http):
        for one.mood in ("refuses", "dies"):
            for _ in range(4):
                assert await asked(http, EVENTS, "GET") == (200, "other", None)
        assert one.heard


async def test_a_node_that_is_gone_costs_nobody_a_request_of_any_kind(tmp_path: Path) -> None:
    one = Played("one")
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))  # it does not listen: whoever connects is refused
        async with (
            playing(one),
            deployed_nginx(gone.getsockname()[1], one.port, tmp_path) as url,
            aiohttp.ClientSession(url) as http,
        ):
            for path in (COMMANDS, *POSTS) * 2:
                assert await asked(http, path) == (200, "one", None)
            assert await asked(http, EVENTS, "GET") == (200, "one", None)


async def test_two_nodes_that_refuse_are_heard_again_at_once(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, other, http):
        one.mood = other.mood = "refuses"
        for method, path in (("POST", COMMANDS), ("POST", MESSAGES), ("GET", EVENTS)) * 3:
            assert await asked(http, path, method) == (503, "not now", "3"), "the node's own words"
        one.mood = other.mood = "well"
        for method, path in (("POST", COMMANDS), ("POST", MESSAGES), ("GET", EVENTS)):
            assert (await asked(http, path, method))[0] == 200


async def test_where_no_node_is_left_a_client_is_told_to_come_back(tmp_path: Path) -> None:
    with socket.socket() as gone, socket.socket() as too:
        for each in (gone, too):
            each.bind(("127.0.0.1", 0))
        ports = gone.getsockname()[1], too.getsockname()[1]
        async with deployed_nginx(*ports, tmp_path) as url, aiohttp.ClientSession(url) as http:
            for method, path in (("GET", EVENTS), ("POST", COMMANDS)) * 2:
                async with http.request(method, path) as answer:
                    assert answer.status == 503
                    assert int(answer.headers["Retry-After"]) > 0
                    assert answer.content_type == "application/problem+json"
                    assert (await answer.json())["status"] == 503


async def test_nodes_hear_by_what_name_they_were_called_and_the_log_has_no_cursors(
    tmp_path: Path,
) -> None:
    async with two_nodes(tmp_path) as (one, other, http):
        await asked(http, f"{EVENTS}?after=k3f9aa.1042.9b1c77e0", "GET")
        (heard,) = one.heard + other.heard
        assert heard.headers["Host"] == f"{http._base_url.host}:{http._base_url.port}"  # type: ignore[union-attr] # it was given one
        assert heard.headers["X-Forwarded-Proto"] == "http"
        assert "Upgrade" not in heard.headers
        assert heard.headers.get("Connection", "keep-alive") == "keep-alive"
        assert heard.query_string == "after=k3f9aa.1042.9b1c77e0"
    log = (tmp_path / LOG).read_text()
    assert f" GET {EVENTS} 200 " in log
    assert "k3f9aa" not in log


def test_the_numbers_of_nginx_fit_those_of_the_server() -> None:
    settings = Settings()
    text = (DEPLOY / "nginx.conf").read_text()

    def number(directive: str, unit: str = "s") -> int:
        found = re.findall(rf"^\s*{directive} (\d+){unit};", text, re.MULTILINE)
        assert found, directive
        return min(int(each) for each in found)

    quiet = max(settings.keepalive_s, settings.ws_heartbeat_s * 1.5)
    assert number("proxy_read_timeout") > quiet
    assert number("keepalive_timeout") < settings.idle_timeout_s
    assert number("client_max_body_size", "m") * 2**20 == settings.max_history_bytes
    assert number("client_body_buffer_size", "k") * 2**10 >= settings.max_body_bytes
    assert number("client_body_timeout") >= settings.body_timeout_s
    assert number("worker_connections", "") >= settings.max_connections
