"""Agents and graphs that report everything they do as events, with or without a server around them.

What one needs to write an agent, and to talk to it:

    from runtime import Agent, OpenAIModel, stream, tool

    @tool
    async def get_weather(city: str) -> str:
        "Look up the weather of a city."
        ...

    agent = Agent("assistant", model=OpenAIModel("gpt-5-mini"), tools=[get_weather])
    handle = stream(agent, "What is the weather in Oslo?")
    async for event in handle.stream:
        ...

Graphs are in `runtime.graph`. `OpenAIModel` and `OpenAIResponsesModel` (extra `openai`),
`AnthropicModel` (extra `anthropic`) and `LocalModel` (extra `local`) are loaded when they are first
used, and so is `mcp_tools` (extra `mcp`). Agents of other frameworks are in `runtime.adapters`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from runtime.agent import (
    Agent,
    Allow,
    Change,
    Deny,
    Handoff,
    Hooks,
    Prices,
    Replace,
    RunContext,
    ToolUse,
    runnable_tool,
)
from runtime.cancel import CancelToken
from runtime.errors import (
    AgentUnknown,
    ApprovalRejected,
    ArgumentsInvalid,
    BudgetExceeded,
    GuardrailTripwire,
    ModelError,
    ModelRefused,
    ModelSpokeNonsense,
    ModelUnavailable,
    NoResultError,
    OptionsRefused,
    OutputParseError,
    RunAborted,
    RunFault,
    RuntimeFault,
    RunTimeout,
    SessionBusy,
    StepLimitExceeded,
    StreamNotConsumedError,
    ToolFailed,
    ToolTimedOut,
    ToolUnknown,
)
from runtime.events import EVENT, RUN_ENDS, ErrorInfo, Event
from runtime.messages import ClientTool, Message, ToolCall, Usage
from runtime.models import FallbackModel, Model, ModelRequest, Pause, ScriptedModel
from runtime.registry import Registry, ServedAgent, get_agent, set_default_registry
from runtime.retry import RetryPolicy
from runtime.runnable import Decision, Emit, Runnable, RunOptions, RunRequest, ToolInfo
from runtime.scope import emit, get_stream_writer, write
from runtime.session import Session, create_session, fork_session, resume_session
from runtime.streaming import ModelEvent, RunHandle, RunResult, resume, run, stream
from runtime.throttle import Progress, batch, throttle
from runtime.tools import Tool, ToolContext, Trip, tool

if TYPE_CHECKING:
    from runtime.mcp import mcp_tools
    from runtime.models import AnthropicModel, LocalModel, OpenAIModel, OpenAIResponsesModel

__all__ = [
    "EVENT",
    "RUN_ENDS",
    "Agent",
    "AgentUnknown",
    "Allow",
    "AnthropicModel",
    "ApprovalRejected",
    "ArgumentsInvalid",
    "BudgetExceeded",
    "CancelToken",
    "Change",
    "ClientTool",
    "Decision",
    "Deny",
    "Emit",
    "ErrorInfo",
    "Event",
    "FallbackModel",
    "GuardrailTripwire",
    "Handoff",
    "Hooks",
    "LocalModel",
    "Message",
    "Model",
    "ModelError",
    "ModelEvent",
    "ModelRefused",
    "ModelRequest",
    "ModelSpokeNonsense",
    "ModelUnavailable",
    "NoResultError",
    "OpenAIModel",
    "OpenAIResponsesModel",
    "OptionsRefused",
    "OutputParseError",
    "Pause",
    "Prices",
    "Progress",
    "Registry",
    "Replace",
    "RetryPolicy",
    "RunAborted",
    "RunContext",
    "RunFault",
    "RunHandle",
    "RunOptions",
    "RunRequest",
    "RunResult",
    "RunTimeout",
    "Runnable",
    "RuntimeFault",
    "ScriptedModel",
    "ServedAgent",
    "Session",
    "SessionBusy",
    "StepLimitExceeded",
    "StreamNotConsumedError",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolFailed",
    "ToolInfo",
    "ToolTimedOut",
    "ToolUnknown",
    "ToolUse",
    "Trip",
    "Usage",
    "batch",
    "create_session",
    "emit",
    "fork_session",
    "get_agent",
    "get_stream_writer",
    "mcp_tools",
    "resume",
    "resume_session",
    "run",
    "runnable_tool",
    "set_default_registry",
    "stream",
    "throttle",
    "tool",
    "write",
]

_LOADED_ON_FIRST_USE = {
    "AnthropicModel": "runtime.models",
    "LocalModel": "runtime.models",
    "OpenAIModel": "runtime.models",
    "OpenAIResponsesModel": "runtime.models",
    "mcp_tools": "runtime.mcp",
}


def __getattr__(name: str) -> Any:
    """Load what needs an extra when it is first asked for."""
    if name not in _LOADED_ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LOADED_ON_FIRST_USE[name]), name)
