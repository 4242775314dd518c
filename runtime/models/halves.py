"""Text that a provider has cut between the two halves of a character. Pure."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Mender"]


class Mender:
    """Makes pieces of text legal Unicode.

    A server that escapes its JSON may cut between the two halves of a surrogate pair; the first
    half is kept until the second one comes. A half that stays alone becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._halves: dict[Hashable, str] = {}

    def mend(self, lane: Hashable, text: str | None) -> str:
        """Return a piece as it can be shown now.

        Args:
            lane: Which text of the answer the piece belongs to.
            text: The piece.
        """
        text = self._halves.pop(lane, "") + (text or "")
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._halves[lane] = text[-1]
            text = text[:-1]
        if text.isascii():
            return text
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
