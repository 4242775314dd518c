"""An agent that asks the client where it is, and says what it was told; also for processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runtime.agent import Agent
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.tools import tool

PLACE: dict[str, Any] = {
    "name": "place",
    "description": "Where the user is.",
    "parameters": {"type": "object", "properties": {"exact": {"type": "boolean"}}},
}
WHERE = ToolCall(id="c1", name="place", arguments='{"exact": true}')
LOOK = ToolCall(id="c2", name="look", arguments="{}")


class Guide:
    """The agent, and what was done in it."""

    def __init__(self, *calls: ToolCall) -> None:
        self.calls = calls or (WHERE,)
        self.looked = 0
        self.model = ScriptedModel(self._answer)
        self.agent = Agent("guide", self.model, tools=(tool(self.look),))

    async def look(self) -> str:
        """Look around."""
        self.looked += 1
        return "trees"

    def _answer(self, request: ModelRequest) -> Iterable[Cue]:
        told = [message.content for message in request.messages if message.role == "tool"]
        return say(f"So: {', '.join(told)}.") if told else call_tools(*self.calls)


registry = Registry(Guide(LOOK, WHERE).agent)
