"""What goes wrong with tools; the model is told."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.errors.base import RuntimeFault

__all__ = ["ArgumentsInvalid", "ToolFailed", "ToolTimedOut", "ToolUnknown"]


class ToolFailed(RuntimeFault):
    """A tool reports a failure to the model; raise it from a tool with a text for the model."""

    code = "tool_failed"


class ToolUnknown(ToolFailed):
    """The model called a tool that the agent does not have."""

    code = "tool_unknown"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = sorted(known)
        there_are = (
            f"the tools are: {', '.join(self.known)}" if self.known else "there are no tools"
        )
        super().__init__(f"there is no tool {name!r}; {there_are}")


class ArgumentsInvalid(ToolFailed):
    """The arguments of a call are no JSON object, or do not fit the tool's parameters."""

    code = "tool_arguments_invalid"


class ToolTimedOut(ToolFailed):
    """The tool was not done within its `limit` in seconds."""

    code = "tool_timeout"

    def __init__(self, name: str, limit: float) -> None:
        super().__init__(f"the tool {name!r} was not done within {limit:g} seconds")
        self.name = name
        self.limit = limit
