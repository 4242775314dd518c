"""Tasks as they stand: what a run's log adds up to."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field

from gateway.codecs.a2a.codec import A2aCodec
from gateway.codecs.a2a.objects import TERMINAL
from gateway.codecs.a2a.state import A2aState
from gateway.codecs.a2a.task import TaskSoFar
from gateway.errors import CursorInvalid, RunUnknown
from gateway.frontends.names import RunName
from gateway.log.entry import Entry
from gateway.log.follow import kept
from gateway.log.position import Position
from gateway.log.serde import load
from gateway.sessions.manager import RunPlace
from gateway.transports.following import follow_run, is_end
from gateway.transports.services import Services
from runtime.events import InputAccepted, InputQueued, RunStarted

__all__ = ["Standing", "codec_of", "finished", "standing", "tasks_of"]

_BEGINS = (InputAccepted, InputQueued, RunStarted)
"""What the first event of a run is; a run that goes on from another has no input."""


@dataclass(slots=True)
class Standing:
    """A task up to some place in the log.

    Attributes:
        codec: What it is told with.
        position: The place.
        state: The codec's, there.
        so_far: What was told up to there.
    """

    codec: A2aCodec
    position: Position
    state: A2aState = field(default_factory=A2aState)
    so_far: TaskSoFar = field(default_factory=TaskSoFar)

    @property
    def is_over(self) -> bool:
        """Whether the task has come to its end."""
        return self.state.task in TERMINAL

    def add(self, entry: Entry) -> None:
        """Take the run's next entry."""
        event = entry.encoded(load)
        if event is not None:
            self.state, results = self.codec.tell(self.state, event, entry)
            for result in results:
                self.so_far.add(result)
        self.position = entry.position


def codec_of(place: RunPlace, context_id: str, *, history: bool = True) -> A2aCodec:
    """Return what tells a run.

    Args:
        place: The run.
        context_id: What the client calls its session.
        history: Whether to show the messages that it began with.
    """
    return _codec(place.session_id, place.run_id, context_id, history=history)


def _codec(session_id: str, run_id: str, context_id: str, *, history: bool = True) -> A2aCodec:
    return A2aCodec(str(RunName(session_id, run_id)), context_id, history)


def _is_of(entry: Entry, run_id: str) -> bool:
    event = entry.encoded(load)
    return event is not None and event.run_id == run_id


async def standing(
    services: Services,
    place: RunPlace,
    codec: A2aCodec,
    *,
    through: Position | None = None,
    end: bool = True,
) -> Standing:
    """Return a task as it stands now.

    Args:
        services: The server's parts.
        place: Its run.
        codec: What it is told with.
        through: Or as it stood there.
        end: Whether to take in what ends the run's last segment; without it, a stream that follows
            tells that.

    Raises:
        RunUnknown: If the beginning of the run is not kept any more.
        SessionGone: If the session is deleted.
    """
    start = place.segments[0]
    last = through or (await services.manager.engine.head(place.session_id)).tail
    waits = place.status == "interrupted"
    result = Standing(codec, start)
    try:
        entries = kept(services.manager.engine, place.session_id, start, through=last.seq)
        async with aclosing(entries) as run:
            async for entry in run:
                if not _is_of(entry, place.run_id):
                    continue
                if is_end(entry) and entry.seq > place.segments[-1].seq:
                    if not (end or waits):
                        return result
                    waits = False
                result.add(entry)
                if result.is_over:
                    return result
    except CursorInvalid as error:
        raise RunUnknown(place.run_id) from error
    result.position = last
    return result


async def finished(services: Services, place: RunPlace, codec: A2aCodec) -> Standing:
    """Wait until a run has ended, or waits for a human, and return its task.

    Raises:
        RunUnknown: If the beginning of the run is not kept any more.
        SessionGone: If the session is deleted.
        ShuttingDown: If the server is stopping.
    """
    result = Standing(codec, place.segments[0])
    while True:
        batches = follow_run(services, place, after=result.position)
        try:
            async with services.streams.until_drained(), aclosing(batches) as run:
                async for batch in run:
                    for entry in batch:
                        result.add(entry)
        except CursorInvalid as error:
            raise RunUnknown(place.run_id) from error
        if result.is_over or result.state.task == "TASK_STATE_INPUT_REQUIRED":
            return result
        # It paused, and all that it asked had been answered already: it goes on.
        place = await services.manager.run(place.session_id, place.run_id)


async def tasks_of(services: Services, session_id: str, context_id: str) -> dict[str, Standing]:
    """Return all tasks of a session as they stand now, by the ids of their runs.

    Those whose beginning is not kept any more are left out.

    Raises:
        SessionUnknown, SessionGone: If there is no such session.
    """
    head = await services.manager.engine.head(session_id)
    tasks: dict[str, Standing] = {}
    entries = kept(services.manager.engine, session_id, head.start, through=head.tail.seq)
    async with aclosing(entries) as log:
        async for entry in log:
            event = entry.encoded(load)
            if event is None or event.run_id is None:
                continue
            if event.run_id not in tasks:
                if not isinstance(event, _BEGINS):
                    continue
                codec = _codec(session_id, event.run_id, context_id)
                tasks[event.run_id] = Standing(codec, head.start)
            tasks[event.run_id].add(entry)
    return tasks
