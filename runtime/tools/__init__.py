"""Tools: typed functions that a model may call."""

from __future__ import annotations

from runtime.tools.context import ToolContext
from runtime.tools.guardrail import Guardrail, Trip
from runtime.tools.make import ToolOptions, tool
from runtime.tools.tool import NeedsApproval, Tool

__all__ = ["Guardrail", "NeedsApproval", "Tool", "ToolContext", "ToolOptions", "Trip", "tool"]
