"""Tools of clients over the real wires: commands by HTTP and WebSocket, servers that are killed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import running
from gateway.config import Settings
from runtime.registry import Registry
from tests.sessions.guide import LOOK, PLACE, WHERE, Guide
from tests.support.readers import READERS, Reader
from tests.support.server import ROOT, running_server


class Client:
    """A client of one session."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http

    async def post(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        async with self.http.post(f"/v1/sessions{path}", json=body) as response:
            return response.status, await response.json()

    async def snapshot(self) -> dict[str, Any]:
        async with self.http.get("/v1/sessions/s") as response:
            answer: dict[str, Any] = await response.json()
            return answer


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(url) as http:
        yield Client(http)


@asynccontextmanager
async def reading(http: aiohttp.ClientSession, after: str = "0") -> AsyncIterator[Reader]:
    reader = READERS["websocket"](http, "s")
    await reader.open(after)
    yield reader
    await reader.cut()


async def until(reader: Reader, kind: str) -> dict[str, Any]:
    while (message := await reader.next()).type != kind:
        pass
    return message.data


@pytest.mark.rule("approval.client_tool", "command.same")
async def test_a_call_is_asked_over_one_wire_and_answered_over_another() -> None:
    settings = Settings.model_validate({"engine": "memory", "port": 0})
    async with (
        running(settings, Registry(Guide(LOOK, WHERE).agent)) as server,
        client(server.url) as one,
        reading_after_create(one) as reader,
    ):
        send = {"type": "send", "id": "c1", "text": "where?", "tools": [PLACE]}
        assert (await one.post("/s/commands", **send))[0] == 202
        asked = await until(reader, "approval.requested")
        assert (asked["wants"], asked["tool"], asked["call_id"]) == ("result", "place", "c1")
        await until(reader, "run.interrupted")
        (shown,) = (await one.snapshot())["approvals"]
        assert shown["wants"] == "result"

        approve = {"approval_id": asked["approval_id"], "decision": "approve"}
        refused = await one.post("/s/commands", type="continue", id="c2", decisions=[approve])
        assert (refused[0], refused[1]["code"]) == (422, "command_malformed")
        answer = approve | {"decision": "answer"}
        refused = await one.post("/s/commands", type="continue", id="c2", decisions=[answer])
        assert "`result` goes with `answer`" in refused[1]["detail"]

        async with one.http.ws_connect("/v1/ws") as socket:
            assert (await socket.receive_json())["type"] == "hello"
            command = {"type": "continue", "id": "c2", "session_id": "s"}
            decided = [answer | {"result": {"city": "Ulm"}}]
            await socket.send_json(command | {"decisions": decided})
            assert (await socket.receive_json())["type"] == "ack"
            await socket.send_json(command | {"id": "c3", "decisions": decided})
            nack = await socket.receive_json()
            assert nack["error"]["code"] == "approval_resolved"
            assert "c2" in nack["error"]["message"]
        resolved = await until(reader, "approval.resolved")
        assert (resolved["decision"], resolved["result"]) == ("answered", {"city": "Ulm"})
        resumed = await until(reader, "run.resumed")
        assert resumed["decisions"] == [{"approval_id": asked["approval_id"], "decision": "answer"}]
        assert (await until(reader, "tool.completed"))["result"] == {"city": "Ulm"}
        assert (await until(reader, "run.completed"))["output"] == 'So: trees, {"city":"Ulm"}.'


@asynccontextmanager
async def reading_after_create(one: Client) -> AsyncIterator[Reader]:
    assert (await one.post("", session_id="s"))[0] == 201
    async with reading(one.http) as reader:
        yield reader


@pytest.mark.rule("approval.client_tool", "resume.exact")
async def test_a_server_that_is_killed_while_a_client_works_takes_the_result_afterwards(
    tmp_path: Path,
) -> None:
    target = ["tests.sessions.guide:registry"]
    async with running_server(tmp_path, target, {"PYTHONPATH": str(ROOT)}) as server:
        async with client(server.url) as one, reading_after_create(one) as reader:
            send = {"type": "send", "id": "c1", "text": "where?", "tools": [PLACE]}
            await one.post("/s/commands", **send)
            asked = await until(reader, "approval.requested")
            last = await until(reader, "run.interrupted")
            before = await one.snapshot()
            await server.kill()
        await server.start()
        async with client(server.url) as one, reading(one.http, last["cursor"]) as reader:
            assert await one.snapshot() == before
            given = {"approval_id": asked["approval_id"], "decision": "answer", "result": "Ulm"}
            status, _ = await one.post("/s/commands", type="continue", id="c2", decisions=[given])
            assert status == 202
            assert (await until(reader, "run.completed"))["output"] == "So: trees, Ulm."


async def test_what_a_history_must_not_hold_is_named() -> None:
    settings = Settings.model_validate({"engine": "memory", "port": 0})
    async with running(settings, Registry(Guide().agent)) as server, client(server.url) as one:
        told = [{"role": "system", "content": "Be brief."}]
        status, problem = await one.post("", session_id="s", history=told)
        assert (status, problem["code"]) == (422, "command_malformed")
        assert (
            "message 1: a history has no system messages; give `instructions`"
            in (problem["detail"])
        )
