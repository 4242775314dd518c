"""Model providers: what one is (`base`), those that ship with the runtime, and asking one directly.

`openai`, `openai_responses`, `anthropic` and `local` stand in modules of their own, since each needs
an extra to be installed; their models are loaded from here when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runtime.models.base import (
    Delta,
    Finish,
    Model,
    ModelRequest,
    ReasoningText,
    Starts,
    Text,
    ToolCallFragment,
)
from runtime.models.chat import (
    ChatChunk,
    ChatStream,
    ToolCallChunk,
    chat,
    merge_tool_calls,
    stream_chat,
)
from runtime.models.fallback import FallbackModel
from runtime.models.scripted import Cue, Pause, Script, ScriptedModel, call_tools, say
from runtime.retry import RetryPolicy

if TYPE_CHECKING:
    from runtime.models.anthropic import AnthropicModel
    from runtime.models.local import LocalModel
    from runtime.models.openai import OpenAIModel
    from runtime.models.openai_responses import OpenAIResponsesModel

__all__ = [
    "AnthropicModel",
    "ChatChunk",
    "ChatStream",
    "Cue",
    "Delta",
    "FallbackModel",
    "Finish",
    "LocalModel",
    "Model",
    "ModelRequest",
    "OpenAIModel",
    "OpenAIResponsesModel",
    "Pause",
    "ReasoningText",
    "RetryPolicy",
    "Script",
    "ScriptedModel",
    "Starts",
    "Text",
    "ToolCallChunk",
    "ToolCallFragment",
    "call_tools",
    "chat",
    "merge_tool_calls",
    "say",
    "stream_chat",
]

_LAZY = {
    "AnthropicModel": "runtime.models.anthropic",
    "LocalModel": "runtime.models.local",
    "OpenAIModel": "runtime.models.openai",
    "OpenAIResponsesModel": "runtime.models.openai_responses",
}
"""Where the models are whose modules import an extra, which takes half a second."""


def __getattr__(name: str) -> Any:
    """Load the providers that need an extra when they are first asked for."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
