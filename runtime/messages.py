"""Conversation messages, as they go to a model and come back. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ClientTool", "Frozen", "Message", "Role", "ToolCall", "Usage"]

Role = Literal["system", "user", "assistant", "tool"]


class Frozen(BaseModel):
    """Immutable data that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolCall(Frozen):
    """One call that a model asked for; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class ClientTool(Frozen):
    """A tool that the client has: a model may call it, and the client says what came of it.

    Attributes:
        name: What the model calls it by: 1 to 64 letters, digits, `_` and `-`, as for any tool.
        description: What it is for, in the words that the model reads.
        parameters: The JSON Schema of its arguments; the model is given it as it is.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str = ""
    parameters: Mapping[str, Any] = Field(default_factory=lambda: {"type": "object"})


class Message(Frozen):
    """One message of a conversation.

    Attributes:
        role: Who speaks.
        content: The text; empty when an assistant message only calls tools.
        message_id: The id under which the log knows it; models do not see it.
        tool_calls: What an assistant message asks to be called.
        tool_call_id: For role `tool`: the call that this message answers.
    """

    role: Role
    content: str = ""
    message_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Usage(Frozen):
    """Tokens that model calls took. Adding two gives their sum."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cache_read_tokens: int | None = None
    reasoning_tokens: int | None = None

    def __add__(self, other: Usage) -> Usage:
        """Return the sum, field by field; a field that neither knows stays unknown."""

        def both(a: int | None, b: int | None) -> int | None:
            return None if a is None and b is None else (a or 0) + (b or 0)

        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            cache_read_tokens=both(self.cache_read_tokens, other.cache_read_tokens),
            reasoning_tokens=both(self.reasoning_tokens, other.reasoning_tokens),
        )
