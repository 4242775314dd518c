"""Agents to be had as responses, and OpenAI's own client for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from runtime.agent import Agent
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.runnable import Runnable
from runtime.tools import tool
from tests.support.chat_site import LOOK, ChatSite, chat_site

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL: Any = {"type": "function", **LOOK["function"]}  # type: ignore[dict-item]
"""The client's tool that the agent `looker` calls, in the words of this API."""


@tool(needs_approval=True)
async def drop(table: str) -> str:
    """Drop a table."""
    return f"{table} is gone"


def _keeper(request: ModelRequest) -> Iterable[Cue]:
    last = request.messages[-1]
    if last.role == "tool":
        return say(f"Told: {last.content}")
    return call_tools(ToolCall(id="call_1", name="drop", arguments='{"table": "t"}'))


def keeper() -> Agent:
    """Return the agent that always wants to drop a table."""
    return Agent("keeper", ScriptedModel(_keeper), tools=(drop,))


def _mirror(request: ModelRequest) -> Iterable[Cue]:
    return say(" | ".join(f"{m.role}: {m.content}" for m in request.messages))


def mirror() -> Agent:
    """Return the agent that says what it was given."""
    return Agent("mirror", ScriptedModel(_mirror))


def boss() -> Agent:
    """Return the agent that has another one as its tool."""

    def asks(request: ModelRequest) -> Iterable[Cue]:
        if request.messages[-1].role == "tool":
            return say("That is all.")
        return call_tools(ToolCall(id="call_0", name="helper", arguments='{"input": "x"}'))

    helper = Agent("helper", ScriptedModel(lambda _: say("For your ears.")), description="Helps.")
    return Agent("boss", ScriptedModel(asks), tools=(helper.as_tool(),))


@dataclass
class ResponsesSite(ChatSite):
    """A server that runs, and OpenAI's client for it."""

    ai: openai.AsyncOpenAI

    async def refused(self, **body: Any) -> tuple[type[Exception], dict[str, Any]]:
        """Return how a request for a response is refused."""
        with pytest.raises(openai.APIStatusError) as caught:
            await self.ai.responses.create(**body)
        assert isinstance(caught.value.body, dict)
        return caught.type, caught.value.body


def client_of(url: str) -> openai.AsyncOpenAI:
    """Return OpenAI's client for a server; it tries nothing again by itself."""
    return openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0)


@asynccontextmanager
async def responses_site(*agents: Runnable, **settings: Any) -> AsyncIterator[ResponsesSite]:
    """Run a server on a free port, put together as users get it."""
    async with chat_site(*agents, **settings) as site, client_of(site.url) as ai:
        yield ResponsesSite(site.url, site.manager, site.http, ai)


def checked(events: Sequence[Any]) -> list[str]:
    """Return the types of events that the client gave; they fit its own types, number by number."""
    for place, event in enumerate(events):
        EVENT.validate_python(event.model_dump(exclude_unset=True, by_alias=True))
        assert event.sequence_number == place
    return [event.type for event in events]
