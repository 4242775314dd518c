"""All sessions of one client on one SSE stream.

Frames carry no id, because one id cannot say where many logs stand. Instead a frame with nothing but
an id follows now and then: it names a checkpoint, a cursor for each session, that was stored before
it was sent. What lies between the last one and a cut comes again, and the client drops it by
`(session_id, seq)`.

Where a protocol's frames have no `seq`, nobody could drop what comes again. There each frame carries
an id of its own: the last checkpoint, and the sessions that have moved since. Checkpoints are made
only when those are too many for one id.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from gateway.codecs.native import sse_control, sse_frame_of_many
from gateway.commands import Role
from gateway.errors import SessionGone, SessionUnknown
from gateway.log.engine import Checkpoint
from gateway.log.entry import Entry
from gateway.log.outage import outlasting
from gateway.log.position import Position
from gateway.transports.draining import first_error
from gateway.transports.outlet import PIECE_BYTES, Outlet, pieces
from gateway.transports.reading import HEARTBEAT, Control, Reading, closing
from gateway.transports.services import Services
from gateway.transports.sharing import Share
from gateway.transports.sse import KEEPALIVE, EventStream, id_frame
from gateway.transports.stream import Wire, http_stream, native_wire, retry_ms
from gateway.transports.subscriptions import Subscription, Whereabouts

__all__ = ["NATIVE", "ClientStream", "ClientWire"]

_LOGGER = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 1.0
"""While events flow, a checkpoint is sent this often: what a cut may make the client get twice."""

CHECKPOINT_BYTES = 64 * 1024
"""And after so many bytes, so that a long catching-up is not begun anew."""


MOST_MOVED = 8
"""Sessions that one id names beside a checkpoint: some 100 bytes each, repeated with each frame."""


def _retry() -> bytes:
    return b"retry: %d\n\n" % retry_ms()


@dataclass(frozen=True, slots=True)
class ClientWire:
    """What a client's stream looks like.

    Attributes:
        wire: How things are framed; frames have no id.
        headers: What the response says in place of what all our streams say.
        first: Returns what is sent at once.
        each_has_id: Whether each frame says where the stream stands, because a client could not
            drop what comes twice.
        tells_outages: Whether clients are told when the store is away.
    """

    wire: Wire
    headers: Mapping[str, str] = field(default_factory=dict)
    first: Callable[[], bytes] = _retry
    each_has_id: bool = False
    tells_outages: bool = True


def _control(control: Control) -> bytes:
    return sse_control(control.json)


NATIVE = ClientWire(native_wire(sse_frame_of_many, _control, KEEPALIVE))
"""The native wire."""


class ClientStream:
    """One open stream of one client; its sessions come and go while it is open."""

    def __init__(
        self,
        request: web.Request,
        services: Services,
        client_id: str,
        begin: Callable[[Mapping[str, str]], Mapping[str, Subscription]],
        *,
        wire: ClientWire,
        stood: Whereabouts,
        role: Role,
    ) -> None:
        """Make the stream.

        Args:
            request: The request that it answers.
            services: The server's parts.
            client_id: Whose stream.
            begin: Tells from where each session is read that the client has when the stream begins.
            wire: What it looks like.
            stood: Where the client's last stream stood.
            role: Whether the client controls its sessions or only watches.
        """
        self._look = wire
        self._wire = wire.wire
        self._request = request
        self._services = services
        self._role = role
        self._engine = services.manager.engine
        self._client_id = client_id
        self._response = EventStream()
        self._response.headers.update(wire.headers)
        self._outlet: Outlet | None = None
        self._turn = asyncio.Lock()
        self._tasks: asyncio.TaskGroup | None = None
        self._begin: Callable[[Mapping[str, str]], Mapping[str, Subscription]] | None = begin
        self._carried: dict[str, Subscription] = {}  # as it was asked for, or as it began
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._behind: set[str] = set()  # sessions that have not caught up yet
        self._reached: dict[str, Subscription] = {}
        self._checkpoint_id = stood.checkpoint_id
        self._since: dict[str, Subscription] = dict(stood.moved)
        self._unnamed = False
        self._since_checkpoint = 0
        self._heartbeat_at = 0.0
        self._moved = asyncio.Event()
        self._urgent = asyncio.Event()

    async def run(self) -> web.StreamResponse:
        """Stream what it was told to carry, until the client goes away or the server stops.

        Raises:
            ShuttingDown: If the server is stopping, before anything was sent.
        """
        async with http_stream(self._request, self._response, self._services, self._wire) as outlet:
            self._outlet = outlet
            await self._response.write(self._look.first())
            with first_error():
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    for session_id, subscription in self._carried.items():
                        self._add(session_id, subscription)
                    tasks.create_task(self._checkpoints())
                    tasks.create_task(self._keepalives())
        return self._response

    def take(self, kept: Mapping[str, str]) -> None:
        """Carry what the ledger has, from now on. What is taken off is not sent any more after this.

        Args:
            kept: The client's sessions, and how it asked for each: who asks again, starts anew.
        """
        if self._begin is not None:
            self._carried, self._begin = dict(self._begin(kept)), None
            return
        wanted = {session_id: Subscription.parse(text) for session_id, text in kept.items()}
        for session_id in [name for name in self._carried if name not in wanted]:
            del self._carried[session_id]
            self._remove(session_id)
        for session_id, subscription in wanted.items():
            known = self._carried.get(session_id)
            if known is None or known.generation != subscription.generation:
                self._carried[session_id] = subscription
                self._add(session_id, subscription)

    def _add(self, session_id: str, subscription: Subscription) -> None:
        """Read a session from now on, from where the subscription says."""
        if self._tasks is None:
            return  # `run` does, when it begins
        self._stop(session_id)
        self._behind.add(session_id)
        self._reached[session_id] = subscription
        task = self._tasks.create_task(self._follow(session_id, subscription))
        self._followers[session_id] = task

    def _remove(self, session_id: str) -> None:
        """Stop reading a session. One that is gone altogether was deleted: the client is told so."""
        follower = self._followers.get(session_id)
        was_open = follower is not None and not follower.done()
        self._stop(session_id)
        self._since.pop(session_id, None)
        if was_open and self._tasks is not None:
            self._tasks.create_task(self._tell_if_deleted(session_id))

    async def _tell_if_deleted(self, session_id: str) -> None:
        try:
            await outlasting(lambda: self._engine.session(session_id))
        except (SessionGone, SessionUnknown):
            await self._control(closing("deleted", session_id=session_id), session_id, "")

    def _stop(self, session_id: str) -> None:
        self._behind.discard(session_id)
        self._reached.pop(session_id, None)
        follower = self._followers.pop(session_id, None)
        if follower is not None:
            follower.cancel()

    async def _follow(self, session_id: str, subscription: Subscription) -> None:
        with self._services.manager.attending(session_id, self._role):
            await self._read(session_id, subscription)

    async def _read(self, session_id: str, subscription: Subscription) -> None:
        try:
            reading = await outlasting(
                lambda: Reading.open(self._services, session_id, subscription.after)
            )
        except (SessionGone, SessionUnknown):
            await self._control(closing("deleted", session_id=session_id), session_id, "")
            return
        generation = subscription.generation
        if reading.start is not None:
            self._reached[session_id] = Subscription(reading.start, generation)
        idle = self._services.settings.keepalive_s
        assert self._outlet is not None  # noqa: S101 - set before any task starts
        share = Share(self._engine, self._outlet, self._turn)
        try:
            async with aclosing(reading.steps(idle=idle, share=share)) as steps:
                async for step in steps:
                    if step is HEARTBEAT:
                        await self._heartbeat()
                    elif isinstance(step, Control):
                        await self._control(step, session_id, generation)
                    elif step and self._look.each_has_id:
                        await self._named_events(step, generation)
                    elif step:
                        await self._events(step)
                        self._advance(session_id, step[-1].position, generation)
                    share.give()
        finally:
            share.give()

    async def _control(self, control: Control, session_id: str, generation: str) -> None:
        """Say a control object. When all sessions have caught up, the client is told its place soon."""
        await self._ready()
        if not control.is_reset:
            self._behind.discard(session_id)
        name = b""
        if control.position is not None:
            self._advance(session_id, control.position, generation, urgent=not self._behind)
            name = self._name()
        framed = control.framed(self._wire.control)
        if name and control.is_reset:  # a snapshot is shared by all readers: it is not copied
            await self._write(name)
            name = b""
        await self._write(name + framed if name else framed)

    async def _heartbeat(self) -> None:
        """Say that the store is away, once for all sessions."""
        now = asyncio.get_running_loop().time()
        if self._look.tells_outages and now >= self._heartbeat_at:
            self._heartbeat_at = now + self._services.settings.keepalive_s / 2
            await self._ready()
            await self._write(HEARTBEAT.framed(self._wire.control))

    async def _events(self, entries: Sequence[Entry]) -> None:
        """Say events, as many with one write as fit."""
        for piece in pieces([self._wire.entry(entry) for entry in entries]):
            await self._ready()
            await self._write(piece)

    async def _named_events(self, entries: Sequence[Entry], generation: str) -> None:
        """Say events, and with each where the stream stands; as many with one write as fit."""
        left = deque(entries)
        while left:
            await self._ready()
            # No waiting from here to the write: each id must name all that comes before it.
            said = bytearray()
            while left and len(said) < PIECE_BYTES:
                entry = left.popleft()
                frame = self._wire.entry(entry)
                self._advance(entry.session_id, entry.position, generation)
                if frame:
                    said += self._name() + frame
            if said:
                await self._write(bytes(said))

    def _name(self) -> bytes:
        """Return the line that says where the stream stands, if frames have one."""
        if not self._look.each_has_id:
            return b""
        self._unnamed = len(self._since) > MOST_MOVED
        if self._unnamed:
            return b""
        return b"id: %b\n" % str(Whereabouts(self._checkpoint_id, self._since)).encode()

    def _advance(
        self, session_id: str, position: Position, generation: str, *, urgent: bool = False
    ) -> None:
        stands = Subscription(position, generation)
        moved = self._reached.get(session_id) != stands
        self._reached[session_id] = self._since[session_id] = stands
        if self._look.each_has_id and len(self._since) <= MOST_MOVED:
            return
        if moved:  # otherwise the client has an id for it, or needs none
            self._moved.set()
        if urgent or self._since_checkpoint >= CHECKPOINT_BYTES:
            self._urgent.set()

    async def _ready(self) -> None:
        assert self._outlet is not None  # noqa: S101 - set before any task starts
        await self._outlet.ready()

    async def _write(self, data: bytes) -> None:
        await self._response.write(data)
        self._since_checkpoint += len(data)

    async def _checkpoints(self) -> None:
        """Send a checkpoint soon after something moved, then at most one each second or 64 KiB."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            self._urgent.clear()
            self._since_checkpoint = 0
            reached = dict(self._reached)
            checkpoint_id = f"ckp_{secrets.token_hex(8)}"
            cursors = {session_id: str(place) for session_id, place in reached.items()}
            checkpoint = Checkpoint(checkpoint_id, cursors)
            await outlasting(partial(self._engine.save_checkpoint, self._client_id, checkpoint))
            self._checkpoint_id = checkpoint_id
            moved = self._since.items()
            self._since = {sid: place for sid, place in moved if reached.get(sid) != place}
            await self._ready()
            if not self._look.each_has_id:
                await self._write(id_frame(checkpoint_id))
            elif self._unnamed and (name := self._name()):
                await self._write(name + b"\n")
            try:
                async with asyncio.timeout(CHECKPOINT_SECONDS):
                    await self._urgent.wait()
            except TimeoutError:
                continue

    async def _keepalives(self) -> None:
        while True:
            await asyncio.sleep(self._services.settings.keepalive_s)
            await self._ready()
            await self._write(self._wire.keepalive)
