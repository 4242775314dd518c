"""What is to be done with a tool call. Decides; does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from runtime.errors import ToolFailed, ToolUnknown
from runtime.events import ErrorInfo
from runtime.failure import error_info
from runtime.messages import ToolCall
from runtime.runnable import Decision
from runtime.tools import Tool

__all__ = ["Ask", "Doubt", "Plan", "Refuse", "Run", "plan"]


@dataclass(frozen=True, slots=True)
class Run:
    """Run the tool with these arguments; `call` carries their text."""

    call: ToolCall
    tool: Tool
    arguments: BaseModel


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the model why the tool is not run."""

    call: ToolCall
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Doubt:
    """Tell the model that nobody knows whether the call took effect."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a human first."""

    call: ToolCall


Plan = Run | Refuse | Doubt | Ask


def plan(
    call: ToolCall, tools: Mapping[str, Tool], *, decision: Decision | None, started: bool
) -> Plan:
    """Decide about one call.

    Args:
        call: What the model wants.
        tools: The agent's tools by name.
        decision: What a human said about this call, if asked.
        started: Whether an earlier attempt had started it when it died.
    """
    tool = tools.get(call.name)
    if started and (tool is None or not tool.idempotent):
        return Doubt(call)
    if decision is not None and decision.kind in {"rejected", "expired"}:
        return Refuse(call, _rejection(decision))
    if decision is not None and decision.kind == "edited" and decision.arguments is not None:
        call = call.model_copy(update={"arguments": decision.arguments})
    try:
        if tool is None:
            raise ToolUnknown(call.name, tools)
        arguments = tool.parse(call.arguments)
    except ToolFailed as failure:
        return Refuse(call, error_info(failure))
    if decision is None and not started and tool.asks_approval(arguments):
        return Ask(call)
    return Run(call, tool, arguments)


def _rejection(decision: Decision) -> ErrorInfo:
    if decision.kind == "expired":
        return ErrorInfo(code="rejected", message="nobody approved this call in time")
    said = f": {decision.message}" if decision.message else ""
    return ErrorInfo(code="rejected", message=f"a human rejected this call{said}")
