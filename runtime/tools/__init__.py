"""Tools: typed functions that a model may call."""

from __future__ import annotations

from runtime.tools.context import Report, ToolContext
from runtime.tools.tool import NeedsApproval, Tool, tool

__all__ = ["NeedsApproval", "Report", "Tool", "ToolContext", "tool"]
