"""The tools of one MCP server, made into tools of an agent."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any

from mcp_types import Tool as ServerTool

from runtime.errors import ToolFailed
from runtime.mcp.connection import Connection
from runtime.mcp.schema import result_of, signature_of, tool_name
from runtime.mcp.server import McpServer
from runtime.tools import Tool, ToolContext

__all__ = ["McpTools", "mcp_tools"]

Asks = bool | Callable[[str, Mapping[str, Any]], bool | Awaitable[bool]]
"""Whether a human must agree first; a function, async or sync, is asked with the tool's name on the server and the
arguments of each call."""

Only = Collection[str] | Callable[[str], bool]
"""Which tools are taken, by their names on the server."""

_logger = logging.getLogger(__name__)


def mcp_tools(
    server: McpServer,
    *,
    prefix: str = "",
    only: Only | None = None,
    needs_approval: Asks = False,
    timeout: float | None = None,
) -> McpTools:
    """Return the tools of an MCP server, used as `async with` or by `with_mcp`.

    Args:
        server: A `StdioServer` or an `HttpServer`.
        prefix: Put before each tool's name, so that the tools of two servers do not clash.
        only: Takes only these tools.
        needs_approval: Whether a human must agree before a call; or a function that is given the
            tool's name on the server and the arguments, and decides.
        timeout: Seconds until a call is cut off.
    """
    return McpTools(
        server, prefix=prefix, only=only, needs_approval=needs_approval, timeout=timeout
    )


class McpTools:
    """The tools of one server, and the connection to it. Made by `mcp_tools`.

    A connection that has ended is made again by the next call, once for each call. The tools are
    those that the server had when it was first asked.
    """

    def __init__(
        self,
        server: McpServer,
        *,
        prefix: str = "",
        only: Only | None = None,
        needs_approval: Asks = False,
        timeout: float | None = None,
    ) -> None:
        self._connection = Connection(server)
        self._prefix = prefix
        self._only = only
        self._needs_approval = needs_approval
        self._timeout = timeout
        self._tools: tuple[Tool, ...] | None = None

    async def tools(self) -> tuple[Tool, ...]:
        """Return the tools; connects first if need be. They stay the same.

        Raises:
            ToolFailed: If the server cannot be reached.
            ValueError: If two tools get one name, or `only` names a tool that is not there.
        """
        if self._tools is None:
            found = await self._connection.tools()
            self._tools = self._taken(found)
        return self._tools

    async def __aenter__(self) -> tuple[Tool, ...]:
        try:
            return await self.tools()
        except BaseException:
            await self.aclose()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def connected(self) -> bool:
        """Whether there is a connection whose end is not known yet; a call makes a new one."""
        return self._connection.alive

    async def aclose(self) -> None:
        """Close the connection and end the server, if it is our child. Safe to call twice."""
        await self._connection.aclose()

    def _taken(self, found: list[ServerTool]) -> tuple[Tool, ...]:
        label = self._connection.label
        if self._only is not None and not callable(self._only):
            missing = sorted(set(self._only) - {listed.name for listed in found})
            if missing:
                raise ValueError(f"the MCP server {label!r} has no tool {', '.join(missing)}")
        made: dict[str, tuple[str, Tool]] = {}
        for listed in found:
            if not self._wanted(listed.name):
                continue
            name = tool_name(listed.name, self._prefix)
            if name in made:
                raise ValueError(
                    f"the MCP server {label!r} has tools {made[name][0]!r} and {listed.name!r}, "
                    f"which both become {name!r}; leave one out with only="
                )
            try:
                made[name] = (listed.name, self._make(listed, name))
            except ValueError as error:
                _logger.warning("left out tool %r of the MCP server %r: %s", name, label, error)
        return tuple(tool for _, tool in made.values())

    def _wanted(self, name: str) -> bool:
        if self._only is None:
            return True
        return self._only(name) if callable(self._only) else name in self._only

    def _make(self, listed: ServerTool, name: str) -> Tool:
        asks, hints = self._needs_approval, listed.annotations
        description = listed.description or listed.title or ""

        async def call(context: ToolContext, arguments: dict[str, Any]) -> Any:
            return await self._call(listed.name, arguments, context)

        return Tool(
            function=call,
            signature=signature_of(listed.input_schema, description),
            name=name,
            description=description,
            needs_approval=partial(asks, listed.name) if callable(asks) else asks,
            # Only a crash makes this matter: such a call is then made again.
            idempotent=hints is not None and bool(hints.read_only_hint or hints.idempotent_hint),
            timeout=self._timeout,
        )

    async def _call(self, name: str, arguments: dict[str, Any], context: ToolContext) -> Any:
        async def told(progress: float, total: float | None, message: str | None) -> None:
            said = {"progress": progress, "total": total, "message": message}
            with contextlib.suppress(ToolFailed):  # the call is over
                await context.progress({k: v for k, v in said.items() if v is not None})

        answer = await self._connection.call(name, arguments, told)
        return result_of(name, answer)
