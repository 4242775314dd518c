"""Agents: a model with instructions and tools.

`agent` holds the definition and the end of each run, `loop` what a run does, `step` one model call,
`speech` how deltas become events, `plan` what is to be done with a tool call, `execute` how it is
done; `conversation` is what was said, and who has it. `hooks` is what an author may add, `aside` how
it is called. `handoff`, `output` and `bill` know about handing over, structured answers and costs;
`runnable_tool` makes tools of agents and graphs.
"""

from __future__ import annotations

from runtime.agent.agent import Agent
from runtime.agent.bill import Prices
from runtime.agent.handoff import Handoff
from runtime.agent.hooks import Allow, Change, Deny, Hooks, Replace, RunContext, ToolUse
from runtime.agent.runnable_tool import runnable_tool

__all__ = [
    "Agent",
    "Allow",
    "Change",
    "Deny",
    "Handoff",
    "Hooks",
    "Prices",
    "Replace",
    "RunContext",
    "ToolUse",
    "runnable_tool",
]
