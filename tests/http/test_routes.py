"""Routes, bodies, answers, problems."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest

from runtime.events import ErrorInfo, Event, MessageCompleted, ModelFailed, RunFailed
from tests.support.puppet import Part
from tests.support.site import Site, running_site

Answer = tuple[int, Any]


async def ask(site: Site, method: str, path: str, **options: Any) -> Answer:
    async with site.http.request(method, path, **options) as response:
        body = await response.read()
        if response.status >= 400 and method != "HEAD":
            assert response.content_type == "application/problem+json"
            problem = orjson.loads(body)
            assert set(problem) >= {"type", "title", "status", "detail", "code"}
            assert problem["status"] == response.status
        return response.status, orjson.loads(body) if body else None


async def test_a_session_is_made_once(site: Site) -> None:
    body = {"session_id": "mine", "agent": "puppet", "metadata": {"a": 1}}
    status, snapshot = await ask(site, "POST", "/v1/sessions", json=body)
    assert (status, snapshot["session_id"], snapshot["status"]) == (201, "mine", "idle")
    assert await ask(site, "POST", "/v1/sessions", json=body) == (200, snapshot)
    status, problem = await ask(site, "POST", "/v1/sessions", json=body | {"metadata": {}})
    assert (status, problem["code"]) == (409, "session_conflict")
    assert await ask(site, "GET", "/v1/sessions/mine") == (200, snapshot)


async def test_sessions_are_listed_newest_first_and_paged(site: Site) -> None:
    made = [await site.create() for _ in range(5)]
    seen: list[str] = []
    query = "?limit=2"
    while True:
        status, page = await ask(site, "GET", f"/v1/sessions{query}")
        assert status == 200
        seen += [session["session_id"] for session in page["sessions"]]
        if page["next"] is None:
            break
        query = f"?limit=2&after={page['next']}"
    assert seen == made[::-1]


async def test_agents_are_listed(site: Site) -> None:
    status, body = await ask(site, "GET", "/v1/agents")
    assert status == 200
    assert [agent["name"] for agent in body["agents"]] == ["puppet"]


async def test_a_deleted_session_is_gone(site: Site) -> None:
    session_id = await site.create()
    path = f"/v1/sessions/{session_id}"
    assert await ask(site, "DELETE", path) == (204, None)
    for method, where in (("GET", path), ("DELETE", path), ("GET", f"{path}/events")):
        status, problem = await ask(site, method, where)
        assert (status, problem["code"]) == (410, "session_gone")


async def test_a_command_is_accepted_and_answered(site: Site) -> None:
    session_id = await site.create()
    path = f"/v1/sessions/{session_id}/commands"
    body = {"type": "send", "text": "hi"}
    headers = {"Idempotency-Key": "key-1"}
    status, ack = await ask(site, "POST", path, json=body, headers=headers)
    assert (status, ack["type"], ack["id"]) == (202, "ack", "key-1")
    assert await ask(site, "POST", path, json=body | {"id": "key-1"}) == (202, ack)
    status, problem = await ask(site, "POST", path, json=body | {"id": "key-1", "text": "ho"})
    assert (status, problem["code"]) == (409, "command_conflict")
    assert await ask(site, "POST", path, json={"type": "ping", "id": "p"}) == (
        202,
        {"type": "pong", "id": "p"},
    )


SEND = {"type": "send", "id": "a", "text": "hi"}


@pytest.mark.rule("http.problem")
@pytest.mark.parametrize(
    ("body", "status", "code", "word"),
    [
        ({"type": "send", "text": "hi"}, 422, "command_malformed", "`id`"),
        (SEND | {"session_id": "other"}, 422, "command_malformed", "session_id"),
        (SEND | {"colour": "red"}, 422, "command_malformed", "`colour`"),
        (SEND | {"type": "dance"}, 422, "command_malformed", "type"),
        (SEND | {"id": "b"}, 422, "command_malformed", "Idempotency-Key"),
        (["no object"], 422, "command_malformed", "object"),
    ],
)
async def test_a_bad_command_is_refused_by_name(
    site: Site, body: object, status: int, code: str, word: str
) -> None:
    session_id = await site.create()
    headers = {"Idempotency-Key": "a"} if body == SEND | {"id": "b"} else {}
    path = f"/v1/sessions/{session_id}/commands"
    found, problem = await ask(site, "POST", path, json=body, headers=headers)
    assert (found, problem["code"]) == (status, code)
    assert word in problem["detail"]


@pytest.mark.parametrize("text", [b"{", b"", b"\xff", b"[" * 100_000, b'{"a":NaN}'])
async def test_a_body_that_is_not_json_is_refused(site: Site, text: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    status, problem = await ask(site, "POST", "/v1/sessions", data=text, headers=headers)
    assert (status, problem["code"]) == (422, "command_malformed")


@pytest.mark.rule("http.json_only")
@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
async def test_only_json_is_taken(site: Site, media_type: str) -> None:
    session_id = await site.create()
    for path in ("/v1/sessions", f"/v1/sessions/{session_id}/commands"):
        status, problem = await ask(
            site, "POST", path, data=orjson.dumps(SEND), headers={"Content-Type": media_type}
        )
        assert (status, problem["code"]) == (415, "media_type_unsupported")


async def test_a_body_over_the_limit_is_refused(site: Site) -> None:
    session_id = await site.create()
    path = f"/v1/sessions/{session_id}/commands"
    headers = {"Content-Type": "application/json"}
    fits = orjson.dumps(SEND).ljust(256 * 1024)
    assert (await ask(site, "POST", path, data=fits, headers=headers))[0] == 202
    status, problem = await ask(site, "POST", path, data=fits + b" ", headers=headers)
    assert (status, problem["code"]) == (413, "command_too_large")


@pytest.mark.rule("http.problem")
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "route_unknown"),
        ("GET", "/v1/sessions/nobody", 404, "session_unknown"),
        ("GET", "/v1/sessions/n%C3%B6", 404, "session_unknown"),
        ("GET", "/v1/sessions/%ED%A0%80", 404, "session_unknown"),
        ("GET", "/v1/sessions/a%00b/events", 404, "session_unknown"),
        ("GET", "/..%2f..%2fetc/passwd", 404, "route_unknown"),
        ("GET", "/v1/sessions?limit=0", 422, "command_malformed"),
        ("PATCH", "/v1/sessions", 405, "method_not_allowed"),
        ("POST", "/v1/agents", 405, "method_not_allowed"),
        ("GET", "/metrics", 404, "route_unknown"),
    ],
)
async def test_what_is_wrong_is_a_problem(
    site: Site, method: str, path: str, status: int, code: str
) -> None:
    found, problem = await ask(site, method, path)
    assert (found, problem["code"]) == (status, code)


async def test_a_type_that_cannot_be_had_is_refused(site: Site) -> None:
    session_id = await site.create()
    headers = {"Accept": "text/html"}
    status, problem = await ask(site, "GET", f"/v1/sessions/{session_id}/events", headers=headers)
    assert (status, problem["code"]) == (406, "not_acceptable")


async def finish(site: Site, output: str) -> None:
    """End the next run that begins."""
    async with asyncio.timeout(30):
        await site.begun.wait()
    part = site.parts[-1]
    await part.answer(output)
    site.endings[part.run_id].set()


async def test_a_message_is_answered_with_the_result_of_its_run(site: Site) -> None:
    session_id = await site.create()
    path = f"/v1/sessions/{session_id}/messages"
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(finish(site, "fine words"))
        asking = tasks.create_task(ask(site, "POST", path, json={"text": "hi", "id": "m"}))
    status, result = asking.result()
    assert (status, result["status"], result["output"]) == (200, "completed", "fine words")
    head = await site.engine.head(session_id)
    assert result["cursor"] == str(head.tail)
    assert await ask(site, "POST", path, json={"text": "hi", "id": "m"}) == (200, result)


async def fail(site: Site) -> None:
    """Say a little in the run that begins next, and fail."""
    await site.begun.wait()
    part = site.parts[-1]
    await part.begin()
    await part.say("half a")
    error = ErrorInfo(code="broken", message="it broke")
    for event in (*_closing(part, error), RunFailed(run_id=part.run_id, error=error)):
        await part.emit(event)
    site.endings[part.run_id].set()


def _closing(part: Part, error: ErrorInfo) -> list[Event]:
    said = MessageCompleted(run_id=part.run_id, message_id="msg_a", text="half a", incomplete=True)
    return [said, ModelFailed(run_id=part.run_id, error=error, will_retry=False)]


@pytest.mark.rows("K22", "X2", "W-L8")
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": "hi", "agent": "nobody"}, 404, "agent_unknown"),
        ({"text": "hi", "options": {"temperature": 9}}, 422, "command_malformed"),
        ({"agent": "puppet"}, 422, "command_malformed"),
    ],
)
async def test_what_is_wrong_before_the_stream_is_a_problem_and_no_stream(
    site: Site, accept: str, body: dict[str, Any], status: int, code: str
) -> None:
    session_id = await site.create()
    path = f"/v1/sessions/{session_id}/messages"
    found, problem = await ask(site, "POST", path, json=body, headers={"Accept": accept})
    assert (found, problem["code"]) == (status, code)


@pytest.mark.rows("X1", "X2", "A38")
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_what_fails_in_the_stream_is_one_last_event_and_a_clean_end(
    site: Site, accept: str
) -> None:
    session_id = await site.create()
    path = f"/v1/sessions/{session_id}/messages"
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(fail(site))
        async with site.http.post(path, json={"text": "hi"}, headers={"Accept": accept}) as answer:
            assert answer.status == 200
            text = (await answer.read()).decode()
    lines = [line.removeprefix("data: ") for line in text.splitlines()]
    types = [orjson.loads(line)["type"] for line in lines if line.startswith("{")]
    assert types[-1] == "run.failed"
    assert types.count("run.failed") == 1
    assert not {"run.completed", "run.cancelled"} & set(types)


@pytest.mark.rows("L5")
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_a_message_streams_its_run_and_ends(site: Site, accept: str) -> None:
    session_id = await site.create()
    path = f"/v1/sessions/{session_id}/messages"
    body = {"text": "hi", "id": "m"}
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(finish(site, "fine words"))
        async with site.http.post(path, json=body, headers={"Accept": accept}) as answer:
            assert answer.content_type == accept
            text = (await answer.read()).decode()
    lines = [line.removeprefix("data: ") for line in text.splitlines()]
    events = [orjson.loads(line) for line in lines if line.startswith("{")]
    assert [event["type"] for event in events][-1] == "run.completed"
    assert {event["run_id"] for event in events} == {events[0]["run_id"]}
    assert "message.delta" in {event["type"] for event in events}
    _, result = await ask(site, "POST", path, json=body)
    told = {field: events[-1][field] for field in ("run_id", "output", "usage", "cursor")}
    assert told == {field: result[field] for field in told}


@pytest.mark.rule("disconnect.not_cancel")
async def test_a_client_that_does_not_wait_ends_no_run(site: Site) -> None:
    session_id = await site.create()
    path = f"/v1/sessions/{session_id}/messages"
    asking = asyncio.create_task(ask(site, "POST", path, json={"text": "hi"}))
    async with asyncio.timeout(30):
        await site.begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await finish(site, "said all the same")
    async with asyncio.timeout(30):
        reader = await site.read("sse", session_id, "0")
        await reader.until("run.completed")
    assert (await site.manager.snapshot(session_id)).messages[-1].text == "said all the same"


async def test_waiting_for_an_answer_ends_when_the_server_stops() -> None:
    async with aiohttp.ClientSession() as http, asyncio.timeout(30):
        async with running_site() as site:
            path = f"{site.url}/v1/sessions/{await site.create()}/messages"
            asking = asyncio.create_task(http.post(path, json={"text": "hi"}))
            await site.begun.wait()
        response = await asking
        assert response.status == 503
        assert orjson.loads(await response.read())["code"] == "shutting_down"
        assert response.headers["Retry-After"] in {"1", "2", "3", "4"}


async def test_health_and_readiness(site: Site) -> None:
    assert await ask(site, "GET", "/healthz") == (200, {"status": "ok"})
    assert await ask(site, "GET", "/readyz") == (200, {"status": "ready"})


async def test_an_unexpected_error_says_nothing_but_an_id_to_find_it_by(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.engine.aclose()

    async def broken(**_: object) -> object:
        raise RuntimeError("a secret")

    site.manager.sessions = broken  # type: ignore[method-assign,assignment] # cannot be provoked
    async with site.http.get("/v1/sessions") as response:
        text = await response.text()
    assert response.status == 500
    assert "secret" not in text
    request_id = orjson.loads(text)["request_id"]
    record = next(r for r in caplog.records if r.getMessage() == "a request failed")
    assert vars(record)["request_id"] == request_id
    assert "a secret" in caplog.text
