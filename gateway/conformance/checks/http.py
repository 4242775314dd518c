"""Section 3 and the end of section 8: problems, bodies, who may ask."""

from __future__ import annotations

from typing import Any

from gateway.conformance.check import Checks, NotObservable, must, must_equal
from gateway.conformance.streams import NDJSON, SSE, open_socket
from gateway.conformance.target import JSON, Answer, Target

CHECKS = Checks()

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
TOO_LARGE = 256 * 1024 + 1
"""One byte more than a body may have."""

STRANGER = "https://stranger.example"


def _must_be_problem(answer: Answer, status: int, code: str | None = None) -> None:
    answer.must_be(status)
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    must_equal(kind, "application/problem+json", "the Content-Type", answer.request)
    missing = {"type", "title", "status", "detail", "code"} - answer.json.keys()
    must(not missing, "type, title, status, detail and code", answer.shown, answer.request)
    must_equal(answer.json["status"], status, "`status`", answer.request)
    if code is not None:
        must_equal(answer.json["code"], code, "`code`", answer.request)


@CHECKS.of("http.problem")
async def refusals_are_problems(target: Target) -> None:
    """A refusal is application/problem+json with type, title, status, detail and code."""
    session_id = await target.session()
    session = f"/v1/sessions/{session_id}"
    _must_be_problem(await target.ask("GET", "/v1/sessions/no-such-session"), 404)
    _must_be_problem(await target.ask("GET", "/v1/no-such-route"), 404)
    _must_be_problem(await target.ask("PUT", "/v1/agents", {}), 405)
    _must_be_problem(await target.ask("POST", "/v1/sessions", raw=b"{}", headers={}), 415)
    _must_be_problem(await target.ask("POST", "/v1/sessions", {"session_id": "a b"}), 422)
    _must_be_problem(await target.ask("POST", "/v1/sessions", {"agent": "no-such-agent"}), 404)
    conflict = {"session_id": session_id, "metadata": {"other": True}}
    _must_be_problem(await target.ask("POST", "/v1/sessions", conflict), 409)
    for accept in (SSE, NDJSON, JSON):
        path = f"{session}/events?after=nonsense"
        _must_be_problem(await target.head(path, {"Accept": accept}), 400)
        path = "/v1/sessions/no-such-session/events"
        _must_be_problem(await target.head(path, {"Accept": accept}), 404)


@CHECKS.of("http.problem")
async def one_code_on_every_transport(target: Target) -> None:
    """A refusal has the same `code` over HTTP and WebSocket."""
    session_id = await target.session()
    asked: list[dict[str, Any]] = [
        {"type": "send", "id": "a", "session_id": "no-such-session", "text": "x"},
        {"type": "send", "id": "b", "session_id": session_id, "text": "x", "nonsense": 1},
        {"type": "cancel", "id": "c", "session_id": session_id, "run_id": "run_unknown"},
        {"type": "send", "id": "d", "session_id": session_id, "text": "x", "agent": "no-such"},
    ]
    async with open_socket(target) as socket:
        for body in asked:
            path = f"/v1/sessions/{body['session_id']}/commands"
            answer = await target.ask("POST", path, body)
            must(answer.status >= 400, "a refusal", answer.shown, answer.request)  # noqa: PLR2004
            await socket.say(body)
            nack = await socket.answer(str(body["id"]))
            must_equal(nack.type, "nack", "the answer's type", socket.request)
            wanted = answer.json.get("code")
            must_equal(nack.get("error")["code"], wanted, "`error.code`", socket.request)


@CHECKS.of("http.json_only")
async def other_media_types_get_415(target: Target) -> None:
    """A command that is not application/json gets 415 and has no effect."""
    session_id = await target.session()
    path = f"/v1/sessions/{session_id}/commands"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        body = b'{"type":"send","id":"x","text":"hello"}'
        answer = await target.ask("POST", path, raw=body, headers={"Content-Type": kind})
        answer.must_be(415)
    must_equal(len(await target.log(session_id)), 1, "the number of events in the log")


@CHECKS.of("http.json_only")
async def unknown_fields_are_named(target: Target) -> None:
    """A field that the protocol does not have gets 422, and is named."""
    session_id = await target.session()
    answer = await target.command(session_id, "send", text="x", unheard_of=1)
    answer.must_be(422)
    must("unheard_of" in answer.json["detail"], "the field's name in `detail`", answer.shown)
    answer = await target.ask("POST", "/v1/sessions", {"unheard_of": 1})
    answer.must_be(422)
    must("unheard_of" in answer.json["detail"], "the field's name in `detail`", answer.shown)


@CHECKS.of("http.json_only")
async def large_bodies_get_413(target: Target) -> None:
    """A body of more than 256 KiB gets 413."""
    session_id = await target.session()
    answer = await target.command(session_id, "send", text="x" * TOO_LARGE)
    answer.must_be(413)
    must_equal(len(await target.log(session_id)), 1, "the number of events in the log")


@CHECKS.of("http.json_only")
async def what_is_no_json_is_refused(target: Target) -> None:
    """A body that is no JSON object is refused with a problem, never with 500."""
    session_id = await target.session()
    path = f"/v1/sessions/{session_id}/commands"
    for body in (b"", b"{", b"[]", b"null", b'"send"', b"\xff\xfe", b'{"type":"unheard-of"}'):
        answer = await target.ask("POST", path, raw=body, headers={"Content-Type": JSON})
        _must_be_problem(answer.must_be(400, 422), answer.status)


@CHECKS.of("origin")
async def strangers_are_refused(target: Target) -> None:
    """A request that a browser sends for another site gets 403: reads, commands and upgrades."""
    session_id = await target.session()
    session = f"/v1/sessions/{session_id}"
    for origin in (STRANGER, "null"):
        said = {"Origin": origin}
        for accept in (SSE, JSON):
            (await target.head(f"{session}/events", {**said, "Accept": accept})).must_be(403)
        body = {"type": "send", "id": "x", "text": "x"}
        (await target.ask("POST", f"{session}/commands", body, headers=said)).must_be(403)
        (await target.ask("DELETE", session, headers=said)).must_be(403)
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        (await target.head("/v1/ws", {**said, **upgrade})).must_be(403)
    must_equal(len(await target.log(session_id)), 1, "the number of events in the log")


@CHECKS.of("store.away")
async def streams_outlast_a_store_that_is_away(target: Target) -> None:
    """Streams stay while the store is away, and commands are refused as retryable."""
    raise NotObservable("a client cannot take the server's store away")


@CHECKS.of("origin")
async def the_own_origin_is_welcome(target: Target) -> None:
    """A request from the server's own page is taken."""
    answer = await target.ask("GET", "/v1/agents", headers={"Origin": target.url})
    answer.must_be(200)


@CHECKS.of("origin")
async def other_names_are_refused_on_the_loopback(target: Target) -> None:
    """A server of the loopback refuses a `Host` that is not its own (DNS rebinding)."""
    if target.address[0] not in LOOPBACK:
        raise NotObservable("the server is not on the loopback")
    answer = await target.ask("GET", "/v1/agents", headers={"Host": "stranger.example"})
    answer.must_be(403)
