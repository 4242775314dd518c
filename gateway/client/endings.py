"""How a connection can end, and what that means for whoever was on it. Pure.

PROTOCOL.md, sections 5 to 7. A session goes on without its readers, so an end means "come back"
unless the server says that coming back as we are is useless.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.client.errors import Refused, refused

__all__ = [
    "Again",
    "Answered",
    "Broken",
    "Closed",
    "Closing",
    "Ending",
    "Finished",
    "Nacked",
    "Stop",
    "judge",
    "passes",
]

_USELESS = range(4400, 5000)
"""Close codes; PROTOCOL.md, ws.codes. All others, 1000 included, mean that the session goes on."""

_CLOSE_WORDS = {
    4401: "not_permitted",
    4403: "not_permitted",
    4404: "session_unknown",
    4410: "session_gone",
}

_PASSING = frozenset({408, 429, 502, 503, 504})
"""HTTP statuses that a later try can turn into success: overload, a restart, a proxy without server."""

_NO_CONTENT, _BAD_REQUEST, _GONE, _SERVER_ERROR = 204, 400, 410, 500


@dataclass(frozen=True, slots=True)
class Broken:
    """It broke, fell silent, or ended without a word."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A WebSocket was closed."""

    code: int


@dataclass(frozen=True, slots=True)
class Answered:
    """HTTP answered with something else than what was asked for; `retry_after` is in seconds."""

    status: int
    code: str = ""
    message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Nacked:
    """A subscription was refused."""

    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Closing:
    """The server said `stream.closing`; `retry` is in seconds, absent if there is nothing to come back to."""

    reason: str
    retry: float | None = None


Ending = Broken | Closed | Answered | Nacked | Closing


@dataclass(frozen=True, slots=True)
class Again:
    """Come back, after at least `floor` seconds; without the cursor if the server cannot read it."""

    floor: float = 0.0
    forget_cursor: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not come back."""

    error: Refused


@dataclass(frozen=True, slots=True)
class Finished:
    """The session is closed, and all of it was read."""


def passes(status: int) -> bool:
    """Return whether the same request may succeed later."""
    return status in _PASSING


def judge(ending: Ending, *, with_cursor: bool) -> Again | Stop | Finished:
    """Return what an ending means.

    Args:
        ending: It.
        with_cursor: Whether the connection was asked for with a cursor.
    """
    match ending:
        case Broken():
            return Again()
        case Closed(code):
            return _closed(code)
        case Answered():
            return _answered(ending, with_cursor=with_cursor)
        case Nacked(code, message, retryable):
            if with_cursor and code.startswith("cursor"):
                return Again(forget_cursor=True)
            return Again() if retryable else Stop(refused(code, message))
        case Closing():
            return _closing(ending)


def _closed(code: int) -> Again | Stop:
    if code not in _USELESS:
        return Again()
    word = _CLOSE_WORDS.get(code, f"closed_{code}")
    return Stop(refused(word, f"the server ended the connection ({code})"))


def _answered(answer: Answered, *, with_cursor: bool) -> Again | Stop | Finished:
    status = answer.status
    if status == _NO_CONTENT:
        return Finished()
    if passes(status) or status >= _SERVER_ERROR:
        return Again(floor=answer.retry_after or 0.0)
    if status == _BAD_REQUEST and with_cursor:
        return Again(forget_cursor=True)
    code = answer.code or ("session_gone" if status == _GONE else f"http_{status}")
    return Stop(refused(code, answer.message or f"the server answered {status}"))


def _closing(closing: Closing) -> Again | Stop | Finished:
    if closing.reason == "closed":
        return Finished()
    if closing.reason == "deleted":
        return Stop(refused("session_gone", "the session was deleted"))
    if closing.retry is None and closing.reason != "shutdown":
        return Stop(refused(closing.reason, f"the server ended the stream: {closing.reason}"))
    return Again(floor=closing.retry or 0.0)
