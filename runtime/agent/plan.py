"""What is to be done with a tool call, as far as nobody has to be asked. Decides; does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.errors import ToolFailed, ToolUnknown
from runtime.events import ErrorInfo
from runtime.failure import error_info
from runtime.messages import ToolCall
from runtime.runnable import Decision
from runtime.tools import Tool

__all__ = ["Doubt", "Plan", "Refuse", "Run", "plan", "replan"]


@dataclass(frozen=True, slots=True)
class Run:
    """Run the tool with these arguments; `call` carries their text.

    Attributes:
        settled: Whether no human needs to be asked: one was, or the call had started.
    """

    call: ToolCall
    tool: Tool
    arguments: Any
    settled: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the model why the tool is not run."""

    call: ToolCall
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Doubt:
    """Tell the model that nobody knows whether the call took effect."""

    call: ToolCall


Plan = Run | Refuse | Doubt


def plan(
    call: ToolCall,
    tools: Mapping[str, Tool],
    *,
    decision: Decision | None,
    started: bool,
    approved: str | None = None,
) -> Plan:
    """Decide about one call.

    Args:
        call: What the model wants.
        tools: The agent's tools by name.
        decision: What a human said about this call, if asked.
        started: Whether it had started, in an earlier attempt that died or in a tool that paused.
        approved: The arguments that the human was shown, where that is known.
    """
    tool = tools.get(call.name)
    if started and (tool is None or not tool.repeatable):
        return Doubt(call)
    if decision is not None and decision.kind in {"rejected", "expired"}:
        return Refuse(call, _rejection(decision))
    if decision is not None:
        edited = decision.arguments if decision.kind == "edited" else None
        call = _with_arguments(call, edited if edited is not None else approved)
    if tool is None:
        return Refuse(call, error_info(ToolUnknown(call.name, tools)))
    return replan(call, tool, settled=decision is not None or started)


def replan(call: ToolCall, tool: Tool, *, settled: bool, arguments: str | None = None) -> Plan:
    """Decide about a call of a tool that exists, with other arguments if there are any."""
    call = _with_arguments(call, arguments)
    try:
        return Run(call, tool, tool.parse(call.arguments), settled)
    except ToolFailed as failure:
        return Refuse(call, error_info(failure))


def _with_arguments(call: ToolCall, arguments: str | None) -> ToolCall:
    return call if arguments is None else call.model_copy(update={"arguments": arguments})


def _rejection(decision: Decision) -> ErrorInfo:
    if decision.kind == "expired":
        return ErrorInfo(code="rejected", message="nobody approved this call in time")
    said = f": {decision.message}" if decision.message else ""
    return ErrorInfo(code="rejected", message=f"a human rejected this call{said}")
