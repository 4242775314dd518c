"""What a decision says is to be done. Pure data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import SessionClosed
from gateway.sessions.state import SessionState
from runtime.events import Event

__all__ = ["Decide", "Decided", "NewIds", "check_open"]


@dataclass(frozen=True, slots=True)
class NewIds:
    """Ids for what a decision makes."""

    run_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be done.

    Attributes:
        events: To append, in order.
        run_id: The run that the command was about.
        begins: The run that starts, or goes on, with this append.
        ends: The run that is over, or pauses, with this append.
        stops: The run that is to end after its current step.
        releases: The run that this process lets go of, for the next one to go on with.
        waited: The run that begins has waited for a place, and its turn has come.
    """

    events: tuple[Event, ...] = ()
    run_id: str | None = None
    begins: str | None = None
    ends: str | None = None
    stops: str | None = None
    releases: str | None = None
    waited: bool = False


Decide = Callable[[SessionState], Decided]
"""A decision that waits for its turn: made when the state is exactly up to date."""


def check_open(state: SessionState) -> None:
    """Refuse commands to a closed session.

    Raises:
        SessionClosed: If it is.
    """
    if state.closed:
        raise SessionClosed(state.session_id)
