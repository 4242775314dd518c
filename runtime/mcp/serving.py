"""Agents that are defined before their MCP servers can be asked for tools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

from runtime.conduct import conduct, run_started
from runtime.events import Event
from runtime.mcp.toolset import McpTools
from runtime.models.base import Starts
from runtime.report import Reporter
from runtime.runnable import Emit, Runnable, RunOptions, RunRequest, ToolInfo
from runtime.tools import Tool

__all__ = ["with_mcp"]


def with_mcp(make: Callable[[Sequence[Tool]], Runnable], *toolsets: McpTools) -> Runnable:
    """Return an agent that connects to its MCP servers when it starts or is first run.

    Closing it closes the connections. A server that cannot be reached makes a run fail; the next
    run tries again.

    Args:
        make: Makes the agent of the servers' tools. It is called at once without any, to learn the
            agent's name and options, and again with them: make models outside.
        toolsets: The servers, as `mcp_tools` gives them; they belong to this agent alone.
    """
    return _LateAgent(make, toolsets)


class _LateAgent:
    """A runnable that is made when its tools are known."""

    def __init__(
        self, make: Callable[[Sequence[Tool]], Runnable], toolsets: Sequence[McpTools]
    ) -> None:
        self._make = make
        self._toolsets = tuple(toolsets)
        self._draft = make(())
        self._made: Runnable | None = None
        self._making = asyncio.Lock()

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        return self._draft.name

    @property
    def kind(self) -> Literal["agent", "graph"]:
        """What it is."""
        return self._draft.kind

    @property
    def description(self) -> str:
        """One sentence for people who choose an agent."""
        return self._draft.description

    @property
    def options_type(self) -> type[RunOptions]:
        """The options that it takes."""
        return self._draft.options_type

    def tool_infos(self) -> tuple[ToolInfo, ...]:
        """Return its tools; those of the servers only once it is connected."""
        return (self._made or self._draft).tool_infos()

    async def start(self) -> None:
        """Connect, and get the agent ready. Safe to call twice, and not needed.

        Raises:
            ToolFailed: If a server cannot be reached; the first run will say so too.
            ValueError: If the tools' names clash.
        """
        agent = await self._agent()
        if isinstance(agent, Starts):
            await agent.start()

    async def execute(self, request: RunRequest, emit: Emit) -> None:
        """Do a run and report it; connects first if need be."""
        if self._made is None and not await self._connected(request, emit):
            return
        agent = await self._agent()
        await agent.execute(request, emit)

    async def aclose(self) -> None:
        """Close the agent and the connections. Safe to call twice."""
        try:
            await (self._made or self._draft).aclose()
        finally:
            for toolset in self._toolsets:
                await toolset.aclose()

    async def _agent(self) -> Runnable:
        async with self._making:
            if self._made is None:
                tools = [tool for toolset in self._toolsets for tool in await toolset.tools()]
                self._made = self._make(tools)
            return self._made

    async def _connected(self, request: RunRequest, emit: Emit) -> bool:
        """Connect for a run; tell whether the run goes on. If not, it was ended."""
        report = Reporter(emit, run_id=request.run_id, path=request.path or (self.name,))
        connected = False

        async def connect() -> Sequence[Event]:
            nonlocal connected
            try:
                await self._agent()
            except BaseException:
                if request.announce:
                    await report(run_started(report, request, agent=self.name))
                raise
            connected = True
            return ()  # the agent itself reports from here on

        await conduct(report, connect, limit=request.timeout)
        return connected
