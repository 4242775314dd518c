"""What can go wrong between a client and a server: one class for each thing a caller can do.

ClientFault
├── Unreachable        no server answers there: try later, or elsewhere
├── Refused            the server said no; `code` is its word for the reason
│   ├── SessionUnknown there is no such session: create it
│   ├── SessionGone    it was deleted: forget it
│   └── NotPermitted   not with this origin, or not as this user
├── RunNotCompleted    the run that was asked for an answer ended in another way
└── ResetOverlooked    a program asked for more without a look at what a reset brought
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.run_stream import RunEnd

__all__ = [
    "ClientFault",
    "NotPermitted",
    "Refused",
    "ResetOverlooked",
    "RunNotCompleted",
    "SessionGone",
    "SessionUnknown",
    "Unreachable",
    "refused",
]


class ClientFault(Exception):
    """Base of what a client raises."""


class Unreachable(ClientFault):
    """No server answers there."""


class Refused(ClientFault):
    """The server said no, and will say so again.

    Attributes:
        code: Its stable word for the reason.
        message: The same in words for people.
        retryable: Whether a later try may succeed.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable


class SessionUnknown(Refused):
    """There is no such session, or this client may not know of it."""


class SessionGone(Refused):
    """The session was deleted."""


class NotPermitted(Refused):
    """The server does not talk to this client as it is."""


class RunNotCompleted(ClientFault):
    """A run that was asked for an answer failed, was cancelled, or waits for a human.

    Attributes:
        end: Its last event.
    """

    def __init__(self, end: RunEnd) -> None:
        super().__init__(f"the run did not complete: {end.type}")
        self.end = end


class ResetOverlooked(ClientFault):
    """A program asked for the next item and had not read the snapshot of a reset."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the stream was reset ({reason}) and its snapshot was not read: "
            "what was computed from earlier events is void"
        )


_CLASSES: dict[str, type[Refused]] = {
    "session_unknown": SessionUnknown,
    "session_gone": SessionGone,
    "not_permitted": NotPermitted,
}


def refused(code: str, message: str, *, retryable: bool = False) -> Refused:
    """Return a refusal, of the class that goes with its code."""
    return _CLASSES.get(code, Refused)(code, message, retryable=retryable)
