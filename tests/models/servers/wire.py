"""What the wires have in common: how an answer is told to a server, whatever it speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from runtime.models.base import Delta, Model
from runtime.models.exchange import AnswerDecoder


@dataclass(frozen=True)
class Failure:
    """An error that the provider reports in the middle of an answer, with its own code word."""

    word: str


@dataclass(frozen=True)
class Together:
    """Deltas that arrive in one write, and in one chunk where the wire can say so."""

    deltas: tuple[Delta, ...]


Cue = Delta | Failure | Together | asyncio.Event | bytes | object
"""What an answer is made of: what the model says; a gate; raw bytes; `CUT`."""


@dataclass(frozen=True)
class Heard:
    """What a request asks for, in words that all wires share."""

    temperature: float | None = None
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None
    schema_name: str | None = None


class Wire(Protocol):
    """One provider's wire, as its server speaks it."""

    path: str
    """Where requests go."""
    busy: str
    """The provider's own word for being overloaded."""
    wrong_key: bytes
    """The body of a refused key."""

    def encode(self, cues: Iterable[Cue]) -> list[object]:
        """Return what the server writes for one answer; gates, bytes and `CUT` as they are."""

    def heard(self, body: dict[str, Any]) -> Heard:
        """Return what a request asks for."""

    def decoder(self) -> AnswerDecoder:
        """Return our decoder of this wire."""

    def model(self, url: str, **options: Any) -> Model:
        """Return our model, talking to a server. Reads the disk: call it in a thread."""
