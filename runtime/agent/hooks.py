"""Hooks: what an agent's author wants to see, change or forbid while a run goes on. Data only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias, TypeVar

from runtime.events import ModelCompleted, RunCompleted
from runtime.messages import Message
from runtime.models.base import ModelRequest
from runtime.runnable import RunOptions

__all__ = ["Allow", "Change", "Deny", "Hooks", "Instructions", "Replace", "RunContext", "ToolUse"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run as hooks and instructions see it.

    Attributes:
        run_id: The run.
        agent: Who speaks: the run's agent, or who was handed the conversation.
        path: From the root to the run's agent.
        turn: Model calls so far; while one is made, its number, from 1.
        messages: The conversation, as this agent sees it.
        options: What the caller has set.
    """

    run_id: str
    agent: str
    path: tuple[str, ...]
    turn: int
    messages: tuple[Message, ...]
    options: RunOptions


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One tool call as hooks see it; `arguments` were checked, and are the JSON that was given."""

    run: RunContext
    call_id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Allow:
    """Let the call be made. Returning None is the same."""


@dataclass(frozen=True, slots=True)
class Deny:
    """Do not make the call, and tell the model why."""

    message: str = "this call is not allowed"


@dataclass(frozen=True, slots=True)
class Change:
    """Make the call with these arguments; they are checked as the model's are."""

    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replace:
    """Let this be the tool's result; any value that pydantic can write as JSON."""

    result: Any


Instructions = str | Callable[[RunContext], str | Awaitable[str]]
"""What a model is told before the conversation; a function is asked before each model call."""

_Maybe: TypeAlias = T | Awaitable[T]


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions, async or sync, that are called around what an agent does. All are optional.

    Of several `Hooks`, those before are called in order and those after in reverse order. They are
    called in a run that goes on as in one that begins; `emit` works in them. A sync one runs on the
    event loop, so it must be quick. One that raises

    - around a tool call makes this call fail, and the model is told;
    - elsewhere makes the run fail: with what it raised if that is a `RuntimeFault`, otherwise with
      a fault that names the hook.

    Attributes:
        before_run: Before anything else is done; again each time that the run goes on.
        after_run: When the run completes, with its last event, before that is reported.
        before_model: Before each model call; may return another request.
        after_model: After each model call, with what the model said.
        before_tool: Before each tool call, and before a human is asked about it, or a client that
            has the tool.
        after_tool: With the tool's result, as JSON; may return a `Replace`.
        tools: The tools that the tool hooks are called for, by name; `*` and `?` as in file names.
    """

    before_run: Callable[[RunContext], _Maybe[None]] | None = None
    after_run: Callable[[RunContext, RunCompleted], _Maybe[None]] | None = None
    before_model: Callable[[RunContext, ModelRequest], _Maybe[ModelRequest | None]] | None = None
    after_model: Callable[[RunContext, ModelCompleted], _Maybe[None]] | None = None
    before_tool: Callable[[ToolUse], _Maybe[Allow | Deny | Change | None]] | None = None
    after_tool: Callable[[ToolUse, Any], _Maybe[Replace | None]] | None = None
    tools: str = "*"

    def concern(self, tool: str) -> bool:
        """Tell whether the tool hooks are called for a tool."""
        return fnmatchcase(tool, self.tools)
