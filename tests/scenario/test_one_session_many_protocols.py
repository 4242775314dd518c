"""One session followed at once by five protocols: all of them show the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp
import pytest

from gateway.app import running
from gateway.config import Settings
from runtime.agent import Agent
from runtime.messages import ToolCall
from runtime.models.base import Finish, Text
from runtime.models.scripted import ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.tools import tool

SESSION = "one-session"
Shown = tuple[list[str], list[tuple[str, Any, Any]]]
"""The texts of the answer in order, and each tool call: its name, arguments and result."""


@tool
async def look_up(word: str) -> dict[str, str]:
    """Look a word up."""
    return {"found": word}


@tool(needs_approval=True)
async def pay(euros: int) -> str:
    """Pay."""
    return f"paid {euros}"


class Follower:
    """One client of one protocol: opens, is cut, opens again, and knows what it shows."""

    def __init__(self, http: aiohttp.ClientSession, changed: asyncio.Event) -> None:
        self.http = http
        self.changed = changed
        self.texts: dict[str, str] = {}
        self.calls: dict[str, dict[str, Any]] = {}
        self.ended = False
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self.ended = False
        self._task = asyncio.create_task(self._follow())

    async def cut(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _follow(self) -> None:
        async with AsyncExitStack() as stack:
            async for message in self.messages(stack):
                self.take(message)
                self.changed.set()
        self.ended = True
        self.changed.set()

    async def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._task is not None and self._task.done():
            await self._task

    def messages(self, stack: AsyncExitStack) -> AsyncIterator[dict[str, Any]]:
        raise NotImplementedError

    def take(self, message: dict[str, Any]) -> None:
        raise NotImplementedError

    def say(self, key: str, text: str) -> None:
        self.texts[key] = self.texts.get(key, "") + text

    def call(self, key: str, **known: Any) -> None:
        self.calls.setdefault(key, {}).update(known)

    def shown(self) -> Shown:
        calls = [
            (call["name"], call.get("arguments"), call.get("result"))
            for call in self.calls.values()
        ]
        return [text for text in self.texts.values() if text], calls

    async def sse(
        self, stack: AsyncExitStack, path: str, method: str = "GET", **more: Any
    ) -> AsyncIterator[tuple[str | None, str]]:
        """Yield the id and data of each server-sent event."""
        request = self.http.request(method, path, timeout=aiohttp.ClientTimeout(), **more)
        response = await stack.enter_async_context(request)
        assert response.status == 200, (path, response.status, await response.text())
        event_id: str | None = None
        async for raw in response.content:
            line = raw.decode().rstrip("\n")
            if line.startswith("id: "):
                event_id = line[4:]
            elif line.startswith("data: "):
                yield event_id, line[6:]


class NativeSse(Follower):
    cursor = "0"

    async def messages(self, stack: AsyncExitStack) -> AsyncIterator[dict[str, Any]]:
        path = f"/v1/sessions/{SESSION}/events?after={self.cursor}"
        async for event_id, data in self.sse(stack, path):
            yield json.loads(data)
            self.cursor = event_id or self.cursor

    def take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "message.delta":
                self.say(message["message_id"], message["text"])
            case "tool_call.ready":
                arguments = json.loads(message["arguments"])
                self.call(message["call_id"], name=message["name"], arguments=arguments)
            case "tool.completed":
                self.call(message["call_id"], result=message["result"])
            case _:
                pass


class NativeWebSocket(NativeSse):
    async def messages(self, stack: AsyncExitStack) -> AsyncIterator[dict[str, Any]]:
        socket = await stack.enter_async_context(self.http.ws_connect("/v1/ws"))
        await socket.send_json({"type": "subscribe", "session_id": SESSION, "after": self.cursor})
        async for frame in socket:
            message = json.loads(frame.data)
            if "seq" in message:
                self.cursor = message["cursor"]
                yield message


class AgUi(Follower):
    async def messages(self, stack: AsyncExitStack) -> AsyncIterator[dict[str, Any]]:
        body: dict[str, Any] = {"threadId": SESSION, "runId": "joining", "messages": []}
        body |= {"state": {}, "tools": [], "context": [], "forwardedProps": {}}
        path = "/agui/buyer/connect"
        async for _, data in self.sse(stack, path, "POST", json=body):
            yield json.loads(data)

    def take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "MESSAGES_SNAPSHOT":
                self.texts.clear()
                self.calls.clear()
                for said in message["messages"]:
                    self._restore(said)
            case "TEXT_MESSAGE_START":
                self.texts[message["messageId"]] = ""
            case "TEXT_MESSAGE_CONTENT":
                self.say(message["messageId"], message["delta"])
            case "TOOL_CALL_START":
                self.call(message["toolCallId"], name=message["toolCallName"], draft="")
            case "TOOL_CALL_ARGS":
                call = self.calls[message["toolCallId"]]
                call["draft"] += message["delta"]
            case "TOOL_CALL_END":
                call = self.calls[message["toolCallId"]]
                call["arguments"] = json.loads(call["draft"])
            case "TOOL_CALL_RESULT":
                self.call(message["toolCallId"], result=_plain(message["content"]))
            case _:
                pass

    def _restore(self, said: dict[str, Any]) -> None:
        if said["role"] == "assistant":
            self.texts[said["id"]] = said.get("content") or ""
            for call in said.get("toolCalls") or ():
                function = call["function"]
                arguments = json.loads(function["arguments"])
                self.call(call["id"], name=function["name"], arguments=arguments)
        elif said["role"] == "tool":
            self.call(said["toolCallId"], result=_plain(said["content"]))


def _plain(content: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content


class Vercel(Follower):
    async def messages(self, stack: AsyncExitStack) -> AsyncIterator[dict[str, Any]]:
        async for _, data in self.sse(stack, f"/api/chat/{SESSION}/stream"):
            if data != "[DONE]":
                yield json.loads(data)

    def take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "start":  # a replay: the message is built anew
                self.texts.clear()
                self.calls.clear()
            case "text-delta":
                self.say(message["id"], message["delta"])
            case "tool-input-available":
                self.call(
                    message["toolCallId"], name=message["toolName"], arguments=message["input"]
                )
            case "tool-output-available" if not message.get("preliminary"):
                self.call(message["toolCallId"], result=message["output"])
            case _:
                pass


class Responses(Follower):
    """Follows one response after another: a pause for a human ends one."""

    def __init__(self, http: aiohttp.ClientSession, changed: asyncio.Event, run_id: str) -> None:
        super().__init__(http, changed)
        self.run_id = run_id
        self.segment = 0
        self.last = -1

    async def messages(self, stack: AsyncExitStack) -> AsyncIterator[dict[str, Any]]:
        name = f"resp_{SESSION}.{self.run_id}" + (f".{self.segment}" if self.segment else "")
        path = f"/v1/responses/{name}?stream=true&starting_after={self.last}"
        if self.last < 0:
            path = f"/v1/responses/{name}?stream=true"
        async for _, data in self.sse(stack, path):
            message = json.loads(data)
            assert message["sequence_number"] == self.last + 1
            self.last += 1
            yield message

    def next_segment(self) -> None:
        self.segment += 1
        self.last = -1

    def take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "response.output_text.delta":
                self.say(message["item_id"], message["delta"])
            case "response.output_item.done":
                self._take_item(message["item"])
            case _:
                pass

    def _take_item(self, item: dict[str, Any]) -> None:
        if item["type"] not in {"mcp_call", "mcp_approval_request"}:
            return
        key = item.get("approval_request_id") or item["id"]
        self.call(key, name=item["name"], arguments=json.loads(item["arguments"]))
        if "output" in item:
            self.call(key, result=_plain(item["output"]))


class Audience:
    """All who follow the session, and what the test waits for in what they show."""

    def __init__(self, http: aiohttp.ClientSession, run_id: str) -> None:
        self.changed = changed = asyncio.Event()
        self.responses = Responses(http, changed, run_id)
        self.of_runs = [AgUi(http, changed), Vercel(http, changed), self.responses]
        self.everyone = [NativeSse(http, changed), NativeWebSocket(http, changed), *self.of_runs]

    async def until(self, holds: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(30):
                while not holds():
                    self.changed.clear()
                    await self.changed.wait()
                    for follower in self.everyone:
                        await follower.check()
        except TimeoutError:
            shown = {type(one).__name__: (one.shown(), one.ended) for one in self.everyone}
            pytest.fail(f"they show {shown}")

    async def all_show(self, texts: list[str], *names: str) -> None:
        def same() -> bool:
            return all(
                shown[0] == texts and tuple(call[0] for call in shown[1]) == names
                for shown in (follower.shown() for follower in self.everyone)
            )

        await self.until(same)

    async def streams_of_runs_end(self) -> None:
        await self.until(lambda: all(follower.ended for follower in self.of_runs))


def buyer(first: asyncio.Event, last: asyncio.Event) -> Agent:
    """Return an agent that looks something up, asks before it pays, and then talks."""
    calls = (
        ToolCall(id="call_a", name="look_up", arguments='{"word": "tide"}'),
        ToolCall(id="call_b", name="pay", arguments='{"euros": 5}'),
    )
    model = ScriptedModel(
        [
            ["Let me ", first, "see.", *call_tools(calls[0])],
            [*say("It costs.")[:-1], *call_tools(calls[1])],
            [Text("Paid, "), Text("and "), last, Text("never said"), Finish("stop")],
        ]
    )
    return Agent("buyer", model, tools=(look_up, pay))


async def command(http: aiohttp.ClientSession, **body: Any) -> str:
    async with http.post(f"/v1/sessions/{SESSION}/commands", json=body) as response:
        assert response.status == 202, await response.text()
        return str((await response.json())["run_id"])


@pytest.mark.rule("wire.same", "disconnect.not_cancel", "resume.exact")
async def test_five_protocols_show_the_same_through_an_approval_a_cut_and_a_cancel() -> None:
    first, never = asyncio.Event(), asyncio.Event()
    registry = Registry(buyer(first, never))
    settings = Settings.model_validate({"engine": "memory", "port": 0, "delta_interval_ms": 0})
    async with running(settings, registry) as server, aiohttp.ClientSession(server.url) as http:
        await http.post("/v1/sessions", json={"session_id": SESSION})
        run_id = await command(http, type="send", id="c1", text="buy it")
        audience = Audience(http, run_id)
        for follower in audience.everyone:
            follower.open()
        await audience.all_show(["Let me "])
        first.set()
        await audience.all_show(["Let me see.", "It costs."], "look_up", "pay")
        await audience.streams_of_runs_end()  # it waits for a human

        async with http.get(f"/v1/sessions/{SESSION}") as response:
            approval = (await response.json())["approvals"][0]["approval_id"]
        decisions = [{"approval_id": approval, "decision": "approve"}]
        await command(http, type="continue", id="c2", decisions=decisions)
        audience.responses.next_segment()
        for follower in audience.of_runs:
            follower.open()
        texts = ["Let me see.", "It costs.", "Paid, and "]
        await audience.all_show(texts, "look_up", "pay")

        for follower in audience.everyone:
            await follower.cut()
        for follower in audience.everyone:
            follower.open()
        await command(http, type="cancel", id="c3")
        await audience.streams_of_runs_end()
        await audience.all_show(texts, "look_up", "pay")

        calls = [
            ("look_up", {"word": "tide"}, {"found": "tide"}),
            ("pay", {"euros": 5}, "paid 5"),
        ]
        for follower in audience.everyone:
            assert follower.shown() == (texts, calls), type(follower).__name__
            await follower.cut()
