"""Stop sequences: an answer ends before the first that it completes. Pure, but for the last function.

Servers differ: some know none, some count only in whole tokens, some take four, some refuse white
space. So every provider's answer goes through here, whatever its server does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from runtime.models.base import Delta, Finish, Text, ToolCallFragment

__all__ = ["Stopper", "until_stop"]


class Stopper:
    """Cuts the text of one answer before the stop sequence that is complete first.

    Text that may be the beginning of a sequence is held back until more is known, and no longer:
    the longest end of the text that a sequence begins with. The text of an answer is one, whatever
    comes between its pieces.

    Attributes:
        stopped: Whether a sequence has come. The text after it is dropped.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        """Take the sequences; empty ones, which everything would match, are ignored."""
        self.stopped = False
        self._sequences = tuple(sequence for sequence in sequences if sequence)
        self._held = ""

    def take(self, text: str) -> str:
        """Return what can be shown once this piece has come."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(at + len(s), at) for s in self._sequences if (at := text.find(s)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)[1]]
        keep = max((_overlap(text, s) for s in self._sequences), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """Return what was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, sequence: str) -> int:
    """Return how many characters at the end of the text are a beginning of the sequence."""
    for size in range(min(len(sequence) - 1, len(text)), 0, -1):
        if text.endswith(sequence[:size]):
            return size
    return 0


async def until_stop(
    deltas: AsyncGenerator[Delta, None], sequences: Sequence[str], *, model: str
) -> AsyncGenerator[Delta, None]:
    """Yield an answer up to its first stop sequence, with a finish of reason `stop`.

    The provider's stream is closed there: what it would still say would only be paid for. Its usage
    is then not known. Once a tool call has begun, the answer is heard to its end without its
    text, since a call that is cut would be none.

    Args:
        deltas: The provider's answer; it is closed with this one.
        sequences: What the answer stops before; none of them is ever yielded.
        model: The model's name, for a finish that the provider did not give.
    """
    stopper = Stopper(sequences)
    calling = False
    async with aclosing(deltas):
        async for delta in deltas:
            if isinstance(delta, Text):
                if shown := stopper.take(delta.text):
                    yield Text(shown)
                if stopper.stopped and not calling:
                    break
                continue
            if isinstance(delta, Finish) and (held := stopper.rest()):
                yield Text(held)
            calling = calling or isinstance(delta, ToolCallFragment)
            yield delta
        else:
            return
    yield Finish("stop", model=model)
