"""Responses that outlive connections and servers, that are cancelled, and that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from gateway.config import Settings
from gateway.frontends.names import RunName
from gateway.frontends.openai.responses.log import Outlines
from gateway.transports.services import Services
from runtime.agent import Agent
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from tests.frontends.responses_support import (
    EVENT,
    TOOL,
    ResponsesSite,
    checked,
    client_of,
    keeper,
    mirror,
    responses_site,
)
from tests.support.chat_site import Gated, looker
from tests.support.server import running_server

BACKGROUND: Any = {"model": "gated", "input": "hi", "background": True}


async def until_said(site: ResponsesSite, response_id: str) -> None:
    """Wait until the log has the first word of the gated agent."""
    await site.until(response_id.removeprefix("resp_").partition(".")[0], "message.delta")


async def test_a_background_response_outlives_its_client_and_is_resumed_in_mid_message() -> None:
    gated = Gated()
    async with responses_site(gated.agent) as site:
        stream = await site.ai.responses.create(**BACKGROUND, stream=True)
        seen: list[Any] = []
        async for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        response_id = seen[0].response.id
        now = await site.ai.responses.retrieve(response_id)
        assert (now.status, now.output_text, now.usage) == ("in_progress", "Hello", None)
        resumed = await site.ai.responses.retrieve(
            response_id, stream=True, starting_after=seen[-1].sequence_number
        )
        gated.gate.set()
        rest: list[Any] = [event async for event in resumed]
        assert checked([*seen, *rest])[-1] == "response.completed"
        assert rest[0].delta == " again"
        assert rest[-1].response.output_text == "Hello again"
        whole = [
            event async for event in await site.ai.responses.retrieve(response_id, stream=True)
        ]
        assert whole == [*seen, *rest]
        after = await site.ai.responses.retrieve(
            response_id, stream=True, starting_after=whole[-1].sequence_number
        )
        assert [event async for event in after] == []
        async with site.ai.responses.stream(response_id=response_id, starting_after=4) as helper:
            assert [e.sequence_number async for e in helper] == list(range(5, len(whole)))
            assert (await helper.get_final_response()).output_text == "Hello again"


async def test_a_background_response_is_there_at_once() -> None:
    gated = Gated()
    async with responses_site(gated.agent) as site:
        response = await site.ai.responses.create(**BACKGROUND)
        assert response.status == "in_progress"
        gated.gate.set()
        stream = await site.ai.responses.retrieve(response.id, stream=True)
        assert checked([event async for event in stream])[-1] == "response.completed"
        assert (await site.ai.responses.retrieve(response.id)).status == "completed"


async def test_any_other_response_ends_with_its_client() -> None:
    gated = Gated()
    async with responses_site(gated.agent) as site:
        stream = await site.ai.responses.create(model="gated", input="hi", stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        session = await site.only_session()
        assert (await site.until(session, "run.cancelled"))["reason"] == "disconnect"
        gated.begun.clear()
        asking = asyncio.create_task(site.ai.responses.create(model="gated", input="hi"))
        await gated.begun.wait()
        asking.cancel()
        latest = (await site.sessions())[0]["session_id"]
        assert latest != session
        assert (await site.until(latest, "run.cancelled"))["reason"] == "disconnect"


async def test_a_response_under_a_key_outlives_its_client() -> None:
    gated = Gated()
    async with responses_site(gated.agent) as site:
        asked: Any = {"model": "gated", "input": "hi"}
        for number, stream in enumerate((True, False)):
            gated.gate.clear()
            gated.begun.clear()
            asked["extra_headers"] = {"Idempotency-Key": f"key-{number}"}
            asking = asyncio.create_task(site.ai.responses.create(**asked, stream=stream))
            await gated.begun.wait()
            if stream:
                opened: Any = await asking
                await opened.close()
            else:
                asking.cancel()
            again = await site.ai.responses.create(**asked, stream=True)
            gated.gate.set()
            assert checked([event async for event in again])[-1] == "response.completed"


async def test_a_response_is_cancelled_once_and_keeps_what_was_said() -> None:
    gated = Gated()
    async with responses_site(gated.agent) as site:
        stream = await site.ai.responses.create(**BACKGROUND, stream=True)
        first: Any = await anext(stream)
        await until_said(site, first.response.id)
        cancelled = await site.ai.responses.cancel(first.response.id)
        assert (cancelled.status, cancelled.output_text) == ("cancelled", "Hello")
        events: list[Any] = [first, *[event async for event in stream]]
        assert checked(events)[-1] == "response.incomplete"
        assert events[-1].response.status == "cancelled"
        again = await site.ai.responses.cancel(first.response.id)
        assert again.to_dict() == cancelled.to_dict()
        gated.gate.set()
        done = await site.ai.responses.create(
            model="gated", input="go on", previous_response_id=cancelled.id
        )
        assert (await site.ai.responses.cancel(done.id)).status == "completed"
        with pytest.raises(openai.NotFoundError):
            await site.ai.responses.cancel("resp_a.b")


async def test_cancelling_what_waits_for_an_answer_frees_its_conversation() -> None:
    async with responses_site(keeper()) as site:
        waiting = await site.ai.responses.create(model="keeper", input="go")
        assert (await site.ai.responses.cancel(waiting.id)).status == "completed"
        following = await site.ai.responses.create(
            model="keeper", input="again", previous_response_id=waiting.id
        )
        assert following.output[0].type == "mcp_approval_request"


async def test_cancelling_a_response_that_the_run_has_gone_on_from_does_nothing() -> None:
    gate = asyncio.Event()

    def answer(request: ModelRequest) -> Iterable[Cue]:
        if request.messages[-1].role == "tool":
            return [gate, *say("Done.")]
        return call_tools(ToolCall(id="call_1", name="look", arguments="{}"))

    async with responses_site(Agent("late", ScriptedModel(answer))) as site:
        first = await site.ai.responses.create(model="late", input="go", tools=[TOOL])
        call: Any = first.output[0]
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "x"}
        second = await site.ai.responses.create(
            model="late", previous_response_id=first.id, input=[output], background=True
        )
        assert (await site.ai.responses.cancel(first.id)).status == "completed"
        gate.set()
        stream = await site.ai.responses.retrieve(second.id, stream=True)
        assert checked([event async for event in stream])[-1] == "response.completed"


async def test_a_response_waits_for_the_one_before_it() -> None:
    gated = Gated()
    async with responses_site(gated.agent) as site:
        first = await site.ai.responses.create(**BACKGROUND)
        second = await site.ai.responses.create(**BACKGROUND, previous_response_id=first.id)
        assert second.status == "queued"
        stream = await site.ai.responses.retrieve(second.id, stream=True)
        seen = [await anext(stream), await anext(stream)]
        assert [event.type for event in seen] == ["response.created", "response.queued"]
        third = await site.ai.responses.create(**BACKGROUND, previous_response_id=second.id)
        cancelled = await site.ai.responses.cancel(third.id)
        assert (cancelled.status, cancelled.output) == ("cancelled", [])
        gated.gate.set()
        seen += [event async for event in stream]
        assert checked(seen)[2] == "response.in_progress"
        done = await site.ai.responses.retrieve(second.id)
        assert (done.status, done.previous_response_id) == ("completed", first.id)


async def test_a_response_may_wait_for_one_that_waits_itself() -> None:
    async with responses_site(keeper()) as site:
        await site.ai.responses.create(model="keeper", input="go")
        session = await site.only_session()
        body = {"type": "send", "id": "c1", "text": "and then"}
        async with site.http.post(f"/v1/sessions/{session}/commands", json=body) as queued:
            run_id = (await queued.json())["run_id"]
        third = await site.ai.responses.create(
            model="keeper",
            input="after that",
            previous_response_id=f"resp_{session}.{run_id}",
            background=True,
        )
        assert third.status == "queued"
        assert third.previous_response_id == f"resp_{session}.{run_id}"


async def test_every_run_of_every_session_is_a_response() -> None:
    async with responses_site(mirror()) as site:
        async with site.http.post("/v1/sessions", json={"session_id": "mine"}) as made:
            assert made.status == 201
        runs = []
        for text in ("one", "two"):
            body = {"text": text}
            async with site.http.post("/v1/sessions/mine/messages", json=body) as answered:
                runs.append((await answered.json())["run_id"])
        first = await site.ai.responses.retrieve(f"resp_mine.{runs[0]}")
        assert (first.status, first.output_text) == ("completed", "user: one")
        second = await site.ai.responses.retrieve(f"resp_mine.{runs[1]}")
        assert second.previous_response_id == first.id
        third = await site.ai.responses.create(
            model="mirror", input="three", previous_response_id=second.id
        )
        assert third.output_text.endswith("user: three")
        assert third.id.startswith("resp_mine.")
        stream = await site.ai.responses.retrieve(first.id, stream=True)
        assert checked([event async for event in stream])[-1] == "response.completed"
        async with site.http.delete("/v1/sessions/mine") as gone:
            assert gone.status == 204
        with pytest.raises(openai.NotFoundError):
            await site.ai.responses.retrieve(first.id)


async def test_many_who_ask_at_once_get_the_same(tmp_path: Path) -> None:
    async with responses_site(keeper(), engine="sqlite", data=tmp_path) as site:
        async with site.http.post("/v1/sessions", json={"session_id": "mine"}) as made:
            assert made.status == 201
        async with site.http.post("/v1/sessions/mine/messages", json={"text": "go"}) as asked:
            run_id = (await asked.json())["run_id"]
        async with site.http.get("/v1/sessions/mine") as got:
            (approval,) = (await got.json())["approvals"]
        decision = {"approval_id": approval["approval_id"], "decision": "approve"}
        body = {"type": "continue", "id": "c1", "decisions": [decision]}
        async with site.http.post("/v1/sessions/mine/commands", json=body) as answered:
            assert answered.status == 202
        await site.until("mine", "run.completed")
    async with responses_site(keeper(), engine="sqlite", data=tmp_path) as site:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(site.ai.responses.retrieve(f"resp_mine.{run_id}.1"))
                for _ in range(10)
            ]
        assert {task.result().output_text for task in tasks} == {"Told: t is gone"}
        with pytest.raises(openai.NotFoundError):
            await site.ai.responses.retrieve(f"resp_mine.{run_id}.2")
        outlines = Outlines(Services(site.manager, Settings()))
        second = await outlines.locate(RunName("mine", run_id, 1))
        before = (await outlines.whole(second, before=True)).state
        assert (before.segment, before.phase, len(before.answers)) == (0, "over", 1)


async def test_tools_and_their_results_are_shared_with_native_clients() -> None:
    async with responses_site(looker()) as site:
        first = await site.ai.responses.create(model="looker", input="sea sky", tools=[TOOL])
        session = await site.only_session()
        async with site.http.get(f"/v1/sessions/{session}") as got:
            sea, sky = (await got.json())["approvals"]
        decision = {"approval_id": sea["approval_id"], "decision": "answer", "result": "wet"}
        body = {"type": "continue", "id": "c1", "decisions": [decision]}
        async with site.http.post(f"/v1/sessions/{session}/commands", json=body) as answered:
            assert answered.status == 202
        call: Any = first.output[2]
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "blue"}
        second = await site.ai.responses.create(
            model="looker", previous_response_id=first.id, input=[output]
        )
        assert sky["call_id"] != call.call_id  # of the model's own ids, clients here see none
        assert second.output_text == "I saw wet and blue."
        listed = await site.ai.responses.input_items.list(second.id, order="asc")
        assert [getattr(item, "output", None) for item in listed.data] == ["wet", "blue"]


async def test_a_response_outlives_servers_that_stop_and_that_are_killed(tmp_path: Path) -> None:
    words = " ".join(f"w{number}" for number in range(70))  # long enough to be cut off twice
    seen: list[Any] = []
    at_once = {"TIDEGATE_DRAIN_RUNS_S": "0"}
    async with (
        running_server(tmp_path, environment=at_once) as server,
        client_of(server.url) as ai,
    ):
        stream = await ai.responses.create(model="echo", input=words, background=True, stream=True)
        await _take(stream, seen, 8)
        waiting = asyncio.create_task(ai.responses.create(model="echo", input=words))
        async with aiohttp.ClientSession(server.url) as http:
            await _until_sessions(http, 2)
        assert await server.stop() == 0
        with pytest.raises(openai.InternalServerError, match=r"response 'resp_.*' goes on") as told:
            await waiting
        assert told.value.response.headers["x-should-retry"] == "false"
        with pytest.raises(openai.APIError, match="restarting"):
            await _take(stream, seen, 1000)
        await server.restart()
        response_id = seen[0].response.id
        stream = await ai.responses.retrieve(
            response_id, stream=True, starting_after=seen[-1].sequence_number
        )
        await _take(stream, seen, len(seen) + 20)
        await server.kill()
        await server.restart()
        stream = await ai.responses.retrieve(
            response_id, stream=True, starting_after=seen[-1].sequence_number
        )
        seen += [event async for event in stream]
        assert checked(seen)[-1] == "response.completed"
        assert seen[-1].response.output_text == words
        assert len([e for e in seen if e.type == "response.output_item.added"]) == 3
        again = await ai.responses.retrieve(response_id)
        assert again.to_dict() == seen[-1].response.to_dict()
        EVENT.validate_python(seen[-1].model_dump(exclude_unset=True, by_alias=True))


async def _until_sessions(http: aiohttp.ClientSession, number: int) -> None:
    """Wait until there are so many sessions whose runs have begun."""
    while True:
        async with http.get("/v1/sessions") as listed:
            sessions = (await listed.json())["sessions"]
        if [session["status"] for session in sessions] == ["running"] * number:
            return
        await asyncio.sleep(0.02)  # another process does it; there is nothing to wait on


async def _take(stream: Any, seen: list[Any], number: int) -> None:
    """Read until there are so many events."""
    async for event in stream:
        seen.append(event)
        if len(seen) == number:
            return


async def test_a_long_silence_is_filled_with_comments() -> None:
    model = ScriptedModel(lambda request: say("one two", seconds_per_word=0.3))
    async with responses_site(Agent("slow", model), keepalive_s=0.1) as site:
        body = {"model": "slow", "input": "x", "stream": True}
        async with site.http.post("/v1/responses", json=body) as response:
            assert response.headers["X-Accel-Buffering"] == "no"
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            raw = await response.read()
        assert raw.startswith(b":\n\nevent: response.created\ndata: {")
        assert raw.count(b"\n\n:\n\n") >= 1
        assert raw.endswith(b"\n\n")
