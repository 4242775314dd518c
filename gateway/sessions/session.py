"""One session: it obeys commands, and starts, stops and watches its run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal

from pydantic import ValidationError

from gateway.commands import (
    Ack,
    Cancel,
    Continue,
    EditQueue,
    Send,
    digest,
    explain,
)
from gateway.errors import AgentNotFound, CommandMalformed, EngineUnavailable, Fenced
from gateway.log.engine import Answer, Engine, Fence, Orphan
from gateway.sessions import decide
from gateway.sessions.controllers import COME_BACK_SECONDS, Absence
from gateway.sessions.decide import Decide, Decided, NewIds
from gateway.sessions.gate import Gate, at_rest
from gateway.sessions.ids import new_message_id, new_run_id
from gateway.sessions.shown import Show, Shown
from gateway.sessions.snapshot import Snapshot
from gateway.sessions.state import RunState, SessionState, nested
from gateway.sessions.stored import Keeper
from gateway.sessions.writer import SessionWriter
from runtime.cancel import CancelToken
from runtime.errors import AgentUnknown, ToolsRefused
from runtime.events import ErrorInfo, Event
from runtime.registry import Registry
from runtime.runnable import Runnable, RunRequest
from runtime.streaming import checked_tools

__all__ = ["Obeyed", "Session"]

Obeyed = Send | Cancel | Continue | EditQueue
"""The commands that change the session itself."""

logger = logging.getLogger(__name__)

STORE_RETRY = 1.0
"""Seconds between attempts to record a run's end while the store is not available."""


class Session:
    """A session that this process writes.

    Attributes:
        absence: For how long nobody has controlled it.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        state: SessionState,
        claim: Fence | None,
        *,
        delta_interval: float,
        is_attended: Callable[[], bool],
        keeper: Keeper,
    ) -> None:
        """Make it from its folded state.

        Args:
            engine: Where its log is.
            registry: The agents that it may run.
            state: The fold of its log.
            claim: The claim that the store holds for its run.
            delta_interval: Seconds for which text deltas may wait to be merged.
            is_attended: Tells whether anybody controls it.
            keeper: Says when its state is to be stored.
        """
        self._engine = engine
        self._registry = registry
        self._keeper = keeper
        self._show = Show()
        self._tasks: dict[Fence, asyncio.Task[None]] = {}
        self._gate = Gate()
        self._chores: set[asyncio.Task[None]] = set()
        self._token = CancelToken()  # of the newest run; there is one for each
        self._writer = SessionWriter(
            engine,
            state,
            claim,
            delta_interval=delta_interval,
            kind_of=self._kind_of,
            on_change=self._changed,
        )
        self.absence = Absence(is_attended, lambda: decide.grace(self.state), self._left_alone)

    @property
    def state(self) -> SessionState:
        """The fold of the log."""
        return self._writer.state

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost if this object were dropped."""
        return not (self._tasks or self._chores or self._writer.busy or self._writer.claim)

    @property
    def claim(self) -> Fence | None:
        """The claim of its run, as far as this process knows."""
        return self._writer.claim

    @property
    def at_work(self) -> bool:
        """Whether the run that has the claim is being done here."""
        return self._writer.claim in self._tasks

    async def shown(self) -> Shown:
        """Return the same as `snapshot`, encoded once for all who come for it."""
        return self._show.now(await self.settled())

    async def snapshot(self) -> Snapshot:
        """Return the session as clients see it, not behind anything that a reader has seen."""
        return (await self.settled()).snapshot()

    async def settled(self) -> SessionState:
        """Return the fold of the log, not behind anything that a reader has seen."""
        await self._writer.settle()
        return self.state

    async def obey(self, command: Obeyed) -> Ack:
        """Obey a command, at most once however often it is sent.

        Raises:
            GatewayError: If it is refused; it had no effect then.
        """
        if isinstance(command, Send):
            self._check_agent(command)
        decision = self._decision(command, NewIds(new_run_id(), new_message_id()))
        answer = await self._writer.ask(decision, Answer(command.id, digest(command), run_id=None))
        if answer is None or answer.position is None:
            raise EngineUnavailable
        return Ack(
            id=command.id,
            session_id=command.session_id,
            run_id=answer.run_id,
            cursor=str(answer.position),
        )

    async def remember(self, answer: Answer) -> Answer:
        """Remember the answer to a command that changed something else; return the first one.

        Raises:
            CommandConflict: If the command was answered before, with another body.
        """
        first = await self._writer.ask(lambda _: Decided(), answer)
        if first is None:
            raise EngineUnavailable
        return first

    def _check_agent(self, command: Send) -> None:
        runnable = self._runnable(command.agent or self.state.agent)
        try:
            runnable.options_type.model_validate(command.options)
        except ValidationError as error:
            known = ", ".join(sorted(runnable.options_type.model_fields))
            text = f"options: {explain(error)} (known options: {known})"
            raise CommandMalformed(text) from error
        try:
            checked_tools(runnable, command.tools)
        except ToolsRefused as error:
            raise CommandMalformed(f"tools: {error}") from error

    def _runnable(self, name: str) -> Runnable:
        try:
            return self._registry.get(name)
        except AgentUnknown as error:
            raise AgentNotFound(str(error)) from error

    def _kind_of(self, name: str) -> Literal["agent", "graph"]:
        """Tell what a runnable is; one that is not registered any more fails as an agent."""
        try:
            return self._registry.get(name).kind
        except AgentUnknown:
            return "agent"

    def _decision(self, command: Obeyed, ids: NewIds) -> Decide:
        match command:
            case Send():
                return partial(decide.send, command=command, ids=ids, kind_of=self._kind_of)
            case Cancel():
                return partial(decide.cancel, command=command, kind_of=self._kind_of)
            case Continue():
                return partial(decide.continue_run, command=command, ids=ids)
            case EditQueue():
                return partial(decide.edit_queue, command=command)

    async def take_over(self, orphan: Orphan) -> None:
        """Go on with a run on which nobody works, if that is still so when its turn comes."""
        self.absence.begin(least=COME_BACK_SECONDS)

        def decision(state: SessionState) -> Decided:
            run = state.current_run
            if run is None or run.status != "running" or self._writer.claim != orphan.claim:
                return Decided()
            return decide.take_over(state, run, self._kind_of, orphan.why)

        await self._writer.ask(decision)

    async def hand_over(self, seconds: float) -> None:
        """Let go of the run, so that the next process goes on with it at once.

        It begins nothing any more: no model call, no tool, no node. What is at work may come to its
        end; what has not after `seconds` is cut, and will be done anew.

        Raises:
            EngineUnavailable: If the store failed; the run is taken over as after a crash then.
        """
        self._gate.shut()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rest()
        await self._writer.ask(
            lambda state: Decided() if self.claim is None else decide.hand_over(state)
        )

    async def _rest(self) -> None:
        """Return when nothing is at work."""
        while self._tasks:
            await self._writer.settle()  # what has begun is in the state
            if at_rest(self.state.open, self._gate.waiting):
                return
            await self._gate.news()

    def stop(self) -> None:
        """Stop what is being done: somebody else has the claim."""
        for task in self._tasks.values():
            task.cancel()  # no wait: the fence already keeps it from writing

    async def close(self, reason: str) -> None:
        """Cancel what runs and waits, and take no more commands."""
        await self._writer.ask(partial(decide.close, reason=reason))

    async def aclose(self) -> None:
        """Let go, leaving an active run in the log as active: the next process takes it over."""
        await self._writer.aclose()
        tasks = [*self._tasks.values(), *self._chores]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    # --- runs ----------------------------------------------------------------------------------

    def _changed(self, decided: Decided, claim: Fence | None, by_run: bool) -> None:
        """Do what a committed append asks for: stop the run that ended, start the one that begins."""
        self.absence.look()
        if decided.stops is not None:
            self._token.stop_after_step()
            return
        if not by_run:
            self.stop()
        if decided.begins is not None and claim is not None:
            run = self.state.runs[decided.begins]
            self._token = CancelToken()
            if run.stopping is not None:  # the process that was told so has died
                self._token.stop_after_step()
            task = asyncio.get_running_loop().create_task(self._run(run, claim))
            self._tasks[claim] = task
            task.add_done_callback(lambda _: self._done(claim))
        elif self.state.current is None:
            self._store_snapshot()

    def _done(self, claim: Fence) -> None:
        self._tasks.pop(claim, None)
        self._gate.told()

    async def _emit(self, claim: Fence, event: Event) -> None:
        await self._gate.passed(event)
        try:
            await self._writer.emit(claim, event)
        finally:
            self._gate.told()
        self._store_snapshot()  # a run may be long, and its process may die

    async def _run(self, run: RunState, claim: Fence) -> None:
        """Do a run, and make sure that the log says how it ended."""
        logger.info(
            "run started",
            extra={
                "session_id": self.state.session_id,
                "run_id": run.run_id,
                "attempt": run.attempt,
            },
        )
        error: ErrorInfo
        try:
            runnable = self._runnable(run.agent)
            request = self._request(run, runnable, claim)
            await runnable.execute(request, partial(self._emit, claim))
            error = ErrorInfo(code="no_end", message="the agent returned without ending the run")
        except Fenced:
            return
        except AgentNotFound as unknown:
            error = ErrorInfo(code=unknown.code, message=str(unknown))
        except EngineUnavailable as failed:
            error = ErrorInfo(code=failed.code, message=str(failed), retryable=True)
        except Exception:
            logger.exception("a run failed unexpectedly", extra={"run_id": run.run_id})
            error = ErrorInfo(code="internal_error", message="the agent failed unexpectedly")
        if self._writer.claim == claim:
            self._chore(self._record_failure(claim, error))

    def _request(self, run: RunState, runnable: Runnable, claim: Fence) -> RunRequest:
        return RunRequest(
            run_id=run.run_id,
            history=self.state.history(),
            options=runnable.options_type.model_validate(run.options),
            attempt=run.attempt,
            announce=False,
            parent_run_id=run.parent_run_id,
            turns=run.turns,
            usage=run.usage,
            decisions=self.state.decisions(run.run_id),
            started=frozenset(
                call_id
                for call_id, tool in self.state.open.tools.items()
                if nested(tool.path) is None
            ),
            timeout=run.timeout,
            journal=tuple(run.journal),
            cancel=self._token,
            steered=partial(self._writer.steer, claim),
            instructions=run.instructions,
            tools=run.tools,
        )

    async def _record_failure(self, claim: Fence, error: ErrorInfo) -> None:
        """Write a run's failure into the log, as soon as the store takes it."""

        def decision(state: SessionState) -> Decided:
            run = state.current_run
            if run is None or self._writer.claim != claim:
                return Decided()
            return decide.fail(state, run, error, self._kind_of)

        await self._insist(decision)

    def _left_alone(self) -> None:
        self._chore(self._leave())

    async def _leave(self) -> None:
        """End what goes on with nobody there, if that is still so when its turn comes."""
        await self._insist(
            partial(decide.leave, has_lasted=self.absence.has_lasted, kind_of=self._kind_of)
        )
        self.absence.look()  # the next one may be due

    async def _insist(self, decision: Decide) -> None:
        """Carry out a decision as soon as the store takes it."""
        while True:
            try:
                await self._writer.ask(decision)
            except EngineUnavailable:
                await asyncio.sleep(STORE_RETRY)
            else:
                return

    # --- chores --------------------------------------------------------------------------------

    def _store_snapshot(self) -> None:
        snapshot = self._keeper.due(self.state)
        if snapshot is not None:
            self._chore(self._engine.save_snapshot(self.state.session_id, snapshot))

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("a chore of a session failed", exc_info=error)
