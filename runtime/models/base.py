"""What a model provider is: a stream of deltas for a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from runtime.messages import Message, Usage
from runtime.runnable import RunOptions, ToolInfo

__all__ = [
    "Delta",
    "Finish",
    "Model",
    "ModelRequest",
    "ReasoningText",
    "Starts",
    "Text",
    "ToolCallFragment",
]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningText:
    """A piece of the model's reasoning, where the provider shows it."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallFragment:
    """A piece of a tool call. Fragments of one call share `index`; several calls may interleave.

    Attributes:
        index: Which call of this answer, from 0.
        id: On the first fragment, where the provider gives one.
        name: On the first fragment.
        arguments: A piece of the JSON text, maybe empty.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """The provider says that the answer is over. Always the last delta of a good stream."""

    reason: str
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None


Delta = Text | ReasoningText | ToolCallFragment | Finish


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model.

    Attributes:
        messages: Legal history, instructions first as role `system`.
        tools: What the model may call.
        options: What the caller has set; what is unset is not sent to the provider.
        output_schema: The JSON Schema that the text of the answer is to fit. A provider does what
            its API can to make it fit; whether it does is for the caller to check.
        output_name: What the schema describes, for providers that want a name.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolInfo, ...] = ()
    options: RunOptions = field(default_factory=RunOptions)
    output_schema: Mapping[str, Any] | None = None
    output_name: str = "answer"


class Model(Protocol):
    """A model provider."""

    @property
    def name(self) -> str:
        """The model's name, as shown to people."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Stream the answer.

        The last delta is a `Finish`. The text ends before the first of the request's stop
        sequences (`runtime.models.stopping` sees to it, whatever the provider does). Closing or
        cancelling the generator closes the provider's connection.

        Raises:
            ModelUnavailable: If the provider cannot be reached or is overloaded.
            ModelRefused: If it refuses this request.
            ModelSpokeNonsense: If its answer breaks off without a finish, or cannot be read.
        """

    async def aclose(self) -> None:
        """Let go of connections and processes. Safe to call twice."""


@runtime_checkable
class Starts(Protocol):
    """An optional power of a model: to do early what would make its first answer slow."""

    async def start(self) -> None:
        """Get ready; returns when it is. Safe to call twice, and not needed.

        Raises:
            ModelUnavailable: If it cannot; the first answer will say so too.
        """
