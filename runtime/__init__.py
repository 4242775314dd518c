"""Agents that report everything they do as events, with or without a server around them.

What one needs to write an agent:

    from runtime import Agent, Registry, tool

    @tool
    async def get_weather(city: str) -> str:
        "Look up the weather of a city."
        ...

    registry = Registry(Agent("assistant", model=OpenAIModel("gpt-5-mini"), tools=[get_weather]))

`OpenAIModel` (extra `openai`) and `LocalModel` (extra `local`) are loaded when they are first used.
The runtime knows no session, no log and no transport: it is given a `RunRequest` and a function
`emit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.agent import Agent
from runtime.errors import (
    AgentUnknown,
    ArgumentsInvalid,
    ModelError,
    ModelRefused,
    ModelSpokeNonsense,
    ModelUnavailable,
    OptionsRefused,
    RuntimeFault,
    StepLimitExceeded,
    ToolFailed,
    ToolTimedOut,
    ToolUnknown,
)
from runtime.events import EVENT, RUN_ENDS, ErrorInfo, Event
from runtime.messages import Message, ToolCall, Usage
from runtime.models import Model, ModelRequest, RetryPolicy, ScriptedModel
from runtime.registry import Registry
from runtime.runnable import Decision, Emit, Runnable, RunOptions, RunRequest, ToolInfo
from runtime.tools import Tool, ToolContext, tool

if TYPE_CHECKING:
    from runtime.models.local import LocalModel
    from runtime.models.openai import OpenAIModel

__all__ = [
    "EVENT",
    "RUN_ENDS",
    "Agent",
    "AgentUnknown",
    "ArgumentsInvalid",
    "Decision",
    "Emit",
    "ErrorInfo",
    "Event",
    "LocalModel",
    "Message",
    "Model",
    "ModelError",
    "ModelRefused",
    "ModelRequest",
    "ModelSpokeNonsense",
    "ModelUnavailable",
    "OpenAIModel",
    "OptionsRefused",
    "Registry",
    "RetryPolicy",
    "RunOptions",
    "RunRequest",
    "Runnable",
    "RuntimeFault",
    "ScriptedModel",
    "StepLimitExceeded",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolFailed",
    "ToolInfo",
    "ToolTimedOut",
    "ToolUnknown",
    "Usage",
    "tool",
]


def __getattr__(name: str) -> Any:
    """Load the providers that need an extra when they are first asked for."""
    if name == "OpenAIModel":
        from runtime.models.openai import OpenAIModel  # noqa: PLC0415 - loaded on first use

        return OpenAIModel
    if name == "LocalModel":
        from runtime.models.local import LocalModel  # noqa: PLC0415 - loaded on first use

        return LocalModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
