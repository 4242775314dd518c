"""Merging the deltas that wait to be written. Pure."""

from __future__ import annotations

from typing import TypeGuard

from runtime.events import Event, MessageDelta, ReasoningDelta, ToolCallDelta

__all__ = ["Delta", "DeltaBuffer", "is_delta"]

Delta = MessageDelta | ReasoningDelta | ToolCallDelta


def is_delta(event: Event) -> TypeGuard[Delta]:
    """Tell whether the event is a piece of something that goes on."""
    return isinstance(event, MessageDelta | ReasoningDelta | ToolCallDelta)


def _key(event: Delta) -> tuple[str, str]:
    return event.type, event.call_id if isinstance(event, ToolCallDelta) else event.message_id


def _text(event: Delta) -> str:
    return event.arguments if isinstance(event, ToolCallDelta) else event.text


class DeltaBuffer:
    """Deltas in the order they came, neighbours of one message merged.

    Attributes:
        size: Characters that wait.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Delta, list[str]]] = []
        self._begun: set[tuple[str, str]] = set()
        self.size = 0

    def add(self, event: Delta) -> bool:
        """Take a delta; tell whether it is the first of its message and should go out at once."""
        key = _key(event)
        text = _text(event)
        if self._waiting and _key(self._waiting[-1][0]) == key:
            self._waiting[-1][1].append(text)
        else:
            self._waiting.append((event, [text]))
        self.size += len(text)
        first = key not in self._begun
        self._begun.add(key)
        return first

    def take(self) -> list[Delta]:
        """Return what waits, merged, and forget it."""
        merged: list[Delta] = []
        for event, texts in self._waiting:
            if len(texts) == 1:
                merged.append(event)
                continue
            field = "arguments" if isinstance(event, ToolCallDelta) else "text"
            merged.append(event.model_copy(update={field: "".join(texts)}))
        self._waiting.clear()
        self.size = 0
        return merged

    def reset(self) -> None:
        """Forget everything: a run has ended."""
        self._waiting.clear()
        self._begun.clear()
        self.size = 0
