"""Tools: functions that a model may call."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, overload

from pydantic import BaseModel, ValidationError

from runtime.errors import ArgumentsInvalid, ToolTimedOut
from runtime.plain import plain
from runtime.runnable import ToolInfo
from runtime.tools.call import call
from runtime.tools.context import Report, ToolContext
from runtime.tools.signature import Signature, json_schema, signature

__all__ = ["NeedsApproval", "Tool", "tool"]

NeedsApproval = bool | Callable[[Any], bool]
"""Whether a human must agree first; a function is asked with the arguments of each call."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Tool:
    """A function that a model may call. Made by `tool`.

    Attributes:
        function: The function itself, async or sync; a sync one runs in a thread.
        signature: Its parameters, as a model gives them.
        name: What the model calls it.
        description: What the model is told about it.
        needs_approval: Whether a human must agree before it runs.
        idempotent: Whether it may be run again with the same idempotency key when a crash left
            its outcome unknown.
        timeout: Seconds until a call is cut off; None leaves it to the run's own limit.
    """

    function: Callable[..., Any]
    signature: Signature
    name: str
    description: str
    needs_approval: NeedsApproval = False
    idempotent: bool = False
    timeout: float | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"tool name {self.name!r}: 1 to 64 letters, digits, '_' and '-' are allowed"
            )
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"tool {self.name!r}: the timeout must be more than 0 seconds")

    @cached_property
    def info(self) -> ToolInfo:
        """The tool as models and clients see it."""
        return ToolInfo(self.name, self.description, json_schema(self.signature.arguments))

    def parse(self, arguments: str) -> BaseModel:
        """Return the arguments of a call, checked.

        Args:
            arguments: JSON text as the model wrote it; none at all counts as `{}`.

        Raises:
            ArgumentsInvalid: If they are no JSON object or do not fit; the text tells the model
                what to change.
        """
        try:
            values = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError) as error:
            raise ArgumentsInvalid(
                f"the arguments of {self.name!r} are no valid JSON: {error}"
            ) from error
        if not isinstance(values, dict):
            raise ArgumentsInvalid(f"the arguments of {self.name!r} must be a JSON object")
        try:
            return self.signature.arguments.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
            raise ArgumentsInvalid(
                f"the arguments of {self.name!r} do not fit: {problems}"
            ) from error

    def asks_approval(self, arguments: BaseModel) -> bool:
        """Tell whether a human must agree to this call. A check that fails counts as yes."""
        if not callable(self.needs_approval):
            return self.needs_approval
        try:
            return self.needs_approval(arguments)
        except Exception:
            _logger.exception("needs_approval of tool %r failed; asking a human", self.name)
            return True

    async def run(self, arguments: BaseModel, context: ToolContext, report: Report) -> Any:
        """Run the tool and return its result as plain JSON data.

        Args:
            arguments: What `parse` returned.
            context: For the tool, if it takes one.
            report: Takes what the tool reports while it runs.

        Raises:
            ToolFailed: If the tool says so, or was not done within its time limit.
            Exception: Whatever the tool raises.
            asyncio.CancelledError: At once when the task is cancelled; the thread of a sync tool
                is left behind and its result dropped.
        """
        values = {
            parameter: getattr(arguments, attribute)
            for attribute, parameter in self.signature.parameters.items()
        }
        if self.signature.context is not None:
            values[self.signature.context] = context
        clock = asyncio.timeout(self.timeout)
        try:
            async with clock:
                result = await call(partial(self.function, **values), context, report)
        except TimeoutError as error:
            if self.timeout is not None and clock.expired():
                raise ToolTimedOut(self.name, self.timeout) from error
            raise
        return plain(result, f"tool {self.name!r}")


@overload
def tool(
    function: Callable[..., Any],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    needs_approval: NeedsApproval = False,
    idempotent: bool = False,
    timeout: float | None = None,
) -> Tool: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    needs_approval: NeedsApproval = False,
    idempotent: bool = False,
    timeout: float | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    needs_approval: NeedsApproval = False,
    idempotent: bool = False,
    timeout: float | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a typed function; used as `@tool`, `@tool(...)` or `tool(function, ...)`.

    Args:
        function: Async or sync, with a type on each parameter. A parameter of type `ToolContext`
            is given the call's context and is not shown to the model.
        name: Instead of the function's own name.
        description: Instead of the docstring.
        needs_approval: Whether a human must agree before a call runs; or a function that is given
            the call's arguments (an object with the parameters as attributes) and decides.
        idempotent: Whether running it twice with the same idempotency key is harmless.
        timeout: Seconds until a call is cut off.

    Raises:
        TypeError: If the function's parameters cannot be given as JSON.
        ValueError: If the name is not one that providers take.
    """

    def make(function: Callable[..., Any]) -> Tool:
        own_name: str = getattr(function, "__name__", repr(function)) if name is None else name
        read = signature(function, own_name)
        return Tool(
            function=function,
            signature=read,
            name=own_name,
            description=read.description if description is None else description,
            needs_approval=needs_approval,
            idempotent=idempotent,
            timeout=timeout,
        )

    return make if function is None else make(function)
