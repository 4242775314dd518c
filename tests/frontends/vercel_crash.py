"""An agent that is killed in its first attempt: `tidegate serve tests.frontends.vercel_crash:registry`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from runtime.agent import Agent
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, Pause, ScriptedModel, say
from runtime.registry import Registry

GO = "VERCEL_CRASH_GO"
"""The variable that names the file without which the agent gets no further than its first word."""


def _speak(request: ModelRequest) -> Iterable[Cue]:
    if Path(os.environ[GO]).exists():
        return say("before and after", reasoning="Hm.")
    return [*say("before", reasoning="Hm.")[:-1], Pause(60)]


def registry() -> Registry:
    """Return the agent."""
    return Registry(Agent("assistant", ScriptedModel(_speak)))
