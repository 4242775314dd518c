"""Following one run: its entries in order, until it ends or waits for a human."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

import orjson

from gateway.commands import Ack
from gateway.errors import EngineClosed, EngineUnavailable, RunUnknown
from gateway.log.entry import Entry
from gateway.log.follow import follow
from gateway.log.outage import in_time, outlasting
from gateway.log.position import Position
from gateway.sessions.manager import RunPlace
from gateway.transports.reading import BATCH_ENTRIES
from gateway.transports.services import Services

__all__ = ["ENDS", "check_readable", "despite_outage", "follow_run", "is_end", "run_of"]

_Answer = TypeVar("_Answer")

ENDS = frozenset({"run.completed", "run.failed", "run.cancelled", "run.interrupted"})
"""The types of the events after which a run says nothing, or nothing until a human answered."""


def _head(entry: Entry) -> tuple[str, str | None, str | None]:
    """Return an event's type and run; of an input that a run takes, also its command."""
    event = orjson.loads(entry.body)
    taken = event["type"] == "input.steered" or event.get("reason") == "steered"
    return event["type"], event.get("run_id"), event.get("command_id") if taken else None


def is_end(entry: Entry) -> bool:
    """Whether the entry ends its run, or lets it wait for a human."""
    return entry.encoded(_head)[0] in ENDS


async def follow_run(
    services: Services,
    place: RunPlace,
    *,
    after: Position | None = None,
    idle: float | None = None,
) -> AsyncGenerator[Sequence[Entry]]:
    """Yield the run's own entries, in order, up to its end or pause; then return.

    Whoever does that controls the session for as long.

    Pauses that lie before its last segment are passed: whoever starts at the beginning sees the
    whole run. An input that waited and was then handed to the active run is followed in that one.

    Args:
        services: The server's parts.
        place: The run, as `SessionManager.run` gave it.
        after: Where to start; default: where the last segment began.
        idle: An empty batch is yielded after so many seconds without an entry of this run;
            default: half the time between keepalives, so that a caller that sends one whenever
            it had nothing to send for that long is never silent for the whole of it.

    Raises:
        SessionGone: If the session is deleted.
        CursorInvalid: If `after` is not in the log any more.
        EngineClosed: If the store was closed; one that is away is waited for.
    """
    loop = asyncio.get_running_loop()
    quiet = services.settings.keepalive_s / 2 if idle is None else idle
    last = place.segments[-1]
    position = last if after is None else after
    spoke_at = loop.time()
    followed, handed_over = place.run_id, None
    entries = follow(
        services.manager.engine, place.session_id, position, limit=BATCH_ENTRIES, idle=quiet
    )
    with services.manager.attending(place.session_id):
        async with aclosing(entries) as batches:
            async for batch in batches:
                mine: list[Entry] = []
                ended = False
                for entry in batch:
                    kind, run_id, taken = entry.encoded(_head)
                    if run_id is not None and handed_over is not None and taken == handed_over:
                        followed, handed_over = run_id, None
                    if run_id != followed:
                        continue
                    handed_over = taken if kind == "input.dequeued" else handed_over
                    mine.append(entry)
                    if ended := kind in ENDS and entry.seq > last.seq:
                        break
                if mine or loop.time() - spoke_at >= quiet:
                    spoke_at = loop.time()
                    yield mine
                if ended:
                    return


async def check_readable(services: Services, session_id: str, start: Position) -> None:
    """Check that a log can be read from somewhere, before a stream says that all is well.

    A store that is away has nothing against it: the stream waits for it.

    Raises:
        SessionUnknown, SessionGone: If there is no such session.
        CursorInvalid: If the position is not in the log any more.
        EngineClosed: If the store was closed.
    """
    try:
        await services.manager.engine.read(session_id, start, limit=1)
    except EngineClosed:
        raise
    except EngineUnavailable:
        return


async def despite_outage(services: Services, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Return what the store answers about a command that was obeyed, also if it is away for a moment.

    A client that heard of a failure now might send the command again, under another id.

    Raises:
        EngineUnavailable: If it is away for longer than a command may wait.
        GatewayError: What else it answers with.
    """
    return await in_time(services.settings.command_timeout_s, outlasting(ask))


async def run_of(services: Services, ack: Ack) -> RunPlace:
    """Return the run that a command was about, with the segment that the command began as the last.

    Raises:
        SessionUnknown, SessionGone: If the session is not there any more.
        RunUnknown: If the command was about no run.
        EngineUnavailable: If the store is away for longer than a command may wait.
    """
    at = Position.parse(ack.cursor)
    run_id = ack.run_id or ""
    try:
        place = await despite_outage(services, lambda: services.manager.run(ack.session_id, run_id))
    except RunUnknown:
        if not run_id:
            raise
        # It waited in the queue and was cancelled there: its end is in the log, and all there is.
        return RunPlace(ack.session_id, run_id, "", "cancelled", (at,))
    # An input's segment begins right before the command's first event, a resumption's after it.
    later = [n for n, segment in enumerate(place.segments, start=1) if segment.seq >= at.seq - 1]
    segments = place.segments[: later[0]] if later else place.segments
    return replace(place, segments=segments or (at,))
