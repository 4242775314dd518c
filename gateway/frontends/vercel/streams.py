"""Streams of an assistant message: the whole of it, or what a client does not have yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from gateway.codecs.vercel import UiMessageStream, superseded_in
from gateway.log.engine import Engine
from gateway.log.follow import kept
from gateway.log.serde import load
from gateway.sessions.manager import RunPlace
from runtime.events import Event, RunInterrupted

__all__ = ["Stream", "Streams"]


@dataclass(frozen=True, slots=True)
class Stream:
    """The stream that answers a request.

    Attributes:
        place: The run.
        codec: The words; read from the run's beginning.
        waits: There is nothing to be told, because the run waits for more answers.
    """

    place: RunPlace
    codec: UiMessageStream
    waits: bool = False


class Streams:
    """Makes streams, from what runs have said so far."""

    def __init__(self, engine: Engine) -> None:
        """Make it.

        Args:
            engine: Where the logs are.
        """
        self._engine = engine

    async def since_pause(self, stream: Stream) -> Stream:
        """Return the stream of what a run has said since its last pause.

        It is the same at any time: nothing is left out because it was superseded since.
        """
        since = await self.since(stream.place)
        return replace(since, codec=replace(since.codec, superseded=frozenset()))

    async def whole(self, place: RunPlace) -> Stream:
        """Return the stream of a run's message, from its beginning."""
        said = [event async for _, event in self._events(place)]
        codec = UiMessageStream(paused=_passed(place), superseded=superseded_in(said))
        return Stream(place, codec)

    async def since(self, place: RunPlace, known: int | None = None) -> Stream:
        """Return the stream of what a client does not have of a run's message.

        Args:
            place: The run.
            known: Up to where the client has it, as the `seq` of an entry; default: up to the last
                pause that the run went on after.
        """
        said = [(seq, event) async for seq, event in self._events(place)]
        passed = _passed(place)
        pauses = [seq for seq, event in said if isinstance(event, RunInterrupted)]
        last = max((seq for seq in pauses if seq <= passed), default=0)
        codec = UiMessageStream(
            known=last if known is None else known,
            paused=passed,
            superseded=superseded_in(event for _, event in said),
        )
        return Stream(place, codec)

    async def _events(self, place: RunPlace) -> AsyncIterator[tuple[int, Event]]:
        """Yield what a run has said so far, with the `seq` of each."""
        async for entry in kept(self._engine, place.session_id, place.segments[0]):
            event = entry.encoded(load)
            if event is not None and event.run_id == place.run_id:
                yield entry.seq, event


def _passed(place: RunPlace) -> int:
    """Return the `seq` of the last entry before a run went on after a pause; 0 if it never did."""
    return place.segments[-1].seq if len(place.segments) > 1 else 0
