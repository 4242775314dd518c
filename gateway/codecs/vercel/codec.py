"""From a run's events to the chunks of a UI message stream. Pure.

One run is one assistant message, whose id is that of the run, however often it pauses for a human:
so every stream of it is about the same message, and clients put it into the same place.

A step is a model call with its tool calls. Clients look at the last step alone when they decide
whether all calls are answered, and find the part of a call that is said again in the last step only.
So a step lasts until nothing in it is open, also where the nodes of a graph work side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.codecs.codec import Frame
from gateway.codecs.vercel.chunks import DONE, chunk
from gateway.codecs.vercel.state import StreamState
from gateway.codecs.vercel.telling import Telling
from gateway.log.entry import Entry
from runtime.events import Event, MessageDelta, ReasoningDelta, RunInterrupted

__all__ = ["UiMessageStream", "still_waiting"]


@dataclass(frozen=True, slots=True)
class UiMessageStream:
    """The codec.

    Attributes:
        known: Up to this entry, by its `seq`, the client has the message: nothing is said of it.
        paused: Up to this entry, pauses are passed over, because the run went on after them.
        superseded: Messages, reasonings and calls that are left out: they were said anew.
    """

    known: int = 0
    paused: int = 0
    superseded: frozenset[str] = frozenset()

    def begin(self) -> StreamState:
        """Return the state before the first event."""
        return StreamState()

    def encode(
        self, state: StreamState, event: Event, entry: Entry
    ) -> tuple[StreamState, Sequence[Frame]]:
        """Say an event."""
        if state.started:
            if isinstance(event, MessageDelta) and event.message_id in state.texts:
                return state, (chunk("text-delta", id=event.message_id, delta=event.text),)
            if isinstance(event, ReasoningDelta) and event.message_id in state.reasoning:
                return state, (chunk("reasoning-delta", id=event.message_id, delta=event.text),)
        if isinstance(event, RunInterrupted) and self.known < entry.seq <= self.paused:
            return state, ()
        telling = Telling(state, self.superseded)
        telling.start(event, entry)
        telling.tell(event)
        if entry.seq <= self.known:
            return replace(telling.state, started=False), ()
        return telling.state, telling.frames

    def cut(self, state: StreamState, reason: str) -> Sequence[Frame]:
        """Say that the stream breaks off here: as an error, because a mere end looks like success."""
        if reason == "shutdown":
            text = "the server is stopping; resume the chat to see the rest of the answer"
        else:
            text = f"the stream broke off ({reason}); resume the chat to see the rest of the answer"
        return (chunk("error", errorText=text), DONE)


def still_waiting(run_id: str) -> Sequence[Frame]:
    """Return the whole stream for a client some of whose questions are answered, and not all."""
    told = {"status": "interrupted"}
    return (
        chunk("start", messageId=run_id),
        chunk("finish", finishReason="tool-calls", messageMetadata=told),
        DONE,
    )
