"""What a tool is: a function that a model may call, and what holds for its calls."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from runtime.errors import ArgumentsInvalid, ToolTimedOut
from runtime.plain import plain
from runtime.retry import RetryPolicy
from runtime.runnable import Runnable, ToolInfo
from runtime.tools.call import call
from runtime.tools.context import ToolContext
from runtime.tools.guardrail import Guardrail
from runtime.tools.signature import Signature, json_schema

__all__ = ["NeedsApproval", "Tool", "json_object"]

NeedsApproval = bool | Callable[[Any], bool | Awaitable[bool]]
"""Whether a human must agree first; a function, async or sync, is asked with the arguments of each
call (an object with the parameters as attributes)."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


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
        retry: When a call that failed is made again, with the same idempotency key. Giving one
            says that this is harmless. A call that was cut off is not made again.
        input_guardrails: Asked with the arguments before a call. If one trips, the tool is not
            run and the model is told.
        output_guardrails: Asked with the result, as JSON. If one trips, its message becomes the
            result.
        runnable: What runs when the tool is called, if that is an agent or a graph. A call that
            was interrupted then goes on where it was.
    """

    function: Callable[..., Any]
    signature: Signature
    name: str
    description: str
    needs_approval: NeedsApproval = False
    idempotent: bool = False
    timeout: float | None = None
    retry: RetryPolicy | None = None
    input_guardrails: Sequence[Guardrail] = ()
    output_guardrails: Sequence[Guardrail] = ()
    runnable: Runnable | None = None

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

    @property
    def repeatable(self) -> bool:
        """Whether a call that had started may simply be made again."""
        return self.idempotent or self.runnable is not None

    def parse(self, arguments: str) -> Any:
        """Return the arguments of a call, checked.

        Args:
            arguments: JSON text as the model wrote it; none at all counts as `{}`.

        Raises:
            ArgumentsInvalid: If they are no JSON object or do not fit; the text tells the model
                what to change.
        """
        values = json_object(arguments, self.name)
        try:
            return self.signature.check(values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
            raise ArgumentsInvalid(
                f"the arguments of {self.name!r} do not fit: {problems}"
            ) from error

    async def run(self, arguments: Any, context: ToolContext) -> Any:
        """Run the tool once and return its result as plain JSON data.

        Args:
            arguments: What `parse` returned.
            context: Of this attempt; the tool speaks through it.

        Raises:
            ToolFailed: If the tool says so, or was not done within its time limit.
            BaseException: Whatever the tool raises, or what made reporting fail.
            asyncio.CancelledError: Soon after the task is cancelled; the thread of a sync tool is
                left behind and its result dropped.
        """
        clock = asyncio.timeout(self.timeout)
        try:
            async with clock:
                result = await call(self.signature.bind(self.function, arguments, context), context)
        except TimeoutError as error:
            if self.timeout is not None and clock.expired():
                raise ToolTimedOut(self.name, self.timeout) from error
            raise
        return plain(result, f"tool {self.name!r}")


def json_object(arguments: str, name: str) -> dict[str, Any]:
    """Return the arguments of a call of the tool `name`, as far as JSON goes.

    Args:
        arguments: JSON text as the model wrote it; none at all counts as `{}`.
        name: The tool's.

    Raises:
        ArgumentsInvalid: If they are no JSON object.
    """
    try:
        values = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError) as error:
        raise ArgumentsInvalid(f"the arguments of {name!r} are no valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ArgumentsInvalid(f"the arguments of {name!r} must be a JSON object")
    return values
