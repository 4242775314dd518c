"""What is to be done with a tool call, as far as nobody has to be asked. Decides; does nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.errors import ToolFailed, ToolUnknown
from runtime.events import ErrorInfo
from runtime.failure import error_info
from runtime.messages import ToolCall
from runtime.runnable import Decision
from runtime.tools import Tool
from runtime.tools.tool import json_object

__all__ = ["Doubt", "Given", "Hand", "Plan", "Refuse", "Run", "hand", "plan", "replan"]


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


@dataclass(frozen=True, slots=True)
class Hand:
    """Hand the call to the client, whose tool it is; `call` carries the arguments for it."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Given:
    """The client has said what came of the call."""

    call: ToolCall
    result: Any


Plan = Run | Refuse | Doubt | Hand | Given


def plan(
    call: ToolCall,
    tools: Mapping[str, Tool],
    *,
    decision: Decision | None,
    started: bool,
    approved: str | None = None,
    clients: Collection[str] = (),
) -> Plan:
    """Decide about one call.

    Args:
        call: What the model wants.
        tools: The agent's tools by name.
        decision: What a human said about this call, if asked.
        started: Whether it had started, in an earlier attempt that died or in a tool that paused.
        approved: The arguments that the human was shown, where that is known.
        clients: The names of the client's tools.
    """
    tool = tools.get(call.name)
    if started and (tool is None or not tool.repeatable):
        return Doubt(call)
    if decision is not None and decision.kind in {"rejected", "expired"}:
        return Refuse(call, _rejection(decision, of_client=call.name in clients))
    if decision is not None and decision.kind == "answered":
        return Given(_with_arguments(call, approved), decision.result)
    if call.name in clients:
        return hand(call)
    if decision is not None:
        edited = decision.arguments if decision.kind == "edited" else None
        call = _with_arguments(call, edited if edited is not None else approved)
    if tool is None:
        return Refuse(call, error_info(ToolUnknown(call.name, [*tools, *clients])))
    return replan(call, tool, settled=decision is not None or started)


def replan(call: ToolCall, tool: Tool, *, settled: bool, arguments: str | None = None) -> Plan:
    """Decide about a call of a tool that exists, with other arguments if there are any."""
    call = _with_arguments(call, arguments)
    try:
        return Run(call, tool, tool.parse(call.arguments), settled)
    except ToolFailed as failure:
        return Refuse(call, error_info(failure))


def hand(call: ToolCall, *, arguments: str | None = None) -> Hand | Refuse:
    """Decide about a call of a client's tool, with other arguments if there are any.

    What the arguments mean is for the client to say; that they are a JSON object is made sure here.
    """
    call = _with_arguments(call, arguments)
    try:
        json_object(call.arguments, call.name)
    except ToolFailed as failure:
        return Refuse(call, error_info(failure))
    return Hand(call)


def _with_arguments(call: ToolCall, arguments: str | None) -> ToolCall:
    return call if arguments is None else call.model_copy(update={"arguments": arguments})


def _rejection(decision: Decision, *, of_client: bool) -> ErrorInfo:
    if of_client:
        by_default = "the client did not carry out this call"
        return ErrorInfo(code="rejected", message=decision.message or by_default)
    if decision.kind == "expired":
        return ErrorInfo(code="rejected", message="nobody approved this call in time")
    said = f": {decision.message}" if decision.message else ""
    return ErrorInfo(code="rejected", message=f"a human rejected this call{said}")
