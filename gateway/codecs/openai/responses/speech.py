"""What is said in a run's conversation, as items of a response. Pure."""

from __future__ import annotations

from gateway.codecs.openai.responses.state import Item, Kind
from gateway.codecs.openai.responses.telling import Telling
from runtime.events import (
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
)
from runtime.journal import spoken_below

__all__ = ["Speech", "is_speech", "speak"]

_Messages = MessageStarted | MessageDelta | MessageCompleted
Speech = _Messages | ReasoningStarted | ReasoningDelta | ReasoningCompleted


def is_speech(item: Item) -> bool:
    """Whether an item is something that was said, and may be said anew."""
    return item.kind in {"message", "reasoning"}


def speak(told: Telling, event: Speech) -> None:
    """Tell what is said; what an agent says to the one that called it as a tool is not told."""
    if spoken_below(event.path):
        return
    kind: Kind = "message" if isinstance(event, _Messages) else "reasoning"
    if isinstance(event, MessageStarted | ReasoningStarted):
        told.open_item(kind, event.message_id, event.path)
        return
    place = told.state.place_of(kind, event.message_id)
    if place is None:
        return
    match event:
        case MessageDelta() | ReasoningDelta():
            told.say_more(place, event.text)
        case MessageCompleted():
            told.say_whole(place, event.text)
            whole = not (event.incomplete or event.superseded)
            told.close_item(
                place, "completed" if whole else "incomplete", void=bool(event.superseded)
            )
        case ReasoningCompleted():
            told.say_whole(place, event.text)
            told.close_item(place, "completed")
