"""Chats of the AI SDK over one WebSocket: `ai` 7 itself, and frames that it would not send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from runtime.events import ErrorInfo, NodeCompleted, NodeFailed, NodeStarted
from runtime.messages import ToolCall
from runtime.models.scripted import ScriptedModel, call_tools, say
from tests.frontends.serving import Endless, Place, Staged, serving
from tests.frontends.vercel_agents import LOOK, Cast
from tests.support.puppet import Part, Puppet
from tests.support.vercel_client import Chat, running_clients, running_wire


def ws(url: str) -> str:
    return url.replace("http:", "ws:") + "/api/chat/ws"


async def said(chat: Chat, text: str) -> Any:
    await chat.do("send", text=text)
    return await chat.settled()


async def test_chats_of_one_socket_talk_approve_and_carry_out() -> None:
    cast = Cast()
    async with serving(*cast.runnables()) as place, running_clients() as clients:
        url = ws(place.url)
        body = {"tools": [LOOK]}
        first = await clients.chat(7, url, "a b/é", auto="either", shared="one", body=body)
        second = await clients.chat(7, url, "second", auto="either", shared="one", body=body)
        await first.do("send", text="wait")
        await first.until(text="one ")
        asked = await said(second, "pay")
        [part] = asked.parts("tool-pay")
        await second.do("approve", id=part["approval"]["id"], approved=True)
        paid = await second.until(text="Done: ", status="ready", finishes=2)
        assert (paid.text, len(paid["messages"])) == ("Done: paid 5.", 2)
        asked = await said(second, "look")
        [part] = asked.parts("tool-look")
        output = {"tool": "look", "toolCallId": part["toolCallId"], "output": "sand"}
        await second.do("output", state="output-available", **output)
        looked = await second.until(text="sand", status="ready", finishes=4)
        assert looked.text == "Let me see.|Done: sand."
        failed = await said(second, "fail")
        assert "it will not" in failed["error"]
        cast.gate.set()
        assert (await first.settled()).text == "one two three"


@pytest.mark.rule("cancel.bounded")
async def test_abort_stops_the_run_and_the_other_chats_go_on() -> None:
    cast, model = Cast(), Endless()
    agents = (*cast.runnables(), model.agent("endless"))
    async with serving(*agents) as place, running_clients() as clients:
        url = ws(place.url)
        stopped = await clients.chat(7, url, "x", shared="one")
        other = await clients.chat(7, url, "y", shared="one")
        await other.do("send", text="wait")
        await other.until(text="one ")
        await stopped.do("send", text="on and on", body={"agent": "endless"})
        await stopped.until(text="Hel")
        await stopped.do("stop")
        async with asyncio.timeout(30):
            await model.stopped.wait()
        await place.until("x", "run.cancelled")
        assert (await stopped.settled())["status"] == "ready"
        cast.gate.set()
        assert (await other.settled()).text == "one two three"


@pytest.mark.rule("disconnect.not_cancel")
async def test_a_socket_that_was_cut_comes_back_to_the_same_text() -> None:
    cast = Cast()
    async with (
        serving(*cast.runnables()) as place,
        running_wire(place.address) as wire,
        running_clients() as clients,
    ):
        url = ws(wire.url)
        chat = await clients.chat(7, url, "a b/é", shared="one")
        other = await clients.chat(7, url, "other", shared="one")
        for one in (chat, other):
            await one.do("send", text="wait")
            await one.until(text="one ")
        await wire.cut()
        cut = await chat.settled()
        assert (cut["status"], cut["finished"][0]["isDisconnect"]) == ("error", True)
        await chat.do("resume")
        await chat.until(text="one ", status="streaming")
        cast.gate.set()
        shown = await chat.settled()
        assert (shown["status"], shown.text) == ("ready", "one two three")
        assert (shown["most"], shown.last["id"]) == (2, cut.last["id"])
        await place.until("other", "run.completed")
        await other.settled()
        await other.do("resume")  # it was over by then, and is had all the same
        assert (await other.settled()).text == "one two three"
        new = await clients.chat(7, url, "new", shared="one")
        await new.do("resume")
        assert (await new.settled())["messages"] == []


async def test_a_server_that_stops_ends_the_streams_as_a_lost_connection() -> None:
    async with running_clients() as clients:
        cast = Cast()
        async with serving(*cast.runnables()) as place:
            chat = await clients.chat(7, ws(place.url), "chat", shared="one")
            await chat.do("send", text="wait")
            await chat.until(text="one ")
        shown = await chat.settled()
        assert (shown["status"], shown["finished"][0]["isDisconnect"]) == ("error", True)
        assert "1012" in shown["error"]


# --- frames ------------------------------------------------------------------------------------


class Socket:
    """A client that sends what it is told to."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    @property
    def transport(self) -> Any:
        connection = self.socket._response.connection
        assert connection is not None
        return connection.transport

    async def send(self, **frame: Any) -> None:
        await self.socket.send_json(frame)

    async def say(self, request_id: str, text: str, **more: Any) -> None:
        message = {"id": text, "role": "user", "parts": [{"type": "text", "text": text}]}
        frame = {"id": "chat", "trigger": "submit-message", "headers": {}, "body": {}, **more}
        await self.send(type="send", requestId=request_id, messages=[message], **frame)

    async def frame(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            frame: dict[str, Any] = await self.socket.receive_json()
        return frame

    async def until(self, kind: str) -> list[dict[str, Any]]:
        frames = [await self.frame()]
        while frames[-1]["type"] != kind:
            frames.append(await self.frame())
        return frames

    async def delta(self) -> dict[str, Any]:
        """Return the next frame that has text."""
        while (frame := await self.frame()).get("chunk", {}).get("type") != "text-delta":
            pass
        return frame


@asynccontextmanager
async def connected(place: Place, path: str = "/api/chat/ws") -> AsyncIterator[Socket]:
    async with place.http.ws_connect(path) as socket:
        yield Socket(socket)


async def test_a_stream_has_numbers_from_0_and_one_end() -> None:
    async with (
        serving(Staged().puppet) as place,
        connected(place, "/api/chat") as socket,
    ):
        await socket.say("r 1", "hi")
        frames = await socket.until("end")
        assert {frame["requestId"] for frame in frames} == {"r 1"}
        chunks = frames[:-1]
        assert [frame["sequence"] for frame in chunks] == list(range(len(chunks)))
        assert [frame["chunk"]["type"] for frame in chunks] == ["start", "finish"]
        await socket.send(type="resume", requestId="r2", id="chat", headers={}, body={})
        again = await socket.until("end")
        assert again[0] == {"type": "start", "requestId": "r2"}
        assert [frame["chunk"] for frame in again[1:-1]] == [frame["chunk"] for frame in chunks]
        await socket.send(type="resume", requestId="r3", id="unknown", headers={}, body={})
        assert await socket.frame() == {"type": "no-active", "requestId": "r3"}


async def test_resume_goes_on_after_the_last_sequence() -> None:
    staged = Staged("one ", "two")
    async with serving(staged.puppet) as place, connected(place) as socket:
        await socket.say("r1", "hi")
        staged.let(0)
        last = (await socket.delta())["sequence"]
        async with connected(place) as other:
            resume = {"type": "resume", "requestId": "r2", "id": "chat", "lastSequence": last}
            await other.send(**resume)
            assert await other.frame() == {"type": "start", "requestId": "r2"}
            staged.let(1)
            frame = await other.frame()
            assert (frame["sequence"], frame["chunk"]["delta"]) == (last + 1, "two")
            await other.until("end")


def approving(frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the frame that approves what a stream asks last, but for its `requestId`."""
    chunks = [frame["chunk"] for frame in frames if "chunk" in frame]
    asked = [chunk for chunk in chunks if chunk["type"] == "tool-approval-request"][-1]
    part = {
        "type": "tool-pay",
        "toolCallId": asked["toolCallId"],
        "state": "approval-responded",
        "approval": {"id": asked["approvalId"], "approved": True},
    }
    said = {"id": chunks[0]["messageId"], "role": "assistant", "parts": [part]}
    return {"type": "send", "id": "chat", "trigger": "submit-message", "messages": [said]}


async def test_resume_after_an_answer_counts_from_the_stream_that_the_answer_got() -> None:
    calls = [ToolCall(id=f"c{n}", name="pay", arguments=f'{{"amount":{n}}}') for n in (1, 2)]
    cast = Cast(ScriptedModel([*(call_tools(call) for call in calls), say("Done.")]))
    async with serving(*cast.runnables()) as place, connected(place) as socket:
        await socket.say("r0", "pay")
        told = await socket.until("end")
        message_id = told[0]["chunk"]["messageId"]
        answer: dict[str, Any] = {}
        for number in (1, 2):  # the run pauses once more, and then ends
            answer = approving(told)
            await socket.send(requestId=f"a{number}", **answer)
            told = (await socket.until("end"))[:-1]
            assert told[0]["chunk"]["messageId"] == message_id
            await socket.send(type="resume", requestId=f"r{number}", id="chat", lastSequence=1)
            again = (await socket.until("end"))[1:-1]
            assert numbered(again) == numbered(told[2:])
        await socket.send(requestId="again", **answer)  # after all was told
        assert (await socket.until("end"))[0]["chunk"]["type"] == "start"
        assert cast.paid == [1, 2]


def numbered(frames: list[dict[str, Any]]) -> list[tuple[int, Any]]:
    return [(frame["sequence"], frame["chunk"]) for frame in frames]


async def test_numbers_mean_the_same_after_something_was_superseded() -> None:
    async def play(part: Part) -> None:
        node = {"run_id": part.run_id, "path": ("puppet",), "node": "n"}
        inner = part.below("puppet", "n")
        for message_id in ("msg_a", "msg_b"):
            await part.emit(NodeStarted(**node, superstep=1))
            await inner.begin(message_id)
            await inner.say(message_id, message_id)
            await inner.finish_step(message_id, message_id=message_id)
            if message_id == "msg_a":
                broken = ErrorInfo(code="broken", message="again")
                await part.emit(NodeFailed(**node, error=broken, will_retry=True))
        await part.emit(NodeCompleted(**node, duration_ms=1))
        await part.end("msg_b")

    async with serving(Puppet(play)) as place, connected(place) as socket:
        await socket.say("r1", "hi")
        told = (await socket.until("end"))[:-1]
        assert "data-superseded" in {frame["chunk"]["type"] for frame in told}
        await socket.send(type="resume", requestId="r2", id="chat", lastSequence=3)
        assert numbered((await socket.until("end"))[1:-1]) == numbered(told[4:])
        await socket.send(type="resume", requestId="r3", id="chat")
        deltas = [f["chunk"].get("delta") for f in (await socket.until("end"))[1:-1]]
        assert [delta for delta in deltas if delta] == ["msg_b"]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"type": "nonsense"}, "unknown `type`; known: send, resume, abort"),
        ({}, "unknown `type`"),
        ({"type": "send"}, "missing field `id`"),
        ({"type": "send", "id": "x", "messages": 1}, "`send.messages`"),
        ({"type": "send", "id": "x", "messages": []}, "`messages`: there is none"),
        ({"type": "send", "id": "x", "messages": [{"role": "robot"}]}, "`messages.0.role`"),
        ({"type": "resume", "id": "x", "lastSequence": "1.5"}, "lastSequence"),
        ({"type": "send", "id": "chat", "requestId": "r1"}, "is in use"),
    ],
)
async def test_a_frame_that_is_wrong_is_told_and_the_other_streams_live_on(
    frame: dict[str, Any], words: str
) -> None:
    staged = Staged("one ", "two")
    async with serving(staged.puppet) as place, connected(place) as socket:
        await socket.say("r1", "hi")
        staged.let(0)
        await socket.delta()
        await socket.send(**{"requestId": "bad", **frame})
        error = await socket.frame()
        assert error["type"] == "error"
        assert error["requestId"] == frame.get("requestId", "bad")
        assert words in error["errorText"]
        await socket.send(type="abort", requestId="nobody")
        staged.let(1)
        assert (await socket.until("end"))[0]["chunk"]["delta"] == "two"


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"type":"abort"}', '{"requestId":1}', None])
async def test_a_frame_that_nobody_can_be_told_about_ends_the_connection_and_no_run(
    text: str | None,
) -> None:
    staged = Staged("one")
    async with serving(staged.puppet) as place, connected(place) as socket:
        await socket.say("r1", "hi")
        await socket.until("chunk")
        await (socket.socket.send_bytes(b"{}") if text is None else socket.socket.send_str(text))
        while (message := await socket.socket.receive(5)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert socket.socket.close_code == 1008, message
        staged.let(0)
        assert (await place.until("chat", "run.completed")).type == "run.completed"


@pytest.mark.rule("cancel.bounded")
async def test_abort_right_after_send_stops_what_was_sent_and_nothing_else() -> None:
    staged = Staged("one")
    async with serving(staged.puppet) as place, connected(place) as socket:
        await socket.say("r1", "first")
        await socket.until("chunk")
        await socket.say("r2", "second")
        await socket.send(type="abort", requestId="r2")
        cancelled = await place.until("chat", "run.cancelled")
        staged.let(0)
        frames = await socket.until("end")
        ends = [frame["requestId"] for frame in frames if frame["type"] == "end"]
        assert ends == ["r1"]  # the client has forgotten the other one
        completed = await place.until("chat", "run.completed")
        assert cancelled.run_id != completed.run_id
        assert staged.runs == 1


async def test_a_socket_has_so_many_streams_and_no_more() -> None:
    staged = Staged("one")
    async with serving(staged.puppet, max_subscriptions=2) as place, connected(place) as socket:
        for name in ("r1", "r2"):
            await socket.say(name, name, id=name)
            await socket.until("chunk")
        await socket.say("r3", "r3", id="r3")
        frames = await socket.until("error")
        assert frames[-1]["requestId"] == "r3"
        assert "2 sessions at once" in frames[-1]["errorText"]
        await socket.send(type="abort", requestId="r1")
        await place.until("r1", "run.cancelled")
        await socket.say("r4", "r4", id="r4")
        while (frame := await socket.frame())["requestId"] != "r4":
            pass
        assert frame["type"] == "chunk"


@pytest.mark.rule("slow.cut", "slow.isolated")
async def test_a_client_that_reads_nothing_is_cut_and_its_run_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="gateway.transports")
    staged = Staged(*["x" * 60_000] * 200)
    async with (
        serving(staged.puppet, write_timeout_s=0.3, write_buffer_bytes=8192) as place,
        connected(place) as socket,
    ):
        await socket.say("r1", "hi")
        await socket.until("chunk")
        socket.transport.pause_reading()
        staged.let(*range(200))
        assert (await place.until("chat", "run.completed")).type == "run.completed"
        async with asyncio.timeout(30):
            while "a client was cut" not in caplog.text:  # noqa: ASYNC110 - only the log tells
                await asyncio.sleep(0.02)
        socket.transport.abort()


@pytest.mark.rule("origin")
async def test_a_page_of_another_site_gets_no_socket() -> None:
    async with serving(Staged().puppet) as place:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await place.http.ws_connect("/api/chat/ws", origin="https://elsewhere.example")
        assert refused.value.status == 403


async def test_a_session_that_is_deleted_ends_its_stream_alone() -> None:
    staged = Staged("one")
    async with serving(staged.puppet) as place, connected(place) as socket:
        await socket.say("r1", "hi", id="gone")
        await socket.until("chunk")
        await socket.say("r2", "hi", id="kept")
        while (await socket.frame())["requestId"] != "r2":
            pass
        await place.manager.delete("gone")
        ended: dict[str, list[str]] = {"r1": [], "r2": []}
        while "abort" not in ended["r1"]:
            frame = await socket.frame()
            ended[frame["requestId"]].append(frame.get("chunk", frame)["type"])
        staged.let(0)
        while "end" not in ended["r2"]:
            frame = await socket.frame()
            ended[frame["requestId"]].append(frame.get("chunk", frame)["type"])
