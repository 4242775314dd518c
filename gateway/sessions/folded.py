"""What this process knows of a session: the fold of its log, and whose the claim is.

An append is done only if the log still ends where it was folded. So what is decided on this state is
decided on all of the log, or not at all.
"""

from __future__ import annotations

from gateway.errors import Fenced, LogMoved
from gateway.log.engine import Answer, Appended, Engine, Fence, Write
from gateway.log.serde import load
from gateway.sessions.appends import claim_for, write_of
from gateway.sessions.catching_up import Doubted, catch_up
from gateway.sessions.decide import Decided
from gateway.sessions.deltas import is_delta
from gateway.sessions.effects import Effects, Heard
from gateway.sessions.fold import fold
from gateway.sessions.room import Room
from gateway.sessions.state import SessionState

__all__ = ["Behind", "Folded"]


class Behind(Exception):
    """Nothing was written: it was decided without knowing all of the log, or whose the claim is."""


class Folded:
    """The fold of one session's log; appends to it, and catches up with what others appended.

    To be used by one task at a time.

    Attributes:
        state: The fold of the log; changed by this class alone.
        claim: The current claim, if a run is active, whoever has it.
    """

    def __init__(
        self,
        engine: Engine,
        state: SessionState,
        claim: Fence | None,
        *,
        room: Room,
        effects: Effects,
    ) -> None:
        """Make it.

        Args:
            engine: Where the log is.
            state: The session as folded so far.
            claim: The claim that the store holds.
            room: The places for runs here. Who is told of a run that begins gives its place back.
            effects: Who is told.
        """
        self.state = state
        self.claim = claim
        self._engine = engine
        self._room = room
        self._effects = effects
        self._made: Fence | None = None
        self._offered: set[Fence] = set()
        self._torn: Fence | None = None

    @property
    def own(self) -> Fence | None:
        """The current claim, if it was made here."""
        return self.claim if self.claim == self._made else None

    def check(self, claim: Fence) -> None:
        """Check that a run may go on.

        Raises:
            Fenced: If it has not the claim, or the log has lost what it had said.
        """
        if claim != self.claim:
            raise Fenced(f"run {claim.run_id!r} is over or was taken over")
        if claim == self._torn:
            raise Fenced(f"the log has lost what run {claim.run_id!r} had said")

    def plan(self, decided: Decided, answer: Answer | None) -> Write:
        """Return the append of a decision; a run that begins here has its place then."""
        claim = claim_for(self.state, decided)
        if claim is None:
            claim = None if decided.ends or decided.releases else self.claim
        elif not self._room.take(
            follows=decided.ends is not None and self._effects.at_work(), waited=decided.waited
        ):
            claim = None
        return write_of(self.state, decided, answer, held=self.claim, claim=claim)

    async def append(self, write: Write, decided: Decided, *, by_run: bool) -> Appended:
        """Do what was planned, fold it, and tell who is concerned.

        Raises:
            Behind: If others have written, or have the claim.
            GatewayError: What else the store refuses.
        """
        if write.claim is not None:
            self._offered.add(write.claim)
        is_done = False
        try:
            appended = await self._engine.append(write)
            is_done = not appended.repeated
        except (Fenced, LogMoved) as error:
            self._offered -= {write.claim}
            raise Behind from error
        finally:
            if write.claim is not None and not is_done:
                self._room.leave()
        if not is_done:
            self._offered -= {write.claim}
            return appended
        for entry, event in zip(appended.entries, decided.events, strict=True):
            fold(self.state, entry, event if is_delta(event) else load(entry))
        self._offered.clear()
        if write.claim is not None:
            self.claim = self._made = write.claim
        elif write.release:
            self.claim = None
        if decided.begins or decided.ends or decided.releases or decided.stops:
            self._effects.changed(decided, self.claim, by_run)
        return appended

    async def catch_up(self, doubted: Doubted | None = None) -> bool:
        """Fold what others have written, and tell who is concerned.

        Returns:
            Whether what was doubted is done.

        Raises:
            SessionUnknown, SessionGone: If there is no such session any more.
            EngineUnavailable: If the store failed.
        """
        before = self.state.position
        news = await catch_up(self._engine, self.state)
        ours = news.claim if news.claim in self._offered else None
        is_done = doubted is not None and doubted.is_in(before, news)
        spoke = self.claim if doubted is not None and is_done and doubted.decided.ends else None
        if news.anew is not None:
            self.state = news.anew.state
            self._torn = news.claim
        if news.entries or news.anew or ours or news.claim != self.claim:
            self._offered.clear()  # what has not been done by now expects another place
            self._made = ours or self._made
            self.claim = news.claim
            self._effects.heard(Heard(news, ours, spoke))
        return is_done

    @property
    def in_doubt(self) -> bool:
        """Whether a run may have begun here, and the store did not say so."""
        return bool(self._offered)

    def lose(self) -> None:
        """The session is gone."""
        self.claim = None
        self._effects.gone()
