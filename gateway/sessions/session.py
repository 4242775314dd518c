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
from gateway.errors import CommandMalformed, EngineUnavailable
from gateway.log.engine import Answer, Engine, Fence, Orphan
from gateway.sessions import decide
from gateway.sessions.controllers import COME_BACK_SECONDS, Absence
from gateway.sessions.decide import Decide, Decided, NewIds
from gateway.sessions.effects import Effects, Heard
from gateway.sessions.folded import Folded
from gateway.sessions.ids import new_message_id, new_run_id
from gateway.sessions.presence import Elsewhere
from gateway.sessions.room import Room
from gateway.sessions.shown import Show, Shown
from gateway.sessions.snapshot import Snapshot
from gateway.sessions.state import SessionState
from gateway.sessions.stored import Keeper
from gateway.sessions.working import STORE_RETRY, Work, runnable_of
from gateway.sessions.writer import SessionWriter
from runtime.errors import AgentUnknown, ToolsRefused
from runtime.events import ErrorInfo
from runtime.registry import Registry
from runtime.streaming import checked_tools

__all__ = ["Obeyed", "Session"]

Obeyed = Send | Cancel | Continue | EditQueue
"""The commands that change the session itself."""

logger = logging.getLogger(__name__)


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
        room: Room,
        on_gone: Callable[[], None],
        elsewhere: Elsewhere | None = None,
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
            room: The places for runs in this process.
            on_gone: Called when it turns out to be deleted.
            elsewhere: What is known of controllers on other nodes; None where there are none.
        """
        self._engine = engine
        self._registry = registry
        self._keeper = keeper
        self._room = room
        self._on_gone = on_gone
        self._show = Show()
        self._chores: set[asyncio.Task[None]] = set()
        self._is_finding_out = False
        effects = Effects(self._changed, self._heard, self._gone, lambda: self.at_work)
        self._folded = Folded(engine, state, claim, room=room, effects=effects)
        self._writer = SessionWriter(
            engine,
            self._folded,
            delta_interval=delta_interval,
            kind_of=self._kind_of,
            on_doubt=self._doubt,
        )
        self._work = Work(
            engine,
            registry,
            self._folded,
            self._writer,
            room=room,
            on_said=self._store_snapshot,  # a run may be long, and its process may die
            on_failed=self._failed,
        )
        self.absence = Absence(
            is_attended, lambda: decide.grace(self.state), self._left_alone, elsewhere
        )

    @property
    def state(self) -> SessionState:
        """The fold of the log."""
        return self._folded.state

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost if this object were dropped."""
        return not (self._work.busy or self._chores or self._writer.busy or self.own_claim)

    @property
    def claim(self) -> Fence | None:
        """The claim of its run, whoever has it, as far as this process knows."""
        return self._folded.claim

    @property
    def own_claim(self) -> Fence | None:
        """The claim of its run, if this process has it."""
        return self._folded.own

    @property
    def at_work(self) -> bool:
        """Whether the run that has the claim is being done here."""
        return self._work.has_claim

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
        runnable = runnable_of(self._registry, command.agent or self.state.agent)
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
            if run is None or run.status != "running" or self.claim != orphan.claim:
                return Decided()
            if self._room.free == 0:
                return Decided()
            return decide.take_over(state, run, self._kind_of, orphan.why)

        await self._writer.ask(decision)

    async def hand_over(self, seconds: float) -> None:
        """Let go of the run, so that the next process goes on with it at once.

        It begins nothing any more: no model call, no tool, no node. What is at work may come to its
        end; what has not after `seconds` is cut, and will be done anew.

        Raises:
            EngineUnavailable: If the store failed; the run is cut, and taken over as after a crash.
        """
        self._work.shut()
        if not (self._work.busy or self.own_claim):
            return
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._work.rest()
            await self._writer.ask(self._letting_go)
        except EngineUnavailable:
            self._work.stop()
            raise

    def _letting_go(self, state: SessionState) -> Decided:
        return Decided() if self.own_claim is None else decide.hand_over(state)

    async def look(self) -> None:
        """Learn what others have written, and do what they decided.

        Raises:
            SessionGone, SessionUnknown, EngineUnavailable: As the store says.
        """
        await self._writer.look()

    def hold(self) -> None:
        """Let nothing begin for now: somebody may have taken the run over."""
        self._work.hold()

    def go_on(self) -> None:
        """Let go on what was held."""
        self._work.go_on()

    async def close(self, reason: str) -> None:
        """Cancel what runs and waits, and take no more commands."""
        await self._writer.ask(partial(decide.close, reason=reason))

    async def aclose(self) -> None:
        """Let go, leaving an active run in the log as active: the next process takes it over."""
        await self._writer.aclose()
        tasks = [*self._work.tasks, *self._chores]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    # --- what happened -------------------------------------------------------------------------

    def _changed(self, decided: Decided, claim: Fence | None, by_run: bool) -> None:
        """Do what a committed append asks for: stop the run that ended, start the one that begins."""
        self.absence.look()
        if decided.stops is not None:
            self._work.stop_after_step()
            return
        if not by_run:
            self._work.stop()
        if decided.begins is not None and claim is not None:
            self._work.start(claim)
        elif self.state.current is None:
            self._store_snapshot()

    def _heard(self, heard: Heard) -> None:
        """Do what others have decided."""
        if heard.news.anew is not None:
            self._keeper = heard.news.anew.keeper
            if self.at_work:  # what it has said is not all in the log: another attempt says it anew
                self._chore(self._insist(self._letting_go))
        self._work.adjust(heard)
        self.absence.look()

    def _gone(self) -> None:
        self._work.stop()
        self._on_gone()

    def _doubt(self) -> None:
        """Find out whether a run has begun here, as soon as the store tells."""
        if not self._is_finding_out:
            self._is_finding_out = True
            self._chore(self._find_out())

    async def _find_out(self) -> None:
        try:
            while True:
                await asyncio.sleep(STORE_RETRY)
                with contextlib.suppress(EngineUnavailable):
                    return await self._writer.look()
        finally:
            self._is_finding_out = False

    def _failed(self, claim: Fence, error: ErrorInfo) -> None:
        self._chore(self._record_failure(claim, error))

    async def _record_failure(self, claim: Fence, error: ErrorInfo) -> None:
        """Write a run's failure into the log, as soon as the store takes it."""

        def decision(state: SessionState) -> Decided:
            run = state.current_run
            if run is None or self.claim != claim:
                return Decided()
            return decide.fail(state, run, error, self._kind_of)

        await self._insist(decision)

    def _left_alone(self) -> None:
        self._chore(self._leave())

    async def _leave(self) -> None:
        """End what goes on with nobody there, if that is still so when its turn comes."""
        await self.absence.end(
            partial(
                self._writer.ask,
                partial(decide.leave, has_lasted=self.absence.has_lasted, kind_of=self._kind_of),
            )
        )

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
