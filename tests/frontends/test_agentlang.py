"""`POST /{module}/{event}`: a plain answer, or all on the way to it, on a server as users start it."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import Any

import orjson
import pytest

from gateway.codecs.sources.agentlang import AgentlangCodec
from gateway.transports.negotiate import names
from runtime.agent import Agent
from runtime.environment import Environment, FunctionEmitter
from runtime.events import (
    ApprovalRequested,
    ErrorInfo,
    InputAccepted,
    RunCancelled,
    RunFailed,
    RunInterrupted,
)
from runtime.graph import END, Graph, Key, View
from runtime.graph.compiled import CompiledGraph
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.scope import emit
from runtime.tools import tool
from tests.frontends.serving import Endless, Place, Staged, ask, begin, serving
from tests.support.puppet import Part, Puppet
from tests.support.raw import raw
from tests.support.waiting import quickest

STREAM = "text/event-stream"
ASKED = {"message": "make tea"}
TEXT, PLAN = Key("text", ""), Key("plan", "")


def flow(planner: ScriptedModel, writer: ScriptedModel) -> CompiledGraph:
    def ask_for(view: View) -> str:
        return view.get(PLAN)

    graph = Graph(TEXT, PLAN, name="flow")
    graph.node("plan", Agent("planner", planner), "write", kind="flow_step", ask=ask_for, into=PLAN)
    graph.node("write", Agent("writer", writer), END, kind="flow_step", ask=ask_for, into=TEXT)
    return graph.start("plan").build(input=lambda history: {PLAN.name: history[-1].content})


def frames_of(body: bytes) -> list[tuple[str, Any]]:
    """Return the names and data of a stream."""
    assert body.startswith(b": connected\n\n")
    found = []
    for frame in body.removeprefix(b": connected\n\n").split(b"\n\n")[:-1]:
        name, data = frame.split(b"\n")
        found.append((name.removeprefix(b"event: ").decode(), orjson.loads(data[6:])))
    return found


ACCEPTS = [
    ("text/event-stream", True),
    ("text/event-stream, application/json", True),
    ("application/json, text/event-stream;q=0.1", True),
    ("Text/Event-Stream", True),
    ("text/event-stream; charset=utf-8", True),
    ("application/json", False),
    (None, False),
    ("", False),
    ("text/event-stream;q=0", False),
    ("text/event-stream;q=0.0, */*", False),
    ("*/*", False),
    ("text/*", False),
    ("text/event-streams", False),
    ("x-text/event-stream", False),
]


@pytest.mark.rows("L3", "W-L6", "L26")
@pytest.mark.parametrize(("accept", "streams"), ACCEPTS)
def test_a_stream_is_for_those_who_name_it(accept: str | None, streams: bool) -> None:
    assert names(accept, STREAM) is streams


@pytest.mark.rows("L1", "L3", "W-L6")
async def test_the_header_decides_what_is_answered() -> None:
    async with serving(Agent("assistant", ScriptedModel(lambda request: say("Hi")))) as place:
        for accept, streams in ACCEPTS:
            headers = {} if accept is None else {"Accept": accept}
            answer, _ = await ask(place, "/agents/assistant", ASKED, **headers)
            kind = answer.headers["content-type"].partition(";")[0]
            assert kind == (STREAM if streams else "application/json"), accept


@pytest.mark.rows("L2")
async def test_without_the_header_nothing_of_a_stream_is_there() -> None:
    async with serving(Agent("assistant", ScriptedModel(lambda request: say("Hi there")))) as place:
        async with raw(place.address) as client:
            answer = await begin(client, place, "/agents/assistant", ASKED)
            body = await answer.whole()
        (session_id,) = await place.sessions()
        engine = place.manager.engine
        head = await engine.head(session_id)
        entries = await engine.read(session_id, head.start, limit=1000)
        keys = [key for entry in entries for key in entry.memo]
    assert answer.status == 200
    assert {name: answer.headers[name] for name in sorted(answer.headers.keys() - {"date"})} == {
        "content-length": "10",
        "content-type": "application/json",
        "server": answer.headers["server"],
    }
    assert body == b'"Hi there"'
    assert entries
    assert not [key for key in keys if isinstance(key, tuple) and AgentlangCodec() in key]


@pytest.mark.rows("L1", "L5", "L24", "L26")
async def test_a_flow_is_streamed_and_its_result_is_the_plain_answer_to_the_byte() -> None:
    def models() -> CompiledGraph:
        return flow(
            ScriptedModel(lambda request: say("Boil water.")),
            ScriptedModel(lambda request: say("Tea\u2028is ready.")),
        )

    async with serving(models()) as place:
        plain, body = await ask(place, "/agents/flow", ASKED)
        answer, stream = await ask(place, "/agents/flow", ASKED, Accept=STREAM)
    assert (plain.status, answer.status) == (200, 200)
    assert answer.headers["content-type"] == STREAM
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["connection"] == "keep-alive"
    assert answer.headers["x-accel-buffering"] == "no"
    assert [name for name, _ in frames_of(stream)] == [
        "flow_step_start",
        "agent_start",
        "llm_response",
        "agent_complete",
        "flow_step_complete",
        "flow_step_start",
        "agent_start",
        "llm_response",
        "agent_complete",
        "flow_step_complete",
        "result",
    ]
    assert orjson.loads(body) == "Tea\u2028is ready."
    assert stream.endswith(b"\n\nevent: result\ndata: " + body + b"\n\n")


@pytest.mark.rows("L9")
async def test_the_first_bytes_come_at_once_before_any_model_answers() -> None:
    async def seconds_to_the_first_bytes() -> float:
        stage = Staged("Hi")
        async with serving(stage.puppet) as place, raw(place.address) as client:
            asked_at = time.monotonic()
            answer = await begin(client, place, "/agents/assistant", ASKED, Accept=STREAM)
            assert await answer.until(b"\n\n") == b": connected\n\n"
            took = time.monotonic() - asked_at
            stage.let(0)
            assert (await answer.whole()).endswith(b'event: result\ndata: "Hi"\n\n')
        return took

    assert await quickest(seconds_to_the_first_bytes, bound=0.1, chances=10) <= 0.1


@pytest.mark.rows("L11")
async def test_silence_is_filled_with_comments() -> None:
    stage = Staged("Hi")
    async with serving(stage.puppet, keepalive_s=0.1) as place, raw(place.address) as client:
        answer = await begin(client, place, "/agents/assistant", ASKED, Accept=STREAM)
        await answer.until(b": connected\n\n: keepalive\n\n: keepalive\n\n")


@pytest.mark.rows("L24")
@pytest.mark.parametrize("accept", [STREAM, "*/*"])
async def test_a_bad_request_gets_a_normal_status_with_and_without_the_header(accept: str) -> None:
    async with serving(Agent("assistant", ScriptedModel(lambda request: say("Hi")))) as place:
        for path, body, status in (
            ("/agents/assistant", b"{", 400),
            ("/agents/assistant", b"[1]", 400),
            ("/agents/assistant", b"{}", 400),
            ("/agents/assistant", b'{"message":" "}', 400),
            ("/agents/assistant", b'{"session_id":"s"}', 400),
            ("/agents/assistant", b'{"message":"x","session_id":""}', 400),
            ("/agents/assistant", b'{"message":"x","options":{"warmth":1}}', 400),
            ("/agents/assistant?on_disconnect=perhaps", b'{"message":"x"}', 400),
            ("/agents/nobody", b'{"message":"x"}', 404),
        ):
            answer, text = await ask(place, path, body, Accept=accept)
            assert (answer.status, body) == (status, body)
            assert answer.headers["content-type"] == "application/json"
            refusal = orjson.loads(text)
            assert refusal["statusCode"] == status
            assert set(refusal) == {"error", "statusCode"}
            assert await place.sessions() == [], "a refused request leaves nothing behind"
        no_json, _ = await ask(place, "/agents/assistant", ASKED, Content_Type="text/plain")
        assert no_json.status == 415


def failing(error: ErrorInfo) -> Puppet:
    async def play(part: Part) -> None:
        await part.emit(RunFailed(run_id=part.run_id, error=error))

    return Puppet(play, "assistant")


@pytest.mark.rows("L24", "W-L8", "X2")
async def test_a_run_that_fails_has_its_status_in_the_answer_or_in_the_last_event() -> None:
    limited = ErrorInfo(code="rate_limited", message="too many", status_code=429)
    async with serving(failing(limited)) as place:
        plain, body = await ask(place, "/agents/assistant", ASKED)
        answer, stream = await ask(place, "/agents/assistant", ASKED, Accept=STREAM)
    assert (plain.status, body) == (429, b'{"error":"too many","statusCode":429}')
    assert answer.status == 200
    assert stream == b": connected\n\nevent: error\ndata: " + body + b"\n\n"


@pytest.mark.rows("W-L8")
async def test_a_run_that_waits_for_a_human_or_was_cancelled_says_so_too() -> None:
    async def wait(part: Part) -> None:
        await part.emit(ApprovalRequested(run_id=part.run_id, approval_id="apr_1", node="n"))
        await part.emit(RunInterrupted(run_id=part.run_id, reason="r", pending=("apr_1",)))

    async def cancelled(part: Part) -> None:
        await part.emit(RunCancelled(run_id=part.run_id, reason="timeout"))

    async with serving(Puppet(wait, "waits"), Puppet(cancelled, "slow")) as place:
        waits, body = await ask(place, "/agents/waits", ASKED)
        assert (waits.status, orjson.loads(body)["statusCode"]) == (409, 409)
        slow, body = await ask(place, "/agents/slow", ASKED)
        assert (slow.status, orjson.loads(body)["error"]) == (499, "cancelled: timeout")


@pytest.mark.rows("L1")
async def test_an_agent_with_a_dot_in_its_name_is_an_event_of_a_module() -> None:
    def agent(name: str) -> Agent:
        return Agent(name, ScriptedModel(lambda request: say(name)))

    async with serving(agent("assistant"), agent("support.triage"), agent("agents.other")) as place:
        for path, output in (
            ("/support/triage", "support.triage"),
            ("/agents/support.triage", "support.triage"),
            ("/agents/assistant", "assistant"),
            ("/agents/other", "agents.other"),
        ):
            answer, body = await ask(place, path, ASKED)
            assert (answer.status, orjson.loads(body)) == (200, output)


@pytest.mark.rows("L2")
@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("POST", "/v1/agents", 405, "method_not_allowed", "GET"),
        ("PATCH", "/v1/sessions", 405, "method_not_allowed", "GET,POST"),
        ("HEAD", "/v1/agents", 405, None, "GET"),
        ("HEAD", "/chat", 405, None, "GET,POST"),
        ("DELETE", "/chat/stream", 405, "method_not_allowed", "GET,POST"),
        ("POST", "/v1/nothing", 404, "route_unknown", None),
        ("GET", "/v1/nothing", 404, "route_unknown", None),
        ("GET", "/agents/nobody", 404, "route_unknown", None),
        ("POST", "/support/triage", 404, "route_unknown", None),
        ("POST", "/assistant", 404, "route_unknown", None),
        ("POST", "/agents/assistant/x", 404, "route_unknown", None),
        ("GET", "/agents/assistant", 405, "method_not_allowed", "POST"),
    ],
)
async def test_other_paths_are_answered_as_if_this_one_were_not_there(
    method: str, path: str, status: int, code: str | None, allow: str | None
) -> None:
    async with serving(Agent("assistant", ScriptedModel(lambda request: say("Hi")))) as place:
        body = ASKED if method == "POST" else None
        async with raw(place.address) as client:
            answer = await begin(client, place, path, body, method=method)
            text = b"" if method == "HEAD" else await answer.whole()
    assert answer.status == status
    assert answer.headers.get("allow") == allow
    if code is not None:
        assert orjson.loads(text)["code"] == code


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"message": "make tea"}, "make tea"),
        ({"input": "make tea"}, "make tea"),
        ({"city": "Zürich", "n": [1]}, '{"city":"Zürich","n":[1]}'),
        ({"message": {"a": 1}}, '{"message":{"a":1}}'),
        ({"message": "a", "city": "b"}, '{"message":"a","city":"b"}'),
        ({"message": "a", "session_id": "s", "options": {"temperature": 1}}, "a"),
        ({"x": 1, "session_id": "s"}, '{"x":1}'),
    ],
)
async def test_any_object_can_be_asked(body: dict[str, Any], text: str) -> None:
    async with serving(Agent("assistant", ScriptedModel(lambda request: say("Hi")))) as place:
        answer, _ = await ask(place, "/agents/assistant", body)
        (session_id,) = await place.sessions()
        said = (await place.log(session_id))[1]
    assert answer.status == 200
    assert isinstance(said, InputAccepted)
    assert said.message.content == text
    assert said.options == body.get("options")
    assert (session_id == "s") == ("session_id" in body)


async def test_a_key_is_taken_once() -> None:
    stage = Staged("Hi")
    stage.let(0)
    async with serving(stage.puppet) as place:
        for accept in ("*/*", "*/*", STREAM):
            await ask(place, "/agents/assistant", ASKED, Idempotency_Key="k", Accept=accept)
    assert stage.runs == 1


@pytest.mark.rows("L19", "W-L2", "X3")
@pytest.mark.parametrize("accept", [STREAM, "application/json"])
async def test_a_run_goes_on_without_its_client_unless_it_is_to_end_with_it(accept: str) -> None:
    stage, model = Staged("Hel", "lo"), Endless()
    async with serving(stage.puppet, model.agent("endless")) as place:
        async with raw(place.address) as client:
            client_ask(client, place, "/agents/assistant", accept)
            await stage.puppet.came.wait()
        stage.let(0, 1)
        (session_id,) = await place.sessions()
        await place.until(session_id, "run.completed")
        async with raw(place.address) as client:
            client_ask(client, place, "/agents/endless?on_disconnect=cancel", accept)
            async with asyncio.timeout(30):
                await model.called.wait()
        async with asyncio.timeout(10):  # and not only when a comment is due
            await model.stopped.wait()
        ended = await place.until((await place.sessions())[0], "run.cancelled")
    assert isinstance(ended, RunCancelled)
    assert ended.reason == "disconnect"


def client_ask(client: Any, place: Place, path: str, accept: str) -> None:
    content = orjson.dumps(ASKED)
    client.ask(
        path,
        method="POST",
        Host=f"{place.address[0]}:{place.address[1]}",
        Accept=accept,
        Content_Type="application/json",
        Content_Length=str(len(content)),
    )
    client.writer.write(content)


@pytest.mark.rows("L25", "L17", "L26")
async def test_what_an_agents_code_reports_through_its_environment_arrives_under_its_own_name() -> (
    None
):
    @tool
    async def look_up(word: str) -> str:
        """Look a word up."""
        environment = Environment("lookup", Environment("dictionary"))
        environment.set_emitter(FunctionEmitter(emit))
        environment.emit("lookup_progress", {"word": word, "percent": 50})
        environment.emit("another-type", lambda: ["ü", 1])
        emit("broken\ndata: injected", 1)
        return f"{word}: found"

    call = ToolCall(id="call_1", name="look_up", arguments='{"word":"tide"}')

    def script(request: ModelRequest) -> tuple[Cue, ...]:
        return say("Found it.") if request.messages[-1].role == "tool" else call_tools(call)

    async with serving(Agent("assistant", ScriptedModel(script), tools=(look_up,))) as place:
        _, stream = await ask(place, "/agents/assistant", ASKED, Accept=STREAM)
    assert frames_of(stream) == [
        (
            "llm_response",
            {
                "agent": "assistant",
                "content": "",
                "tokens": {"input": 2, "output": 0, "total": 2},
            },
        ),
        ("lookup_progress", {"word": "tide", "percent": 50}),
        ("another-type", ["ü", 1]),
        ("custom", {"name": "broken\ndata: injected", "payload": 1}),
        (
            "llm_response",
            {
                "agent": "assistant",
                "content": "Found it.",
                "tokens": {"input": 4, "output": 2, "total": 6},
            },
        ),
        ("result", "Found it."),
    ]


async def test_all_events_are_there_for_those_who_ask() -> None:
    async with serving(Agent("assistant", ScriptedModel(lambda request: say("Hi there")))) as place:
        _, stream = await ask(place, "/agents/assistant?events=all", ASKED, Accept=STREAM)
    told = frames_of(stream)
    deltas = [data for name, data in told if name == "message.delta"]
    assert "".join(delta["text"] for delta in deltas) == "Hi there"
    assert {"run.started", "message.started", "model.started"} <= {name for name, _ in told}
    assert [name for name, _ in told][-1] == "result"
    assert all({"seq", "cursor", "ts"} <= delta.keys() for delta in deltas)


@pytest.mark.rows("L12", "L26")
async def test_stock_curl_shows_the_trace_as_it_happens() -> None:
    curl = shutil.which("curl")
    assert curl is not None, "this test needs curl"
    first, second = asyncio.Event(), asyncio.Event()
    graph = flow(ScriptedModel([[first, *say("Boil.")]]), ScriptedModel([[second, *say("Tea.")]]))
    async with serving(graph) as place:
        process = await asyncio.create_subprocess_exec(
            *(curl, "-sN", "-H", f"Accept: {STREAM}", "-H", "Content-Type: application/json"),
            *("-d", '{"message":"make tea"}', f"{place.url}/agents/flow"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                begun = await process.stdout.readuntil(b'event: agent_start\ndata: {"step":"plan"}')
                assert begun.startswith(b": connected\n\nevent: flow_step_start\n")
                first.set()
                await process.stdout.readuntil(b'"step":"plan","result":')
                await process.stdout.readuntil(b"event: flow_step_start\n")
                second.set()
                rest = await process.stdout.read()
                assert rest.endswith(b'event: result\ndata: "Tea."\n\n')
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
