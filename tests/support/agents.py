"""What servers for pages and clients offer: `tidegate serve tests.support.agents:registry`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from runtime.agent import Agent
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.tools import tool
from tests.support import held_research, team
from tests.support.builtins import builtins
from tests.support.gates import Gates

__all__ = ["registry", "research"]

SOON_MS = (20, 100)
"""When readers are asked to come back; those of users wait for seconds, so that not all come at once."""


def registry() -> Registry:
    """Return the built-in agents, the team, `held`, `watcher` that uses a tool, and `usher`.

    `held` says what it is told, and stops at each gate in it. The tool of `watcher` stands at one.
    """
    _come_back_soon()
    gates = Gates()
    return Registry(*builtins(), *team.registry(), gates.held, _watcher(gates), gates.usher)


def research() -> Registry:
    """Return the graph that stands still at gates, and who opens them."""
    _come_back_soon()
    return held_research.registry()


def _come_back_soon() -> None:
    """Replace, from outside, what there is no setting for."""
    importlib.import_module("gateway.transports.stream").__dict__["_RETRY_MS"] = SOON_MS


def _watcher(gates: Gates) -> Agent:
    @tool
    async def watch() -> str:
        """Watch the tide."""
        await gates.stand()
        return "it turns"

    def script(request: ModelRequest) -> Iterable[Cue]:
        if any(message.role == "tool" for message in request.messages):
            return say("The tide has turned.")
        return call_tools(ToolCall(id="call_0", name="watch", arguments="{}"))

    return Agent("watcher", ScriptedModel(script), tools=(watch,))
