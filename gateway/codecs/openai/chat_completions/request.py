"""Reading a request for a chat completion. Pure.

What would change the answer and cannot be had is refused, by name. What only steers a model (`top_p`,
`seed`, `frequency_penalty`, `reasoning_effort`, ...) is passed over, as is any field that is not
known: agents bring their models along, and many clients send these with every request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from gateway.codecs.openai.chat_completions.messages import Conversation, read_messages
from gateway.codecs.openai.error import InvalidRequest
from gateway.commands import explain
from runtime.messages import ClientTool

__all__ = ["ChatRequest", "read_request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What is asked for.

    Attributes:
        model: The agent.
        conversation: What was said.
        stream: Whether the answer is streamed.
        include_usage: Whether the stream tells the tokens.
        tools: The client's.
        options: Run options.
        metadata: For whoever looks at the session.
    """

    model: str
    conversation: Conversation
    stream: bool = False
    include_usage: bool = False
    tools: tuple[ClientTool, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_request(body: Mapping[str, Any]) -> ChatRequest:
    """Read the body of a request.

    Raises:
        InvalidRequest: If it is wrong, or asks for what cannot be had; it names the field.
    """
    for name, (is_taken, why) in _ONLY.items():
        if body.get(name) is not None and not is_taken(body[name]):
            raise InvalidRequest(f"`{name}`: {why}", param=name, code="unsupported_value")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model`: give the name of an agent", param="model")
    stream = _typed(body, "stream", bool) or False
    streaming = _typed(body, "stream_options", dict) or {}
    return ChatRequest(
        model=model,
        conversation=read_messages(body.get("messages")),
        stream=stream,
        include_usage=stream and streaming.get("include_usage") is True,
        tools=_tools(body),
        options=_options(body),
        metadata=_typed(body, "metadata", dict) or {},
    )


def _typed(body: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        expected = {bool: "true or false", dict: "an object", list: "a list"}[kind]
        raise InvalidRequest(f"`{name}`: must be {expected}", param=name, code="invalid_type")
    return value


# --- what can be had in one way only ---------------------------------------------------------

_Only = tuple[Callable[[Any], bool], str]

_ONLY: Mapping[str, _Only] = {
    "n": (lambda value: value == 1, "there is one answer to a request"),
    "logprobs": (lambda value: value is False, "agents tell no log probabilities"),
    "top_logprobs": (lambda value: value == 0, "agents tell no log probabilities"),
    "audio": (lambda value: False, "answers are text"),
    "modalities": (lambda value: value == ["text"], 'answers are text: `["text"]`'),
    "response_format": (
        lambda value: isinstance(value, dict) and value.get("type") == "text",
        "answers are text; an agent whose answers have a shape says so itself",
    ),
    "functions": (lambda value: value == [], "use `tools`"),
    "function_call": (lambda value: value in ("auto", "none"), "use `tools`"),
    "web_search_options": (lambda value: False, "whether the agent searches is up to the agent"),
    "tool_choice": (
        lambda value: value in ("auto", "none"),
        "the agent chooses by itself: `auto`, or `none` to offer it no tools of yours",
    ),
}


# --- options -----------------------------------------------------------------------------------


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    limits = (body.get("max_completion_tokens"), body.get("max_tokens"))
    options = {
        "temperature": body.get("temperature"),
        "max_tokens": next((limit for limit in limits if limit is not None), None),
        "stop_sequences": _stop(body.get("stop")),
    }
    return {name: value for name, value in options.items() if value is not None}


def _stop(stop: Any) -> list[str] | None:
    if isinstance(stop, str):
        return [stop]
    if stop is None or (isinstance(stop, list) and all(isinstance(s, str) for s in stop)):
        return stop or None
    raise InvalidRequest("`stop`: must be a text or a list of them", param="stop")


# --- tools -------------------------------------------------------------------------------------


def _tools(body: Mapping[str, Any]) -> tuple[ClientTool, ...]:
    given = _typed(body, "tools", list) or []
    tools = tuple(_tool(tool, f"tools[{place}]") for place, tool in enumerate(given))
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidRequest(f"`tools`: {twice!r} is there twice", param="tools")
    if body.get("tool_choice") == "none":
        return ()
    if tools and body.get("parallel_tool_calls") is False:
        raise InvalidRequest(
            "`parallel_tool_calls`: how many calls it makes at once is up to the agent",
            param="parallel_tool_calls",
            code="unsupported_value",
        )
    return tools


def _tool(tool: Any, at: str) -> ClientTool:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        kind = tool.get("type") if isinstance(tool, dict) else tool
        raise InvalidRequest(
            f"`{at}.type`: tools of type {kind!r} cannot be had, only functions",
            param=f"{at}.type",
            code="unsupported_value",
        )
    function = tool.get("function")
    if not isinstance(function, dict):
        raise InvalidRequest(f"`{at}.function`: must be an object", param=f"{at}.function")
    known = {name: function.get(name) for name in ("name", "description", "parameters")}
    try:
        return ClientTool.model_validate({k: v for k, v in known.items() if v is not None})
    except ValidationError as error:
        raise InvalidRequest(
            f"`{at}.function`: {explain(error)}", param=f"{at}.function"
        ) from error
