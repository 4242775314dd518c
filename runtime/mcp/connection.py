"""The connection to an MCP server: opened when first needed, opened again when it has ended.

The SDK's client must be entered and left in one task, so a task of its own holds it. Calls are made
by whoever makes them, in their own tasks: cancelling one tells the server that it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from mcp import Client, MCPError
from mcp.shared._stream_protocols import ReadStream
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.message import SessionMessage
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST, CallToolResult, Tool

from runtime.abandon import finish
from runtime.errors import ToolFailed
from runtime.mcp.server import McpServer, TransportStreams

__all__ = ["Connection"]

CONNECT_SECONDS = 30.0
"""To start a server and greet it: one that is fetched by `uvx` or `npx` at its first start is slow."""

MAX_PAGES = 100
"""Pages of tools that are read; a server that has more is broken."""

_logger = logging.getLogger(__name__)


class Connection:
    """A connection to a server that is there when it is needed.

    Attributes:
        label: How people and models are told of the server.
    """

    def __init__(self, server: McpServer) -> None:
        self.label = server.label
        self._server = server
        self._life: _Life | None = None

    async def tools(self) -> list[Tool]:
        """Return all tools of the server.

        Raises:
            ToolFailed: If it cannot be reached, or does not answer as it must.
        """
        client, life = await self._client()
        tools: list[Tool] = []
        cursor: str | None = None
        try:
            for _ in range(MAX_PAGES):
                page = await client.list_tools(cursor=cursor)
                tools += page.tools
                cursor = page.next_cursor
                if cursor is None:
                    return tools
        except Exception as error:
            raise self._failure(error, life) from error
        raise ToolFailed(f"the MCP server {self.label!r} has more than {MAX_PAGES} pages of tools")

    async def call(
        self, name: str, arguments: dict[str, Any], progress: ProgressFnT
    ) -> CallToolResult:
        """Call a tool once and return what the server answers, `is_error` included.

        Cancelling the task cancels the call on the server.

        Raises:
            ToolFailed: If the server cannot be reached, ends meanwhile, or refuses.
        """
        client, life = await self._client()
        try:
            return await client.call_tool(name, arguments, progress_callback=progress)
        except Exception as error:
            if not _forgotten(error):
                raise self._failure(error, life) from error
        life.end()  # the call was not made; a new session can make it
        client, life = await self._client()
        try:
            return await client.call_tool(name, arguments, progress_callback=progress)
        except Exception as error:
            raise self._failure(error, life) from error

    @property
    def alive(self) -> bool:
        """Whether there is a connection whose end is not known yet."""
        return self._life is not None and not self._life.over

    async def aclose(self) -> None:
        """Close the connection and end the server, if it is our child. Safe to call twice."""
        life, self._life = self._life, None
        if life is not None:
            await life.aclose()

    async def _client(self) -> tuple[Client, _Life]:
        """Return the client of a living connection; opens one, once, if there is none."""
        if self._life is None or self._life.over:
            self._life = _Life(self._server)
        life = self._life
        return await asyncio.shield(life.opened), life

    def _failure(self, error: Exception, life: _Life) -> ToolFailed:
        """Return what a model and people are told of a failure."""
        if isinstance(error, MCPError):
            if error.code != CONNECTION_CLOSED:
                return ToolFailed(f"the MCP server {self.label!r} refused: {error.message}")
            life.end()
            return ToolFailed(
                f"the MCP server {self.label!r} ended during the call; it is not known whether "
                "the call took effect"
            )
        _logger.warning("a call to the MCP server %r failed", self.label, exc_info=error)
        return ToolFailed(
            f"the MCP server {self.label!r} gave no usable answer: {type(error).__name__}"
        )


def _forgotten(error: Exception) -> bool:
    """Tell whether an HTTP server does not know its session any more, as after a restart."""
    return (
        isinstance(error, MCPError)
        and error.code == INVALID_REQUEST
        and error.message == "Session terminated"  # the SDK's own words for status 404
    )


class _Life:
    """One life of a connection, from its opening to its end."""

    def __init__(self, server: McpServer) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Client] = loop.create_future()
        self.opened.add_done_callback(_mark_retrieved)
        self._server = server
        self._ended = asyncio.Event()
        # In a context of its own: the connection outlives the run that opened it.
        self._task = loop.create_task(self._hold(), context=contextvars.Context())

    @property
    def over(self) -> bool:
        """Whether no more calls can be made."""
        return self._ended.is_set() or self._task.done()

    def end(self) -> None:
        """Begin to close the connection."""
        self._ended.set()

    async def aclose(self) -> None:
        """Close the connection and wait until all of it is gone, also if cancelled meanwhile."""
        self.end()
        if not self.opened.done():
            self._task.cancel()
        await finish(self._task)  # the SDK kills a server that does not end in a few seconds

    async def _hold(self) -> None:
        label = self._server.label
        try:
            async with asyncio.timeout(CONNECT_SECONDS) as clock:
                async with Client(_watched(self._server, self._ended), cache=None) as client:
                    clock.reschedule(None)
                    self.opened.set_result(client)
                    await self._ended.wait()
        except BaseException as error:
            if not self.opened.done():
                self.opened.set_exception(_unreachable(label, error))
            elif isinstance(error, Exception):  # what failed was told to the calls, if there were
                _logger.info("the connection to the MCP server %r broke", label, exc_info=error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._ended.set()


def _unreachable(label: str, error: BaseException) -> ToolFailed:
    cause = error
    while isinstance(cause, BaseExceptionGroup):  # the SDK's task groups wrap what went wrong
        cause = cause.exceptions[0]
    failure = ToolFailed(f"the MCP server {label!r} cannot be reached: {type(cause).__name__}")
    failure.__cause__ = error
    return failure


def _mark_retrieved(opened: asyncio.Future[Client]) -> None:
    """Keep asyncio from complaining when nobody waits any more for a connection that failed."""
    if not opened.cancelled():
        opened.exception()


@asynccontextmanager
async def _watched(server: McpServer, ended: asyncio.Event) -> AsyncIterator[TransportStreams]:
    """Open a connection that sets `ended` when the server ends it, also while no call runs."""
    async with server.transport() as (read, write):
        yield _Watched(read, ended), write


class _Watched:
    """What the server says, until it says no more."""

    def __init__(
        self, stream: ReadStream[SessionMessage | Exception], ended: asyncio.Event
    ) -> None:
        self._stream = stream
        self._ended = ended

    @property
    def last_context(self) -> contextvars.Context | None:
        """The context of the sender, which the SDK asks for."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._ended.set()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._stream.__aexit__(kind, error, traceback)
