"""The streams of clients that are open here, and how each learns what its client has subscribed to.

A client subscribes on any node, and its streams may be on others. So the ledger says what a stream
carries: it is read whenever it may have changed, and each stream takes it as a whole. Whoever changes
it here has it read at once, and other nodes notice by waiting for that: one waits for each client
that has streams there. Where nobody else can write to the store, nobody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from gateway.errors import EngineClosed
from gateway.log.engine import Engine
from gateway.log.outage import outlasting

__all__ = ["Listener", "Listeners"]


class Listener(Protocol):
    """One open stream of one client."""

    def take(self, kept: Mapping[str, str]) -> None:
        """Carry what the ledger has, from now on: each session, and how it was asked for."""


class _Client:
    """A client with open streams here."""

    def __init__(self, engine: Engine, client_id: str) -> None:
        self.streams: set[Listener] = set()
        self.here = 0  # streams that are open, or about to be
        self.watching: asyncio.Task[None] | None = None
        self._engine = engine
        self._client_id = client_id
        # Held from reading to telling: what was read first is told first, and never after what is newer.
        self._turn = asyncio.Lock()
        self._known: Mapping[str, str] = {}

    async def tell(self, listener: Listener | None = None) -> None:
        """Let all streams, or the one that is new, carry what the ledger has now."""
        async with self._turn:
            self._known = kept = await self._engine.subscriptions(self._client_id)
            if listener is not None:
                self.streams.add(listener)
            for stream in tuple(self.streams):
                stream.take(kept)

    async def watch(self) -> None:
        """Tell the streams what changes elsewhere, until the store is closed."""
        while True:
            await self._engine.wait_subscriptions(self._client_id, self._known)
            try:
                await outlasting(self.tell)
            except EngineClosed:
                return


class Listeners:
    """The open streams of one server, by client. Several with one id all live, and all get all."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}

    def count(self, client_id: str) -> int:
        """Return how many streams of a client are open here."""
        client = self._clients.get(client_id)
        return 0 if client is None else len(client.streams)

    async def changed(self, client_id: str) -> None:
        """Return when a client's streams that are open here carry what the ledger has now.

        Raises:
            EngineUnavailable: If the ledger cannot be read now; they will, once it can.
        """
        client = self._clients.get(client_id)
        if client is not None:
            await client.tell()

    @asynccontextmanager
    async def listening(
        self, engine: Engine, client_id: str, listener: Listener
    ) -> AsyncIterator[None]:
        """Let a stream carry what its client has subscribed to, for the length of a block.

        Raises:
            EngineUnavailable: If the ledger cannot be read.
        """
        client = self._clients.get(client_id)
        if client is None:
            client = self._clients[client_id] = _Client(engine, client_id)
        client.here += 1
        try:
            await client.tell(listener)
            if engine.shared and client.watching is None:
                client.watching = asyncio.get_running_loop().create_task(client.watch())
            yield
        finally:
            client.streams.discard(listener)
            client.here -= 1
            if not client.here:
                del self._clients[client_id]
                if client.watching is not None:
                    client.watching.cancel()
