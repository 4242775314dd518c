"""Making tools: of a typed function, or of a function and a description of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict, Unpack, overload

from runtime.retry import RetryPolicy
from runtime.tools.context import ToolContext
from runtime.tools.guardrail import Guardrail
from runtime.tools.signature import Params, signature, whole
from runtime.tools.tool import NeedsApproval, Tool

__all__ = ["ToolOptions", "tool"]


class ToolOptions(TypedDict, total=False):
    """What may be said about a tool beside its function; the fields of `Tool` with these names."""

    needs_approval: NeedsApproval
    idempotent: bool
    timeout: float | None
    retry: RetryPolicy | None
    input_guardrails: Sequence[Guardrail]
    output_guardrails: Sequence[Guardrail]


@overload
def tool(
    function: Callable[..., Any],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptions],
) -> Tool: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None, **options: Unpack[ToolOptions]
) -> Callable[[Callable[..., Any]], Tool]: ...


@overload
def tool(
    *,
    name: str,
    description: str | None = None,
    params: Params,
    execute: Callable[[ToolContext, Any], Any],
    **options: Unpack[ToolOptions],
) -> Tool: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    params: Params | None = None,
    execute: Callable[[ToolContext, Any], Any] | None = None,
    **options: Unpack[ToolOptions],
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a typed function: `@tool`, `@tool(...)` or `tool(function, ...)`.

    Or, where the parameters are known apart from the function: `tool(name=..., description=...,
    params=..., execute=...)`.

    Args:
        function: Async or sync, with a type on each parameter. A parameter of type `ToolContext`
            is given the call's context and is not shown to the model.
        name: Instead of the function's own name.
        description: Instead of the docstring.
        params: A pydantic model of the parameters, or their JSON Schema.
        execute: Called with the context and the arguments: an instance of the model, or a `dict`.
        options: See `Tool`.

    Raises:
        TypeError: If the function's parameters cannot be given as JSON.
        ValueError: If the name is not one that providers take.
    """

    def make(function: Callable[..., Any]) -> Tool:
        own_name: str = getattr(function, "__name__", repr(function)) if name is None else name
        if params is None:
            read = signature(function, own_name)
        else:
            read = whole(function, params, own_name)
        return Tool(
            function=function,
            signature=read,
            name=own_name,
            description=read.description if description is None else description,
            **options,
        )

    if (params is None) is not (execute is None):
        raise TypeError(f"tool {name!r}: params= and execute= belong together")
    given = function if execute is None else execute
    return make if given is None else make(given)
