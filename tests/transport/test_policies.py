"""Policies and the queue over the wire: the same words over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from gateway.log.position import Position
from tests.support.site import Site, running_site

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    async with running_site() as running:
        yield running


async def until_queued(site: Site, session_id: str, count: int) -> list[dict[str, Any]]:
    """Return the queue of the snapshot, once so many wait."""
    async with asyncio.timeout(30):
        while True:
            async with site.http.get(f"/v1/sessions/{session_id}") as response:
                snapshot = await response.json()
            if len(snapshot["queue"]) == count:
                return list(snapshot["queue"])
            await site.engine.wait(session_id, Position.parse(snapshot["cursor"]))


@pytest.mark.rule("send.steer")
@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
async def test_whoever_steers_gets_the_answer_of_the_run_that_took_it(
    site: Site, media_type: str
) -> None:
    talk = await site.talk()

    async def say() -> str:
        path = f"/v1/sessions/{talk.session_id}/messages"
        body = {"id": "steer", "text": "in English", "policy": "steer"}
        async with site.http.post(path, json=body, headers={"Accept": media_type}) as response:
            assert response.status == 200
            return await response.text()

    saying = asyncio.create_task(say())
    (waiting,) = await until_queued(site, talk.session_id, 1)
    assert (waiting["policy"], waiting["position"]) == ("steer", 1)
    steered = site.parts[-1].request.steered
    assert steered is not None
    assert [message.content for message in await steered()] == ["in English"]
    assert await steered() == ()
    await talk.end("Yes.")
    answers = [orjson.loads(line) for line in (await saying).splitlines() if line.strip()]
    assert answers[-1]["run_id"] == talk.run_id
    assert answers[-1]["output"] == "Yes."
    if media_type != "application/json":
        types = [answer["type"] for answer in answers if "seq" in answer]
        assert types == ["input.dequeued", "input.steered", "run.completed"]
    # Asked again under its id, it is the same answer, although nothing waits any more.
    assert orjson.loads((await say()).splitlines()[-1])["run_id"] == talk.run_id


@pytest.mark.rule("queue.edit", "command.same")
@pytest.mark.parametrize("over", ["http", "websocket"])
async def test_the_queue_is_edited_and_refused_with_the_same_words(site: Site, over: str) -> None:
    talk = await site.talk()
    runs = [
        (await site.command(talk.session_id, "send", text=text))["run_id"] for text in ("a", "b")
    ]

    async def edit(command_id: str, **fields: Any) -> dict[str, Any]:
        command = {"type": "edit_queue", "id": command_id, **fields}
        if over == "http":
            path = f"/v1/sessions/{talk.session_id}/commands"
            async with site.http.post(path, json=command) as response:
                answer: dict[str, Any] = await response.json()
                return answer
        async with site.http.ws_connect("/v1/ws") as socket:
            await socket.receive_json()
            await socket.send_json({**command, "session_id": talk.session_id})
            said = await socket.receive_json()
            return {**said, **said.get("error", {})}

    assert (await edit("e1", order=runs[1:]))["type"] == "ack"
    assert [item["run_id"] for item in await until_queued(site, talk.session_id, 2)] == runs[::-1]
    assert (await edit("e2", drop=runs[:1]))["type"] == "ack"
    await until_queued(site, talk.session_id, 1)
    assert (await edit("e3", drop=runs[:1]))["code"] == "not_queued"
    assert (await edit("e4", drop=["run_of_nobody"]))["code"] == "run_unknown"
    assert (await edit("e5", drop=runs[1:], first=1))["code"] == "command_malformed"
    await until_queued(site, talk.session_id, 1)
