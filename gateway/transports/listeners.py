"""The streams of clients that are open, so that a subscription takes effect on all of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from gateway.transports.subscriptions import Subscription

__all__ = ["Listener", "Listeners"]


class Listener(Protocol):
    """One open stream of one client."""

    def add(self, session_id: str, subscription: Subscription) -> None:
        """Read a session from now on, from where the subscription says."""

    def remove(self, session_id: str) -> None:
        """Stop reading a session."""


class Listeners:
    """The open streams of one server, by client. Several with one id all live, and all get all."""

    def __init__(self) -> None:
        self._open: dict[str, set[Listener]] = {}

    def of(self, client_id: str) -> Sequence[Listener]:
        """Return a client's open streams."""
        return tuple(self._open.get(client_id, ()))

    @contextmanager
    def listening(self, client_id: str, listener: Listener) -> Iterator[None]:
        """Count a stream among its client's for the length of a block."""
        self._open.setdefault(client_id, set()).add(listener)
        try:
            yield
        finally:
            listeners = self._open[client_id]
            listeners.discard(listener)
            if not listeners:
                del self._open[client_id]
