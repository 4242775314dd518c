"""Chats of the AI SDK over HTTP, to the byte: heads, refusals, retries, stops, resuming."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.codecs.vercel import read_chat
from gateway.config import Settings
from gateway.engines.memory import MemoryEngine
from gateway.frontends.vercel.chats import Chats
from gateway.log.engine import Appended, Write
from gateway.sessions.manager import SessionManager
from gateway.transports.services import Services
from runtime.events import ApprovalResolved
from runtime.messages import ToolCall
from runtime.models.scripted import ScriptedModel, call_tools, say
from runtime.registry import Registry
from tests.codecs.rules_vercel import Client
from tests.frontends.serving import Place, Staged, ask, begin, serving
from tests.frontends.vercel_agents import Cast
from tests.frontends.vercel_crash import GO
from tests.support.raw import raw
from tests.support.server import running_server
from tests.support.waiting import proven_blocked

API = "/api/chat"


def said(text: str, id_: str = "u1", **more: Any) -> dict[str, Any]:
    message = {"id": id_, "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": "chat", "messages": [message], "trigger": "submit-message", **more}


def chunks(body: bytes) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line != ":"]
    assert lines[-2:] == ["[DONE]", ""]
    return [json.loads(line) for line in lines[:-2]]


def message_of(body: bytes) -> Client:
    client = Client()
    for chunk in chunks(body):
        client.take(chunk)
    return client


def answer_to(message: Client, **more: Any) -> dict[str, Any]:
    """Return what a client sends that approves all that it is asked."""
    parts = [
        {
            "type": f"tool-{part['name']}",
            "toolCallId": part["id"],
            "state": "approval-responded",
            "approval": {"id": part["approval"], "approved": True},
        }
        for part in message.tools()
        if part["state"] == "approval-requested"
    ]
    said = {"id": message.message_id, "role": "assistant", "parts": parts}
    return {"id": "chat", "messages": [said], "trigger": "submit-message", **more}


async def test_the_head_is_that_of_the_sdks_own_servers_and_the_first_bytes_come_at_once() -> None:
    staged = Staged("Hel", "lo")
    async with serving(staged.puppet) as place, raw(place.address) as client:
        answer = await begin(client, place, API, said("hi"))
        assert answer.status == 200
        expected = {
            "content-type": "text/event-stream",
            "cache-control": "no-cache",
            "connection": "keep-alive",
            "x-vercel-ai-ui-message-stream": "v1",
            "x-accel-buffering": "no",
        }
        assert expected.items() <= answer.headers.items()
        await answer.until(b'"type":"start"')
        staged.let(0, 1)
        assert message_of(await answer.whole()).text() == "Hello"


@pytest.mark.rule("command.once")
async def test_a_post_that_is_sent_again_attaches_and_runs_nothing_twice() -> None:
    staged = Staged("one ", "two")
    async with serving(staged.puppet) as place, raw(place.address) as client:
        first = await begin(client, place, API, said("hi"))
        staged.let(0)
        await first.until(b"one ")
        async with raw(place.address) as other:
            second = await begin(other, place, API, said("hi"))
            await second.until(b"one ")
            staged.let(1)
            assert await second.whole() == await first.whole()
        _, third = await ask(place, API, said("hi"))
        assert third == first.seen
        assert staged.runs == 1
        answer, body = await ask(place, API, said("ho"))
        assert (answer.status, b"with another body" in body) == (409, True)
        answer, _ = await ask(place, API, said("ho", "u2"), Idempotency_Key="k")
        again, _ = await ask(place, API, said("ho", "u2"), Idempotency_Key="k")
        assert (answer.status, again.status, staged.runs) == (200, 200, 2)


async def test_answers_that_are_sent_again_attach_and_are_given_once() -> None:
    cast = Cast()
    async with serving(*cast.runnables()) as place:
        _, question = await ask(place, API, said("pay"))
        assert (await ask(place, API, said("pay")))[1] == question
        answers = answer_to(message_of(question))
        _, first = await ask(place, API, answers)
        assert [chunk["type"] for chunk in chunks(first)][:3] == [
            "start",
            "tool-input-available",
            "tool-output-available",
        ]
        _, second = await ask(place, API, answers)
        assert second == first
        assert cast.paid == [5]
        outputs = answers["messages"][0]["parts"]
        outputs[0] |= {"state": "output-available", "output": "x"}
        answer, body = await ask(place, API, answers)
        assert (answer.status, body) == (409, b"nothing in this chat waits for an answer")


async def test_a_run_that_waits_for_two_answers_goes_on_with_the_second() -> None:
    calls = [ToolCall(id=f"c{n}", name="pay", arguments=f'{{"amount":{n}}}') for n in (1, 2)]
    cast = Cast(ScriptedModel([call_tools(*calls), say("Done.")]))
    [payer, *_] = cast.runnables()
    async with serving(payer) as place:
        asked = message_of((await ask(place, API, said("pay")))[1])
        both = answer_to(asked)
        one, two = both["messages"][0]["parts"]
        both["messages"][0]["parts"] = [one]
        _, body = await ask(place, API, both)
        assert [chunk["type"] for chunk in chunks(body)] == ["start", "finish"]
        answer, text = await ask(place, API, both)
        assert (answer.status, text) == (409, b"this chat waits for an answer about: pay")
        both["messages"][0]["parts"] = [one, two]
        asked.end = asked.message_id = None
        rest = chunks((await ask(place, API, both))[1])
        # Also what was answered first is told to have gone on.
        assert [chunk["type"] for chunk in rest][1:3] == ["tool-input-available"] * 2
        for chunk in rest:
            asked.take(chunk)
        assert asked.text() == "Done."
        assert sorted(cast.paid) == [1, 2]


async def test_an_output_for_what_a_node_asks_is_the_value_that_it_goes_on_with() -> None:
    async with serving(*Cast().runnables()) as place:
        _, body = await ask(place, API, said("go", agent="question"))
        question = message_of(body)
        answers = answer_to(question)
        [part] = question.tools()
        answers["messages"][0]["parts"] = [
            {
                "type": "tool-work",
                "toolCallId": part["id"],
                "state": "output-available",
                "output": {"n": 1},
            }
        ]
        await ask(place, API, answers)
        resolved = await place.until("chat", "approval.resolved")
        assert isinstance(resolved, ApprovalResolved)
        assert (resolved.decision, resolved.arguments) == ("edited", '{"n":1}')


async def test_resuming_nothing_is_204_and_what_is_finished_is_had_by_asking_for_it() -> None:
    async with serving(Staged("Hello").puppet, Cast().runnables()[2]) as place:
        answer, body = await ask(place, f"{API}/unknown/stream")
        assert (answer.status, body) == (204, b"")
        async with raw(place.address) as client:
            running = await begin(client, place, API, said("hi"))
            await running.until(b'"type":"start"')
            _, stopped = await ask(place, f"{API}/chat/stop", method="POST")
            assert stopped == b'{"success":true}'
            first = await running.whole()
        answer, _ = await ask(place, f"{API}/chat/stream")
        assert answer.status == 204
        answer, again = await ask(place, f"{API}/chat/stream?finished=1")
        assert (answer.status, again) == (200, first)
        assert chunks(again)[-1] == {"type": "abort", "reason": "cancel"}


async def test_whoever_comes_back_sees_the_question_that_the_run_waits_with() -> None:
    async with serving(*Cast().runnables()) as place:
        _, asked = await ask(place, API, said("pay"))
        answer, again = await ask(place, f"{API}/chat/stream")
        assert (answer.status, again) == (200, asked)
        await ask(place, API, answer_to(message_of(asked)))
        whole = message_of((await ask(place, f"{API}/chat/stream?finished=1"))[1])
        assert whole.text() == "Done: paid 5."
        assert whole.tools()[0]["state"] == "output-available"


@pytest.mark.parametrize("stop", ["POST stop", "DELETE stream"])
@pytest.mark.rule("cancel.bounded")
async def test_a_stop_right_after_the_post_stops_it(stop: str) -> None:
    staged = Staged("one")
    method, path = stop.split()
    async with serving(staged.puppet) as place, raw(place.address) as client:
        body = json.dumps(said("hi")).encode()
        head = f"POST {API} HTTP/1.1\r\nHost: {place.url.removeprefix('http://')}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.writer.write(head.encode() + body)
        await client.writer.drain()
        while not await place.sessions():  # noqa: ASYNC110 - nothing tells that it has come
            await asyncio.sleep(0)
        await ask(place, f"{API}/chat/{path}", method=method)
        assert (await place.until("chat", "run.cancelled")).type == "run.cancelled"
        snapshot = await place.manager.snapshot("chat")
        assert snapshot.status == "idle"


async def test_a_stop_that_names_an_old_run_does_not_hit_the_next_one() -> None:
    staged = Staged("one")
    async with serving(staged.puppet) as place, raw(place.address) as client:
        staged.let(0)
        old = message_of((await ask(place, API, said("hi")))[1]).message_id
        staged.gates[0].clear()
        running = await begin(client, place, API, said("ho", "u2"))
        await running.until(b'"type":"start"')
        stop = f"{API}/chat/stop"
        for late in ({"activeStreamId": old}, {"activeStreamId": "run_unknown"}):
            assert (await ask(place, stop, late))[1] == b'{"success":true}'
        assert (await place.manager.snapshot("chat")).status == "running"
        guess = {"assistantMessage": {"id": "abcDEF", "role": "assistant", "parts": []}}
        await ask(place, stop, guess)  # a client that has not heard of the run yet
        assert chunks(await running.whole())[-1]["type"] == "abort"
        answer, body = await ask(place, f"{API}/nobody/stop", {})
        assert (answer.status, body) == (200, b'{"success":true}')


async def test_a_message_that_is_regenerated_by_its_name_is_so_once() -> None:
    staged = Staged("one")
    async with serving(staged.puppet) as place:
        staged.let(0)
        old = message_of((await ask(place, API, said("hi")))[1]).message_id
        staged.gates[0].clear()
        again = said("hi", trigger="regenerate-message", messageId=old)
        async with raw(place.address) as client, raw(place.address) as other:
            first = await begin(client, place, API, again)
            await first.until(b'"type":"start"')
            second = await begin(other, place, API, again)
            await second.until(b'"type":"start"')
            staged.let(0)
            assert await first.whole() == await second.whole()
            assert message_of(first.seen).text() == "one"
        assert staged.runs == 2


async def test_regenerating_without_a_name_stops_what_runs() -> None:
    staged = Staged("one")
    async with serving(staged.puppet) as place, raw(place.address) as client:
        running = await begin(client, place, API, said("hi"))
        await running.until(b'"type":"start"')
        async with raw(place.address) as other:
            again = await begin(other, place, API, said("hi", trigger="regenerate-message"))
            assert chunks(await running.whole())[-1]["type"] == "abort"
            staged.let(0)
            assert message_of(await again.whole()).text() == "one"
        snapshot = await place.manager.snapshot("chat")
        assert [(said.role, said.text) for said in snapshot.messages] == [
            ("user", "hi"),
            ("assistant", "one"),
        ]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 422, "not JSON"),
        ([], 422, "not a JSON object"),
        ({"id": "chat"}, 422, "there is none"),
        (said("  "), 422, "the message is empty"),
        (said("hi", agent="nobody"), 404, "nobody"),
        (said("hi", options={"nonsense": 1}), 422, "nonsense"),
        ({**said("x"), "messages": [{"role": "assistant", "parts": []}]}, 409, "nothing in this"),
        (said("x" * 300_000), 413, "bytes"),
    ],
)
async def test_what_is_refused_is_told_in_a_sentence(body: Any, status: int, words: str) -> None:
    async with serving(Staged().puppet, max_history_bytes=250_000) as place:
        answer, text = await ask(place, API, body)
        assert (answer.status, answer.headers["content-type"]) == (
            status,
            "text/plain; charset=utf-8",
        )
        assert words in text.decode()


async def test_a_body_that_is_not_declared_as_json_is_refused() -> None:
    async with serving(Staged().puppet) as place:
        answer, _ = await ask(place, API, said("hi"), Content_Type="text/plain")
        assert answer.status == 415


@pytest.mark.parametrize("name", ["a/b", "a b", "é", "%2F", "..%", "ws", "x" * 200])
async def test_a_chat_may_have_any_name(name: str) -> None:
    staged = Staged("one")
    async with serving(staged.puppet) as place, raw(place.address) as client:
        running = await begin(client, place, API, {**said("hi"), "id": name})
        await running.until(b'"type":"start"')
        path = f"{API}/{quote(name, safe='')}"
        async with raw(place.address) as other:
            resumed = await begin(other, place, f"{path}/stream")
            await resumed.until(b'"type":"start"')
            staged.let(0)
            assert await resumed.whole() == await running.whole()
        [session] = await place.sessions()
        assert (await place.manager.snapshot(session)).metadata == {"chat_id": name}


@pytest.mark.rule("run.taken_over")
async def test_after_a_crash_a_chat_comes_back_without_a_word_twice(tmp_path: Path) -> None:
    arguments = ("tests.frontends.vercel_crash:registry",)
    go = tmp_path / "go"
    async with running_server(tmp_path / "data", arguments, {GO: str(go)}) as server:
        place = Place(server.url, None, None, None)  # type: ignore[arg-type]  # it is elsewhere
        async with raw(place.address) as client:
            running = await begin(client, place, API, said("go"))
            await running.until(b"before")
            await server.kill()
        go.touch()
        await server.restart()
        async with raw(place.address) as client:
            resumed = await begin(client, place, f"{API}/chat/stream?finished=1")
            message = message_of(await resumed.whole())
    assert message.text() == "before and after"


class Held(MemoryEngine):
    """An engine that holds what makes a session."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.gate = asyncio.Event(), asyncio.Event()

    async def append(self, write: Write) -> Appended:
        if write.create is not None:
            self.reached.set()
            await self.gate.wait()
        return await super().append(write)


async def test_a_stop_waits_for_what_is_just_being_begun_also_when_the_client_has_gone() -> None:
    engine, staged = Held(), Staged("one")
    manager = SessionManager(engine, Registry(staged.puppet))
    chats = Chats(Services(manager, Settings()))
    asking = asyncio.create_task(chats.begin(read_chat(said("hi"))))
    await engine.reached.wait()
    stopping = asyncio.create_task(chats.stop("chat", None))
    resuming = asyncio.create_task(chats.resume("chat", finished=True))
    await proven_blocked(stopping, resuming)
    asking.cancel()
    engine.gate.set()
    await stopping
    stream = await resuming
    assert stream is not None
    assert (await manager.run("chat")).status == "cancelled"
    await manager.aclose()
    await engine.aclose()
