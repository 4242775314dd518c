"""A response as it stands now, made from the events of its run. Pure."""

from __future__ import annotations

from typing import Any

from gateway.codecs.codec import Projection
from gateway.codecs.framing import sse
from gateway.codecs.openai.responses.codec import Responses
from gateway.codecs.openai.responses.objects import response_object
from gateway.codecs.openai.responses.state import State
from gateway.log.entry import Entry
from gateway.log.serde import load
from runtime.events import MessageDelta, ReasoningDelta, ToolCallDelta

__all__ = ["Whole"]


class Whole:
    """A fold over a run's entries; shares its work with whoever streams the same response."""

    def __init__(self, codec: Responses) -> None:
        self._codec = codec
        self._projection = Projection(codec, sse)
        self._pieces: dict[str, list[str]] = {}

    @property
    def state(self) -> State:
        """The response after the last entry."""
        return self._projection.state

    @property
    def over(self) -> bool:
        """Whether the response has ended."""
        return self.state.segment == self._codec.segment and self.state.phase == "over"

    def feed(self, entry: Entry) -> None:
        """Take the run's next entry into account."""
        self._projection.feed(entry)
        event: Any = entry.encoded(load)
        place = None
        match event:
            case MessageDelta():
                place, piece = self.state.place_of("message", event.message_id), event.text
            case ReasoningDelta():
                place, piece = self.state.place_of("reasoning", event.message_id), event.text
            case ToolCallDelta():
                place = self.state.place_of("function_call", event.call_id, event.path)
                piece = event.arguments
            case _:
                return
        if place is not None:
            self._pieces.setdefault(self.state.items[place].id, []).append(piece)

    def object(self) -> dict[str, Any]:
        """Return the response as clients see it."""
        texts = {
            item.id: "".join(self._pieces.get(item.id, ()))
            for item in self.state.items
            if item.status == "in_progress" and item.id in self._pieces
        }
        return response_object(
            self.state,
            previous=self._codec.previous,
            metadata=dict(self._codec.metadata),
            texts=texts,
        )
