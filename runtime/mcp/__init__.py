"""Tools of MCP servers as an agent's tools. Needs the extra `mcp`.

Inside a coroutine, the connection lives as long as the block:

    async with mcp_tools(StdioServer("python", ["server.py"])) as tools:
        agent = Agent("assistant", model=model, tools=tools)

In a module whose agents are served, it is made at the first run, or when the registry starts, and
closed with the registry:

    registry = Registry(
        with_mcp(
            lambda tools: Agent("assistant", model=model, tools=[roll_dice, *tools]),
            mcp_tools(HttpServer("https://example.com/mcp")),
        )
    )

`server` says where a server is, `connection` holds the connection, `schema` turns what a server
says into what an agent needs, `toolset` makes the tools, `serving` the agent that connects late.
"""

from __future__ import annotations

from runtime.mcp.server import HttpServer, McpServer, StdioServer
from runtime.mcp.serving import with_mcp
from runtime.mcp.toolset import McpTools, mcp_tools

__all__ = ["HttpServer", "McpServer", "McpTools", "StdioServer", "mcp_tools", "with_mcp"]
