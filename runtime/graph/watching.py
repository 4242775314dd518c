"""The readers of a runner: each has a place in one feed, and finds in the store what has left it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass

from runtime.broker import Broker
from runtime.feed import KEEP, Feed, Gap
from runtime.graph.recording import Recording, is_end
from runtime.graph.store import CheckpointStore, Entry
from runtime.graph.stream_event import ENDS, Mode, StreamEvent, broker_event, shown, shows

__all__ = ["Watching"]

PAGE = 256
"""Entries that are read from the store at a time."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """An entry in the feed; `after` is where the part of the log begins that it belongs to."""

    session_id: str
    entry: Entry
    after: int | None


@dataclass(frozen=True, slots=True)
class _Part:
    """What one call of the runner reports: it begins after an entry, and after a place in the feed."""

    after: int
    place: int


@dataclass(frozen=True, slots=True)
class _Begun:
    session_id: str
    part: _Part


class Watching:
    """Shows entries to all who read."""

    def __init__(self, store: CheckpointStore, broker: Broker | None, keep: int = KEEP) -> None:
        self._store = store
        self._broker = broker
        self._feed: Feed[_Seen] = Feed(keep)
        self._parts: OrderedDict[str, _Part] = OrderedDict()
        self._live: dict[str, Recording] = {}
        self._expected: list[str] = []
        self._keep = keep

    def expect(self, session_id: str) -> None:
        """Know that a part is about to begin."""
        self._expected.append(session_id)

    def begin(self, recording: Recording) -> None:
        """Know that a part begins."""
        session_id = recording.session_id
        self._live[session_id] = recording
        self._parts[session_id] = _Part(recording.after, self._feed.tail)
        self._parts.move_to_end(session_id)
        if len(self._parts) > self._keep:
            self._parts.popitem(last=False)

    def end(self, session_id: str) -> None:
        """Know that a part is over, or will not begin."""
        self._expected.remove(session_id)
        self._live.pop(session_id, None)

    def show(self, session_id: str, entry: Entry, after: int | None = None) -> None:
        """Show an entry; `after` is where its part began."""
        self._feed.append(_Seen(session_id, entry, after))
        if self._broker is not None:
            self._broker.publish(broker_event(shown(session_id, entry)))

    def close(self) -> None:
        """End all readers, after what was shown."""
        self._feed.close()

    async def stream(
        self, session_id: str | None, after: int | None, modes: Collection[Mode]
    ) -> AsyncGenerator[StreamEvent, None]:
        """Read one part of a session; see `Runner.stream`."""
        if session_id is None or after is None:
            begun = await self._beginning(session_id)
            if begun is None:
                return
            entries = self._follow(begun.session_id, begun.part.after, begun.part.place)
            session_id = begun.session_id
        else:
            entries = self._from(session_id, after)
        async for entry in entries:
            event = shown(session_id, entry)
            if shows(event, modes):
                yield event
            if event.type in ENDS:
                return

    async def _beginning(self, session_id: str | None) -> _Begun | None:
        """Return the newest part, or the next one if there is none or it is about to begin."""
        place = self._feed.tail
        latest = next(reversed(self._expected or self._parts), None)
        if session_id is None:
            session_id = latest
        expected = session_id in self._expected and session_id not in self._live
        if session_id is not None and session_id in self._parts and not expected:
            return _Begun(session_id, self._parts[session_id])
        async for found in self._feed.follow(place):
            if isinstance(found, Gap):
                continue
            _, seen = found
            if seen.after is not None and session_id in {None, seen.session_id}:
                return _Begun(seen.session_id, self._parts[seen.session_id])
        return None

    async def _from(self, session_id: str, after: int) -> AsyncGenerator[Entry, None]:
        """Yield what is in the store after a number, and then what is shown."""
        place = self._feed.tail  # what was shown before it is in the store, or will be in a moment
        last = after
        async for entry in self._kept(session_id, after):
            last = entry.seq
            yield entry
        async for entry in self._follow(session_id, last, place):
            yield entry

    async def _follow(self, session_id: str, after: int, place: int) -> AsyncGenerator[Entry, None]:
        """Yield what is shown of a session after a number, from a place in the feed on."""
        last = after
        async for found in self._feed.follow(place):
            if isinstance(found, Gap):
                async for entry in self._kept(session_id, last):
                    last = entry.seq
                    yield entry
                continue
            _, seen = found
            if seen.session_id == session_id and seen.entry.seq > last:
                last = seen.entry.seq
                yield seen.entry

    async def _kept(self, session_id: str, after: int) -> AsyncGenerator[Entry, None]:
        """Yield what is in the store after a number, but no end that was not shown yet."""
        live = self._live.get(session_id)
        if live is not None:
            await live.flush()
        while page := await self._store.events(session_id, after, limit=PAGE):
            for entry in page:
                live = self._live.get(session_id)
                if live is not None and entry.seq > live.after and is_end(entry.event):
                    return
                yield entry
            after = page[-1].seq
