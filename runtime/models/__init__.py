"""Model providers: what one is (`base`), and those that ship with the runtime.

`openai` and `local` stand in modules of their own, since each needs an extra to be installed.
"""

from __future__ import annotations

from runtime.models.base import (
    Delta,
    Finish,
    Model,
    ModelRequest,
    ReasoningText,
    Text,
    ToolCallFragment,
)
from runtime.models.scripted import Cue, Pause, Script, ScriptedModel, call_tools, say
from runtime.retry import RetryPolicy

__all__ = [
    "Cue",
    "Delta",
    "Finish",
    "Model",
    "ModelRequest",
    "Pause",
    "ReasoningText",
    "RetryPolicy",
    "Script",
    "ScriptedModel",
    "Text",
    "ToolCallFragment",
    "call_tools",
    "say",
]
