"""What a run is asked: input and options, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from runtime.errors import OptionsRefused, ToolsRefused
from runtime.messages import ClientTool, Message
from runtime.runnable import ChecksTools, Runnable, RunOptions

__all__ = ["Input", "Options", "checked_options", "checked_tools", "conversation"]

Input = str | Message | Sequence[Message]
"""What a user says: the text of a message, a message, or several."""

Options = RunOptions | Mapping[str, Any] | None
"""Options for one run: by name or by camelCase alias."""


def conversation(input: Input) -> tuple[Message, ...]:
    """Return an input as messages.

    Raises:
        TypeError: If it is no message.
        ValueError: If there is none.
    """
    if isinstance(input, str):
        return (Message(role="user", content=input),)
    messages = (input,) if isinstance(input, Message) else tuple(input)
    for message in messages:
        if not isinstance(message, Message):
            raise TypeError(f"{message!r} is no message")
    if not messages:
        raise ValueError("there is no input")
    return messages


def checked_options(runnable: Runnable, *given: Options) -> RunOptions:
    """Return options as the runnable's own type; of those given, later ones win.

    What is not set stays unset, and is then not sent to the provider.

    Raises:
        OptionsRefused: If one is unknown or out of range; the text names it and those that there
            are, and the cause is pydantic's `ValidationError`.
    """
    kind = runnable.options_type
    given = tuple(options for options in given if options is not None)
    if len(given) == 1 and type(given[0]) is kind:
        return given[0]
    values: dict[str, Any] = {}
    for options in given:
        if isinstance(options, RunOptions):
            values |= options.model_dump(exclude_unset=True)
        elif options is not None:
            aliases = {f.alias: name for name, f in kind.model_fields.items() if f.alias}
            values |= {aliases.get(name, name): value for name, value in options.items()}
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, told['loc']))}: {_problem(told)}"
            for told in error.errors(include_url=False, include_input=False)
        )
        known = ", ".join(sorted(kind.model_fields))
        raise OptionsRefused(
            f"{runnable.name!r} does not take these options: {problems}; it takes: {known}"
        ) from error


def checked_tools(runnable: Runnable, tools: Sequence[ClientTool]) -> tuple[ClientTool, ...]:
    """Return tools of a client's that a run of `runnable` may have.

    Raises:
        ToolsRefused: If it takes none, or two have one name, or a name is that of a tool of its
            own.
    """
    names = [tool.name for tool in tools]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ToolsRefused(f"two tools of the client's have the name {twice[0]!r}")
    if isinstance(runnable, ChecksTools):
        runnable.check_tools(tools)
    return tuple(tools)


def _problem(told: Any) -> str:
    return "there is no such option" if told["type"] == "extra_forbidden" else str(told["msg"])
