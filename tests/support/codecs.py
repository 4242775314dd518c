"""The codecs, for the tests that hold all of them to one contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.codecs.codec import Codec, Frame

__all__ = ["CASES", "Case", "Check"]

Check = Callable[[Sequence[Frame], bool], None]
"""Raises AssertionError if a client of the protocol would not bear these messages, in this order.

The messages are those of one stream from its first; the flag says that the stream was cut: its last
messages are what `Codec.cut` gave, and the run has not ended.
"""


@dataclass(frozen=True)
class Case:
    """A codec under the contract.

    Attributes:
        name: For people.
        codec: It.
        check: The order rules of its protocol.
        silent: The types of events that never make a message, knowingly.
        whole: Whether a stream may also tell all segments of a run, with the pauses between.
    """

    name: str
    codec: Codec[Any]
    check: Check
    silent: frozenset[str] = field(default_factory=frozenset)
    whole: bool = True


CASES: list[Case] = []
"""One line for each codec: `Case("AG-UI", AguiCodec(…), check_agui, frozenset({"model.started", …}))`."""
