"""A2A without an SDK: errors, versions, limits, coming back with an id, and the store at its worst."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import orjson
import pytest

from gateway.app import running
from gateway.config import Settings
from gateway.log.position import Position
from runtime.events import ApprovalRequested, RunInterrupted
from runtime.registry import Registry
from tests.frontends.a2a_client import Rpc, events_of, results_of
from tests.support.puppet import Part, Puppet
from tests.support.server import ROOT
from tests.support.site import Site, running_site
from tests.support.waiting import proven_blocked

TASK_NOT_FOUND, NOT_CANCELABLE, NO_PUSH, UNSUPPORTED, CONTENT_TYPE = range(-32001, -32006, -1)
VERSION = -32009
INVALID_REQUEST, NO_METHOD, INVALID_PARAMS, PARSE = -32600, -32601, -32602, -32700
INTERNAL = -32603


@asynccontextmanager
async def site_and_rpc(**settings: Any) -> AsyncIterator[tuple[Site, Rpc]]:
    async with asyncio.timeout(20), running_site(**settings) as site:
        yield site, Rpc(site.http)


@asynccontextmanager
async def stage(play: Any) -> AsyncIterator[Rpc]:
    """A server whose agent plays `play`, and nothing a test has to end."""
    settings = Settings(engine="memory", port=0, delta_interval_ms=0)
    async with (
        asyncio.timeout(20),
        running(settings, Registry(Puppet(play))) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        yield Rpc(http)


def said(*parts: Any, **fields: Any) -> dict[str, Any]:
    """Return the parameters of a message."""
    texts = [{"text": part} if isinstance(part, str) else part for part in parts or ("go",)]
    return {"message": {"messageId": "m1", "role": "ROLE_USER", "parts": texts, **fields}}


def now(params: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**params, "configuration": {"returnImmediately": True, **more}}


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", PARSE),
        (b"\xff", PARSE),
        (b"[]", INVALID_REQUEST),
        (b'"text"', INVALID_REQUEST),
        (b"{}", INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","method":"GetTask","id":1}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":7,"id":1}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"GetTask","id":true}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"GetTask","id":{}}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"GetTask","params":[]}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"GetTask","params":"' + b"x" * 300_000, INVALID_REQUEST),
    ],
)
async def test_what_is_no_request_is_refused_without_an_id(body: bytes, code: int) -> None:
    async with site_and_rpc() as (_, rpc):
        answer = await rpc.post(body)
        assert answer["id"] is None
        assert answer["jsonrpc"] == "2.0"
        assert answer["error"]["code"] == code


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("NoSuchMethod", {}, NO_METHOD),
        ("message/send", {}, NO_METHOD),
        ("SendMessage", {}, INVALID_PARAMS),
        ("SendMessage", {"message": 7}, INVALID_PARAMS),
        ("SendMessage", {"message": {"parts": 7}}, INVALID_PARAMS),
        ("SendMessage", said(metadata=7), INVALID_PARAMS),
        ("SendMessage", said("  "), INVALID_PARAMS),
        ("SendMessage", said(messageId=""), INVALID_PARAMS),
        ("SendMessage", said(role="ROLE_AGENT"), INVALID_PARAMS),
        ("SendMessage", said({"url": "http://x/y.png"}), CONTENT_TYPE),
        ("SendMessage", said("see", {"raw": "AAAA", "filename": "x"}), CONTENT_TYPE),
        ("SendMessage", said(taskId="none"), TASK_NOT_FOUND),
        ("SendMessage", said(taskId="no.run_1"), TASK_NOT_FOUND),
        ("SendMessage", now(said(), historyLength=-1), INVALID_PARAMS),
        ("SendMessage", now(said(), taskPushNotificationConfig={"url": "http://x"}), NO_PUSH),
        ("GetTask", {}, INVALID_PARAMS),
        ("GetTask", {"id": "no such/id"}, TASK_NOT_FOUND),
        ("GetTask", {"id": "s.run_1"}, TASK_NOT_FOUND),
        ("GetTask", {"id": "s.run_1", "historyLength": -1}, INVALID_PARAMS),
        ("GetTask", {"id": "s.run_1", "historyLength": "many"}, INVALID_PARAMS),
        ("ListTasks", {}, UNSUPPORTED),
        ("CancelTask", {"id": "s.run_1"}, TASK_NOT_FOUND),
        ("SubscribeToTask", {"id": "s.run_1"}, TASK_NOT_FOUND),
        ("CreateTaskPushNotificationConfig", {"taskId": "x"}, NO_PUSH),
        ("GetTaskPushNotificationConfig", {}, NO_PUSH),
        ("ListTaskPushNotificationConfigs", {}, NO_PUSH),
        ("DeleteTaskPushNotificationConfig", {}, NO_PUSH),
        ("GetExtendedAgentCard", {}, UNSUPPORTED),
    ],
)
async def test_each_error_has_its_code(method: str, params: dict[str, Any], code: int) -> None:
    async with site_and_rpc() as (site, rpc):
        answer = await rpc.call(method, params)
        assert answer["error"]["code"] == code
        assert answer["id"] == "q"
        assert answer["error"]["data"][0]["domain"] == "a2a-protocol.org"
        assert site.parts == [], "nothing was run"


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (None, VERSION),  # which means 0.3
        ("", VERSION),
        ("0.3", VERSION),
        ("1", VERSION),
        ("1.1", VERSION),
        ("10", VERSION),
        ("1.0", TASK_NOT_FOUND),
        ("1.0.7", TASK_NOT_FOUND),
    ],
)
async def test_another_version_is_refused(version: str | None, code: int) -> None:
    async with site_and_rpc() as (_, rpc):
        assert await rpc.code("GetTask", {"id": "s.run_1"}, version=version) == code


async def test_the_version_may_be_in_the_query() -> None:
    async with site_and_rpc() as (site, _):
        rpc = Rpc(site.http, "/a2a?A2A-Version=1.0")
        assert await rpc.code("GetTask", {"id": "s.run_1"}, version=None) == TASK_NOT_FOUND


async def test_what_is_not_json_by_its_type_is_not_even_read() -> None:
    async with (
        site_and_rpc() as (site, _),
        site.http.post("/a2a", data=b"{}", headers={"Content-Type": "text/plain"}) as response,
    ):
        assert response.status == 415


async def test_there_is_no_endpoint_for_an_agent_that_there_is_not() -> None:
    async with site_and_rpc() as (site, _), site.http.post("/a2a/nobody", json={}) as response:
        assert (response.status, (await response.json())["code"]) == (404, "agent_unknown")


async def test_a_task_that_is_at_work_takes_no_message() -> None:
    async with site_and_rpc() as (site, rpc):
        task = (await rpc.call("SendMessage", now(said())))["result"]["task"]
        more = said("more", messageId="m2", taskId=task["id"])
        answer = await rpc.call("SendMessage", more)
        assert answer["error"]["code"] == UNSUPPORTED
        assert "at work" in answer["error"]["message"]
        other = said("more", messageId="m2", taskId=task["id"], contextId="other")
        assert await rpc.code("SendMessage", other) == INVALID_PARAMS
        assert len(site.parts) == 1


async def test_a_context_that_was_deleted_takes_no_message() -> None:
    async with site_and_rpc() as (site, rpc):
        await site.create("chat")
        async with site.http.delete("/v1/sessions/chat") as response:
            assert response.status == 204
        assert await rpc.code("SendMessage", said(contextId="chat")) == INVALID_PARAMS
        listed = await rpc.call("ListTasks", {"contextId": "chat"})
        assert listed["result"] == {
            "tasks": [],
            "nextPageToken": "",
            "pageSize": 50,
            "totalSize": 0,
        }


async def test_a_task_whose_beginning_is_not_kept_is_not_found() -> None:
    async with site_and_rpc() as (site, rpc):
        task = (await rpc.call("SendMessage", now(said(contextId="chat"))))["result"]["task"]
        await site.begun.wait()
        await site.parts[0].answer("done")
        await site.engine.trim("chat", 4)
        assert await rpc.code("GetTask", {"id": task["id"]}) == TASK_NOT_FOUND
        listed = await rpc.call("ListTasks", {"contextId": "chat"})
        assert listed["result"]["tasks"] == []
        assert await rpc.code("SendMessage", said(contextId="chat")) == TASK_NOT_FOUND


async def test_a_server_that_stops_refuses_and_says_when_to_come_back() -> None:
    async with site_and_rpc() as (site, _):
        await site.manager.aclose()
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": said(contextId="c")}
        async with site.http.post("/a2a", json=body, headers={"A2A-Version": "1.0"}) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] in {"1", "2", "3", "4"}
            error = (await response.json())["error"]
        assert error["code"] == INTERNAL
        assert error["data"][0]["metadata"] == {"code": "shutting_down"}


# --- what is sent --------------------------------------------------------------------------------


async def test_all_parts_of_a_message_reach_the_agent() -> None:
    heard: list[str] = []

    async def play(part: Part) -> None:
        heard.append(part.request.history[-1].content)
        await part.answer("ok")

    async with stage(play) as rpc:
        answer = await rpc.call("SendMessage", said("one", {"data": {"n": 3}}, "two"))
        assert answer["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert heard == ['one\ntwo\n{"n":3}']


async def test_no_history_is_shown_to_whoever_wants_none() -> None:
    async def play(part: Part) -> None:
        await part.answer("ok")

    async with stage(play) as rpc:
        params = said() | {"configuration": {"historyLength": 0}}
        whole = await rpc.call("SendMessage", params)
        assert "history" not in whole["result"]["task"]
        events = await rpc.stream("SendStreamingMessage", said(messageId="m2") | params | said())
        assert "history" not in results_of(events)[0]["task"]
        shown = await rpc.stream("SendStreamingMessage", said(messageId="m3"))
        assert results_of(shown)[0]["task"]["history"][0]["messageId"] == "m3"
        task = await rpc.call("GetTask", {"id": whole["result"]["task"]["id"], "historyLength": 0})
        assert "history" not in task["result"]


# --- streams -------------------------------------------------------------------------------------


async def test_a_stream_answers_with_the_id_of_the_request_and_names_each_place() -> None:
    async def play(part: Part) -> None:
        await part.answer("ok")

    async with stage(play) as rpc:
        events = await rpc.stream("SendStreamingMessage", said(contextId="chat"))
        assert {body["id"] for _, body in events} == {7}
        places = [place.removeprefix("chat/") for place, _ in events]
        told = [result.popitem()[1] for result in results_of(events)]
        shown = [it["metadata"]["urn:tidegate:log:v1"]["cursor"] for it in told]
        assert shown == places, "the id of an event is its cursor"


async def test_a_client_comes_back_with_the_id_of_the_last_event_that_it_has() -> None:
    async with site_and_rpc() as (site, rpc):
        asked = asyncio.create_task(rpc.stream("SendStreamingMessage", said(contextId="chat")))
        await site.begun.wait()
        await site.parts[0].begin()
        for word in ("a", "b", "c"):
            await site.parts[0].say(word)
        await site.parts[0].answer("abc", "msg_b")
        site.endings[site.parts[0].run_id].set()
        everything = await asked
        task_id = everything[0][1]["result"]["task"]["id"]
        assert await rpc.code("SubscribeToTask", {"id": task_id}) == UNSUPPORTED
        for place in range(len(everything)):
            last = {"Last-Event-ID": everything[place][0]}
            events = await rpc.stream("SubscribeToTask", {"id": task_id}, **last)
            assert "task" in events[0][1]["result"]
            rest = everything[place + 1 :] or everything[-1:]
            assert events[1:] == rest, "all that it had missed, and nothing else"

        first = Position.parse(everything[0][0].removeprefix("chat/"))
        for wrong in (
            "chat/nonsense",
            "other/" + everything[0][0],
            f"chat/{first.epoch}.99.0bad0bad",
        ):
            body = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "SubscribeToTask",
                "params": {"id": task_id},
            }
            headers = {"A2A-Version": "1.0", "Last-Event-ID": wrong}
            async with site.http.post("/a2a", json=body, headers=headers) as response:
                assert (await response.json())["error"]["code"] == INVALID_PARAMS


async def test_a_silent_stream_is_kept_alive_and_told_of_the_end_of_the_server() -> None:
    body = {"jsonrpc": "2.0", "id": "x", "method": "SendStreamingMessage", "params": said()}
    async with asyncio.timeout(20), aiohttp.ClientSession() as http:
        async with running_site(keepalive_s=0.05) as site:
            response = await http.post(site.url + "/a2a", json=body, headers={"A2A-Version": "1.0"})
            seen = b""
            while seen.count(b":\n\n") < 3:
                seen += await response.content.readany()
        seen += await response.content.read()
        events = events_of(seen.replace(b":\n\n", b"").decode())
    assert events[-1][1]["id"] == "x"
    assert events[-1][1]["error"]["data"][0]["metadata"] == {"code": "shutdown"}


async def test_no_stream_is_silent_for_as_long_as_the_sdk_waits() -> None:
    patience = httpx.AsyncClient().timeout.read
    assert patience is not None
    body = {"jsonrpc": "2.0", "id": "x", "method": "SendStreamingMessage", "params": said()}
    headers = {"A2A-Version": "1.0"}
    async with (
        site_and_rpc() as (site, _),
        site.http.post("/a2a", json=body, headers=headers) as response,
    ):
        await site.begun.wait()
        seen = b""
        while not seen.endswith(b"\n\n:\n\n"):  # a comment after the last that was told
            async with asyncio.timeout(patience):
                seen += await response.content.readany()


async def test_the_same_message_to_two_agents_begins_two_tasks() -> None:
    async def play(part: Part) -> None:
        await part.answer("ok")

    settings = Settings(engine="memory", port=0)
    async with (
        asyncio.timeout(20),
        running(settings, Registry(Puppet(play, "one"), Puppet(play, "two"))) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        answers = [
            await Rpc(http, f"/a2a/{name}").call("SendMessage", said()) for name in ("one", "two")
        ]
        contexts = {answer["result"]["task"]["contextId"] for answer in answers}
        assert len(contexts) == 2
        async with http.get("/v1/sessions") as response:
            sessions = (await response.json())["sessions"]
        assert {session["agent"] for session in sessions} == {"one", "two"}


# --- questions of graphs -------------------------------------------------------------------------


def asking(*approvals: dict[str, Any]) -> Any:
    """Return a play that asks, and then says what it was told."""

    async def play(part: Part) -> None:
        if not part.request.decisions:
            for approval in approvals:
                await part.emit(ApprovalRequested(run_id=part.run_id, **approval))
            pending = tuple(approval["approval_id"] for approval in approvals)
            await part.emit(RunInterrupted(run_id=part.run_id, reason="x", pending=pending))
            return
        decisions = part.request.decisions.values()
        told = [(it.kind, it.message, it.arguments, it.result) for it in decisions]
        await part.answer(orjson.dumps(told).decode())

    return play


REVIEW = {"approval_id": "a1", "node": "review", "reason": "look"}


async def ask(rpc: Rpc) -> str:
    task = (await rpc.call("SendMessage", said()))["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    return str(task["id"])


@pytest.mark.parametrize(
    ("approval", "reply", "decision"),
    [
        (REVIEW, "make it shorter", ["edited", None, '"make it shorter"', None]),
        (REVIEW, " Approved. ", ["approved", None, None, None]),
        (REVIEW, "REJECT - too long", ["rejected", "too long", None, None]),
        (REVIEW, "reject", ["rejected", None, None, None]),
        (
            REVIEW,
            "rejection is not what I mean",
            ["edited", None, '"rejection is not what I mean"', None],
        ),
        (REVIEW, "approve it if you must", ["edited", None, '"approve it if you must"', None]),
        (REVIEW, {"data": {"decision": "reject", "message": "no"}}, ["rejected", "no", None, None]),
        (
            {"approval_id": "a1", "call_id": "c1", "tool": "find", "wants": "result"},
            "it is 42",
            ["answered", None, None, "it is 42"],
        ),
    ],
)
async def test_a_reply_becomes_the_decision_that_it_means(
    approval: dict[str, Any], reply: Any, decision: list[Any]
) -> None:
    async with stage(asking(approval)) as rpc:
        task_id = await ask(rpc)
        answer = await rpc.call("SendMessage", said(reply, messageId="m1", taskId=task_id))
        text = answer["result"]["task"]["artifacts"][0]["parts"][0]["text"]
        assert orjson.loads(text) == [decision]


async def test_a_reply_to_one_task_does_not_answer_another() -> None:
    async with stage(asking(REVIEW)) as rpc:
        first = await ask(rpc)
        await rpc.call("SendMessage", said("approve", messageId="m2", taskId=first))
        context_id = first.partition(".")[0]
        second = said("again", messageId="m3", contextId=context_id)
        waiting = (await rpc.call("SendMessage", second))["result"]["task"]
        assert waiting["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        late = said("approve", messageId="m4", taskId=first)
        assert await rpc.code("SendMessage", late) == UNSUPPORTED
        twice = said("approve", messageId="m2", taskId=waiting["id"])
        assert await rpc.code("SendMessage", twice) == INVALID_PARAMS
        still = (await rpc.call("GetTask", {"id": waiting["id"]}))["result"]
        assert still["status"] == waiting["status"]


async def test_several_questions_are_answered_by_name_or_all_at_once() -> None:
    both = [REVIEW, REVIEW | {"approval_id": "a2", "node": "proof"}]
    async with stage(asking(*both)) as rpc:
        task_id = await ask(rpc)

        def reply(part: Any, message_id: str) -> dict[str, Any]:
            return said(part, messageId=message_id, taskId=task_id)

        assert await rpc.code("SendMessage", reply("shorter", "m2")) == INVALID_PARAMS
        nameless = reply({"data": {"decision": "approve"}}, "m3")
        assert await rpc.code("SendMessage", nameless) == INVALID_PARAMS
        assert await rpc.code("SendMessage", reply({"data": "approve"}, "m4")) == INVALID_PARAMS
        one = reply({"data": {"approval_id": "a2", "decision": "approve"}}, "m5")
        task = (await rpc.call("SendMessage", one))["result"]["task"]
        assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        assert "review asks" in task["status"]["message"]["parts"][0]["text"]
        late = reply({"data": {"approval_id": "a2", "decision": "reject"}}, "m6")
        assert await rpc.code("SendMessage", late) == UNSUPPORTED
        events = await rpc.stream("SendStreamingMessage", reply("reject: no", "m7"))
        end = results_of(events)[-1]["statusUpdate"]
        assert end["status"]["state"] == "TASK_STATE_COMPLETED"
        again = await rpc.call("SendMessage", reply("reject: no", "m7"))
        assert again["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_a_task_that_goes_on_by_itself_is_waited_for() -> None:
    asked = asyncio.Event()
    decided = asyncio.Event()

    async def play(part: Part) -> None:
        if not part.request.decisions:
            await part.emit(ApprovalRequested(run_id=part.run_id, **REVIEW))
            asked.set()
            await decided.wait()
            await part.emit(RunInterrupted(run_id=part.run_id, reason="x", pending=("a1",)))
            return
        await part.answer("done")

    async with stage(play) as rpc:
        first = asyncio.create_task(rpc.call("SendMessage", said(contextId="chat")))
        await asked.wait()
        (task,) = (await rpc.call("ListTasks", {"contextId": "chat"}))["result"]["tasks"]
        assert task["status"]["state"] == "TASK_STATE_WORKING"
        yes = now(said("approve", messageId="m2", taskId=task["id"]))
        decided_task = (await rpc.call("SendMessage", yes))["result"]["task"]
        assert decided_task["status"]["state"] == "TASK_STATE_WORKING"
        await proven_blocked(first)
        decided.set()
        end = (await first)["result"]["task"]
        assert end["status"]["state"] == "TASK_STATE_COMPLETED"


# --- without the SDK -----------------------------------------------------------------------------

WITHOUT = """
import asyncio, sys
sys.modules["a2a"] = None
from tests.support.site import running_site

async def main():
    async with running_site() as site:
        async with site.http.get("/.well-known/agent-card.json") as response:
            print(response.status, (await response.json())["detail"])
        async with site.http.post("/a2a/puppet", json={}) as response:
            print(response.status)
        async with site.http.get("/readyz") as response:
            print(response.status)

asyncio.run(main())
"""


async def test_without_the_sdk_the_rest_works_and_a2a_says_what_to_install() -> None:
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", WITHOUT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    first, *rest = run.stdout.splitlines()
    assert first == "501 A2A needs the SDK of the protocol: pip install 'tidegate[a2a]'"
    assert rest == ["501", "200"]


async def test_the_sdk_is_not_loaded_before_it_is_asked_for() -> None:
    code = "import sys, gateway.app; print('a2a' in sys.modules, 'google.protobuf' in sys.modules)"
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert run.stdout.split() == ["False", "False"]
