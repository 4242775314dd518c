"""Which characters of an answer are to be written next. Pure.

What is written cannot be taken back, while two things can happen to a message after a part of it was
written: another node of a graph speaks at the same time, or the server dies and the message is said
anew. So one message is written at a time, and a message that is said anew goes on where the writing
had stopped, as long as it says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Speech", "Told", "Words"]


@dataclass(frozen=True, slots=True)
class Words:
    """What to write now.

    Attributes:
        text: The characters.
        anew: Whether they begin the answer again, because it became another one: they belong on a
            line of their own.
    """

    text: str = ""
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A message as a snapshot tells it: its text so far, and whether that is all."""

    message_id: str
    text: str
    turn: int | None = None
    whole: bool = True


@dataclass(slots=True)
class _Said:
    """A message: its turn, what was written of it, and what waits."""

    turn: int | None
    written: str = ""
    waiting: str = ""
    whole: bool = False
    void: bool = False  # it will be said anew


class Speech:
    """The messages of one run, in the order in which they began."""

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}
        self._void = ""  # was written, and is being said again
        self._again = ""  # as much of it as was said again

    def start(self, message_id: str, turn: int | None = None) -> None:
        """Take note of a message that begins; `turn` is its model call, for take-overs."""
        self._said.setdefault(message_id, _Said(turn))

    def hear(self, message_id: str, text: str) -> Words:
        """Return what to write when a message goes on."""
        self.start(message_id)
        self._said[message_id].waiting += text
        return self._flush()

    def finish(self, message_id: str, text: str, *, superseded: bool = False) -> Words:
        """Return what to write when a message is whole, or was stopped.

        Args:
            message_id: The message.
            text: All of it.
            superseded: Whether it does not count, because it will be said anew.
        """
        self.start(message_id)
        said = self._said[message_id]
        if superseded:
            self._supersede([said])
        else:
            said.waiting = text[len(said.written) :]
        said.whole = True
        return self._flush()

    def supersede(self, from_turn: int) -> None:
        """Take note that all messages of turns after this one will be said anew."""
        self._supersede(
            [
                said
                for said in self._said.values()
                if not said.void and said.turn is not None and said.turn > from_turn
            ]
        )

    def restate(self, messages: Iterable[Told]) -> Words:
        """Return what to write when these are all messages that count; the last may go on."""
        # A run says its void words again after those that count, so they stand last.
        counted = "".join(said.written for said in self._said.values() if not said.void)
        standing = counted + self._void[len(self._again) :] + self._collect()
        self._said = {
            told.message_id: _Said(told.turn, waiting=told.text, whole=told.whole)
            for told in messages
        }
        self._void, self._again = standing, ""
        return self._flush()

    def end(self) -> Words:
        """Return what to write when the run is completed: the rest of everything."""
        for said in self._said.values():
            said.whole = True
        words = self._flush()
        self._void += self._collect()
        if not self._void:
            return words
        return Words(words.text + self._begin_anew(), anew=True)  # it says less than stands there

    def _supersede(self, group: Sequence[_Said]) -> None:
        for said in group:
            said.void = said.whole = True
            said.waiting = ""
        if self._again:  # what is said for the third time stands there already
            repeated = sum(len(said.written) for said in group)
            self._again = self._again[: max(0, len(self._again) - repeated)]
            for said in group:
                said.written = ""

    def _collect(self) -> str:
        """Return what was written of messages that do not count, and forget them."""
        void = {key: said for key, said in self._said.items() if said.void}
        for key in void:
            del self._said[key]
        return "".join(said.written for said in void.values())

    def _flush(self) -> Words:
        """Write what waits of the first message that is not whole, and of all before it."""
        text, anew = "", False
        for said in tuple(self._said.values()):
            if said.waiting:
                words = self._go_on(said.waiting)
                text, anew = text + words.text, anew or words.anew
                said.written += said.waiting
                said.waiting = ""
            if not said.whole:
                break
        return Words(text, anew)

    def _go_on(self, text: str) -> Words:
        """Leave out what stands there already, from before a take-over."""
        self._void += self._collect()
        if not self._void:
            return Words(text)
        expected = self._void[len(self._again) :]
        self._again += text
        if len(text) < len(expected) and expected.startswith(text):
            return Words()
        if text.startswith(expected):
            self._void = self._again = ""
            return Words(text[len(expected) :])
        return Words(self._begin_anew(), anew=True)

    def _begin_anew(self) -> str:
        again, self._void, self._again = self._again, "", ""
        return again
