"""What `POST /v1/responses` asks for, read from its body. Pure.

What is harmless to leave out is taken and left out; what would change the meaning of the request and
cannot be done is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from gateway.commands import explain
from gateway.frontends.openai.errors import InvalidRequest
from runtime.messages import ClientTool

__all__ = ["Answered", "Called", "Decided", "Piece", "Referred", "Said", "Wanted", "read_request"]


@dataclass(frozen=True, slots=True)
class Said:
    """Something that somebody said. `system` stands for developers, too."""

    role: Literal["system", "user", "assistant"]
    text: str
    item_id: str | None = None


@dataclass(frozen=True, slots=True)
class Called:
    """A call that a model made; `output` is there where the server made it, as its own."""

    call_id: str
    name: str
    arguments: str
    item_id: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a call that the client made."""

    call_id: str
    output: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What a human says to a request for approval."""

    request_id: str
    approve: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Referred:
    """An item that is only named, and one that says nothing to a model.

    Attributes:
        must_be_found: It stands for what it names.
    """

    item_id: str | None
    must_be_found: bool = False


Piece = Said | Called | Answered | Decided | Referred


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request for a response.

    Attributes:
        model: The agent; default: the session's, or the server's first.
        pieces: What was said and done, in order.
        previous: The response that it goes on from.
        options: Run options.
    """

    model: str | None
    pieces: tuple[Piece, ...]
    stream: bool = False
    background: bool = False
    previous: str | None = None
    instructions: str | None = None
    tools: tuple[ClientTool, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


_HARMLESS = frozenset(
    {
        "include",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "truncation",
        "user",
    }
)
"""What may be asked and changes nothing here. `store` is among them: a session is its log, and is
kept whatever the request says."""

_READ = frozenset(
    {
        "background",
        "input",
        "instructions",
        "max_output_tokens",
        "metadata",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "stream",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
    }
)
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "parallel_tool_calls": (True,),
    "tool_choice": ("auto",),
    "top_p": (1,),
    "top_logprobs": (0,),
}
"""The values that ask for nothing, of fields that cannot be done."""


def read_request(body: Mapping[str, Any]) -> Wanted:
    """Read the body.

    Raises:
        InvalidRequest: If it asks for what is not known or cannot be done; it names the field.
    """
    for name, value in body.items():
        if name not in _READ | _HARMLESS and value is not None:
            raise InvalidRequest(
                f"`{name}` is not supported here", param=name, code="unsupported_parameter"
            )
    for name, neutral in _NEUTRAL.items():
        if body.get(name) is not None and body[name] not in neutral:
            raise InvalidRequest(
                f"`{name}` cannot be set here", param=name, code="unsupported_parameter"
            )
    _check_text(body.get("text"))
    return Wanted(
        model=_text(body, "model"),
        pieces=_pieces(body.get("input")),
        stream=_flag(body, "stream"),
        background=_flag(body, "background"),
        previous=_text(body, "previous_response_id"),
        instructions=_text(body, "instructions"),
        tools=_tools(body.get("tools")),
        options=_options(body),
        metadata=_metadata(body.get("metadata")),
    )


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if not isinstance(value, str | None):
        raise InvalidRequest(f"`{name}` must be a string", param=name)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise InvalidRequest(f"`{name}` must be true or false", param=name)
    return value or False


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    asked = {"temperature": body.get("temperature"), "max_tokens": body.get("max_output_tokens")}
    return {name: value for name, value in asked.items() if value is not None}


def _check_text(value: Any) -> None:
    """An agent's own output type decides the shape of its answers."""
    if value is None:
        return
    shape = value.get("format") if isinstance(value, Mapping) else value
    if shape is not None and (not isinstance(shape, Mapping) or shape.get("type") != "text"):
        message = "the agent decides the shape of its answers: only the format `text` can be asked"
        raise InvalidRequest(message, param="text.format", code="unsupported_parameter")


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise InvalidRequest("`metadata` must be an object of strings", param="metadata")
    return dict(value)


def _tools(value: Any) -> tuple[ClientTool, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidRequest("`tools` must be a list", param="tools")
    return tuple(_tool(tool, f"tools[{place}]") for place, tool in enumerate(value))


def _tool(value: Any, param: str) -> ClientTool:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind != "function":
        message = f"only tools of type `function` can be given, not {kind!r}"
        raise InvalidRequest(message, param=f"{param}.type", code="unsupported_tool")
    given = {name: value[name] for name in ("name", "description", "parameters") if value.get(name)}
    try:
        return ClientTool.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(explain(error), param=param) from error


# --- input -----------------------------------------------------------------------------------


def _pieces(value: Any) -> tuple[Piece, ...]:
    if isinstance(value, str):
        return (Said("user", value),)
    if not isinstance(value, list) or not value:
        raise InvalidRequest("`input` must be a string or a list of items", param="input")
    return tuple(_piece(item, f"input[{place}]") for place, item in enumerate(value))


def _piece(item: Any, param: str) -> Piece:
    if not isinstance(item, Mapping):
        raise InvalidRequest("an input item must be an object", param=param)
    kind = item.get("type", "message")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        message = f"input items of type {kind!r} are not supported here"
        raise InvalidRequest(message, param=f"{param}.type", code="unsupported_input")
    return read(item, param)


def _called(item: Mapping[str, Any], param: str) -> Called:
    name, arguments = _of(item, "name", param), _of(item, "arguments", param)
    return Called(_of(item, "call_id", param), name, arguments, item.get("id"))


def _called_there(item: Mapping[str, Any], param: str) -> Called:
    identifier, output = _of(item, "id", param), item.get("output")
    told = output if isinstance(output, str) else orjson.dumps(item.get("error")).decode()
    name, arguments = _of(item, "name", param), _of(item, "arguments", param)
    return Called(identifier, name, arguments, identifier, output=told)


def _answered(item: Mapping[str, Any], param: str) -> Answered:
    return Answered(_of(item, "call_id", param), _joined(item.get("output"), f"{param}.output"))


def _decided(item: Mapping[str, Any], param: str) -> Decided:
    approve, reason = item.get("approve"), item.get("reason")
    if not isinstance(approve, bool):
        raise InvalidRequest("`approve` must be true or false", param=f"{param}.approve")
    if not isinstance(reason, str | None):
        raise InvalidRequest("`reason` must be a string", param=f"{param}.reason")
    return Decided(_of(item, "approval_request_id", param), approve, reason)


def _silent(item: Mapping[str, Any], param: str) -> Referred:
    return Referred(item.get("id"))


def _referred(item: Mapping[str, Any], param: str) -> Referred:
    return Referred(_of(item, "id", param), must_be_found=True)


def _of(item: Mapping[str, Any], name: str, param: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a string", param=f"{param}.{name}")
    return value


_ROLES: Mapping[Any, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def _said(item: Mapping[str, Any], param: str) -> Said:
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequest(f"the role {role!r} is not known", param=f"{param}.role")
    text = _joined(item.get("content"), f"{param}.content")
    return Said(_ROLES[role], text, item.get("id"))


_TEXT_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def _joined(content: Any, param: str) -> str:
    """Return the text of a string or of parts, which are text alone."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest("must be a string or a list of parts", param=param)
    texts: list[str] = []
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        text = part.get(_TEXT_PARTS[kind]) if kind in _TEXT_PARTS else None
        if not isinstance(text, str):
            message = f"only parts of text are supported here, not {kind!r}"
            raise InvalidRequest(message, param=f"{param}[{place}]", code="unsupported_content")
        texts.append(text)
    return "".join(texts)


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], Piece]] = {
    "message": _said,
    "function_call": _called,
    "function_call_output": _answered,
    "item_reference": _referred,
    "mcp_approval_request": _silent,
    "mcp_approval_response": _decided,
    "mcp_call": _called_there,
    "mcp_list_tools": _silent,
    "reasoning": _silent,
}
