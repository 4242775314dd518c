"""What the server under test serves: the scripted agents, and one that calls a client's tool."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.builtin.research import research
from gateway.builtin.scripted import echo, tools
from runtime.agent import Agent
from runtime.messages import ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.registry import Registry

PACE = 0.4


def _call(request: ModelRequest) -> Iterable[Cue]:
    last = request.messages[-1]
    if last.role != "user":
        return say(f"It said {last.content}.")
    call = ToolCall(id="call-1", name=last.content.removeprefix("call "), arguments="{}")
    return call_tools(call)


caller = Agent("caller", ScriptedModel(_call, name="scripted-caller"))
registry = Registry(echo(), tools(), research(None, pace=PACE), caller)
