"""The one writer of a session in this process: it takes turns, and folds what was committed.

Whatever wants to change a session, a command or its run, waits here for its turn. A turn looks at
the state, decides, appends in one transaction, and folds the committed events. So there is no lock,
and a decision never races the run that it is about. Deltas are merged for a moment before they take
their turn; nothing overtakes them.

Other processes may write to the same log. So each append names the place where it was decided, and
what is refused because others were there first is decided again, on what the log has by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import replace

from gateway.errors import (
    CommandConflict,
    EngineClosed,
    EngineUnavailable,
    Fenced,
    GatewayError,
    SessionGone,
    SessionUnknown,
)
from gateway.log.engine import Answer, Appended, Engine, Fence, Write
from gateway.sessions import decide
from gateway.sessions.catching_up import Doubted
from gateway.sessions.decide import Decide, Decided
from gateway.sessions.deltas import is_delta
from gateway.sessions.folded import Behind, Folded
from gateway.sessions.inputs import KindOf
from gateway.sessions.state import SessionState
from gateway.sessions.turns import Asked, Emitted, Steered, Turns, refuse
from runtime.events import Event, InputSteered
from runtime.messages import Message

__all__ = ["SessionWriter"]

logger = logging.getLogger(__name__)

TRIES = 16
"""How often a command is decided: with a run elsewhere that writes every few milliseconds, and a store
that is as far away, one in a million is refused."""

LONGEST_BACKOFF = 0.05
"""Seconds before a command is decided again, at most: some appends of whoever was faster."""

STORE_RETRY = (0.05, 1.0)
"""Seconds after which a run tries to say again what a store that is away did not take: at first, and at
most. A store that fails over is away for seconds."""


class SessionWriter:
    """Appends to one session, in turns."""

    def __init__(
        self,
        engine: Engine,
        folded: Folded,
        *,
        delta_interval: float,
        kind_of: KindOf,
        on_doubt: Callable[[], None],
    ) -> None:
        """Make the writer.

        Args:
            engine: Where the log is.
            folded: What is known here of the log.
            delta_interval: Seconds for which deltas may wait to be merged; 0 writes each alone.
            kind_of: Tells what the runnable of a name is.
            on_doubt: Called when a command failed and may have begun a run here all the same. A look
                at the log tells.
        """
        self._engine = engine
        self._folded = folded
        self._interval = delta_interval
        self._kind_of = kind_of
        self._on_doubt = on_doubt
        self._turns = Turns(delta_interval, self._wake)
        self._worker: asyncio.Task[None] | None = None
        self._look: asyncio.Future[Answer | None] | None = None  # asked for, and not begun
        self._broken: Fence | None = None
        self._nudge = asyncio.Event()
        self._closed = False

    # --- what others call ----------------------------------------------------------------------

    async def ask(self, decision: Decide, answer: Answer | None = None) -> Answer | None:
        """Make a decision in its turn and carry it out; it may be made several times.

        With an `answer` the command is obeyed at most once: if its id was answered before, nothing
        is done and the first answer is returned.

        Raises:
            GatewayError: What `decision` or the store refuses; nothing was written then.
        """
        done = asyncio.get_running_loop().create_future()
        self._submit(Asked(decision, answer, done))
        return await asyncio.shield(done)

    async def emit(self, claim: Fence, event: Event) -> None:
        """Append an event of the run that holds `claim`.

        Returns when it is committed; deltas return at once, unless too much is waiting. If others
        write to the store too, the run waits while it is away, and goes on if nobody took it over.

        Raises:
            Fenced: If the run is over, or somebody else's, by now.
            EngineUnavailable: If the store failed, now or for a delta before.
        """
        self._check_open(claim)
        self._check(claim)
        if is_delta(event) and self._interval:
            done = self._turns.put_delta(claim, event)
        else:
            done = asyncio.get_running_loop().create_future()
            self._submit(Emitted(claim, (event,), done))
        if done is not None:
            await asyncio.shield(done)

    async def steer(self, claim: Fence) -> tuple[Message, ...]:
        """Hand to the run that holds `claim` what clients have said to it; it is committed then.

        Raises:
            Fenced, EngineUnavailable: As `emit`.
        """
        self._check_open(claim)
        self._check(claim)
        done = asyncio.get_running_loop().create_future()
        self._submit(Steered(claim, done))
        return await asyncio.shield(done)

    async def settle(self) -> None:
        """Return when all that was written until now, by whomever, is folded.

        Raises:
            SessionGone, SessionUnknown, EngineUnavailable: If others write too, and it is so.
        """
        if self._engine.shared:
            await self.look()
        elif self.busy:
            await self.ask(_nothing)

    async def look(self) -> None:
        """Fold what others have written until now. One look does for all who wait for it.

        Raises:
            SessionGone, SessionUnknown, EngineUnavailable: As the store says.
        """
        if self._look is None:
            self._look = asyncio.get_running_loop().create_future()
            self._submit(Asked(_nothing, None, self._look, looks=True))
        await asyncio.shield(self._look)

    async def aclose(self) -> None:
        """Take no more from runs, and return when what waits is written, or cannot be."""
        self._closed = True
        self._turns.flush()
        self._nudge.set()
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def turned(self) -> None:
        """Return when nobody is at turn."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    @property
    def busy(self) -> bool:
        """Whether something waits to be written or is being written."""
        return self._worker is not None or bool(self._turns)

    # --- turns ---------------------------------------------------------------------------------

    def _check_open(self, claim: Fence) -> None:
        if self._closed:
            raise Fenced(f"run {claim.run_id!r} goes on in another process")

    def _check(self, claim: Fence) -> None:
        self._folded.check(claim)
        if claim == self._broken:
            raise EngineUnavailable

    def _submit(self, turn: Emitted | Steered | Asked) -> None:
        self._turns.put(turn)
        self._nudge.set()
        self._wake()

    def _wake(self) -> None:
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """Give everybody their turn; ends when nobody waits. Never cancelled."""
        try:
            while (turn := self._turns.first()) is not None:
                match turn:
                    case Emitted():
                        await self._write_events(turn.claim, self._turns.pop_emitted(turn.claim))
                    case Steered():
                        self._turns.pop()
                        await self._write_steered(turn)
                    case Asked():
                        self._turns.pop()
                        await self._answer(turn)
        finally:
            self._worker = None

    async def _append(self, write: Write, decided: Decided, *, by_run: bool) -> Appended:
        claim = self._folded.claim
        try:
            return await self._folded.append(write, decided, by_run=by_run)
        finally:
            self._forget_deltas(claim)

    async def _catch_up(self, doubted: Doubted | None = None) -> bool:
        claim = self._folded.claim
        try:
            return await self._folded.catch_up(doubted)
        finally:
            self._forget_deltas(claim)

    def _forget_deltas(self, claim: Fence | None) -> None:
        """Drop what waits of a run that had the claim, and has it no more."""
        if self._folded.claim != claim:
            self._turns.forget_deltas()

    # --- commands ------------------------------------------------------------------------------

    async def _answer(self, turn: Asked) -> None:
        if turn.done is self._look:
            self._look = None
        try:
            result = await self._obey(turn)
        except GatewayError as error:
            if isinstance(error, SessionGone | SessionUnknown):
                self._folded.lose()
            if isinstance(error, EngineUnavailable) and self._folded.in_doubt:
                self._on_doubt()
            refuse(turn.done, error)
        except Exception as error:
            logger.exception("a decision failed unexpectedly")
            refuse(turn.done, error)
        else:
            if not turn.done.done():
                turn.done.set_result(result)

    async def _obey(self, turn: Asked) -> Answer | None:
        for tries in range(TRIES):
            if tries or turn.looks or self._engine.shared:
                await self._catch_up()
            if turn.answer is not None:
                first = await self._engine.answer(
                    self._folded.state.session_id, turn.answer.command_id
                )
                if first is not None:
                    if first.digest != turn.answer.digest:
                        raise CommandConflict(first.command_id)
                    return first
            decided = turn.decide(self._folded.state)
            if not decided.events and decided.begins is None and turn.answer is None:
                return None
            answer = turn.answer and replace(turn.answer, run_id=decided.run_id)
            with contextlib.suppress(Behind):
                write = self._folded.plan(decided, answer)
                return (await self._append(write, decided, by_run=False)).answer
            await _back_off(tries / TRIES)
        raise EngineUnavailable("others write to this session all the time")

    # --- runs ----------------------------------------------------------------------------------

    async def _write_events(self, claim: Fence, turns: list[Emitted]) -> None:
        events = tuple(event for turn in turns for event in turn.events)

        def decision() -> Decided:
            return decide.say(self._folded.state, claim.run_id, events, self._kind_of)

        try:
            await self._say(claim, decision, looks=False)
        except Exception as error:  # noqa: BLE001 - whoever emitted gets it, and must
            for turn in turns:
                refuse(turn.done, error)
            return
        for turn in turns:
            if turn.done is not None and not turn.done.done():
                turn.done.set_result(None)

    async def _write_steered(self, turn: Steered) -> None:
        try:
            decided = await self._say(
                turn.claim, lambda: decide.steer(self._folded.state), looks=self._engine.shared
            )
        except Exception as error:  # noqa: BLE001 - whoever asked gets it, and must
            refuse(turn.done, error)
            return
        if not turn.done.done():
            said = (event for event in decided.events if isinstance(event, InputSteered))
            turn.done.set_result(tuple(event.message for event in said))

    async def _say(self, claim: Fence, decision: Callable[[], Decided], *, looks: bool) -> Decided:
        """Append what the run that holds a claim decides; in a shared store, however long it takes.

        An append that failed may have been done, now or in a moment. So before it is tried again the
        log is looked at: what follows there, in the place where it belongs, was done.
        """
        doubted: Doubted | None = None
        pause = STORE_RETRY[0]
        while True:
            try:
                if looks and await self._catch_up(doubted) and doubted is not None:
                    return doubted.decided
                self._check(claim)
                decided = decision()
                if decided.events:
                    write = self._folded.plan(decided, None)
                    doubted = Doubted(write, decided)
                    await self._folded.append(write, decided, by_run=True)
                    self._forget_deltas(claim)
            except Behind:
                if looks:
                    await _back_off(1)
                looks = True
            except (SessionGone, SessionUnknown) as error:
                self._folded.lose()
                raise Fenced(f"run {claim.run_id!r} ended with its session") from error
            except EngineUnavailable as error:
                if not self._engine.shared or self._closed or isinstance(error, EngineClosed):
                    self._broken = claim  # there may be a hole: the run must not go on
                    raise
                looks = True
                await self._wait_for_store(pause, error)
                pause = min(2 * pause, STORE_RETRY[1])
            else:
                return decided

    async def _wait_for_store(self, seconds: float, error: EngineUnavailable) -> None:
        """Wait for a while, or until somebody wants something; commands do not wait here."""
        self._turns.refuse_asked(error)
        if self._look is not None and self._look.done():
            self._look = None
        self._nudge.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * random.uniform(0.5, 1)):  # noqa: S311
                await self._nudge.wait()


async def _back_off(share: float) -> None:
    """Let others be faster next time."""
    await asyncio.sleep(random.uniform(0, LONGEST_BACKOFF * share))  # noqa: S311 - spreads load


def _nothing(state: SessionState) -> Decided:
    """Decide nothing: whoever asks this waits until all that was before is written."""
    return Decided()
