"""`SseEmitter`: its words, and itself in an aiohttp handler as users write and start one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from runtime.agent import Agent
from runtime.environment import Emitter, Environment
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.sse import SseEmitter, StreamWords, json_line
from runtime.tools import tool
from tests.support.raw import Raw, host_of, raw
from tests.support.waiting import proven_blocked

pytestmark = pytest.mark.rows("L26")

# --- the words --------------------------------------------------------------------------------


@pytest.mark.rows("L14", "L16")
def test_an_event_is_told_to_the_byte() -> None:
    words = StreamWords()
    assert words.event("my_event", {"foo": "bar"}) == b'event: my_event\ndata: {"foo":"bar"}\n\n'
    assert words.keepalive() == b": keepalive\n\n"


@pytest.mark.rows("L17")
@pytest.mark.parametrize("type", ["custom_progress_update", "another-type", "two words", "ü", ":"])
def test_any_type_on_one_line_is_taken(type: str) -> None:
    assert StreamWords().event(type, None) == f"event: {type}\ndata: null\n\n".encode()


@pytest.mark.rows("L17", "W-L7")
@pytest.mark.parametrize("type", ["a\nb", "a\rdata: 1", "\r\n", "a\0", "\n"])
def test_a_type_that_would_break_the_frame_is_refused(type: str) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        StreamWords().event(type, 1)


def test_data_is_one_line_to_every_reader() -> None:
    line = json_line({"text": "a\nb\u2028c\u2029d\x85e"})
    assert line == b'{"text":"a\\nb\\u2028c\\u2029d\\u0085e"}'
    assert len(line.decode().splitlines()) == 1


@pytest.mark.rows("L14")
def test_the_result_and_the_error_are_last_words() -> None:
    bad = b'event: error\ndata: {"error":"bad","statusCode":500}\n\n'
    for fails in (False, True):
        words = StreamWords()
        if fails:
            assert words.error("bad", 500) == bad
        else:
            assert words.result({"a": 1}) == b'event: result\ndata: {"a":1}\n\n'
        assert words.event("more", 1) == words.result(1) == words.error("x", 500) == b""
        assert words.keepalive() != b""
        assert not words.closed


@pytest.mark.rows("L18")
def test_after_the_close_nothing_is_said_whatever_it_is() -> None:
    words = StreamWords()
    words.close()
    words.close()
    assert words.closed
    assert words.event("x\ny", object()) == words.keepalive() == words.result(1) == b""


# --- in a handler -----------------------------------------------------------------------------

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def application(handle: Handle) -> AsyncIterator[tuple[str, int]]:
    """Serve a handler with the settings of `web.run_app`: nobody is told of a client that goes."""
    app = web.Application()
    app.router.add_route("*", "/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0]
    finally:
        await runner.cleanup()


class Stage:
    """A handler that makes an emitter, and lets the test use it until it says so."""

    def __init__(self, **how: Any) -> None:
        self._how = how
        self.started = asyncio.Event()
        self.leave = asyncio.Event()
        self.emitter = SseEmitter()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.emitter = SseEmitter(web.StreamResponse(), **self._how)
        await self.emitter.start(request)
        self.started.set()
        await self.leave.wait()
        await self.emitter.close()
        return self.emitter.response


def is_open(emitter: SseEmitter) -> bool:
    return not emitter.closed


async def begin(client: Raw, address: tuple[str, int]) -> dict[str, str]:
    client.ask("/", **host_of(address))
    status, headers = await client.head()
    assert status == 200
    return headers


async def rest(client: Raw) -> bytes:
    body = b""
    while chunk := await client.body():
        body += chunk
    return body


@pytest.mark.rows("L15", "A34")
async def test_the_head_and_the_first_bytes_come_at_once() -> None:
    stage = Stage()
    async with application(stage.handle) as address, raw(address) as client:
        headers = await begin(client, address)
        assert await client.body() == b": connected\n\n"
        stage.leave.set()
        assert await rest(client) == b""
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["connection"] == "keep-alive"
    assert headers["x-accel-buffering"] == "no"


@pytest.mark.rows("L14", "L16", "L17")
async def test_all_that_is_said_arrives_in_order_and_then_the_answer_ends() -> None:
    stage = Stage()
    async with application(stage.handle) as address, raw(address) as client:
        await begin(client, address)
        await stage.started.wait()
        emitter = stage.emitter
        emitter.send("my_event", {"foo": "bar"})
        await client.until(b'event: my_event\ndata: {"foo":"bar"}\n\n')
        asyncio.get_running_loop().set_debug(True)  # refuses what is not safe from a thread
        await asyncio.to_thread(emitter.emit, "from_a_thread", 1)
        asyncio.get_running_loop().set_debug(False)
        emitter.send("when", datetime(2026, 1, 2, tzinfo=UTC))
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            emitter.send("a\nb", 1)
        emitter.send("odd", object())
        emitter.send_result([1])
        emitter.send("late", 1)
        emitter.send_error("late")
        stage.leave.set()
        body = b"\r\n" + await client.until(b"0\r\n\r\n")
    assert b'event: when\ndata: "2026-01-02T00:00:00Z"\n\n' in body
    assert b'event: odd\ndata: "<object>"\n\n' in body
    assert b"event: from_a_thread\ndata: 1\n\n" in body
    assert b"late" not in body
    assert body.endswith(b"event: result\ndata: [1]\n\n\r\n0\r\n\r\n")


@pytest.mark.rows("L14")
async def test_an_error_is_the_last_word_with_its_status() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        async with SseEmitter() as emitter:
            emitter.send("before", 1)
            await emitter.start(request)
            writer = emitter._writer
            await emitter.start(request)
            assert emitter._writer is writer
            emitter.send_error("no tea", 418)
        return emitter.response

    async with application(handle) as address, raw(address) as client:
        await begin(client, address)
        assert await rest(client) == (
            b": connected\n\n"
            b"event: before\ndata: 1\n\n"
            b'event: error\ndata: {"error":"no tea","statusCode":418}\n\n'
        )


@pytest.mark.rows("L18", "L23")
async def test_closing_is_idempotent_and_nothing_is_said_after_it() -> None:
    stage = Stage(keepalive=0.05)
    async with application(stage.handle) as address, raw(address) as client:
        await begin(client, address)
        await stage.started.wait()
        emitter = stage.emitter
        assert is_open(emitter)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(emitter.close())
        assert emitter.closed
        await emitter.close()
        emitter.send("late\n", 1)
        emitter.send_result(1)
        emitter.send_error("late")
        assert await rest(client) == b": connected\n\n"
        assert emitter._writer is not None
        assert emitter._writer.done(), "the keepalive has stopped"
        stage.leave.set()
    unused = SseEmitter()
    await unused.close()
    assert unused.closed


@pytest.mark.rows("L14", "LX2")
async def test_silence_is_filled_with_comments() -> None:
    stage = Stage(keepalive=0.05)
    async with application(stage.handle) as address, raw(address) as client:
        await begin(client, address)
        for expected in (b": connected\n\n", b": keepalive\n\n", b": keepalive\n\n"):
            assert await client.body() == expected
        stage.leave.set()


@pytest.mark.rows("L19", "X3")
async def test_a_client_that_goes_away_closes_it_with_nothing_being_said() -> None:
    stage = Stage()
    async with application(stage.handle) as address:
        async with raw(address) as client:
            await begin(client, address)
            await stage.started.wait()
            assert is_open(stage.emitter)
        writer = stage.emitter._writer
        assert writer is not None
        async with asyncio.timeout(30):
            await asyncio.wait([writer])
        assert stage.emitter.closed
        stage.emitter.send("late\n", object())
        stage.emitter.send_result(1)
        stage.leave.set()
        async with asyncio.timeout(30):
            await stage.emitter.close()


@pytest.mark.rows("X5", "W-L7")
async def test_a_client_that_takes_nothing_is_cut_and_holds_back_nobody() -> None:
    stage = Stage(most_waiting=1_000_000)
    async with application(stage.handle) as address, raw(address, receive_buffer=4096) as client:
        await begin(client, address)
        await stage.started.wait()
        sent = 0
        while is_open(stage.emitter):
            stage.emitter.send("flood", "x" * 100_000)
            sent += 1
            assert sent < 1000
            await asyncio.sleep(0)
        stage.leave.set()
        async with asyncio.timeout(30):
            await stage.emitter.close()


@pytest.mark.rows("X5")
async def test_a_client_that_is_stuck_is_cut_after_its_time() -> None:
    stage = Stage(write_timeout=0.1, most_waiting=100_000_000)
    async with application(stage.handle) as address, raw(address, receive_buffer=4096) as client:
        await begin(client, address)
        await stage.started.wait()
        stage.emitter.send("flood", "x" * 20_000_000)
        assert stage.emitter._writer is not None
        async with asyncio.timeout(30):
            await asyncio.wait([stage.emitter._writer])
        assert stage.emitter.closed
        stage.leave.set()


@pytest.mark.rows("L25")
async def test_a_run_reports_through_its_environment_and_leaves_the_emitter_open() -> None:
    environment = Environment("request")
    over, leave = asyncio.Event(), asyncio.Event()

    @tool
    async def look_up(word: str) -> str:
        """Look a word up."""
        Environment("lookup", environment).emit("lookup_progress", {"word": word})
        return f"{word}: found"

    call = ToolCall(id="call_1", name="look_up", arguments='{"word":"tide"}')

    def script(request: ModelRequest) -> tuple[Cue, ...]:
        return say("Found it.") if request.messages[-1].role == "tool" else call_tools(call)

    registry = Registry(Agent("assistant", ScriptedModel(script), tools=(look_up,)))
    emitters: list[SseEmitter] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        emitter = SseEmitter(web.StreamResponse())
        emitters.append(emitter)
        await emitter.start(request)
        listening: Emitter = emitter
        environment.set_emitter(listening)
        agent = await registry.get_agent("assistant")
        emitter.send_result(await agent.chat("What is a tide?"))
        over.set()
        await leave.wait()
        await emitter.close()
        return emitter.response

    async with application(handle) as address, raw(address) as client:
        await begin(client, address)
        await over.wait()
        assert not emitters[0].closed
        reading = asyncio.create_task(rest(client))
        await proven_blocked(reading)
        leave.set()
        body = await reading
    assert body == (
        b": connected\n\n"
        b'event: lookup_progress\ndata: {"word":"tide"}\n\n'
        b'event: result\ndata: "Found it."\n\n'
    )
