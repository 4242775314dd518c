"""What models behind an HTTP API with an SDK of its own have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from runtime.models.base import Delta, ModelRequest
from runtime.models.exchange import AnswerDecoder, OpenAnswer, SdkErrors, exchange
from runtime.models.stopping import until_stop

__all__ = ["CONNECT_SECONDS", "SILENCE_SECONDS", "HostedModel"]

CONNECT_SECONDS = 5.0
"""To reach the provider; the SDKs' own default."""

SILENCE_SECONDS = 120.0
"""Longest silence that is not a failure: a large model may think this long before it speaks."""


class HostedModel(ABC):
    """Makes each call once: whether to make it again is the agent's decision."""

    def __init__(self, model: str, extra: Mapping[str, Any] | None) -> None:
        """Take what all have.

        Args:
            model: The model's name, as the provider knows it.
            extra: Further fields of every request, which win over the runtime's own.
        """
        self._name = model
        self._extra = dict(extra or {})

    @property
    def name(self) -> str:
        """The model's name, as the provider knows it."""
        return self._name

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Stream the answer; see `Model.stream`."""
        body = self._body(request) | self._extra
        deltas = exchange(lambda: self._open(body), self._decoder(), self._errors())
        if request.options.stop_sequences:
            deltas = until_stop(deltas, request.options.stop_sequences, model=self._name)
        async with aclosing(deltas):
            async for delta in deltas:
                yield delta

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections. Safe to call twice."""

    @abstractmethod
    def _body(self, request: ModelRequest) -> dict[str, Any]:
        """Return the JSON of a streaming request."""

    @abstractmethod
    def _decoder(self) -> AnswerDecoder:
        """Return what reads one answer."""

    @abstractmethod
    async def _open(self, body: dict[str, Any]) -> OpenAnswer:
        """Send a request, and return the answer before its first byte is read."""

    @abstractmethod
    def _errors(self) -> SdkErrors:
        """Return the exceptions of the SDK."""
