"""Clients: what each listens to, kept in the ledger, and its streams that are open on this node."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.commands import Role
from gateway.errors import TooManySubscriptions
from gateway.log.position import ONLY_NEW, After
from gateway.transports.client_stream import NATIVE, ClientStream, ClientWire
from gateway.transports.services import Services
from gateway.transports.subscriptions import Subscription, Whereabouts, starts

__all__ = ["Clients"]


class Clients:
    """The clients of one server, by id. Several streams with one id all live, and all get all."""

    def __init__(self, services: Services) -> None:
        """Make it; `services` are the server's parts."""
        self._services = services
        self._engine = services.manager.engine
        self._listeners = services.listeners

    async def subscribe(self, client_id: str, session_id: str, after: After) -> None:
        """Put a session on a client's streams, open ones included; again: from `after` anew.

        "Only what comes next" means from this moment, also for a stream that opens later. Streams
        that are open here carry it when this returns, those on other nodes soon after.

        Raises:
            SessionUnknown, SessionGone: If there is no such session.
            TooManySubscriptions: If the client has as many as it may have.
            EngineUnavailable: If the store failed.
        """
        head = await self._engine.head(session_id)
        known = await self._engine.subscriptions(client_id)
        limit = self._services.settings.max_subscriptions
        if session_id not in known and len(known) >= limit:
            raise TooManySubscriptions(limit)
        start = head.tail if after == ONLY_NEW else after
        wanted = Subscription(start, secrets.token_hex(4))
        await self._engine.subscribe(client_id, session_id, str(wanted))
        await self._listeners.changed(client_id)

    async def unsubscribe(self, client_id: str, session_id: str) -> None:
        """Take a session off a client's streams. Doing it twice is not an error.

        Raises:
            EngineUnavailable: If the store failed.
        """
        await self._engine.unsubscribe(client_id, session_id)
        await self._listeners.changed(client_id)

    async def describe(self, client_id: str) -> dict[str, Any]:
        """Return a client's sessions, from where each was asked for, and how many streams it has here."""
        kept = await self._engine.subscriptions(client_id)
        wanted = {sid: Subscription.parse(text).after for sid, text in kept.items()}
        return {
            "client_id": client_id,
            "subscriptions": {
                sid: None if after is None else str(after) for sid, after in wanted.items()
            },
            "streams": self._listeners.count(client_id),
        }

    async def stream(
        self,
        request: web.Request,
        client_id: str,
        last_event_id: str | None,
        wire: ClientWire = NATIVE,
        *,
        role: Role = "controller",
    ) -> web.StreamResponse:
        """Stream all of a client's sessions, until the client or the server ends it.

        Args:
            request: The request that it answers.
            client_id: Whose sessions.
            last_event_id: Where the client's last stream stood, if it had one.
            wire: What the stream looks like.
            role: Whether the client controls its sessions or only watches.

        Raises:
            CursorMalformed: If the last event id is none that a client stream gave.
            EngineUnavailable: If the store fails before the stream begins.
            ShuttingDown: If the server is stopping.
        """
        stood = Whereabouts.parse(last_event_id)
        checkpoint = None
        if stood.checkpoint_id is not None:
            checkpoint = await self._engine.load_checkpoint(client_id, stood.checkpoint_id)
        if checkpoint is not None:  # the client's latest, until it has read a newer one
            await self._engine.save_checkpoint(client_id, checkpoint)
        forgotten = stood.checkpoint_id is not None and checkpoint is None

        def begin(kept: Mapping[str, str]) -> Mapping[str, Subscription]:
            return starts(kept, checkpoint, forgotten=forgotten, moved=stood.moved)

        stream = ClientStream(
            request, self._services, client_id, begin, wire=wire, stood=stood, role=role
        )
        async with self._listeners.listening(self._engine, client_id, stream):
            return await stream.run()
