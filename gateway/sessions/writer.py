"""The one writer of a session: it takes turns, and folds what was committed.

Whatever wants to change a session, a command or its run, waits here for its turn. A turn looks at
the state, which is exactly up to date then, decides, appends in one transaction, and folds the
committed events. So there is no lock, and a decision never races the run that it is about.
Deltas are merged for a moment before they take their turn; nothing overtakes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.errors import CommandConflict, EngineUnavailable, Fenced, GatewayError
from gateway.log.engine import Answer, Appended, Engine, Fence, SessionStatus, Write
from gateway.log.serde import dump, load
from gateway.sessions import decide
from gateway.sessions.decide import Decide, Decided
from gateway.sessions.deltas import DeltaBuffer, is_delta
from gateway.sessions.fold import fold
from gateway.sessions.ids import new_nonce
from gateway.sessions.inputs import KindOf
from gateway.sessions.state import SessionState
from runtime.events import (
    RUN_ENDS,
    Event,
    InputAccepted,
    InputSteered,
    RunAttemptStarted,
    RunInterrupted,
)
from runtime.messages import Message

__all__ = ["SessionWriter", "title_of"]

logger = logging.getLogger(__name__)

MAX_WAITING = 64 * 1024
"""Characters of deltas that may wait for a slow store before the run has to wait as well."""

TITLE_LENGTH = 80
"""Characters of the first input that name a session in the list."""


@dataclass(slots=True)
class _Emitted:
    """A turn of the run: events to append; nobody waits for merged deltas."""

    claim: Fence
    events: Sequence[Event]
    done: asyncio.Future[None] | None


@dataclass(slots=True)
class _Asked:
    """A turn of a command: a decision to make and carry out."""

    decide: Decide
    answer: Answer | None
    done: asyncio.Future[Answer | None]


class SessionWriter:
    """Appends to one session, in turns.

    Attributes:
        state: The fold of the log; changed by this class alone.
        claim: The current claim, if a run is active.
    """

    def __init__(
        self,
        engine: Engine,
        state: SessionState,
        claim: Fence | None,
        *,
        delta_interval: float,
        kind_of: KindOf,
        on_change: Callable[[Decided, Fence | None, bool], None],
    ) -> None:
        """Make the writer.

        Args:
            engine: Where the log is.
            state: The session as folded so far.
            claim: The claim that the store holds.
            delta_interval: Seconds for which deltas may wait to be merged; 0 writes each alone.
            kind_of: Tells what the runnable of a name is.
            on_change: Called after each append that begins, ends, stops or releases a run, with the new
                claim, and whether the run itself asked for it.
        """
        self.state = state
        self.claim = claim
        self._engine = engine
        self._interval = delta_interval
        self._kind_of = kind_of
        self._on_change = on_change
        self._turns: deque[_Emitted | _Asked] = deque()
        self._deltas = DeltaBuffer()
        self._delta_claim: Fence | None = None
        self._due = False
        self._timer: asyncio.TimerHandle | None = None
        self._worker: asyncio.Task[None] | None = None
        self._broken: Fence | None = None
        self._closed = False

    # --- what others call ----------------------------------------------------------------------

    async def ask(self, decision: Decide, answer: Answer | None = None) -> Answer | None:
        """Make a decision in its turn and carry it out.

        With an `answer` the command is obeyed at most once: if its id was answered before, nothing
        is done and the first answer is returned.

        Raises:
            GatewayError: What `decision` or the store refuses; nothing was written then.
        """
        done = asyncio.get_running_loop().create_future()
        self._submit(_Asked(decision, answer, done))
        return await asyncio.shield(done)

    async def emit(self, claim: Fence, event: Event) -> None:
        """Append an event of the run that holds `claim`.

        Returns when it is committed; deltas return at once, unless too much is waiting.

        Raises:
            Fenced: If the run is over, or somebody else's, by now.
            EngineUnavailable: If the store failed, now or for a delta before.
        """
        if self._closed:
            raise Fenced(f"run {claim.run_id!r} goes on in another process")
        self._check(claim)
        if not is_delta(event) or not self._interval:
            done = asyncio.get_running_loop().create_future()
            self._submit(_Emitted(claim, (event,), done))
            await asyncio.shield(done)
            return
        self._delta_claim = claim
        first = self._deltas.add(event)
        if self._deltas.size > MAX_WAITING:
            await self.settle()
        elif first:
            self._flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._interval, self._flush)

    async def steer(self, claim: Fence) -> tuple[Message, ...]:
        """Hand to the run that holds `claim` what clients have said to it; it is committed then.

        Raises:
            Fenced, EngineUnavailable: As `emit`.
        """
        if self._closed:
            raise Fenced(f"run {claim.run_id!r} goes on in another process")
        heard: list[Message] = []

        def decision(state: SessionState) -> Decided:
            self._check(claim)
            decided = decide.steer(state)
            heard.extend(e.message for e in decided.events if isinstance(e, InputSteered))
            return decided

        try:
            await self.ask(decision)
        except EngineUnavailable:
            self._broken = claim
            raise
        return tuple(heard)

    async def settle(self) -> None:
        """Return when all that waits now is committed and folded."""
        if self.busy:
            await self.ask(_nothing)

    async def aclose(self) -> None:
        """Take no more from runs, and return when what waits is written."""
        self._closed = True
        self._flush()
        while self._worker is not None:
            await asyncio.wait([self._worker])

    @property
    def busy(self) -> bool:
        """Whether something waits to be written or is being written."""
        return self._worker is not None or bool(self._turns) or self._deltas.size > 0

    # --- turns ---------------------------------------------------------------------------------

    def _check(self, claim: Fence) -> None:
        if claim != self.claim:
            raise Fenced(f"run {claim.run_id!r} is over or was taken over")
        if claim == self._broken:
            raise EngineUnavailable

    def _submit(self, turn: _Emitted | _Asked) -> None:
        self._queue_deltas()  # they came before
        self._turns.append(turn)
        self._wake()

    def _queue_deltas(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = False
        deltas = self._deltas.take()
        if deltas and self._delta_claim is not None:
            self._turns.append(_Emitted(self._delta_claim, deltas, None))

    def _flush(self) -> None:
        """Let the waiting deltas take their turn; those that come before it does are merged."""
        self._due = True
        self._wake()

    def _wake(self) -> None:
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """Give everybody their turn; ends when nobody waits. Never cancelled."""
        try:
            while self._turns or self._due:
                if not self._turns:
                    self._queue_deltas()
                if self._turns:
                    await self._take_turn()
        finally:
            self._worker = None

    async def _take_turn(self) -> None:
        turn = self._turns[0]
        if isinstance(turn, _Emitted):
            await self._write_events(turn.claim, self._emitted_in_a_row(turn.claim))
            return
        self._turns.popleft()
        try:
            result = await self._obey(turn)
        except GatewayError as error:
            _refuse(turn.done, error)
        except Exception as error:
            logger.exception("a decision failed unexpectedly")
            _refuse(turn.done, error)
        else:
            if not turn.done.done():
                turn.done.set_result(result)

    def _emitted_in_a_row(self, claim: Fence) -> list[_Emitted]:
        """Take the turns at the front that are events of one run, up to one that ends it."""
        taken: list[_Emitted] = []
        while self._turns:
            turn = self._turns[0]
            if not isinstance(turn, _Emitted) or turn.claim != claim:
                break
            self._turns.popleft()
            taken.append(turn)
            if _is_end(turn.events[-1]):
                break
        return taken

    async def _write_events(self, claim: Fence, turns: list[_Emitted]) -> None:
        events = tuple(event for turn in turns for event in turn.events)
        try:
            self._check(claim)
            await self._append(self._decided_by(claim, events), None, by_run=True)
        except Exception as error:  # noqa: BLE001 - whoever emitted gets it, and must
            if isinstance(error, EngineUnavailable):
                self._broken = claim  # there may be a hole: the run must not go on
            for turn in turns:
                _refuse(turn.done, error)
            return
        for turn in turns:
            if turn.done is not None and not turn.done.done():
                turn.done.set_result(None)

    def _decided_by(self, claim: Fence, events: tuple[Event, ...]) -> Decided:
        """Return what a run's own events decide: its end starts the next input."""
        last = events[-1]
        if isinstance(last, RunInterrupted):
            paused = decide.pause(self.state, last)
            return replace(paused, events=(*events[:-1], *paused.events))
        if isinstance(last, RUN_ENDS):
            return decide.end(self.state, events, claim.run_id, self._kind_of)
        return Decided(events, run_id=claim.run_id)

    async def _obey(self, turn: _Asked) -> Answer | None:
        if turn.answer is not None:
            first = await self._engine.answer(self.state.session_id, turn.answer.command_id)
            if first is not None:
                if first.digest != turn.answer.digest:
                    raise CommandConflict(first.command_id)
                return first
        decided = turn.decide(self.state)
        if not decided.events and turn.answer is None:
            return None
        answer = turn.answer and Answer(turn.answer.command_id, turn.answer.digest, decided.run_id)
        return (await self._append(decided, answer, by_run=False)).answer

    async def _append(self, decided: Decided, answer: Answer | None, *, by_run: bool) -> Appended:
        """Do one append, fold it, and tell who is concerned."""
        claim = self._next_claim(decided)
        appended = await self._engine.append(
            Write(
                session_id=self.state.session_id,
                bodies=[dump(event) for event in decided.events],
                fence=self.claim,
                claim=claim if claim != self.claim else None,
                release=claim is None and self.claim is not None,
                answer=answer,
                status=_status_after(decided),
                title=self._title(decided),
            )
        )
        for entry, event in zip(appended.entries, decided.events, strict=True):
            fold(self.state, entry, event if is_delta(event) else load(entry))
        self.claim = claim
        if decided.begins or decided.ends or decided.releases:
            self._deltas.reset()
        if decided.begins or decided.ends or decided.releases or decided.stops:
            self._on_change(decided, claim, by_run)
        return appended

    def _next_claim(self, decided: Decided) -> Fence | None:
        if decided.begins is not None:
            known = self.state.runs.get(decided.begins)
            attempt = known.attempt if known is not None else 1
            for event in decided.events:
                if isinstance(event, RunAttemptStarted) and event.run_id == decided.begins:
                    attempt = event.attempt
            return Fence(decided.begins, attempt, new_nonce())
        return None if decided.ends or decided.releases else self.claim

    def _title(self, decided: Decided) -> str | None:
        if self.state.messages:
            return None
        for event in decided.events:
            if isinstance(event, InputAccepted):
                return title_of(event.message.content)
        return None


def title_of(text: str) -> str:
    """Return what a session is called in the list whose first input this is."""
    return " ".join(text.split())[:TITLE_LENGTH]


def _nothing(state: SessionState) -> Decided:
    """Decide nothing: whoever asks this waits until all that was before is written."""
    return Decided()


def _is_end(event: Event) -> bool:
    return isinstance(event, (*RUN_ENDS, RunInterrupted))


def _refuse(
    done: asyncio.Future[None] | asyncio.Future[Answer | None] | None, error: Exception
) -> None:
    if done is not None and not done.done():
        done.set_exception(error)
        done.exception()  # its caller may be gone: that is no "never retrieved"


def _status_after(decided: Decided) -> SessionStatus | None:
    """Return what the session list shall say, if it changes."""
    if any(event.type == "session.closed" for event in decided.events):
        return "closed"
    if decided.begins is not None:
        return "running"
    if decided.ends is None:
        return None
    return "interrupted" if isinstance(decided.events[-1], RunInterrupted) else "idle"
