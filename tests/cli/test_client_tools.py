"""`tidegate chat` in a session that waits for what came of a call of a client's tool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.cli.support.process import ROOT, Screen, at_a_terminal
from tests.sessions.guide import PLACE
from tests.support.server import Server, running_server

TARGET = ["tests.sessions.guide:registry"]


@asynccontextmanager
async def waiting(data: Path) -> AsyncIterator[Server]:
    """Run a server with a session that has asked for a place."""
    async with (
        running_server(data, TARGET, {"PYTHONPATH": str(ROOT)}) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        async with http.post("/v1/sessions", json={"session_id": "s"}) as made:
            assert made.status == 201
        send = {"text": "where?", "tools": [PLACE]}
        async with http.post("/v1/sessions/s/messages", json=send) as told:
            assert (await told.json())["status"] == "interrupted"
        yield server


@asynccontextmanager
async def chatting(server: Server) -> AsyncIterator[Screen]:
    chat = ("gateway", "chat", "--url", server.url, "--session", "s")
    async with at_a_terminal(*chat) as screen:
        await screen.until("? place, a tool of a client's, waits for its result: {")
        await screen.until("[n]o (a reason may follow): ")
        yield screen


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["r Ulm\n"], "So: trees, Ulm."),
        (['result {"city":"Ulm"}\n'], 'So: trees, {"city":"Ulm"}.'),
        (["what?\n", "r\n", "[1, 2]\n"], "So: trees, [1,2]."),
        (["n no GPS here\n"], "So: trees, error: no GPS here."),
    ],
)
async def test_whoever_sits_at_a_terminal_can_say_what_came_of_it(
    tmp_path: Path, typed: list[str], told: str
) -> None:
    prompts = iter(["please answer r or n", "Result: "])
    async with waiting(tmp_path) as server, chatting(server) as screen:
        for line in typed[:-1]:
            screen.type(line)
            await screen.until(next(prompts))
        screen.type(typed[-1])
        await screen.until(told)
        await screen.until("guide> ")
        assert await screen.leave() == 130
