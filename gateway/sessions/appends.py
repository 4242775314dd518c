"""What a decision is as one append."""

from __future__ import annotations

from gateway.log.engine import Answer, Fence, SessionStatus, Write
from gateway.log.serde import dump
from gateway.sessions.decide import Decided, judged_after
from gateway.sessions.deltas import is_delta
from gateway.sessions.ids import new_nonce
from gateway.sessions.state import SessionState
from runtime.events import InputAccepted, RunAttemptStarted, RunInterrupted

__all__ = ["claim_for", "title_of", "write_of"]

TITLE_LENGTH = 80
"""Characters of the first input that name a session in the list."""


def write_of(
    state: SessionState,
    decided: Decided,
    answer: Answer | None,
    *,
    held: Fence | None,
    claim: Fence | None,
) -> Write:
    """Return the append that does what was decided, if the log still ends where it was folded.

    Args:
        state: The session.
        decided: What is to be done.
        answer: To the command, if it was one.
        held: The session's claim, as far as this process knows.
        claim: What the claim is to be.
    """
    bodies = [dump(event) for event in decided.events]
    if all(map(is_delta, decided.events)) and claim == held:  # by far the most appends
        return Write(state.session_id, bodies, expect=state.position, fence=held, answer=answer)
    over = decided.ends is not None or decided.releases is not None
    return Write(
        session_id=state.session_id,
        bodies=bodies,
        expect=state.position,
        fence=held,
        claim=claim if claim != held else None,
        # Also a claim that this process has not heard of yet: it was taken without a word in the log.
        release=claim is None and (held is not None or over),
        answer=answer,
        status=_status_after(decided),
        title=_title(state, decided),
        judged=judged_after(state, decided.events),
    )


def claim_for(state: SessionState, decided: Decided) -> Fence | None:
    """Return a new claim of the run that begins, if one does."""
    if decided.begins is None:
        return None
    known = state.runs.get(decided.begins)
    attempt = known.attempt if known is not None else 1
    for event in decided.events:
        if isinstance(event, RunAttemptStarted) and event.run_id == decided.begins:
            attempt = event.attempt
    return Fence(decided.begins, attempt, new_nonce())


def title_of(text: str) -> str:
    """Return what a session is called in the list whose first input this is."""
    return " ".join(text.split())[:TITLE_LENGTH]


def _title(state: SessionState, decided: Decided) -> str | None:
    if state.messages:
        return None
    for event in decided.events:
        if isinstance(event, InputAccepted):
            return title_of(event.message.content)
    return None


def _status_after(decided: Decided) -> SessionStatus | None:
    """Return what the session list shall say, if it changes."""
    if any(event.type == "session.closed" for event in decided.events):
        return "closed"
    if decided.begins is not None:
        return "running"
    if decided.ends is None:
        return None
    return "interrupted" if isinstance(decided.events[-1], RunInterrupted) else "idle"
