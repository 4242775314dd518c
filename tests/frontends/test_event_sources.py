"""Stock clients that come back by themselves: npm's `eventsource`, whose page never closes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from runtime.agent import Agent
from runtime.models.scripted import ScriptedModel, say
from tests.cli.support.proxy import proxied
from tests.frontends.serving import Endless, Staged, serving
from tests.support.node import node_command

PATIENCE = 20.0
"""Seconds: a client comes back after up to four, twice, and Node starts within two."""


class Node:
    """A script that runs, and what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []

    async def line(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            text = await self._process.stdout.readline()
        if not text:
            return None
        self.lines.append(orjson.loads(text))
        return self.lines[-1]

    async def until(self, **wanted: Any) -> None:
        """Return when it has printed an object with these fields."""
        while (line := await self.line()) is not None:
            if wanted.items() <= line.items():
                return
        raise AssertionError(self.lines)

    async def end(self) -> list[dict[str, Any]]:
        while await self.line() is not None:
            pass
        assert await self._process.wait() == 0
        return self.lines

    def of(self, source: int) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["source"] == source]


@asynccontextmanager
async def node(script: str, *arguments: str) -> AsyncIterator[Node]:
    process = await asyncio.create_subprocess_exec(
        *node_command(script, *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Node(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def chunks(lines: list[dict[str, Any]]) -> list[str]:
    data = [line["data"] for line in lines if line.get("name") == "message"]
    return [text if text == "[DONE]" else orjson.loads(text)["chunk"] for text in data]


@pytest.mark.rows("K14", "W-K1", "S30", "X7")
async def test_an_event_source_that_is_never_closed_comes_back_and_begins_nothing_anew() -> None:
    whole, cut = Staged("Hi"), Staged("Once", " upon", " a")
    whole.let(0)
    cut.let(0, 1)
    model = ScriptedModel(lambda request: say("Hi there"))
    broken = ScriptedModel([["Once", RuntimeError("x")]])
    async with (
        serving(
            whole.puppet,
            Agent("chat", model),
            Agent("broken", broken),
        ) as place,
        serving(cut.puppet) as shaky,
        proxied(shaky.address[1]) as proxy,
        node(
            "event_source.mjs",
            f"{place.url}/chat/stream?message=x&agent=assistant",
            f"{place.url}/chat?message=x&agent=chat",
            f"{place.url}/chat/stream?message=x&agent=broken",
            f"http://127.0.0.1:{proxy.port}/chat/stream?message=x",
        ) as client,
    ):
        await client.until(source=3, data='{"chunk":" upon"}')
        proxy.cut()
        cut.let(2)  # while nobody listens
        await client.end()
        counts = [len(await where.sessions()) for where in (place, shaky)]
    assert chunks(client.of(0)) == ["Hi", "[DONE]"]
    assert [line["name"] for line in client.of(1) if "name" in line] == [
        "content",
        "content",
        "done",
    ]
    assert chunks(client.of(2)) == ["Once"]
    assert chunks(client.of(3)) == ["Once", " upon", " a", "[DONE]"]
    for source in range(4):
        assert client.of(source)[-1] | {"code": 204, "state": 2} == client.of(source)[-1]
    assert sum("open" in line for line in client.of(3)) == 2
    assert (whole.runs, model.calls, broken.calls, cut.runs) == (1, 1, 1, 1)
    assert counts == [3, 1]


@pytest.mark.rows("S29", "S30")
async def test_the_page_of_stratus_reads_its_answer() -> None:
    model = ScriptedModel(lambda request: say("Hi\u2028there \U0001f600"))
    async with serving(Agent("assistant", model)) as place, node("stratus.mjs", place.url) as page:
        lines = await page.end()
    assert "".join(line.get("text", "") for line in lines) == "Hi\u2028there \U0001f600"
    assert lines[-1]["finishReason"] == "stop"
    assert lines[-1]["usage"]["totalTokens"] > 0


@pytest.mark.rows("S41")
async def test_an_event_source_whose_run_was_cancelled_by_the_cut_is_told_so_and_stops() -> None:
    model = Endless()
    async with (
        serving(model.agent()) as place,
        proxied(place.address[1]) as proxy,
        node("event_source.mjs", f"http://127.0.0.1:{proxy.port}/chat?message=x") as client,
    ):
        await client.until(name="content")
        proxy.cut()
        async with asyncio.timeout(10):  # and not only when a comment is due
            await model.stopped.wait()
        await client.until(
            error=True, data='{"message":"the run was cancelled: disconnect","code":"cancelled"}'
        )
        lines = await client.end()
    assert [line["data"] for line in lines if "name" in line] == ['{"text":"Hel"}']
    assert lines[-1]["code"] == 204
    assert model.calls == 1
