"""A server that is told to stop, and the next one: nothing lost, nothing twice, and soon."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.scenario.patient import TALK, WORDS, WORK, patient_server
from tests.scenario.test_kill import post
from tests.support.file_gates import let
from tests.support.followers import Follower, check_history
from tests.support.raw import host_of, raw
from tests.support.server import Server

PROMPT = 10.0
"""Seconds within which the next server goes on: half of those after which a run that nobody works on
would be taken over anyway."""

COMMANDS = "/v1/sessions/s/commands"
_numbers = itertools.count(1)


@asynccontextmanager
async def following(server: Server, *sessions: str) -> AsyncIterator[dict[str, Follower]]:
    """Follow some sessions, one over each transport in turn, until the block ends."""
    followers = {
        name: Follower(server.url, name, ("sse", "websocket", "ndjson")[place % 3])
        for place, name in enumerate(sessions)
    }
    tasks = [asyncio.create_task(follower.run()) for follower in followers.values()]
    try:
        yield followers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def send(server: Server, session_id: str, **fields: str) -> None:
    command = {"type": "send", "id": f"c{next(_numbers)}", "text": "go", **fields}
    await post(server, f"/v1/sessions/{session_id}/commands", command)


def of_kind(kind: str) -> Callable[[Sequence[dict[str, Any]]], bool]:
    """Return what tells whether such an event is among these."""
    return lambda events: any(event["type"] == kind for event in events)


def effects(tmp_path: Path) -> list[str]:
    return (tmp_path / "effects").read_text().splitlines()


def show(line: str) -> None:
    """Print a measurement, for `pytest -s`."""
    print(line)  # noqa: T201


def of(follower: Follower, kind: str) -> list[dict[str, Any]]:
    return [event for event in follower.events if event["type"] == kind]


@pytest.mark.rule("drain.orderly", "run.taken_over", "resume.exact", "run.one_end")
async def test_runs_of_all_kinds_are_handed_over_and_go_on_at_once(tmp_path: Path) -> None:
    async with patient_server(tmp_path, drain_runs_s="2") as server, AsyncExitStack() as stack:
        for name, agent in AGENTS.items():
            await post(server, "/v1/sessions", {"session_id": name, "agent": agent})
        seen = await stack.enter_async_context(following(server, *AGENTS))
        await begin_all(server, seen)
        began = time.monotonic()
        stopping = asyncio.create_task(server.stop())
        await server.until_said("the server stops")
        let(tmp_path, WORK)
        assert await stopping == 0
        stopped = time.monotonic()
        await server.restart()
        ready = time.monotonic()
        async with asyncio.timeout(PROMPT):
            for name in ("queued", "stream", "tool", "graph"):
                await seen[name].until(of_kind("run.attempt_started"))
        going_on = time.monotonic()
        show(
            f"stopped in {stopped - began:.2f} s, the next one was ready {ready - stopped:.2f} s "
            f"later, and went on with all runs within {going_on - ready:.2f} s"
        )
        let(tmp_path, TALK)
        await approve(server, seen["asking"])
        for name, runs in (("asking", 1), ("queued", 2), ("stream", 1), ("tool", 1), ("graph", 1)):
            await seen[name].until_runs_ended(runs)
        for follower in seen.values():
            check_history(follower.events)
            assert follower.resets == []
            assert not of(follower, "run.failed")
            assert not of(follower, "tool.unknown_outcome")
            for taken in of(follower, "run.attempt_started"):
                assert (taken["attempt"], taken["reason"]) == (2, "handed_over")
        assert sorted(effects(tmp_path)) == [
            "last",
            "launched",
            "left",
            "right",
            "ship begun",
            "ship done",
        ]
        check_said_once(seen["stream"], WORDS)
        check_said_once(seen["queued"], WORDS, "brief")
        assert len(of(seen["tool"], "model.completed")) == 2, "no finished step is done again"
        assert not of(seen["asking"], "run.attempt_started")


AGENTS = {
    "asking": "asker",
    "queued": "talker",
    "stream": "talker",
    "tool": "worker",
    "graph": "graph",
}
"""By the session of each."""


async def begin_all(server: Server, seen: Mapping[str, Follower]) -> None:
    """Return when each run is in the middle of what it does."""
    await send(server, "asking")
    await seen["asking"].until(of_kind("run.interrupted"))
    await send(server, "queued")
    await send(server, "queued", agent="brief")
    await send(server, "stream")
    await send(server, "tool")
    await send(server, "graph")
    await seen["queued"].until(of_kind("input.queued"))
    await seen["stream"].until(of_kind("message.delta"))
    await seen["tool"].until(of_kind("tool.started"))
    await seen["graph"].until(of_kind("node.completed"))


async def approve(server: Server, follower: Follower) -> None:
    (asked,) = of(follower, "approval.requested")
    decision = {"approval_id": asked["approval_id"], "decision": "approve"}
    command = {"type": "continue", "id": "yes", "decisions": [decision]}
    await post(server, f"/v1/sessions/{follower.session_id}/commands", command)


def check_said_once(follower: Follower, *texts: str) -> None:
    """What counts in the end is all that was to be said, once."""
    superseded = {
        event["message_id"]
        for event in of(follower, "message.completed")
        if event.get("superseded")
    }
    assert len(superseded) == 1, "one was cut"
    said = [
        event["text"]
        for event in of(follower, "message.completed")
        if event["message_id"] not in superseded
    ]
    assert said == list(texts)


@pytest.mark.fault("F33", holds=("I9",))
@pytest.mark.rule("drain.orderly", "slow.isolated")
async def test_fifty_readers_that_are_stuck_do_not_hold_a_server_that_stops(tmp_path: Path) -> None:
    # It ends them long before any limit: before the one for a writing, or the one for all of it.
    limits = {"write_timeout_s": "60", "shutdown_timeout_s": "60"}
    async with patient_server(tmp_path, **limits) as server, AsyncExitStack() as clients:
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "flood"})
        address = ("127.0.0.1", server.port)
        for _ in range(50):
            client = await clients.enter_async_context(raw(address, receive_buffer=4096))
            client.ask("/v1/sessions/s/events?after=$", **host_of(address))
            await client.until(b"caught_up")
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await post(server, "/v1/sessions/s/messages", {"text": "go"})  # waits for the end
        began = time.monotonic()
        assert await server.stop() == 0
        show(f"stopped in {time.monotonic() - began:.2f} s with 50 stuck readers")
        cut = server.said("a client was cut")
        assert cut == 50, "all of them were stuck until the end"


@pytest.mark.rule("drain.orderly")
async def test_a_server_that_stops_refuses_work_that_is_to_be_tried_elsewhere(
    tmp_path: Path,
) -> None:
    async with (
        patient_server(
            tmp_path, drain_runs_s="40", drain_delay_s="2", shutdown_timeout_s="60"
        ) as server,
        aiohttp.ClientSession(server.url) as http,
        http.ws_connect("/v1/ws") as socket,
        AsyncExitStack() as stack,
    ):
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "talker"})
        seen = await stack.enter_async_context(following(server, "s"))
        await send(server, "s")
        await seen["s"].until(of_kind("message.delta"))
        stopping = asyncio.create_task(server.stop())
        while (await http.get("/readyz")).status == 200:  # until the signal has arrived
            pass
        # The load balancer has been told, and may take its time: all is as before.
        await send(server, "s", agent="brief")
        assert (await http.get("/healthz")).status == 200
        async with asyncio.timeout(30):
            while (answer := await http.post(COMMANDS, json=another())).status == 404:
                pass
        assert answer.status == 503
        assert (await answer.json())["code"] == "shutting_down"
        assert 1 <= int(answer.headers["Retry-After"]) <= 41
        await socket.send_json({**another(), "session_id": "s"})
        while (told := await socket.receive_json())["type"] != "nack":
            assert told["type"] == "hello"
        assert told["error"]["code"] == "shutting_down"
        assert told["error"]["retryable"] is True
        said = len(of(seen["s"], "message.delta"))
        let(tmp_path, TALK)  # the run still speaks
        await seen["s"].until(lambda events: len(of(seen["s"], "message.delta")) > said)
        assert (await socket.receive()).data == 1012
        assert await stopping == 0


@pytest.mark.rule("drain.orderly", "run.taken_over")
async def test_a_second_signal_ends_it_at_once_and_the_next_goes_on_all_the_same(
    tmp_path: Path,
) -> None:
    async with (
        patient_server(tmp_path, drain_delay_s="30") as server,
        aiohttp.ClientSession(server.url) as http,
        AsyncExitStack() as stack,
    ):
        await post(server, "/v1/sessions", {"session_id": "s", "agent": "talker"})
        seen = await stack.enter_async_context(following(server, "s"))
        await send(server, "s")
        await seen["s"].until(of_kind("message.delta"))
        stopping = asyncio.create_task(server.stop())
        while (await http.get("/readyz")).status == 200:  # until the signal has arrived
            pass
        os.kill(server.pid, signal.SIGTERM)
        async with asyncio.timeout(20):  # less than the load balancer has
            assert await stopping == -signal.SIGTERM
        let(tmp_path, TALK)
        await server.restart()
        await seen["s"].until_runs_ended(1)
        (taken,) = of(seen["s"], "run.attempt_started")
        assert taken["reason"] == "restart"


def another() -> dict[str, str]:
    """Return a command that has no effect."""
    return {"type": "cancel", "id": f"x{next(_numbers)}", "run_id": "run_of_nobody"}
