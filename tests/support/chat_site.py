"""A server of its own with agents for tests of chat completions, and words for looking at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from gateway.app import running
from gateway.codecs.native import event_json
from gateway.config import Settings
from gateway.log.follow import follow
from gateway.sessions.manager import SessionManager
from runtime.agent import Agent
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.runnable import Runnable
from runtime.tools import tool

SESSION = "X-Tidegate-Session-Id"

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at a place.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}
"""A tool of the client's that the agent `looker` calls."""


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def _look(request: ModelRequest) -> Iterable[Cue]:
    if request.messages[-1].role == "tool":
        seen = [m.content for m in request.messages if m.role == "tool"]
        return say(f"I saw {' and '.join(seen)}.")
    places = request.messages[-1].content.split()
    calls = [
        ToolCall(id=f"call_{place}", name="look", arguments=f'{{"place": "{place}"}}')
        for place in places
    ]
    return [*say("Let me see.")[:-1], *call_tools(*calls)]


def _count(request: ModelRequest) -> Iterable[Cue]:
    if request.messages[-1].role == "tool":
        return say(f"It is {request.messages[-1].content}.", reasoning="Easy now.")
    call = ToolCall(id="call_1", name="add", arguments='{"a": 2, "b": 2}')
    return [*say("I add.", reasoning="Two and two.")[:-1], *call_tools(call)]


def looker() -> Agent:
    """Return the agent that says something and then calls the client's `look`, once per word."""
    return Agent("looker", ScriptedModel(_look), instructions="Look around.")


def counter() -> Agent:
    """Return the agent that reasons, speaks, uses a tool of its own, and speaks again."""
    return Agent("counter", ScriptedModel(_count), tools=(add,))


class Gated:
    """An agent that says `Hello`, waits at the gate, and says ` again`.

    Attributes:
        begun: Set once it was asked.
        gate: Where it waits.
        agent: It.
        model: Its model.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.model = ScriptedModel(self._answer)
        self.agent = Agent("gated", self.model)

    def _answer(self, request: ModelRequest) -> Iterable[Cue]:
        self.begun.set()
        return ["Hello", self.gate, *say(" again")]


@dataclass
class ChatSite:
    """A server that runs."""

    url: str
    manager: SessionManager
    http: aiohttp.ClientSession

    async def post(self, body: dict[str, Any], **headers: str) -> aiohttp.ClientResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/v1/chat/completions", json=body, headers=named)

    async def sessions(self) -> list[dict[str, Any]]:
        return list((await self.manager.sessions(limit=50, after=None))["sessions"])

    async def only_session(self) -> str:
        (session,) = await self.sessions()
        return str(session["session_id"])

    async def until(self, session_id: str, kind: str) -> dict[str, Any]:
        """Wait for an event of a type in a session, and return it."""
        engine = self.manager.engine
        head = await engine.head(session_id)
        async with asyncio.timeout(30):
            async for batch in follow(engine, session_id, head.start):
                for entry in batch:
                    event: dict[str, Any] = orjson.loads(event_json(entry))
                    if event["type"] == kind:
                        return event
        raise AssertionError(f"the log ended without {kind}")


@asynccontextmanager
async def chat_site(*agents: Runnable, **settings: Any) -> AsyncIterator[ChatSite]:
    """Run a server on a free port, put together as users get it."""
    defaults = {"engine": "memory", "port": 0, "delta_interval_ms": 0}
    chosen = Settings.model_validate(defaults | settings)
    async with running(chosen, Registry(*agents)) as server:
        patient = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(server.url, timeout=patient) as http:
            yield ChatSite(server.url, server.manager, http)
