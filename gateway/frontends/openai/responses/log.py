"""Where in its session's log each response is: every segment of every run is one.

The log is read once and its outline kept; asked again, only what came since is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

import orjson

from gateway.codecs.openai.responses import Responses, Whole, response_id
from gateway.errors import CursorInvalid, GatewayError, RunUnknown, SessionGone, SessionUnknown
from gateway.frontends.names import RunName
from gateway.log.entry import Entry
from gateway.log.follow import kept
from gateway.log.position import Position
from gateway.log.serde import load
from gateway.sessions.manager import RunPlace
from gateway.transports.services import Services
from runtime.events import SessionCreated
from runtime.messages import Message

__all__ = ["Located", "Outlines", "ResponseUnknown", "named", "owner_of"]

_PAGE = 1000
_KEPT_OUTLINES = 256
"""Sessions whose outline is kept: a few kilobytes each."""

_TOLD = frozenset(
    {
        b"session.created",
        b"input.queued",
        b"input.accepted",
        b"run.started",
        b"run.interrupted",
        b"run.resumed",
        b"approval.resolved",
    }
)
"""The types of events that make the outline."""


class ResponseUnknown(GatewayError):
    """There is no such response, or it is not kept any more."""

    code = "response_not_found"
    http_status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"Response with id {name!r} not found.")


def named(name: str) -> RunName:
    """Read the id of a response.

    Raises:
        ResponseUnknown: If it is none.
    """
    try:
        return RunName.parse(name.removeprefix("resp_"))
    except RunUnknown:
        raise ResponseUnknown(name) from None


def owner_of(identifier: str | None) -> tuple[RunName, int] | None:
    """Return which response an item or a call is of, and its place there; None if not ours."""
    if identifier is None:
        return None
    name, _, place = identifier.partition("_")[2].rpartition("-")
    if not (place.isascii() and place.isdecimal() and len(place) < _LONGEST_PLACE):
        return None
    try:
        return RunName.parse(name), int(place)
    except RunUnknown:
        return None


_LONGEST_PLACE = 8
"""Digits."""


@dataclass(slots=True)
class _Run:
    """A run in the outline: where its segments begin, and the commands that began them."""

    starts: list[Position] = field(default_factory=list)
    commands: set[str] = field(default_factory=set)
    paused: bool = False


@dataclass(slots=True)
class _Outline:
    """What the responses of a session need of its log."""

    position: Position
    runs: dict[str, _Run] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        if entry.seq <= self.position.seq:
            return  # somebody else read it meanwhile
        before, self.position = self.position, entry.position
        kind = entry.body[9 : entry.body.index(b'"', 9)]  # after `{"type":"`
        if kind not in _TOLD:
            return
        event = orjson.loads(entry.body)
        if kind == b"session.created":
            given = event.get("metadata") or {}
            self.metadata = {k: v for k, v in given.items() if isinstance(v, str)}
            return
        run = self.runs.setdefault(event["run_id"], _Run())
        if kind == b"approval.resolved":
            run.commands.add(event.get("by") or "")
            return
        run.commands.add(event.get("command_id") or "")
        if run.paused or not run.starts:
            run.starts.append(before)
        run.paused = kind == b"run.interrupted"


@dataclass(frozen=True, slots=True)
class Located:
    """A response in its log.

    Attributes:
        name: It.
        place: Its run, up to and with its segment.
        codec: What tells it.
        is_first: Whether it is the first of its session.
        commands: Those that began this run's segments and all later runs of the session.
        is_last_segment: Whether its run did not go on after it.
        is_latest: Whether nothing came after it in its session.
    """

    name: RunName
    place: RunPlace
    codec: Responses
    is_first: bool
    commands: frozenset[str]
    is_last_segment: bool
    is_latest: bool


class Outlines:
    """The outlines of the sessions that were asked for last."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: OrderedDict[str, _Outline] = OrderedDict()

    async def locate(self, name: RunName) -> Located:
        """Find a response.

        Raises:
            ResponseUnknown: If there is none.
            EngineUnavailable: If the log cannot be read.
        """
        outline = await self._read(name)
        run = outline.runs.get(name.run_id)
        if run is None or name.segment >= len(run.starts):
            raise ResponseUnknown(f"resp_{name}")
        order = list(outline.runs)
        at = order.index(name.run_id)
        before = order[at - 1] if at else None
        previous = None
        if before is not None:
            last = len(outline.runs[before].starts) - 1
            previous = response_id(name.session_id, before, last)
        is_last_segment = name.segment == len(run.starts) - 1
        return Located(
            name,
            RunPlace(
                name.session_id, name.run_id, "", "running", tuple(run.starts[: name.segment + 1])
            ),
            Responses(name.segment, previous, tuple(outline.metadata.items())),
            at == 0 and name.segment == 0,
            frozenset().union(*(outline.runs[later].commands for later in order[at:])),
            is_last_segment,
            is_last_segment and at == len(order) - 1,
        )

    async def segment_of(self, place: RunPlace) -> RunName:
        """Return the response that a run's last known segment is.

        Raises:
            ResponseUnknown: If the log does not have it any more.
        """
        name = RunName(place.session_id, place.run_id)
        run = (await self._read(name)).runs.get(place.run_id)
        if run is None:
            raise ResponseUnknown(f"resp_{name}")
        begun = [start for start in run.starts if start.seq <= place.segments[-1].seq]
        return RunName(place.session_id, place.run_id, max(len(begun) - 1, 0))

    async def _read(self, name: RunName) -> _Outline:
        try:
            return await self._read_on(name.session_id)
        except (CursorInvalid, SessionUnknown, SessionGone):
            self._kept.pop(name.session_id, None)
            raise ResponseUnknown(f"resp_{name}") from None

    async def _read_on(self, session_id: str) -> _Outline:
        engine = self._services.manager.engine
        outline = self._kept.get(session_id)
        if outline is None:
            head = await engine.head(session_id)
            outline = self._kept.setdefault(session_id, _Outline(head.start))
        self._kept.move_to_end(session_id)
        while len(self._kept) > _KEPT_OUTLINES:
            self._kept.popitem(last=False)
        while batch := await engine.read(session_id, outline.position, limit=_PAGE):
            for entry in batch:
                outline.add(entry)
        return outline

    async def whole(self, located: Located, *, before: bool = False) -> Whole:
        """Return a response as it stands now.

        Args:
            located: It.
            before: Only up to where its segment begins.

        Raises:
            EngineUnavailable: If the log cannot be read.
            SessionGone: If the session is deleted.
        """
        place, whole = located.place, Whole(located.codec)
        until = place.segments[-1].seq if before else None
        if until == place.segments[0].seq:
            return whole
        entries = kept(
            self._services.manager.engine, place.session_id, place.segments[0], through=until
        )
        async with aclosing(entries) as log:
            async for entry in log:
                if whole.over:
                    break
                if _is_of(entry, place.run_id):
                    whole.feed(entry)
        return whole

    async def history(self, located: Located) -> tuple[Message, ...]:
        """Return what had been said before the session of a response, if it is the first there.

        Raises:
            EngineUnavailable: If the log cannot be read.
            SessionGone: If the session is deleted.
        """
        if not located.is_first:
            return ()
        engine, session_id = self._services.manager.engine, located.name.session_id
        start = (await engine.head(session_id)).start
        first = [load(entry) for entry in await engine.read(session_id, start, limit=1)]
        return tuple(
            message
            for event in first
            if isinstance(event, SessionCreated)
            for message in event.history or ()
        )


def _is_of(entry: Entry, run_id: str) -> bool:
    event = entry.encoded(load)
    return event is not None and event.run_id == run_id
