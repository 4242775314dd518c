"""`POST /chat` and its alias for an `EventSource`, on a server as users start it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from runtime.agent import Agent
from runtime.events import ApprovalRequested, RunCancelled, RunInterrupted
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.tools import tool
from tests.frontends.serving import Endless, Staged, ask, begin, serving, without_ids
from tests.support.puppet import Part, Puppet
from tests.support.raw import raw
from tests.support.waiting import proven_blocked

ASKED = {"message": "What is the weather in NYC?"}
PATH = "/chat?message=What+is%20the%20weather+in%20NYC%3F"


@tool
async def get_weather(city: str) -> str:
    """Get the current weather for a city."""
    return f"72°F and sunny in {city}"


def weather() -> Agent:
    call = ToolCall(id="call_1", name="get_weather", arguments='{"city":"NYC"}')

    def script(request: ModelRequest) -> tuple[Cue, ...]:
        return say("72°F now") if request.messages[-1].role == "tool" else call_tools(call)

    return Agent("assistant", ScriptedModel(script), tools=(get_weather,))


GOLDEN = (
    "event: tool_start\n"
    'data: {"name":"get_weather","id":"call_1"}\n'
    "\n"
    "event: tool_done\n"
    'data: {"id":"call_1","name":"get_weather"}\n'
    "\n"
    "event: done\n"
    'data: {"usage":{"promptTokens":6,"completionTokens":0,"totalTokens":6},'
    '"finishReason":"tool_calls"}\n'
    "\n"
    "event: content\n"
    'data: {"text":"72°F"}\n'
    "\n"
    "event: content\n"
    'data: {"text":" now"}\n'
    "\n"
    "event: done\n"
    'data: {"usage":{"promptTokens":11,"completionTokens":2,"totalTokens":13},'
    '"finishReason":"stop"}\n'
    "\n"
).encode()


@pytest.mark.rows("S22", "S23", "S24", "S25", "S26", "S28", "S29", "A34")
async def test_the_documented_request_is_answered_to_the_byte() -> None:
    async with serving(weather()) as place:
        answer, body = await ask(place, "/chat", ASKED)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["connection"] == "keep-alive"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in answer.headers
    assert body == b":\n\n" + GOLDEN


@pytest.mark.rows("S30")
async def test_the_alias_for_an_event_source_has_the_same_frames_with_ids() -> None:
    async with serving(weather()) as place:
        answer, body = await ask(place, PATH)
        frames, ids = without_ids(body)
        (session_id,) = await place.sessions()
        said = (await place.log(session_id))[1]
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert frames == GOLDEN
    assert len(ids) == 7
    assert said.type == "input.accepted"
    assert said.message.content == ASKED["message"]


@pytest.mark.rows("S27")
async def test_pieces_of_arguments_are_told_to_those_who_ask() -> None:
    async with serving(weather()) as place:
        _, body = await ask(place, "/chat?deltas=1", ASKED)
        _, by_get = await ask(place, "/chat?deltas=1&message=x")
    told = [orjson.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ")]
    assert "".join(data.get("arguments", "") for data in told) == '{"city":"NYC"}'
    assert b"event: tool_delta" in by_get


@pytest.mark.rows("S22")
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b"{}",
        b'{"message":""}',
        b'{"message":" \\n"}',
        b'{"message":1}',
        b'{"message":null}',
        b'{"message":"x","session_id":""}',
        b'{"message":"x","options":{"warmth":1}}',
        b'{"message":"x","options":{"temperature":9}}',
    ],
)
async def test_what_cannot_be_read_gets_400_before_any_byte_of_a_stream(body: bytes) -> None:
    async with serving(weather()) as place:
        answer, text = await ask(place, "/chat", body)
        assert await place.sessions() == [], "a refused request leaves nothing behind"
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    assert set(orjson.loads(text)) == {"message", "code"}


async def test_other_refusals_keep_their_status() -> None:
    async with serving(weather()) as place:
        unknown, text = await ask(place, "/chat", {**ASKED, "agent": "nobody"})
        no_json, _ = await ask(place, "/chat", ASKED, Content_Type="text/plain")
        large, _ = await ask(place, "/chat", {"message": "x" * 300_000})
        by_get, _ = await ask(place, "/chat")
        assert await place.sessions() == []
    assert [unknown.status, no_json.status, large.status, by_get.status] == [404, 415, 413, 400]
    assert orjson.loads(text)["code"] == "agent_unknown"


async def test_a_session_is_gone_on_with_and_a_key_is_taken_once() -> None:
    stage = Staged("Hi")
    stage.let(0)
    async with serving(stage.puppet) as place:
        first, body = await ask(place, "/chat", ASKED, Idempotency_Key="k1")
        again, same = await ask(place, "/chat", ASKED, Idempotency_Key="k1")
        by_get, _ = await ask(place, "/chat?message=x&id=k2")
        assert (first.status, again.status, by_get.status) == (200, 200, 200)
        assert body == same
        assert stage.runs == 2
        too_long, _ = await ask(place, "/chat", ASKED, Idempotency_Key="k" * 129)
        assert too_long.status == 400
        await ask(place, "/chat", {**ASKED, "session_id": "with blanks"})
        await ask(place, "/chat", {**ASKED, "session_id": "with blanks"})
        assert len(stage.puppet.played[-1].request.history) == 3
        assert len(await place.sessions()) == 3


@pytest.mark.rows("S41", "X3")
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_that_goes_away_stops_the_model_with_no_token_in_flight(
    method: str,
) -> None:
    model = Endless()
    path, body = ("/chat", ASKED) if method == "POST" else ("/chat?message=hi", None)
    async with serving(model.agent()) as place:
        async with raw(place.address) as client:
            answer = await begin(client, place, path, body)
            await answer.until(b'{"text":"Hel"}')
            assert not model.stopped.is_set()
        async with asyncio.timeout(10):  # and not only when a comment is due
            await model.stopped.wait()
        (session_id,) = await place.sessions()
        ended = await place.until(session_id, "run.cancelled")
    assert isinstance(ended, RunCancelled)
    assert ended.reason == "disconnect"


@pytest.mark.rows("S41")
async def test_a_client_that_goes_away_before_the_answer_begins_stops_the_model_too() -> None:
    model = Endless()
    async with serving(model.agent()) as place:
        async with raw(place.address) as client:
            client.ask("/chat?message=hi", Host="127.0.0.1")
            await client.writer.drain()
            client.writer.transport.abort()
        async with asyncio.timeout(30):
            while not await place.sessions():  # noqa: ASYNC110 - nothing tells of a new session
                await asyncio.sleep(0)
        (session_id,) = await place.sessions()
        ended = await place.until(session_id, "run.cancelled")
    assert isinstance(ended, RunCancelled)
    assert ended.reason == "disconnect"


async def test_a_client_that_is_back_before_its_old_connection_is_given_up_keeps_the_run() -> None:
    stage = Staged("Hel", "lo", "!")
    stage.let(0)
    async with serving(stage.puppet) as place, raw(place.address) as second:
        async with raw(place.address) as first:
            answer = await begin(first, place, "/chat?message=hi")
            _, ids = without_ids(await answer.until(b'{"text":"Hel"}'))
            back = await begin(second, place, "/chat?message=hi", Last_Event_ID=ids[-1])
            stage.let(1)
            await answer.until(b'{"text":"lo"}')
        await back.until(b'{"text":"lo"}')
        stage.let(2)
        body = await back.whole()
        assert stage.runs == 1
    assert b'{"text":"Hel"}' not in body
    assert b'{"text":"!"}' in body
    assert b"event: error" not in body


async def test_who_comes_back_to_a_run_that_was_cancelled_is_told_so_once() -> None:
    model = Endless()
    async with serving(model.agent()) as place:
        async with raw(place.address) as client:
            answer = await begin(client, place, "/chat?message=hi")
            _, ids = without_ids(await answer.until(b'{"text":"Hel"}'))
        async with asyncio.timeout(10):  # and not only when a comment is due
            await model.stopped.wait()
        (session_id,) = await place.sessions()
        await place.until(session_id, "run.cancelled")
        back, body = await ask(place, "/chat?message=hi", Last_Event_ID=ids[-1])
        rest, ids = without_ids(body)
        over, nothing = await ask(place, "/chat?message=hi", Last_Event_ID=ids[-1])
        by_query, _ = await ask(place, f"/chat?message=hi&last_event_id={ids[-1]}")
    assert back.status == 200
    assert rest.decode() == (
        'event: error\ndata: {"message":"the run was cancelled: disconnect","code":"cancelled"}\n\n'
    )
    assert (over.status, nothing, by_query.status) == (204, b"", 204)
    assert model.calls == 1


@pytest.mark.rows("S30", "X7")
async def test_who_has_all_that_was_said_of_a_finished_run_gets_204_and_others_the_rest() -> None:
    async with serving(weather()) as place:
        _, stream = await ask(place, PATH)
        _, ids = without_ids(stream)
        over, _ = await ask(place, PATH, Last_Event_ID=ids[-1])
        _, stream = await ask(place, PATH, Last_Event_ID=ids[4])
        for event_id, status in (("x", 400), (ids[0].replace("ses_", "nobody_"), 404)):
            refused, text = await ask(place, PATH, Last_Event_ID=event_id)
            assert refused.status == status
            assert set(orjson.loads(text)) == {"message", "code"}
        assert len(await place.sessions()) == 1
    assert over.status == 204
    frames, _ = without_ids(stream)
    assert GOLDEN.endswith(frames)
    assert frames.startswith(b'event: content\ndata: {"text":" now"}\n')


@pytest.mark.rows("X2")
async def test_a_run_that_fails_in_mid_stream_ends_in_one_error_and_a_clean_end() -> None:
    model = ScriptedModel([["Hel", RuntimeError("secret")]])
    async with serving(Agent("assistant", model)) as place:
        answer, body = await ask(place, "/chat", ASKED)
    assert answer.status == 200
    assert body.count(b"event: error\n") == 1
    assert b"secret" not in body
    last = body.rstrip(b"\n").rpartition(b"\n\n")[2]
    assert last.startswith(b"event: error\ndata: ")


async def test_a_page_of_another_site_cannot_begin_a_run_by_an_image() -> None:
    async with serving(weather()) as place:
        for site in ("cross-site", "same-site"):
            answer, text = await ask(place, "/chat?message=x", Sec_Fetch_Site=site)
            assert answer.status == 403
            assert orjson.loads(text)["code"] == "not_permitted"
        own, _ = await ask(place, "/chat?message=x", Sec_Fetch_Site="same-origin")
        assert own.status == 200
        assert len(await place.sessions()) == 1


async def test_a_server_that_stops_says_so_and_cancels_nothing(tmp_path: Path) -> None:
    model, again = Endless(), Endless([])
    async with AsyncExitStack() as connections:
        settings = {"engine": "sqlite", "data": tmp_path, "drain_runs_s": 0}
        async with serving(model.agent(), **settings) as place:
            client = await connections.enter_async_context(raw(place.address))
            answer = await begin(client, place, "/chat", ASKED)
            await answer.until(b'{"text":"Hel"}')
            (session_id,) = await place.sessions()
            reading = asyncio.create_task(answer.whole())
            await proven_blocked(reading)
        body = await reading
    async with serving(again.agent(), **settings) as place:
        await place.until(session_id, "run.attempt_started")
        assert "run.cancelled" not in {event.type for event in await place.log(session_id)}
    assert body.endswith(
        b"event: error\n"
        b'data: {"message":"the server cannot go on with this answer","code":"shutdown"}\n\n'
    )


async def test_a_run_that_waits_for_a_human_outlives_its_connection() -> None:
    async def play(part: Part) -> None:
        await part.emit(ApprovalRequested(run_id=part.run_id, approval_id="apr_1", node="n"))
        await part.emit(RunInterrupted(run_id=part.run_id, reason="r", pending=("apr_1",)))

    async with serving(Puppet(play, "assistant")) as place:
        _, body = await ask(place, "/chat", {**ASKED, "session_id": "s"})
        assert (await place.manager.run("s")).status == "interrupted"
    assert body.endswith(
        b"data: {\"message\":\"the run waits for a human's decision; session 's' shows it, and goes on "
        b'once it is given there","code":"approval_required"}\n\n'
    )
