"""What this process does of one session's runs: it starts, stops, holds and watches them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from functools import partial

from gateway.errors import AgentNotFound, EngineClosed, EngineUnavailable, Fenced, GatewayError
from gateway.log.engine import Engine, Fence
from gateway.sessions.effects import Heard
from gateway.sessions.folded import Folded
from gateway.sessions.gate import Gate, at_rest
from gateway.sessions.room import Room
from gateway.sessions.state import RunState, nested
from gateway.sessions.writer import SessionWriter
from runtime.cancel import CancelToken
from runtime.errors import AgentUnknown
from runtime.events import ErrorInfo, Event
from runtime.registry import Registry
from runtime.runnable import Runnable, RunRequest

__all__ = ["STORE_RETRY", "Work", "runnable_of"]

logger = logging.getLogger(__name__)

STORE_RETRY = 1.0
"""Seconds between attempts at something that is to be done as soon as the store is available."""

QUIET = 0.05
"""Seconds between two looks at a log of which the engine said in vain that it has moved."""


class Work:
    """The runs of one session that are at work here.

    Usually that is one. A run that was stopped stays until it has ended; the fence keeps it from
    writing.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        folded: Folded,
        writer: SessionWriter,
        *,
        room: Room,
        on_said: Callable[[], None],
        on_failed: Callable[[Fence, ErrorInfo], None],
    ) -> None:
        """Make it.

        Args:
            engine: Where the log is.
            registry: The agents that the session may run.
            folded: What is known of the session.
            writer: Writes what the runs say.
            room: The places for runs here.
            on_said: Called after each event of a run.
            on_failed: Called when a run that has the claim returned without an end in the log.
        """
        self._engine = engine
        self._registry = registry
        self._folded = folded
        self._writer = writer
        self._room = room
        self._on_said = on_said
        self._on_failed = on_failed
        self._tasks: dict[Fence, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._gate = Gate()
        self._token = CancelToken()  # of the newest run; there is one for each

    @property
    def busy(self) -> bool:
        """Whether any run is at work, or has been stopped and has not ended."""
        return bool(self._tasks)

    @property
    def has_claim(self) -> bool:
        """Whether the run that has the claim is at work here."""
        return self._folded.claim in self._tasks

    @property
    def tasks(self) -> Iterable[asyncio.Task[None]]:
        """All that is being done here."""
        watching = () if self._watching is None else (self._watching,)
        return (*self._tasks.values(), *watching)

    def start(self, claim: Fence) -> None:
        """Do the run of a claim; it has a place, and gives it back in the end."""
        run = self._folded.state.runs[claim.run_id]
        self._token = CancelToken()
        if run.stopping is not None:  # whoever worked on it then has died
            self._token.stop_after_step()
        task = asyncio.get_running_loop().create_task(self._run(run, claim))
        self._tasks[claim] = task
        task.add_done_callback(lambda _: self._done(claim))
        if self._engine.shared and self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    def stop(self, *, but: Fence | None = None) -> None:
        """Stop what is being done, because it is over, or somebody else has the claim."""
        for claim, task in self._tasks.items():
            if claim != but:
                task.cancel()  # no wait: the fence already keeps it from writing

    def stop_after_step(self) -> None:
        """Let the newest run end after its step."""
        self._token.stop_after_step()

    def hold(self) -> None:
        """Let nothing begin for now: somebody may have taken the run over."""
        self._gate.hold()

    def go_on(self) -> None:
        """Let go on what was held."""
        self._gate.go_on()

    def shut(self) -> None:
        """Let nothing begin any more: this process stops."""
        self._gate.shut()

    async def rest(self) -> None:
        """Return when nothing is at work; what would begin waits at the gate, which is shut.

        Raises:
            EngineUnavailable: If the store failed.
        """
        while self._tasks:
            await self._writer.settle()  # what has begun is in the state
            if at_rest(self._folded.state.open, self._gate.waiting):
                return
            await self._gate.news()

    def adjust(self, heard: Heard) -> None:
        """Do what others have decided, once it is known here."""
        claim, state = self._folded.claim, self._folded.state
        if heard.news.anew is not None:
            self.stop()
            return
        for held, task in self._tasks.items():
            if held not in {claim, heard.spoke}:
                task.cancel()
        if heard.ours is not None and heard.ours not in self._tasks:
            self._room.enter()
            self.start(heard.ours)
        run = state.current_run
        if run is not None and run.stopping is not None and self.has_claim:
            self._token.stop_after_step()

    def _done(self, claim: Fence) -> None:
        self._tasks.pop(claim, None)
        self._room.leave()
        self._gate.told()
        if not self._tasks and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _emit(self, claim: Fence, event: Event) -> None:
        await self._gate.passed(event)
        try:
            await self._writer.emit(claim, event)
        finally:
            self._gate.told()
        self._on_said()

    async def _run(self, run: RunState, claim: Fence) -> None:
        """Do a run, and see that the log says how it ended."""
        logger.info(
            "run started",
            extra={
                "session_id": self._folded.state.session_id,
                "run_id": run.run_id,
                "attempt": run.attempt,
            },
        )
        error: ErrorInfo
        try:
            runnable = runnable_of(self._registry, run.agent)
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
        if self._folded.claim == claim:
            self._on_failed(claim, error)

    def _request(self, run: RunState, runnable: Runnable, claim: Fence) -> RunRequest:
        state = self._folded.state
        return RunRequest(
            run_id=run.run_id,
            history=state.history(),
            options=runnable.options_type.model_validate(run.options),
            attempt=run.attempt,
            announce=False,
            parent_run_id=run.parent_run_id,
            turns=run.turns,
            usage=run.usage,
            decisions=state.decisions(run.run_id),
            started=frozenset(
                call_id for call_id, tool in state.open.tools.items() if nested(tool.path) is None
            ),
            timeout=run.timeout,
            journal=tuple(run.journal),
            cancel=self._token,
            steered=partial(self._writer.steer, claim),
            instructions=run.instructions,
            tools=run.tools,
        )

    async def _watch(self) -> None:
        """Follow the log, so that what others decide about the run here reaches it.

        What is written here moves the fold by itself, and costs no look.
        """
        while self._tasks:
            known = self._folded.state.position
            try:
                await self._engine.wait(self._folded.state.session_id, known)
                await self._writer.turned()
                if self._folded.state.position == known:
                    await self._writer.look()
                    if self._folded.state.position == known:
                        await asyncio.sleep(QUIET)
            except EngineClosed:
                return
            except EngineUnavailable:
                await asyncio.sleep(STORE_RETRY * random.uniform(0.5, 1))  # noqa: S311 - spreads load
            except GatewayError:
                return  # the session is gone, and its run was stopped


def runnable_of(registry: Registry, name: str) -> Runnable:
    """Return what the registry has under a name.

    Raises:
        AgentNotFound: If it has nothing.
    """
    try:
        return registry.get(name)
    except AgentUnknown as error:
        raise AgentNotFound(str(error)) from error
