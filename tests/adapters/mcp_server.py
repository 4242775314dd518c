"""A real MCP server for the tests, run as a program: `mcp_server.py stdio` or `mcp_server.py PORT`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

server = MCPServer("tests")
PIXEL = b"\x89PNG\r\n\x1a\n"


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def where() -> dict[str, Any]:
    """Tell about this process."""
    return {"pid": os.getpid(), "cwd": str(Path.cwd()), "mood": os.environ.get("MOOD")}


@server.tool()
def refuse(why: str) -> str:
    """Fail."""
    raise ToolError(f"refused: {why}")


@server.tool(structured_output=False)
def picture() -> list[Any]:
    """Show a picture."""
    return ["here it is", Image(data=PIXEL, format="png")]


@server.tool()
async def count(to: int, context: Context) -> str:
    """Count and report each number."""
    for number in range(1, to + 1):
        await context.report_progress(number, to, f"at {number}")
    return "done"


@server.tool()
async def hang(marks: str, context: Context) -> str:
    """Leave marks of what happens to this call: `begun`, and `cancelled` when it is."""
    folder = anyio.Path(marks)
    await (folder / "begun").write_text(str(os.getpid()))
    await context.report_progress(0, None, "hanging")
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await (folder / "cancelled").write_text("yes")
    return "never"


@server.tool(name="files.read/all")
def read_all() -> str:
    """Have a name that no provider takes."""
    return "all"


def main() -> None:
    """Serve."""
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))


if __name__ == "__main__":
    main()
