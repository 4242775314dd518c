"""Back-pressure for one connection: how much may wait in the server for a client that is slow.

aiohttp's own back-pressure has no time limit: a write to a client that has stopped reading waits for
ever. So it is switched off here (its high-water mark is set out of reach) and replaced by `ready()`.
A connection then holds at most `limit` and one piece more in the process.
"""

from __future__ import annotations

import asyncio
import socket
from array import array
from collections.abc import Sequence
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ

from gateway.errors import SlowClient

__all__ = ["PIECE_BYTES", "Outlet", "pieces"]

PIECE_BYTES = 64 * 1024
"""Frames are joined into writes of at most this size, larger single frames apart."""

OUT_OF_REACH = 2**31 - 1
"""A high-water mark that no buffer reaches; uvloop keeps it in a C int."""

POLL_SECONDS = 0.02
"""How often a client that is backed up is looked at. Others cost no timer."""

LOOKS = 10
"""A client is looked at no less often than this before it counts as stuck: while the process or the
machine stood still, nobody could take anything, and that is not the client's fault."""

KERNEL_GRACE_SECONDS = 1.0
"""The kernel cuts without a word, so it gives up after us."""

WRITE_BYTES = 768
"""What a write costs beside its bytes while it waits: uvloop keeps a request for each (measured). A
client that reads nothing of a run that says a word at a time would cost ten times its bytes."""

UNSENT_BYTES = 64 * 1024
"""Bytes that the kernel may hold unsent for one connection.

Linux lets a send buffer grow to 4 MB for a peer that does not read. `SO_SNDBUF` would bound it too,
but also what is in flight, and so the speed on long distances; this bounds what waits only.
"""


def pieces(frames: Sequence[bytes]) -> Sequence[bytes]:
    """Join whole frames into writes of at most `PIECE_BYTES`, one larger frame by itself."""
    if len(frames) == 1:
        return frames
    joined = b"".join(frames)
    if len(joined) <= PIECE_BYTES:
        return (joined,)
    parts: list[bytes] = []
    group: list[bytes] = []
    size = 0
    for frame in frames:
        if group and size + len(frame) > PIECE_BYTES:
            parts.append(b"".join(group))
            group, size = [], 0
        group.append(frame)
        size += len(frame)
    parts.append(b"".join(group))
    return parts


class Outlet:
    """The sending side of one connection. Several tasks may share it.

    Between the return of `ready()` and the write there must be no `await` that suspends: then each
    write is whole, and the buffer bounded, however many tasks share the connection.
    """

    def __init__(self, transport: asyncio.Transport, *, limit: int, write_timeout: float) -> None:
        """Take over a connection's back-pressure.

        Args:
            transport: The connection.
            limit: Bytes that may wait in the process before the next write has to wait.
            write_timeout: Seconds without any progress after which the client counts as stuck.
                The kernel gives up a little later on a peer that acknowledges nothing at all.
        """
        self._transport = transport
        self._socket: socket.socket | None = None
        self._limit = limit
        self._write_timeout = write_timeout
        self._waiting = 0
        self._idle = 0.0
        self._looked_at = 0.0
        self._last_size = 0
        self._writes = 0
        transport.set_write_buffer_limits(high=OUT_OF_REACH)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            self._socket = connection
            self._set("TCP_NOTSENT_LOWAT", UNSENT_BYTES)
            self._let_the_kernel_give_up()

    async def ready(self) -> None:
        """Return when the next piece may be written; at once if the client keeps up.

        Raises:
            SlowClient: If the client took no byte for the write time limit.
        """
        if self._held() > self._limit:
            await self._fall_to(self._limit, self._write_timeout)
        self._writes += 1

    async def flush(self, *, patience: float | None = None) -> None:
        """Return when the kernel has taken all that was written.

        Args:
            patience: Seconds without progress, in place of the write time limit.

        Raises:
            SlowClient: If the client took no byte for so long.
        """
        if self._transport.get_write_buffer_size() > 0:
            await self._fall_to(0, self._write_timeout if patience is None else patience)

    def write(self, data: bytes) -> None:
        """Write to the connection itself, past aiohttp; call `ready()` first.

        Raises:
            ConnectionResetError: If the connection is closing.
        """
        if self._transport.is_closing():
            raise ConnectionResetError("the connection is closing")
        self._transport.write(data)

    def release(self) -> None:
        """Give back-pressure back to aiohttp, for the connection's next request."""
        self._transport.set_write_buffer_limits()

    def abort(self) -> None:
        """Cut the connection and forget what waits to be sent."""
        self._transport.abort()

    @property
    def pending(self) -> bool:
        """Whether anything waits in the process to be sent."""
        return self._transport.get_write_buffer_size() > 0

    def _held(self) -> int:
        """Return what the process holds for the client: bytes, and the writes that they are in."""
        size = self._transport.get_write_buffer_size()
        if size == 0:
            self._writes = 0
        return size + self._writes * WRITE_BYTES

    def _untaken(self) -> int:
        """Return the bytes that the client has not acknowledged, here and in the kernel.

        The kernel asks for more only when half of `UNSENT_BYTES` is sent: by what waits here alone,
        a client of 1 KiB/s would take nothing for 32 s.
        """
        size = self._transport.get_write_buffer_size()
        if self._socket is None or self._transport.is_closing():
            return size
        sent = array("i", (0,))
        with suppress(OSError):  # a system that does not tell: what waits here has to do
            ioctl(self._socket.fileno(), TIOCOUTQ, sent)
        return size + sent[0]

    def _set(self, name: str, value: int) -> None:
        option = getattr(socket, name, None)
        if self._socket is None or option is None or self._transport.is_closing():
            return
        with suppress(OSError):  # the connection broke: the next write says so
            self._socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def _let_the_kernel_give_up(self) -> None:
        seconds = self._write_timeout + KERNEL_GRACE_SECONDS
        self._set("TCP_USER_TIMEOUT", int(seconds * 1000))

    async def _fall_to(self, limit: int, patience: float) -> None:
        await asyncio.sleep(0)  # uvloop hands its buffer to the kernel at the end of a loop's turn
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._idle = 0.0
            self._looked_at = loop.time()
            self._last_size = self._untaken()
            # To the kernel, a peer that opens its window by less than a segment gives no sign of life.
            self._set("TCP_USER_TIMEOUT", 0)
        self._waiting += 1
        try:
            while self._held() > limit:
                size = self._untaken()
                now = loop.time()
                if size < self._last_size:
                    self._idle = 0.0
                else:
                    self._idle += min(now - self._looked_at, patience / LOOKS)
                    if self._idle >= patience:
                        raise SlowClient(patience)
                self._looked_at, self._last_size = now, size
                await asyncio.sleep(POLL_SECONDS)
            self._idle = 0.0
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._let_the_kernel_give_up()
