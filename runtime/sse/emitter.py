"""A stream of named events as an answer of aiohttp, for handlers of one's own.

    async def handler(request):
        emitter = SseEmitter(web.StreamResponse())
        await emitter.start(request)
        environment.set_emitter(emitter)
        emitter.send_result(await agent.chat("…"))
        await emitter.close()
        return emitter.response

Who reports does not wait: what is said is queued, and a task writes it at the client's pace. aiohttp
tells a handler nothing of a client that has gone, unless it was told to cancel handlers; so the task
looks.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from runtime.plain import plain
from runtime.sse.words import CONNECTED, HEADERS, StreamWords

__all__ = ["SseEmitter"]

KEEPALIVE_SECONDS = 15.0
"""A silent stream gets a comment this often; common proxies cut after 60 s of silence."""

WRITE_SECONDS = 10.0
"""A client that takes nothing for this long is cut off."""

WAITING_BYTES = 4 * 1024 * 1024
"""What may wait for a client that reads more slowly than is spoken; beyond, it is cut off."""

LOOK_SECONDS = 0.25
"""How often to look whether the client is still there."""


class SseEmitter:
    """Streams reports to one client. An `Emitter` for environments; of use without them, too.

    It may be spoken to from any thread. Once it is closed, or the client has gone, all that is said
    goes nowhere, without an error. Whoever made it closes it.

    Attributes:
        response: What the handler returns.
    """

    def __init__(
        self,
        response: web.StreamResponse | None = None,
        *,
        keepalive: float = KEEPALIVE_SECONDS,
        write_timeout: float = WRITE_SECONDS,
        most_waiting: int = WAITING_BYTES,
    ) -> None:
        """Wrap a response that is not prepared yet.

        Args:
            response: The response; default: a new one.
            keepalive: Seconds of silence after which a comment is sent.
            write_timeout: Seconds after which a client that takes nothing is cut off.
            most_waiting: Bytes that may wait for the client.
        """
        self.response = web.StreamResponse() if response is None else response
        self._words = StreamWords()
        self._keepalive = keepalive
        self._write_timeout = write_timeout
        self._most_waiting = most_waiting
        self._waiting = bytearray(CONNECTED)
        self._spoken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._request: web.BaseRequest | None = None
        self._writer: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether nobody listens any more: it was closed, or the client has gone."""
        return self._words.closed or self._gone

    async def start(self, request: web.BaseRequest) -> None:
        """Begin the answer: the head and `: connected` go out at once. Calling it again is harmless.

        Raises:
            ConnectionError: If the client has gone already.
        """
        if self._writer is not None:
            return
        self._request = request
        self._loop = asyncio.get_running_loop()
        self.response.headers.update(HEADERS)
        await self.response.prepare(request)
        self._writer = self._loop.create_task(self._write_all())

    def send(self, type: str, data: Any = None) -> None:
        """Send an event; before `start`, it is kept until then.

        Args:
            type: Any text without CR, LF and NUL.
            data: Any value that pydantic can write as JSON.

        Raises:
            ValueError: If somebody listens and the type holds CR, LF or NUL.
        """
        if not self.closed:
            self._say(self._words.event(type, plain(data, f"event {type!r}")))

    def emit(self, type: str, data: Any) -> None:
        """Take a report; the same as `send`, under the name that environments know."""
        self.send(type, data)

    def send_result(self, data: Any) -> None:
        """Send what came of it all, as `result`. After that, nothing else is sent."""
        if not self.closed:
            self._say(self._words.result(plain(data, "the result")))

    def send_error(self, message: str, status_code: int = 500) -> None:
        """Send that it all failed, as `error`. After that, nothing else is sent.

        Args:
            message: Why, for people.
            status_code: The HTTP status that a plain answer would have had.
        """
        if not self.closed:
            self._say(self._words.error(message, status_code))

    async def close(self) -> None:
        """End the answer, and return once the client has all of it or has gone.

        Safe to call twice, and when the client has gone.
        """
        self._words.close()
        if self._writer is not None:
            self._spoken.set()
            await asyncio.wait([self._writer])

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

    # --- the writing side ----------------------------------------------------------------------

    @property
    def _gone(self) -> bool:
        """Whether there is no connection any more."""
        if self._request is None:
            return False
        transport = self._request.transport
        return transport is None or transport.is_closing()

    def _say(self, words: bytes) -> None:
        loop = self._loop
        if loop is None or _running_loop() is loop:
            self._queue(words)
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to read it
            loop.call_soon_threadsafe(self._queue, words)

    def _queue(self, words: bytes) -> None:
        self._waiting += words
        self._spoken.set()
        if len(self._waiting) > self._most_waiting:
            self._cut()

    def _cut(self) -> None:
        """Give up a client that does not keep up."""
        self._waiting.clear()
        self._words.close()
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()

    async def _write_all(self) -> None:
        """Write what is said, until it is all said or the client has gone."""
        try:
            while not self._gone:
                if self._waiting:
                    words = bytes(self._waiting)
                    self._waiting.clear()
                    async with asyncio.timeout(self._write_timeout):
                        await self.response.write(words)
                elif self._words.closed:
                    async with asyncio.timeout(self._write_timeout):
                        await self.response.write_eof()
                    return
                else:
                    await self._silence()
        except ConnectionError:
            return
        except TimeoutError:
            self._cut()

    async def _silence(self) -> None:
        """Return when something was said, or the client has gone, or it is time for a comment."""
        assert self._loop is not None  # noqa: S101 - it was started
        self._spoken.clear()
        speak_at = self._loop.time() + self._keepalive
        while not (self._spoken.is_set() or self._gone):
            left = speak_at - self._loop.time()
            if left <= 0:
                self._waiting += self._words.keepalive()
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await self._spoken.wait()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
