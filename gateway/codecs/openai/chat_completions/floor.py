"""Who speaks now, where several would speak at once. Pure.

A chat completion is one text, and the parallel nodes of a graph speak at the same time. So one of
them has the floor as long as it has anything open; what the others say meanwhile is held, and said
in the order in which they began.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Field", "Floor", "Piece", "clear", "close", "say"]

Field = Literal["content", "reasoning_content"]
Path = tuple[str, ...]


class Piece(NamedTuple):
    """A piece of text, and where in an answer it goes."""

    field: Field
    message_id: str
    text: str


class _Open(NamedTuple):
    """A text that is not whole yet, and how many characters of it came."""

    field: Field
    message_id: str
    length: int


class _Speaker(NamedTuple):
    """Somebody who has something open, or had while another spoke, and what is held of it."""

    path: Path
    open: tuple[_Open, ...] = ()
    held: tuple[Piece, ...] = ()

    def came(self, field: Field, message_id: str) -> int | None:
        """Return how much of a text came; None if it is not open."""
        return next((o.length for o in self.open if o[:2] == (field, message_id)), None)

    def without(self, field: Field, message_id: str) -> tuple[_Open, ...]:
        """Return what else is open."""
        return tuple(o for o in self.open if o[:2] != (field, message_id))

    def taking(self, piece: Piece) -> _Speaker:
        """Return it after a piece came; a text that was not open is open then."""
        field, message_id, text = piece
        length = (self.came(field, message_id) or 0) + len(text)
        others = self.without(field, message_id)
        return self._replace(open=(*others, _Open(field, message_id, length)))


Floor = tuple[_Speaker, ...]
"""All who have something open, or held; the first has the floor."""


def say(floor: Floor, path: Path, piece: Piece) -> tuple[Floor, tuple[Piece, ...]]:
    """Take the next piece of a text; an empty one opens it.

    Returns:
        The floor after it, and what is to be said now.
    """
    place, speaker = _find(floor, path)
    speaker = speaker.taking(piece)
    if not piece.text:
        return _with(floor, place, speaker), ()
    if place == 0:
        return _with(floor, place, speaker), (piece,)
    return _with(floor, place, speaker._replace(held=(*speaker.held, piece))), ()


def close(floor: Floor, path: Path, whole: Piece) -> tuple[Floor, tuple[Piece, ...]]:
    """Take the end of a text, which is all of it: what of it did not come before comes now."""
    _, speaker = _find(floor, path)
    rest = whole.text[speaker.came(whole.field, whole.message_id) or 0 :]
    floor, said = say(floor, path, whole._replace(text=rest))
    place, speaker = _find(floor, path)
    speaker = speaker._replace(open=speaker.without(whole.field, whole.message_id))
    floor = _with(floor, place, speaker)
    if place == 0 and not speaker.open:
        floor, more = _yielded(floor)
        said = (*said, *more)
    return floor, said


def clear(floor: Floor) -> tuple[Piece, ...]:
    """Return what is held, because the run ends or pauses."""
    return tuple(piece for speaker in floor for piece in speaker.held)


def _yielded(floor: Floor) -> tuple[Floor, tuple[Piece, ...]]:
    """Give the floor to the next who has something open, past those who are done."""
    said: list[Piece] = []
    waiting = floor[1:]
    while waiting:
        said += waiting[0].held
        if waiting[0].open:
            return (waiting[0]._replace(held=()), *waiting[1:]), tuple(said)
        waiting = waiting[1:]
    return (), tuple(said)


def _find(floor: Floor, path: Path) -> tuple[int, _Speaker]:
    """Return somebody's place, and who it is; whoever is new comes last."""
    for place, speaker in enumerate(floor):
        if speaker.path == path:
            return place, speaker
    return len(floor), _Speaker(path)


def _with(floor: Floor, place: int, speaker: _Speaker) -> Floor:
    return (*floor[:place], speaker, *floor[place + 1 :])
