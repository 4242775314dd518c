"""What a codec is: a pure function from a run's events to another protocol's messages.

Most protocols are told from state to state: what is open, how many messages went before. So a codec
takes the state in and gives the next one out. All readers that started at the same place are in the
same state at the same entry, and so what one of them had encoded serves all: the result is kept in
the entry, together with the state that it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from gateway.codecs.framing import Style
from gateway.log.entry import Entry
from gateway.log.serde import load
from runtime.events import Event

__all__ = ["Codec", "Frame", "Projection"]

S = TypeVar("S")


class Frame(NamedTuple):
    """One message of a protocol.

    Attributes:
        data: Its JSON, or another single line of UTF-8.
        event: Its name, where the protocol names its messages beside the data.
    """

    data: bytes
    event: str | None = None


class Codec(Protocol[S]):
    """How one protocol says what happens in a run. Frozen and hashable: equal codecs say the same.

    The state is immutable, and comparable.
    """

    def begin(self) -> S:
        """Return the state before the first event."""

    def encode(self, state: S, event: Event, entry: Entry) -> tuple[S, Sequence[Frame]]:
        """Say an event; most protocols have no word for some of them.

        Args:
            state: From before the event.
            event: What happened.
            entry: Where it is in the log, and when it was.

        Returns:
            The state after it, and what to send.
        """

    def cut(self, state: S, reason: str) -> Sequence[Frame]:
        """Say, in the middle of a run, that this server cannot go on sending it; the run may.

        A stream that just ends looks like success to many clients.

        Args:
            state: From after the last event that was sent.
            reason: `shutdown`, or an error's code.
        """


@dataclass(frozen=True, slots=True)
class _Step(Generic[S]):
    """What a codec made of an entry, and from which state."""

    before: S
    after: S
    messages: tuple[bytes, ...]


class Projection(Generic[S]):
    """One reader's way through a run, in the words of a codec."""

    def __init__(self, codec: Codec[S], style: Style, state: S | None = None) -> None:
        """Make it.

        Args:
            codec: The words.
            style: How messages become bytes.
            state: Where to start from, in place of the codec's own beginning.
        """
        self._codec = codec
        self._style = style
        self._key = (codec, style)
        self.state: S = codec.begin() if state is None else state
        """The state after the last entry."""

    def feed(self, entry: Entry) -> tuple[bytes, ...]:
        """Return the messages of the next entry, framed; there may be none."""
        step: _Step[S] | None = entry.memo.get(self._key)
        if step is None or not (step.before is self.state or step.before == self.state):
            step = self._encode(entry)
            entry.memo[self._key] = step
        self.state = step.after
        return step.messages

    def _encode(self, entry: Entry) -> _Step[S]:
        event: Any = entry.encoded(load)
        if event is None:  # a newer version wrote it
            return _Step(self.state, self.state, ())
        after, frames = self._codec.encode(self.state, event, entry)
        last = len(frames) - 1
        messages = tuple(
            self._style(frame, entry if place == last else None)
            for place, frame in enumerate(frames)
        )
        return _Step(self.state, after, messages)

    def cut(self, reason: str) -> bytes:
        """Return what ends the stream where it cannot go on, framed."""
        return b"".join(self._style(frame, None) for frame in self._codec.cut(self.state, reason))
