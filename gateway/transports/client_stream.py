"""All sessions of one client on one SSE stream.

Frames carry no id, because one id cannot say where many logs stand. Instead a frame with nothing but
an id follows now and then: it names a checkpoint, a cursor for each session, that was stored before
it was sent. What lies between the last one and a cut comes again, and the client drops it by
`(session_id, seq)`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from contextlib import aclosing

from aiohttp import web

from gateway.codecs.native import sse_control, sse_frame_of_many
from gateway.errors import SessionGone, SessionUnknown
from gateway.log.engine import Checkpoint
from gateway.log.position import Position
from gateway.transports.draining import first_error
from gateway.transports.outlet import Outlet, pieces
from gateway.transports.reading import Control, Reading, closing
from gateway.transports.services import Services
from gateway.transports.sse import KEEPALIVE, EventStream, id_frame
from gateway.transports.stream import http_stream, native_wire, retry_ms
from gateway.transports.subscriptions import Subscription

__all__ = ["ClientStream"]

_LOGGER = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 1.0
"""While events flow, a checkpoint is sent this often: what a cut may make the client get twice."""

CHECKPOINT_BYTES = 64 * 1024
"""And after so many bytes, so that a long catching-up is not begun anew."""


def _control(control: Control) -> bytes:
    return sse_control(control.message)


_MANY = native_wire(sse_frame_of_many, _control, KEEPALIVE)


class ClientStream:
    """One open stream of one client; its sessions come and go while it is open."""

    def __init__(self, request: web.Request, services: Services, client_id: str) -> None:
        """Make the stream.

        Args:
            request: The request that it answers.
            services: The server's parts.
            client_id: Whose stream.
        """
        self._request = request
        self._services = services
        self._engine = services.manager.engine
        self._client_id = client_id
        self._response = EventStream()
        self._outlet: Outlet | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._changed: dict[str, Subscription | None] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._reached: dict[str, Subscription] = {}
        self._since_checkpoint = 0
        self._moved = asyncio.Event()
        self._urgent = asyncio.Event()

    async def run(self, wanted: Mapping[str, Subscription]) -> web.StreamResponse:
        """Stream until the client goes away or the server stops.

        Args:
            wanted: The sessions to begin with; what `add` and `remove` said before stands.

        Raises:
            ShuttingDown: If the server is stopping, before anything was sent.
        """
        async with http_stream(self._request, self._response, self._services, _MANY) as outlet:
            self._outlet = outlet
            await self._response.write(b"retry: %d\n\n" % retry_ms())
            with first_error():
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    for session_id, subscription in {**wanted, **self._changed}.items():
                        if subscription is not None:
                            self.add(session_id, subscription)
                    tasks.create_task(self._checkpoints())
                    tasks.create_task(self._keepalives())
        return self._response

    def add(self, session_id: str, subscription: Subscription) -> None:
        """Read a session from now on, from where the subscription says."""
        if self._tasks is None:
            self._changed[session_id] = subscription
            return
        self.remove(session_id)
        task = self._tasks.create_task(self._follow(session_id, subscription))
        self._followers[session_id] = task

    def remove(self, session_id: str) -> None:
        """Stop reading a session: after this, nothing of it is sent any more."""
        if self._tasks is None:
            self._changed[session_id] = None
            return
        self._reached.pop(session_id, None)
        follower = self._followers.pop(session_id, None)
        if follower is not None:
            follower.cancel()

    async def _follow(self, session_id: str, subscription: Subscription) -> None:
        try:
            reading = await Reading.open(self._services, session_id, subscription.after)
        except (SessionGone, SessionUnknown):
            await self._write(sse_control(closing("deleted", session_id=session_id).message))
            return
        generation = subscription.generation
        if reading.start is not None:
            self._reached[session_id] = Subscription(reading.start, generation)
        idle = self._services.settings.keepalive_s
        async with aclosing(reading.steps(idle=idle)) as steps:
            async for step in steps:
                if isinstance(step, Control):
                    await self._write(sse_control(step.message))
                    if step.position is not None:
                        self._advance(session_id, step.position, generation, urgent=True)
                elif step:
                    for piece in pieces([entry.encoded(sse_frame_of_many) for entry in step]):
                        await self._write(piece)
                    self._advance(session_id, step[-1].position, generation)

    def _advance(
        self, session_id: str, position: Position, generation: str, *, urgent: bool = False
    ) -> None:
        self._reached[session_id] = Subscription(position, generation)
        self._moved.set()
        if urgent or self._since_checkpoint >= CHECKPOINT_BYTES:
            self._urgent.set()

    async def _write(self, data: bytes) -> None:
        assert self._outlet is not None  # noqa: S101 - set before any task starts
        await self._outlet.ready()
        await self._response.write(data)
        self._since_checkpoint += len(data)

    async def _checkpoints(self) -> None:
        """Send a checkpoint soon after something moved, then at most one each second or 64 KiB."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            self._urgent.clear()
            self._since_checkpoint = 0
            reached = {sid: str(subscription) for sid, subscription in self._reached.items()}
            checkpoint = Checkpoint(f"ckp_{secrets.token_hex(8)}", reached)
            await self._engine.save_checkpoint(self._client_id, checkpoint)
            await self._write(id_frame(checkpoint.checkpoint_id))
            try:
                async with asyncio.timeout(CHECKPOINT_SECONDS):
                    await self._urgent.wait()
            except TimeoutError:
                continue

    async def _keepalives(self) -> None:
        while True:
            await asyncio.sleep(self._services.settings.keepalive_s)
            await self._write(KEEPALIVE)
