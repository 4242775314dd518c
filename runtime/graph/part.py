"""One part of a session: what the graph does between two times that nobody runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.errors import CheckpointUnknown, RunAborted
from runtime.events import ErrorInfo, Event, RunCancelled, RunFailed
from runtime.graph.answers import pending
from runtime.graph.compiled import CompiledGraph
from runtime.graph.recording import Recording
from runtime.graph.store import Kept, RunRecord, Status, status_of
from runtime.run_stream import RunStream
from runtime.runnable import Emit, RunRequest

__all__ = ["RunState", "go", "not_waiting"]

LOST = ErrorInfo(code="checkpoint_error", message="what the run did could not be kept")
"""What readers are told when a run broke off without an end that is in the store."""


@dataclass(frozen=True, slots=True)
class RunState:
    """How a session's newest run stands.

    Attributes:
        run_id: The run.
        session_id: The session.
        status: `running` is also said of a run whose process died.
        state: The state, by key name, as plain JSON: of the end, or of the last checkpoint.
        seq: The number of the session's last event: `Runner.stream` can begin after it.
        checkpoint_id: The last checkpoint.
        pending: The ids of the approvals that it waits for.
    """

    run_id: str
    session_id: str
    status: Status
    state: Mapping[str, Any]
    seq: int
    checkpoint_id: str | None = None
    pending: tuple[str, ...] = ()

    @classmethod
    def of(cls, kept: Kept) -> RunState:
        """Return what a store knows of a session as its state."""
        checkpoint = kept.checkpoint
        return cls(
            run_id=kept.run.run_id,
            session_id=kept.run.session_id,
            status=kept.run.status,
            state=(kept.run.state or {}) if checkpoint is None else checkpoint.state,
            seq=kept.tail,
            checkpoint_id=None if checkpoint is None else checkpoint.checkpoint_id,
            pending=tuple(asked.approval_id for asked in pending(kept.journal)),
        )


def not_waiting(run: RunRecord) -> CheckpointUnknown:
    """Return the error that says that a run cannot go on."""
    return CheckpointUnknown(
        f"the last run of session {run.session_id!r} cannot go on: it is {run.status}"
    )


async def go(
    compiled: CompiledGraph,
    recording: Recording,
    request: RunRequest,
    first: tuple[Event, ...] = (),
) -> RunState:
    """Run a graph, record it, and return how it ended.

    Args:
        compiled: The graph.
        recording: Takes the events.
        request: What is asked.
        first: Events to record before it begins.

    Raises:
        RunAborted: If it was cancelled at once.
        RunTimeout: If it was not done in time.
        Exception: What made it fail.
    """
    path = (compiled.name,)
    recorded = _Recorded(compiled, recording, first)
    stream: RunStream[None] = RunStream(recorded, request, _nothing, cancel=request.cancel)
    try:
        async with stream:
            async for _ in stream:
                pass
    except RunAborted:
        if recording.end is None:  # it was cancelled before it began
            cancelled = RunCancelled(run_id=request.run_id, path=path, reason="cancel")
            await recording.report(cancelled)
        raise
    finally:
        lost = RunFailed(run_id=request.run_id, path=path, error=LOST)
        recording.show_end(lost)
    end, checkpoint = recording.end, recording.checkpoint
    state = getattr(end, "state", None)
    if state is None:
        state = {} if checkpoint is None else checkpoint.state
    return RunState(
        run_id=request.run_id,
        session_id=recording.session_id,
        status=status_of(end),
        state=state,
        seq=recording.seq,
        checkpoint_id=None if checkpoint is None else checkpoint.checkpoint_id,
        pending=getattr(end, "pending", ()),
    )


class _Recorded(CompiledGraph):
    """A graph whose run is recorded."""

    def __init__(
        self, compiled: CompiledGraph, recording: Recording, first: tuple[Event, ...]
    ) -> None:
        super().__init__(compiled.definition)
        self._recording = recording
        self._first = first

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        """Do the run; keep and show each event before the run goes on."""

        async def report(event: Event) -> None:
            await self._recording.report(event)
            await emit(event)

        for event in self._first:
            await report(event)
        await super().execute(request, report)


def _nothing(event: Event) -> None:
    """Yield nothing: whoever wants to see the run reads a stream."""
