"""From the deltas of one answer to the answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from runtime.errors import ModelSpokeNonsense
from runtime.messages import ToolCall
from runtime.models.base import Delta, Finish, ReasoningText, Text, ToolCallFragment

__all__ = ["Answer", "CallDraft", "fold"]


@dataclass(slots=True)
class CallDraft:
    """A tool call as far as the model has written it.

    Attributes:
        index: Which call of the answer, as the provider counts.
        id: The provider's id, if it has given one.
        name: The tool's name; empty until the provider has given it.
        parts: The pieces of the arguments so far.
    """

    index: int
    id: str | None = None
    name: str = ""
    parts: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        """The arguments so far."""
        return "".join(self.parts)

    @property
    def whole(self) -> bool:
        """Whether the arguments are a complete JSON object, so that nothing more can follow."""
        arguments = self.arguments
        if not arguments.rstrip().endswith("}"):
            return False
        try:
            json.loads(arguments)
        except (ValueError, RecursionError):
            return False
        return True


@dataclass(slots=True)
class Answer:
    """What a model has said so far. `add` takes the next delta."""

    text_parts: list[str] = field(default_factory=list)
    reasoning_parts: list[str] = field(default_factory=list)
    calls: dict[int, CallDraft] = field(default_factory=dict)
    finish: Finish | None = None

    def add(self, delta: Delta) -> None:
        """Take one delta into account; pieces of one call are joined by their `index`."""
        match delta:
            case Text():
                self.text_parts.append(delta.text)
            case ReasoningText():
                self.reasoning_parts.append(delta.text)
            case ToolCallFragment():
                call = self.calls.setdefault(delta.index, CallDraft(delta.index))
                call.id = call.id or delta.id
                call.name = call.name or delta.name or ""
                if delta.arguments:
                    call.parts.append(delta.arguments)
            case Finish():
                self.finish = delta

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.text_parts)

    @property
    def reasoning(self) -> str:
        """The reasoning so far."""
        return "".join(self.reasoning_parts)

    def finished(self) -> Finish:
        """Return the finish of a whole answer.

        Raises:
            ModelSpokeNonsense: If the answer ended without one, or calls a tool without a name.
        """
        if self.finish is None:
            raise ModelSpokeNonsense("the model's answer ended without a finish")
        if any(not call.name for call in self.calls.values()):
            raise ModelSpokeNonsense("the model called a tool without naming it")
        return self.finish

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls so far, in the provider's order; an id that it did not give is empty."""
        return tuple(
            ToolCall(id=call.id or "", name=call.name, arguments=call.arguments)
            for _, call in sorted(self.calls.items())
        )


def fold(deltas: Iterable[Delta]) -> Answer:
    """Return what a model has said with these deltas."""
    answer = Answer()
    for delta in deltas:
        answer.add(delta)
    return answer
