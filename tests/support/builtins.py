"""The built-in agents without a model: `tidegate serve tests.support.builtins:registry`.

They are what a server offers by itself, only that `assistant` has nothing to say. Making a client for
a model takes a third of the time of a start, and tests start hundreds of servers.
"""

from __future__ import annotations

from gateway.builtin.research import research
from gateway.builtin.scripted import echo, tools
from runtime.agent import Agent
from runtime.models.scripted import ScriptedModel
from runtime.registry import Registry
from runtime.runnable import Runnable

__all__ = ["builtins", "registry"]


def builtins() -> tuple[Runnable, ...]:
    """Return them, in the order in which a server has them."""
    assistant = Agent("assistant", ScriptedModel([]), description="Has no model here.")
    return (assistant, echo(), tools(), research(None))


def registry() -> Registry:
    """Return a server's."""
    return Registry(*builtins())
