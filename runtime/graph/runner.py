"""Sessions of a graph: runs that are kept, watched, paused, gone on with, forked and done again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from runtime.broker import Broker
from runtime.cancel import CancelToken
from runtime.checkpoint import Checkpoint
from runtime.errors import CheckpointUnknown, SessionBusy
from runtime.events import (
    ApprovalRequested,
    CheckpointSaved,
    Event,
    RunResumed,
    RunStarted,
)
from runtime.feed import KEEP
from runtime.graph.answers import (
    check_answers,
    decisions_of,
    edited,
    first_state,
    pending,
    resolutions,
)
from runtime.graph.compiled import CompiledGraph
from runtime.graph.memory_store import MemoryStore
from runtime.graph.part import RunState, go, not_waiting
from runtime.graph.recording import Clock, Recording
from runtime.graph.store import CheckpointStore, Kept, RunRecord, no_session
from runtime.graph.stream_event import DEFAULT_MODES, Mode, StreamEvent
from runtime.graph.watching import Watching
from runtime.journal import JOURNALED
from runtime.report import new_id
from runtime.runnable import Decision, RunOptions, RunRequest

__all__ = ["RunState", "Runner"]

APPROVED = Decision("approved")


class Runner:
    """Runs one graph in any number of sessions, in one of them one run at a time.

    What a run needs in order to go on is in the store before the run goes on, and before anybody
    sees it. So a run that was interrupted, or whose process died, goes on where it was, and repeats
    nothing that was finished.
    """

    def __init__(
        self,
        compiled: CompiledGraph,
        store: CheckpointStore | None = None,
        *,
        broker: Broker | None = None,
        keep: int = KEEP,
    ) -> None:
        """Take a graph.

        Args:
            compiled: The graph.
            store: Keeps the sessions; by default in memory. Whoever made it closes it.
            broker: Is told every event of every session, custom ones under their own names.
            keep: How many events are kept in memory for those who read streams.
        """
        self._compiled = compiled.showing_state()
        self._store: CheckpointStore = MemoryStore() if store is None else store
        self._watching = Watching(self._store, broker, keep)
        self._busy: set[str] = set()
        self._clock = Clock()

    # --- runs ----------------------------------------------------------------------------------

    async def run(
        self,
        session_id: str,
        state: Mapping[Any, Any] | None = None,
        *,
        cancel: CancelToken | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the run itself ends as timed out
        options: RunOptions | None = None,
    ) -> RunState:
        """Begin a new run, and return when it has ended or waits for a human.

        A run of this session that was waiting, or whose process died, is given up.

        Args:
            session_id: The session; it is made if there is none.
            state: The first values, by key or by name.
            cancel: Stops it from anywhere.
            timeout: Seconds that it may take; the graph's own limit holds too.
            options: For the agents in the graph.

        Raises:
            SessionBusy: If the session has a run that is going on.
            NodeError: If a node failed.
            RunAborted: If it was cancelled at once. Stopped after a step, it is returned.
            RunTimeout: If it was not done in time.
            Exception: What else made it fail.
        """
        given = dict(state or {})
        with self._claimed(session_id):
            run = RunRecord(run_id=new_id("run"), session_id=session_id, state=first_state(given))
            recording = self._recording(session_id, await self._store.begin(run))
            request = self._request(run, recording, cancel, timeout, options)
            return await go(self._compiled, recording, replace(request, state=given))

    async def resume(
        self,
        session_id: str,
        decisions: Mapping[str, Decision] | None = None,
        *,
        cancel: CancelToken | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the run itself ends as timed out
        options: RunOptions | None = None,
    ) -> RunState:
        """Go on with a run that waits for a human, or whose process died.

        Args:
            session_id: The session.
            decisions: Answers by approval id; what gets none is still waited for. By default all
                that a paused run waits for is approved. A decision `edited` changes the state.
            cancel: See `run`.
            timeout: See `run`.
            options: See `run`.

        Raises:
            CheckpointUnknown: If there is no such session, or its last run is over; `replay` does
                it again.
            ApprovalUnknown: If an approval was never asked for.
            ApprovalSettled: If an approval was answered already.
            Exception: See `run`.
        """
        with self._claimed(session_id):
            kept = await self._load(session_id)
            if decisions:
                log = [entry.event for entry in await self._store.events(session_id)]
                check_answers(decisions, kept.journal, log)
            run = kept.run
            nowhere = kept.checkpoint is None and run.state is None
            if run.status not in {"paused", "running"} or nowhere:
                raise not_waiting(run)
            if run.status == "running":
                run = run.model_copy(update={"attempt": run.attempt + 1})
                await self._store.begin(run)
            elif decisions is None:
                decisions = {asked.approval_id: APPROVED for asked in pending(kept.journal)}
            recording = self._recording(session_id, kept.tail, kept.checkpoint)
            answers = resolutions(run.run_id, self._path, decisions or {})
            request = replace(
                self._request(run, recording, cancel, timeout, options),
                announce=False,
                checkpoint=kept.checkpoint,
                state=run.state if kept.checkpoint is None else None,
                journal=tuple(event for event in kept.journal if isinstance(event, JOURNALED)),
                decisions=decisions_of((*kept.journal, *answers)),
            )
            resumed = RunResumed(
                run_id=run.run_id,
                path=self._path,
                from_seq=kept.tail,
                checkpoint_id=None if kept.checkpoint is None else kept.checkpoint.checkpoint_id,
                decisions=tuple(
                    answer.model_dump(exclude={"path", "run_id"}) for answer in answers
                ),
            )
            return await go(self._compiled, recording, request, (resumed, *answers))

    async def replay(
        self,
        session_id: str,
        checkpoint_id: str,
        *,
        cancel: CancelToken | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the run itself ends as timed out
        options: RunOptions | None = None,
    ) -> RunState:
        """Run again from a checkpoint, as a new run of the same session.

        Raises:
            CheckpointUnknown: If the session has no such checkpoint.
            Exception: See `run`.
        """
        with self._claimed(session_id):
            owner, checkpoint = await self._store.get(checkpoint_id)
            if owner != session_id:
                raise CheckpointUnknown(
                    f"session {session_id!r} has no checkpoint {checkpoint_id!r}"
                )
            run = RunRecord(
                run_id=new_id("run"),
                session_id=session_id,
                parent_run_id=checkpoint.run_id,
                checkpoint_id=checkpoint_id,
            )
            recording = self._recording(session_id, await self._store.begin(run), checkpoint)
            request = self._request(run, recording, cancel, timeout, options)
            return await go(self._compiled, recording, replace(request, checkpoint=checkpoint))

    # --- checkpoints ---------------------------------------------------------------------------

    async def update_state(self, session_id: str, update: Mapping[Any, Any]) -> RunState:
        """Change the state of a run that waits for a human. It is kept as a new checkpoint.

        Args:
            session_id: The session.
            update: Values by key or by name, merged as those of a node are.

        Raises:
            SessionBusy: If the run is going on.
            CheckpointUnknown: If there is no such session, or its run does not wait.
            UpdateInvalid: If a key is not declared, or a value does not fit it.
        """
        with self._claimed(session_id, begins=False):
            kept = await self._load(session_id)
            run, before = kept.run, kept.checkpoint
            if run.status != "paused" or before is None:
                raise not_waiting(run)
            after = edited(self._compiled.definition, before, update, run.run_id)
            await self._keep(session_id, kept.tail, after)
        return await self.state(session_id)

    async def fork(
        self, checkpoint_id: str, new_session_id: str, update: Mapping[Any, Any] | None = None
    ) -> RunState:
        """Make a new session that stands at a checkpoint of another one; `resume` runs it.

        The other session stays as it is.

        Args:
            checkpoint_id: Where it begins.
            new_session_id: Its id.
            update: Changes its state, as `update_state` does.

        Raises:
            CheckpointUnknown: If there is no such checkpoint.
            SessionBusy: If there is a session of this id.
            UpdateInvalid: See `update_state`.
        """
        with self._claimed(new_session_id, begins=False):
            _, checkpoint = await self._store.get(checkpoint_id)
            if await self._store.load(new_session_id) is not None:
                raise SessionBusy(f"there is a session {new_session_id!r} already")
            run = RunRecord(
                run_id=new_id("run"),
                session_id=new_session_id,
                parent_run_id=checkpoint.run_id,
                status="paused",
            )
            after = edited(self._compiled.definition, checkpoint, update or {}, run.run_id)
            began = RunStarted(
                run_id=run.run_id,
                path=self._path,
                graph=self._compiled.name,
                parent_run_id=checkpoint.run_id,
            )
            tail = await self._store.begin(run)
            await self._keep(new_session_id, tail, after, began)
        return await self.state(new_session_id)

    async def history(self, session_id: str) -> tuple[Checkpoint, ...]:
        """Return a session's checkpoints, oldest first.

        Raises:
            CheckpointUnknown: If there is no such session.
        """
        await self._load(session_id)
        return await self._store.history(session_id)

    async def state(self, session_id: str) -> RunState:
        """Return how a session's newest run stands.

        Raises:
            CheckpointUnknown: If there is no such session.
        """
        return RunState.of(await self._load(session_id))

    async def pending(self, session_id: str) -> tuple[ApprovalRequested, ...]:
        """Return what a session's run waits for, in the order in which it was asked.

        Raises:
            CheckpointUnknown: If there is no such session.
        """
        return pending((await self._load(session_id)).journal)

    # --- reading -------------------------------------------------------------------------------

    def stream(
        self,
        session_id: str | None = None,
        *,
        after: int | None = None,
        modes: Iterable[Mode] = DEFAULT_MODES,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Return the events of one run, up to its end or its interrupt. For any number of readers.

        It is the run that was begun last by this runner (`run`, `resume`, `replay`), from its first
        event, whether it is still going on or not; if there is none, the next one. Which it is, is
        decided when the first event is asked for.

        Args:
            session_id: Only runs of this session.
            after: Begin after this number in the session's log instead: `RunState.seq` for
                what comes after a run, 0 for all. What is no longer in memory is in the store.
            modes: Which events to see; their numbers are the same in all modes.

        Raises:
            ValueError: If `after` comes without a session.
        """
        if after is not None and session_id is None:
            raise ValueError("a number is a place in one session: name it")
        return self._watching.stream(session_id, after, frozenset(modes))

    async def aclose(self) -> None:
        """End all streams, after what was said. The store stays open. Safe to call twice."""
        self._watching.close()

    # --- parts ---------------------------------------------------------------------------------

    @property
    def _path(self) -> tuple[str, ...]:
        return (self._compiled.name,)

    @contextmanager
    def _claimed(self, session_id: str, *, begins: bool = True) -> Iterator[None]:
        """Keep others out of a session; `begins` tells whether a part of it is to begin."""
        if session_id in self._busy:
            raise SessionBusy(f"session {session_id!r} has a run that is going on")
        self._busy.add(session_id)
        if begins:
            self._watching.expect(session_id)
        try:
            yield
        finally:
            self._busy.discard(session_id)
            if begins:
                self._watching.end(session_id)

    async def _load(self, session_id: str) -> Kept:
        kept = await self._store.load(session_id)
        if kept is None:
            raise no_session(session_id)
        return kept

    def _recording(
        self, session_id: str, tail: int, checkpoint: Checkpoint | None = None
    ) -> Recording:
        """Begin a part of a session."""
        show = partial(self._watching.show, session_id, after=tail)
        recording = Recording(
            self._store, session_id, tail, show, clock=self._clock, checkpoint=checkpoint
        )
        self._watching.begin(recording)
        return recording

    def _request(
        self,
        run: RunRecord,
        recording: Recording,
        cancel: CancelToken | None,
        timeout: float | None,
        options: RunOptions | None,
    ) -> RunRequest:
        return RunRequest(
            run_id=run.run_id,
            history=(),
            attempt=run.attempt,
            parent_run_id=run.parent_run_id,
            options=options or RunOptions(),
            timeout=timeout,
            cancel=cancel,
            save=recording.save,
        )

    async def _keep(
        self, session_id: str, tail: int, checkpoint: Checkpoint, *first: Event
    ) -> None:
        """Keep a checkpoint that was made while nothing runs, and say so."""
        show = partial(self._watching.show, session_id)
        recording = Recording(self._store, session_id, tail, show, clock=self._clock)
        for event in first:
            await recording.report(event)
        await recording.save(checkpoint, keep_journal=True)
        await recording.report(
            CheckpointSaved(
                run_id=checkpoint.run_id,
                path=self._path,
                checkpoint_id=checkpoint.checkpoint_id,
                superstep=checkpoint.superstep,
            )
        )
        await recording.flush()
