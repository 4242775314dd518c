"""Where one reader of a session stands, and what it does next. Pure: no I/O, no clock, no dice.

This is PROTOCOL.md, section 7, from the client's side. Whoever does the I/O tells it what it hears
and how a connection ended, and obeys. The vectors in `tests/vectors` drive it, and its twin in the
browser's library, through every case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.client.backoff import Backoff, Retry
from gateway.client.endings import Broken, Closing, Ending, Finished, Stop, judge
from gateway.client.items import Entry, Reset

__all__ = ["Alive", "Drop", "Heard", "Leave", "Resume", "RetryField", "Stands", "Up"]

SILENCE_FACTOR = 2.5
"""A connection without a sign of life for so many heartbeats is dead; see delivery, heartbeats."""


@dataclass(frozen=True, slots=True)
class Up:
    """The stream was accepted; `heartbeat` is what the server announced, in seconds."""

    heartbeat: float | None = None


@dataclass(frozen=True, slots=True)
class Stands:
    """The server said where the stream starts."""

    cursor: str


@dataclass(frozen=True, slots=True)
class RetryField:
    """The `retry:` field of an event stream, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Alive:
    """Bytes that say nothing: a comment, a ping, a pong."""


Heard = Up | Stands | RetryField | Alive | Mapping[str, Any]
"""What comes over a connection; a mapping is an event or a control object."""


@dataclass(frozen=True, slots=True)
class Drop:
    """An event that was applied already."""

    seq: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the connection; it has ended like this."""

    ending: Ending


class Resume:
    """One reader of one session.

    Attributes:
        cursor: That of the last item that was applied; None before there is any, `0` and `$` as
            they were given.
    """

    def __init__(self, session_id: str, after: str | None, *, heartbeat: float) -> None:
        """Begin.

        Args:
            session_id: Whose events count.
            after: A cursor, `0`, `$`, or None for a snapshot first.
            heartbeat: Seconds between signs of life, until the server says otherwise.
        """
        self.cursor = after
        self._session_id = session_id
        self._seq: int | None = None
        self._heartbeat = heartbeat
        self._taken: Entry | Reset | None = None
        self._floor = 0.0
        self._backoff = Backoff()
        self._closed = False

    @property
    def silence_seconds(self) -> float:
        """After so much silence the connection is dead."""
        return SILENCE_FACTOR * self._heartbeat

    def hear(self, heard: Heard) -> Entry | Reset | Drop | Leave | None:
        """Return what is to be done about what was heard; an item is to be applied."""
        match heard:
            case Up(heartbeat):
                self._floor = 0.0
                self._heartbeat = heartbeat or self._heartbeat
            case Stands(cursor):
                if self.cursor == "$":  # or what comes before the next connection would be missed
                    self.cursor = cursor
            case RetryField(seconds):
                self._floor = seconds
            case Alive():
                pass
            case _:
                if heard.get("session_id", self._session_id) == self._session_id:
                    return self._frame(heard)
        return None

    def applied(self) -> None:
        """Note that whoever got the last item is done with it: only now the cursor moves."""
        taken, self._taken = self._taken, None
        if taken is not None:
            self.cursor = taken.cursor
            self._seq = taken.seq if isinstance(taken, Entry) else None

    def ended(self, ending: Ending, *, lived: float) -> Retry | Stop | Finished:
        """Return what to do after the end of a connection.

        Args:
            ending: How it ended.
            lived: Seconds for which the stream was up.
        """
        if self._closed:
            return Finished()
        verdict = judge(ending, with_cursor=self.cursor is not None)
        if isinstance(verdict, Stop | Finished):
            return verdict
        if verdict.forget_cursor:
            self.cursor = self._seq = None
        return self._backoff.failed(lived=lived, floor=max(self._floor, verdict.floor))

    def _frame(self, frame: Mapping[str, Any]) -> Entry | Reset | Drop | Leave | None:
        if "seq" in frame:
            return self._event(frame)
        match frame.get("type"):
            case "stream.reset":
                self._closed = frame["snapshot"].get("status") == "closed"
                self._taken = Reset(frame["reason"], frame["cursor"], frame["snapshot"])
                return self._taken
            case "stream.closing":
                retry = frame.get("retry_ms")
                return Leave(Closing(frame["reason"], None if retry is None else retry / 1000))
            case _:  # also what this client is too old for
                return None

    def _event(self, frame: Mapping[str, Any]) -> Entry | Drop | Leave:
        seq = frame["seq"]
        if self._seq is not None and seq <= self._seq:
            return Drop(seq)
        if self.cursor is None or (self._seq is not None and seq > self._seq + 1):
            return Leave(Broken())  # something is missing; the next connection brings it
        self._closed = frame["type"] == "session.closed"
        self._taken = Entry(seq, frame["cursor"], frame["type"], frame)
        return self._taken
