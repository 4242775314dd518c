"""A reader's way through one session's log: how it begins, goes on after a reset, and ends.

All transports that stream use this; what they add is framing. A reading yields *steps*: batches of
entries (an empty one when nothing came for a while) and control objects. While the store is away it
yields `HEARTBEAT` now and then, and goes on exactly where it was when the store is back.

    after            begins with
    ─────            ───────────
    None             `stream.reset` (joined) with the snapshot
    `0`              the first entry that is kept
    `$`              whatever comes next
    a cursor         the entry after it; `stream.reset` with the reason if it cannot be served
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from gateway.codecs.native import json_line
from gateway.errors import (
    CursorInvalid,
    EngineClosed,
    EngineUnavailable,
    ResetReason,
    SessionGone,
)
from gateway.log.entry import Entry
from gateway.log.follow import StoreAway, follow
from gateway.log.outage import Outage
from gateway.log.position import FROM_START, ONLY_NEW, After, Position
from gateway.sessions.shown import Shown
from gateway.transports.crowd import Crowd
from gateway.transports.services import Services
from gateway.transports.sharing import Share

__all__ = ["BATCH_ENTRIES", "HEARTBEAT", "Control", "Reading", "Step", "closing"]

BATCH_ENTRIES = 64
"""A reader that stops reading holds a batch: some 64 KiB of text deltas with their frames."""

_LAST_EVENT = b'{"type":"session.closed"'


@dataclass(frozen=True, slots=True)
class Control:
    """An object of the stream that is not an event of the log.

    Attributes:
        message: The object, without its snapshot.
        position: Where the reader stands after it, if the object says so: after a reset and when
            it has caught up.
        shown: Its snapshot. All who get the same one for the same reason share what is made of it.
    """

    message: dict[str, Any]
    position: Position | None = None
    shown: Shown | None = None

    @property
    def json(self) -> bytes:
        """The whole object as one line of JSON."""
        head, shown = json_line(self.message), self.shown
        if shown is None:
            return head
        return shown.once(head, lambda: b'%b,"snapshot":%b}' % (head[:-1], shown.json))

    def framed(
        self, frame: Callable[[Control], bytes], then: Callable[[bytes], bytes] | None = None
    ) -> bytes:
        """Return `then(frame(self))`; where there is a snapshot, made once for all who get it."""

        def make() -> bytes:
            return frame(self) if then is None else then(frame(self))

        if self.shown is None:
            return make()
        return self.shown.once((frame, then, self.message["reason"]), make)

    @property
    def is_reset(self) -> bool:
        """Whether the reader has to start again from `position`."""
        return bool(self.message["type"] == "stream.reset")


Step = Control | Sequence[Entry]

HEARTBEAT = Control({"type": "stream.heartbeat", "reason": EngineUnavailable.code})
"""Says that the server is there and its store is not; of the connection, not of one session."""


def closing(reason: str, *, session_id: str | None = None, retry_ms: int | None = None) -> Control:
    """Return the object that ends a stream, or one session of it.

    Args:
        reason: `closed`, `deleted`, `shutdown`, or an error's code.
        session_id: The session, if only its part of the stream ends.
        retry_ms: When to come back; absent if there is nothing to come back to.
    """
    message: dict[str, Any] = {"type": "stream.closing", "reason": reason}
    if session_id is not None:
        message["session_id"] = session_id
    if retry_ms is not None:
        message["retry_ms"] = retry_ms
    return Control(message)


class Reading:
    """One reader of one session."""

    def __init__(
        self,
        services: Services,
        session_id: str,
        *,
        start: Position | None,
        tail: Position,
        closed: bool,
    ) -> None:
        """Make the reading; use `open`.

        Args:
            services: The server's parts.
            session_id: Whose log.
            start: Where it starts; None for a snapshot first.
            tail: The log's tail now: what comes after it is live.
            closed: Whether the session takes no more events.
        """
        self._manager = services.manager
        self._engine = services.manager.engine
        self._crowds = services.crowds
        self._finding = services.admission.finding
        self._session_id = session_id
        self.start = start
        self.tail = tail
        self.ended = closed and start == tail
        """Whether the session is closed and the reader has seen all of it."""
        self._from = tail
        self._target: Position | None = tail  # None once it is reached

    @classmethod
    async def open(cls, services: Services, session_id: str, after: After) -> Reading:
        """Find out where a reader starts.

        Raises:
            SessionUnknown: If there is no such session.
            SessionGone: If it was deleted.
            EngineUnavailable: If the store failed.
        """
        engine = services.manager.engine
        start: Position | None
        async with services.admission.finding:
            record = await engine.session(session_id)
            if after == FROM_START:  # only then it is worth a second question
                start = (await engine.head(session_id)).start
            elif after == ONLY_NEW:
                start = record.tail
            else:
                start = after
        closed = record.status == "closed"
        return cls(services, session_id, start=start, tail=record.tail, closed=closed)

    # One generator, not one inside another: each layer would cost every reader of every event.
    async def steps(self, *, idle: float, share: Share | None = None) -> AsyncGenerator[Step]:  # noqa: C901 - see above
        """Yield what the reader gets, in order. Ends when the session is closed or deleted.

        `stream.caught_up` comes once: when what was in the log at the start has been yielded.

        Args:
            idle: Seconds of silence after which an empty batch is yielded.
            share: Of a connection that carries other sessions too. Who has written a step gives
                the turn on.

        Raises:
            EngineClosed: If the store was closed.
        """
        crowd = self._crowds.join(self._session_id)
        position = self.start
        reason: ResetReason | Literal["joined"] = "joined"
        try:
            while True:
                async with aclosing(self._beginning(position, reason, idle, share)) as beginning:
                    async for control in beginning:
                        yield control
                if self.ended:
                    break
                try:
                    async with aclosing(self._batches(idle, share)) as batches:
                        async for batch in batches:
                            yield HEARTBEAT if isinstance(batch, StoreAway) else batch
                            controls, at_end = await self._after(batch, crowd)
                            for control in controls:
                                yield control
                            if at_end:
                                break
                except CursorInvalid as error:
                    position, reason = None, error.reason
                else:
                    break
        except SessionGone:
            yield closing("deleted", session_id=self._session_id)
        else:
            yield closing("closed", session_id=self._session_id)
        finally:
            self._crowds.leave(self._session_id)

    def _batches(self, idle: float, share: Share | None) -> AsyncGenerator[Sequence[Entry]]:
        log = share or self._engine
        return follow(log, self._session_id, self._from, limit=BATCH_ENTRIES, idle=idle)

    async def _beginning(
        self, position: Position | None, reason: str, idle: float, share: Share | None
    ) -> AsyncGenerator[Control]:
        """Yield what comes before the first batch, and find out where that starts."""
        if position is None:
            shown: Shown | None = None
            async with aclosing(self._snapshots(idle, share)) as snapshots:
                async for shown in snapshots:
                    if shown is None:
                        yield HEARTBEAT
            assert shown is not None  # noqa: S101 - the last one is
            position = shown.position
            yield self._reset(reason, shown)
            self.ended = shown.closed
            self._target = position if self._target is not None else None
        self._from = position
        if position == self._target:
            yield self._caught_up(position)

    async def _snapshots(self, idle: float, share: Share | None) -> AsyncGenerator[Shown | None]:
        """Yield the session as it is; before that, now and then while the store is away, None."""
        loop = asyncio.get_running_loop()
        speaks_at = loop.time() + idle
        outage: Outage | None = None
        while True:
            if share is not None:
                await share.take()
            try:
                async with self._finding:
                    shown = await self._manager.shown(self._session_id)
            except EngineClosed:
                raise
            except EngineUnavailable:
                now = loop.time()
                outage = outage or Outage(now, speaks_at=speaks_at, idle=idle)
                if outage.failed(now):
                    yield None
                if share is not None:
                    share.give()
                await asyncio.sleep(outage.pause(loop.time()))
            else:
                yield shown
                return

    async def _after(self, batch: Sequence[Entry], crowd: Crowd) -> tuple[Sequence[Control], bool]:
        """Return what comes after a batch, and whether that is the end; rest if the crowd does."""
        if not batch:
            return (), False
        last = batch[-1]
        at_end = last.body.startswith(_LAST_EVENT)
        if self._target is not None:
            if last.seq >= self._target.seq:
                return (self._caught_up(last.position),), at_end
        elif not at_end and len(batch) < BATCH_ENTRIES:
            await crowd.rest()
        return (), at_end

    def _reset(self, reason: str, shown: Shown) -> Control:
        message = {
            "type": "stream.reset",
            "session_id": self._session_id,
            "reason": reason,
            "cursor": str(shown.position),
        }
        return Control(message, shown.position, shown)

    def _caught_up(self, position: Position) -> Control:
        self._target = None
        message = {
            "type": "stream.caught_up",
            "session_id": self._session_id,
            "cursor": str(position),
        }
        return Control(message, position)
