"""Agents: a model with instructions and tools.

`agent` holds the definition and the end of each run, `loop` what a run does, `step` one model call,
`speech` how deltas become events, `plan` what is to be done with a tool call, `execute` how it is
done, `report` the way of all events out.
"""

from __future__ import annotations

from runtime.agent.agent import Agent

__all__ = ["Agent"]
