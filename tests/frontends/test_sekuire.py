"""`/chat/stream`, as GET and as POST, on a server as users start it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast
from urllib.parse import quote, quote_plus

import orjson
import pytest
import requests
import sseclient

from runtime.agent import Agent
from runtime.events import ApprovalRequested, InputAccepted, RunInterrupted
from runtime.models.scripted import ScriptedModel, say
from tests.frontends.serving import Endless, Staged, ask, begin, serving, without_ids
from tests.support.puppet import Part, Puppet
from tests.support.raw import raw

GOLDEN = b'data: {"chunk":"Once"}\n\ndata: {"chunk":" upon"}\n\ndata: [DONE]\n\n'


def teller(name: str = "assistant", text: str = "Once upon") -> Agent:
    return Agent(name, ScriptedModel(lambda request: say(text)))


@pytest.mark.rows("K7", "K9", "K10", "K11", "K21")
@pytest.mark.parametrize("body", [None, {"message": "Hello"}])
async def test_the_documented_request_is_answered_to_the_byte(
    body: dict[str, str] | None,
) -> None:
    async with serving(teller()) as place:
        path = "/chat/stream?message=Hello" if body is None else "/chat/stream"
        answer, stream = await ask(place, path, body)
    frames, ids = without_ids(stream)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["connection"] == "keep-alive"
    assert frames == GOLDEN
    assert len(ids) == 4


@pytest.mark.rows("K7")
@pytest.mark.parametrize("message", ["a b+c", "Grüße 中 \U0001f600", "a&b=c?#%", "line\nbreak"])
async def test_any_message_arrives_as_it_was_meant(message: str) -> None:
    async with serving(teller()) as place:
        for encoded in (quote(message), quote_plus(message)):
            await ask(place, f"/chat/stream?message={encoded}")
        said = [(await place.log(session_id))[1] for session_id in await place.sessions()]
    assert [event.message.content for event in said if isinstance(event, InputAccepted)] == [
        message,
        message,
    ]


@pytest.mark.rows("K8", "W-K3")
@pytest.mark.parametrize(
    "query",
    [
        "",
        "?message=",
        "?message=%20+",
        "?agent=assistant",
        "?message=x&temperature=9",
        "?message=x&temperature=warm",
        "?message=x&max_tokens=0",
        "?message=x&max_tokens=1.5",
        "?message=x&stop_sequences=",
        "?message=x&session_id=",
        "?message=x&id=",
    ],
)
async def test_what_cannot_be_taken_gets_422_before_any_byte_of_a_stream(query: str) -> None:
    async with serving(teller()) as place:
        answer, text = await ask(place, f"/chat/stream{query}")
        assert await place.sessions() == [], "a refused request leaves nothing behind"
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/json"
    assert set(orjson.loads(text)) == {"error", "code"}


async def test_an_empty_message_makes_no_session() -> None:
    async with serving(teller()) as place:
        await ask(place, "/chat/stream?message=%20+")
        await ask(place, "/chat/stream", {"message": "\n"})
        assert await place.sessions() == []


@pytest.mark.rows("K8")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"{}", "message"),
        (b'{"message":""}', "empty"),
        (b'{"message":"x","options":[]}', "options"),
        (b'{"message":"x","options":{"warmth":1}}', "warmth"),
        (b'{"message":"x","warmth":1}', "warmth"),
        (b'{"message":"x","maxTokens":-1}', "max_tokens"),
    ],
)
async def test_a_body_that_cannot_be_taken_gets_422_that_names_what_is_wrong(
    body: bytes, words: str
) -> None:
    async with serving(teller()) as place:
        answer, text = await ask(place, "/chat/stream", body)
        assert await place.sessions() == [], "a refused request leaves nothing behind"
    assert answer.status == 422
    assert words in orjson.loads(text)["error"]


CHOSEN = {"temperature": 0.5, "max_tokens": 5, "stop_sequences": ["\n\n", "END"]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "?message=x&temperature=0.5&max_tokens=5&stop_sequences=%0A%0A&stop_sequences=END",
            None,
        ),
        ("?message=x&temperature=0.5&maxTokens=5&stopSequences=%0A%0A&stopSequences=END", None),
        ("", {"message": "x", **CHOSEN}),
        ("", {"message": "x", "options": CHOSEN}),
        (
            "",
            {
                "message": "x",
                "temperature": 0.5,
                "options": {"maxTokens": 5, "stopSequences": ["\n\n", "END"]},
            },
        ),
    ],
)
async def test_options_reach_the_agent_in_both_spellings(
    path: str, body: dict[str, Any] | None
) -> None:
    stage = Staged("Hi")
    stage.let(0)
    async with serving(stage.puppet) as place:
        answer, _ = await ask(place, f"/chat/stream{path}", body)
        (session_id,) = await place.sessions()
        said = (await place.log(session_id))[1]
    assert answer.status == 200
    options = stage.puppet.played[0].request.options
    assert options.model_dump(mode="json") == CHOSEN
    assert isinstance(said, InputAccepted)
    assert orjson.dumps(said.options, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        CHOSEN, option=orjson.OPT_SORT_KEYS
    )


@pytest.mark.rows("K22", "W-K3")
async def test_the_agent_is_looked_up_for_each_request() -> None:
    async with serving(teller(), teller("poet", "Roses")) as place:
        answer, stream = await ask(place, "/chat/stream?message=x&agent=poet")
        assert without_ids(stream)[0].startswith(b'data: {"chunk":"Roses"}')
        place.registry.replace(teller("poet", "Violets"))
        answer, stream = await ask(place, "/chat/stream?message=x&agent=poet")
        assert without_ids(stream)[0].startswith(b'data: {"chunk":"Violets"}')
        place.registry.remove("poet")
        count = len(await place.sessions())
        answer, text = await ask(place, "/chat/stream?message=x&agent=poet")
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/json"
        assert orjson.loads(text)["code"] == "agent_unknown"
        assert len(await place.sessions()) == count


def read_as_the_source_does(url: str) -> tuple[list[str], list[str]]:
    """Read as the source's Python client does; return the chunks, and the names of other events."""
    response = requests.get(f"{url}/chat/stream?message=Hello", stream=True, timeout=5)
    client = sseclient.SSEClient(cast("Any", response))
    chunks, names = [], []
    for event in client.events():
        if event.data == "[DONE]":
            break
        data = json.loads(event.data)
        if "chunk" in data:
            chunks.append(data["chunk"])
        else:
            names.append(event.event)
    response.close()
    return chunks, names


@pytest.mark.rows("K15", "K10", "K13")
async def test_the_python_client_of_the_source_reads_it() -> None:
    text = "a\u2028b c\n\nd [DONE] \U0001f600"
    async with serving(teller(text=text)) as place:
        chunks, names = await asyncio.to_thread(read_as_the_source_does, place.url)
    assert "".join(chunks) == text
    assert names == []
    failing = Agent("assistant", ScriptedModel([["Once", RuntimeError("secret")]]))
    async with serving(failing) as place:
        chunks, names = await asyncio.to_thread(read_as_the_source_does, place.url)
    assert (chunks, names) == (["Once"], ["error"])


@pytest.mark.rows("K13", "W-K2", "X2")
async def test_a_run_that_fails_ends_without_done_in_one_error_and_a_clean_end() -> None:
    failing = Agent("assistant", ScriptedModel([["Once", RuntimeError("secret")]]))
    async with serving(failing) as place:
        _, stream = await ask(place, "/chat/stream?message=x")
    frames, _ = without_ids(stream)
    chunk, error, end = frames.split(b"\n\n")
    assert chunk == b'data: {"chunk":"Once"}'
    assert error.startswith(b'event: error\ndata: {"error":"')
    assert b"secret" not in error
    assert end == b""


@pytest.mark.rows("K14", "W-K1", "X7")
async def test_a_live_run_is_gone_on_with_exactly_where_the_client_was() -> None:
    stage = Staged("Once", " upon", " a", " time")
    stage.let(0, 1)
    path = "/chat/stream?message=x"
    async with serving(stage.puppet) as place:
        async with raw(place.address) as client:
            answer = await begin(client, place, path)
            _, ids = without_ids(await answer.until(b" upon"))
        stage.let(2)  # nobody listens, and the run goes on
        async with raw(place.address) as client:
            back = await begin(client, place, path, Last_Event_ID=ids[-1])
            first, second = without_ids(await back.until(b'" a"'))
            assert first == b'data: {"chunk":" a"}\n\n'
            assert second[0] == ids[-1]
        async with raw(place.address) as client:
            back = await begin(client, place, path, Last_Event_ID=ids[1])
            stage.let(3)
            frames, last = without_ids(await back.whole())
        over, _ = await ask(place, path, Last_Event_ID=last[-1])
    assert frames == (
        b'data: {"chunk":" upon"}\n\n'
        b'data: {"chunk":" a"}\n\n'
        b'data: {"chunk":" time"}\n\n'
        b"data: [DONE]\n\n"
    )
    assert over.status == 204
    assert stage.runs == 1


@pytest.mark.rows("K14")
async def test_who_comes_back_after_the_first_bytes_alone_gets_all_of_the_same_run() -> None:
    stage = Staged("Once", " upon")
    path = "/chat/stream?message=x"
    async with serving(stage.puppet) as place:
        async with raw(place.address) as client:
            answer = await begin(client, place, path)
            _, ids = without_ids(await answer.until(b"\n\n"))
        stage.let(0, 1)
        _, stream = await ask(place, path, Last_Event_ID=ids[0])
        assert without_ids(stream)[0] == GOLDEN
        _, stream = await ask(place, "/chat/stream", {"message": "x"}, Last_Event_ID=ids[0])
        assert without_ids(stream)[0] == GOLDEN
    assert stage.runs == 1


@pytest.mark.rows("K14")
async def test_a_client_that_names_its_request_finds_its_run_without_any_id() -> None:
    stage = Staged("Once", " upon")
    stage.let(0, 1)
    async with serving(stage.puppet) as place:
        for _ in range(2):
            _, stream = await ask(place, "/chat/stream?message=x&id=k1")
            assert without_ids(stream)[0] == GOLDEN
        for _ in range(2):
            _, stream = await ask(place, "/chat/stream", {"message": "x"}, Idempotency_Key="k2")
            assert without_ids(stream)[0] == GOLDEN
        other, text = await ask(place, "/chat/stream?message=y&id=k1")
        assert (other.status, orjson.loads(text)["code"]) == (409, "command_conflict")
        assert len(await place.sessions()) == 2
    assert stage.runs == 2


@pytest.mark.rows("K14")
async def test_a_run_that_ended_before_others_is_over_too() -> None:
    stage = Staged("Once", " upon")
    stage.let(0, 1)
    path = "/chat/stream?session_id=story&message=x"
    async with serving(stage.puppet) as place:
        _, stream = await ask(place, path)
        _, ids = without_ids(stream)
        await ask(place, path)
        over, _ = await ask(place, path, Last_Event_ID=ids[-1])
        _, stream = await ask(place, path, Last_Event_ID=ids[1])
        no_run = ids[-1].replace(ids[-1].partition("/")[0], "story.run_never")
        never, _ = await ask(place, path, Last_Event_ID=no_run)
        assert stage.runs == 2
    assert over.status == 204
    assert without_ids(stream)[0] == b'data: {"chunk":" upon"}\n\ndata: [DONE]\n\n'
    assert never.status == 204


@pytest.mark.rows("K14")
async def test_who_comes_back_from_far_behind_gets_all_the_rest() -> None:
    pieces = [f" {number}" for number in range(1200)]
    stage = Staged(*pieces)
    stage.let(*range(1200))
    path = "/chat/stream?message=x"
    async with serving(stage.puppet) as place:
        whole, ids = without_ids((await ask(place, path))[1])
        rest, _ = without_ids((await ask(place, path, Last_Event_ID=ids[1]))[1])
    assert whole.partition(b"\n\n")[2] == rest


@pytest.mark.rows("K14")
async def test_a_run_that_waits_in_the_queue_can_be_come_back_to() -> None:
    stage = Staged("Once", " upon")
    path = "/chat/stream?session_id=story&message=x"
    async with serving(stage.puppet) as place, raw(place.address) as first:
        await begin(first, place, path)
        async with raw(place.address) as second:
            answer = await begin(second, place, path)
            _, ids = without_ids(await answer.until(b"\n\n"))
        async with raw(place.address) as second:
            back = await begin(second, place, path, Last_Event_ID=ids[0])
            stage.let(0, 1)
            assert without_ids(await back.whole())[0] == GOLDEN
    assert stage.runs == 2


async def test_ids_that_lead_nowhere_are_refused_so_that_nobody_comes_again() -> None:
    path = "/chat/stream?message=x"
    async with serving(teller()) as place:
        _, stream = await ask(place, f"{path}&session_id=story")
        _, ids = without_ids(stream)
        statuses = {}
        for event_id in (
            "x",
            "story/e1.1.00000000",
            "story.run_1",
            "story.run_1/x",
            ids[0].replace("story", "nobody"),
            ids[-1][:-8] + "00000000",
        ):
            answer, text = await ask(place, path, Last_Event_ID=event_id)
            assert set(orjson.loads(text)) == {"error", "code"}
            statuses[event_id] = answer.status
        assert list(statuses.values()) == [400, 400, 400, 400, 404, 410]
        await place.manager.delete("story")
        answer, _ = await ask(place, path, Last_Event_ID=ids[-1])
        assert answer.status == 410
        assert await place.sessions() == []


async def test_a_run_that_waits_for_a_human_says_so_and_can_be_come_back_to_once_it_goes_on() -> (
    None
):
    async def play(part: Part) -> None:
        if part.request.decisions:
            await part.begin("msg_b", turn=2)
            await part.say(" upon", "msg_b")
            await part.finish_step(" upon", message_id="msg_b", turn=2)
            await part.end("Once upon")
            return
        await part.begin()
        await part.say("Once")
        await part.finish_step("Once")
        await part.emit(ApprovalRequested(run_id=part.run_id, approval_id="apr_1", node="n"))
        await part.emit(RunInterrupted(run_id=part.run_id, reason="approval", pending=("apr_1",)))

    path = "/chat/stream?message=x&session_id=story"
    async with serving(Puppet(play, "assistant")) as place:
        _, stream = await ask(place, path)
        frames, ids = without_ids(stream)
        waiting, _ = await ask(place, path, Last_Event_ID=ids[-1])
        command = {
            "type": "continue",
            "id": "c1",
            "decisions": [{"approval_id": "apr_1", "decision": "approve"}],
        }
        async with place.http.post("/v1/sessions/story/commands", json=command) as response:
            assert response.status == 202
        _, stream = await ask(place, path, Last_Event_ID=ids[-1])
    assert frames == (
        b'data: {"chunk":"Once"}\n\nevent: error\ndata: {"error":"the run waits for a human\'s decision; '
        b"session 'story' shows it, and goes on once it is given there\"}\n\n"
    )
    assert waiting.status == 204
    assert without_ids(stream)[0] == b'data: {"chunk":" upon"}\n\ndata: [DONE]\n\n'


async def test_a_page_of_another_site_cannot_begin_a_run_by_an_image() -> None:
    async with serving(teller()) as place:
        answer, _ = await ask(place, "/chat/stream?message=x", Sec_Fetch_Site="cross-site")
        assert answer.status == 403
        assert await place.sessions() == []


async def test_a_page_of_an_allowed_site_may_read_it() -> None:
    origin = "https://app.example"
    async with serving(teller(), allowed_origins=origin) as place:
        answer, _ = await ask(
            place, "/chat/stream?message=x", Sec_Fetch_Site="cross-site", Origin=origin
        )
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == origin


@pytest.mark.rows("K14")
async def test_the_run_outlives_its_client() -> None:
    stage = Staged("Once", " upon")
    stage.let(0)
    async with serving(stage.puppet) as place:
        async with raw(place.address) as client:
            await (await begin(client, place, "/chat/stream?message=x")).until(b"Once")
        stage.let(1)
        (session_id,) = await place.sessions()
        await place.until(session_id, "run.completed")


async def test_silence_is_filled_with_comments() -> None:
    model = Endless()
    async with serving(model.agent(), keepalive_s=0.1) as place, raw(place.address) as client:
        answer = await begin(client, place, "/chat/stream?message=x")
        await answer.until(b'{"chunk":"Hel"}\n\n:\n\n:\n\n')
