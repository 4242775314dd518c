"""How much the server takes on at once: streams that are open, and readers that find their place.

A server that is full says so, and when to come back. One that takes on everything is slow for all,
and after a restart, when all clients come back at once, it would be so slow that they give up and
come back again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import ServerFull

__all__ = ["Admission"]

READERS_AT_ONCE = 16
"""Readers that ask the store for their place at the same time. The store has two threads for reads:
that keeps them busy, and what a command has to read waits behind these few and not behind thousands."""


class Admission:
    """What one server has taken on.

    Attributes:
        streams: How many streams are open.
        finding: Held by a reader while it asks the store for its place.
    """

    def __init__(self) -> None:
        self.streams = 0
        self.finding = asyncio.Semaphore(READERS_AT_ONCE)

    @contextmanager
    def stream(self, most: int) -> Iterator[None]:
        """Count a stream for the length of a block.

        Raises:
            ServerFull: If `most` streams are open.
        """
        if self.streams >= most:
            raise ServerFull("streams", most)
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1
