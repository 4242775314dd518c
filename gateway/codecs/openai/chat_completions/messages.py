"""Reading the messages of a request: what was said before, and what is said now. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.codecs.openai.error import InvalidRequest
from runtime.history import check_imported
from runtime.messages import Message, ToolCall

__all__ = ["Conversation", "read_messages"]

_TOLD = ("system", "developer")
_SPOKEN = ("user", "assistant", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation that goes on.

    Attributes:
        instructions: What `system` and `developer` said, wherever it stood.
        history: What was said before.
        text: What the user says now.
        result: Or what came of the last of the calls that the history ends with:
            `{"call_id", "content"}`.
    """

    instructions: str | None
    history: tuple[Message, ...]
    text: str | None = None
    result: Mapping[str, str] | None = None


def read_messages(given: Any) -> Conversation:
    """Read `messages`.

    Raises:
        InvalidRequest: If there is nothing to answer, or something cannot be taken; it says where.
    """
    if not isinstance(given, list) or not given:
        raise InvalidRequest("`messages`: must be a list with something in it", param="messages")
    told: list[str] = []
    spoken: list[Message] = []
    for place, message in enumerate(given):
        at = f"messages[{place}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role in _TOLD:
            told.append(_text(message.get("content"), f"{at}.content"))
        elif role in _SPOKEN:
            spoken.append(_message(message, at, spoken))
        else:
            known = ", ".join((*_TOLD, *_SPOKEN))
            raise InvalidRequest(f"`{at}.role`: is one of {known}", param=f"{at}.role")
    instructions = "\n\n".join(text for text in told if text) or None
    return _divided(instructions, spoken)


def _divided(instructions: str | None, spoken: list[Message]) -> Conversation:
    """Divide what was said before from what is said now."""
    last = spoken[-1] if spoken else None
    if last is None or last.role == "assistant":
        raise InvalidRequest(
            "`messages`: the last message must be the user's, or a tool's result", param="messages"
        )
    history = tuple(spoken[:-1])
    try:
        check_imported(history)
    except ValueError as error:
        why = f"`messages`, those with instructions not counted: {error}"
        raise InvalidRequest(why, param="messages") from error
    if last.role == "user":
        return Conversation(instructions=instructions, history=history, text=last.content)
    if missing := _open_calls(spoken):
        raise InvalidRequest(
            f"`messages`: the calls {', '.join(missing)} have no tool message", param="messages"
        )
    result = {"call_id": last.tool_call_id or "", "content": last.content}
    return Conversation(instructions=instructions, history=history, result=result)


def _open_calls(spoken: list[Message]) -> list[str]:
    """Return the calls of the last assistant message that no message after it answers."""
    answered: set[str | None] = set()
    for message in reversed(spoken):
        if message.role != "tool":
            return [call.id for call in message.tool_calls if call.id not in answered]
        answered.add(message.tool_call_id)
    return []


# --- one message -------------------------------------------------------------------------------


def _message(message: dict[str, Any], at: str, before: list[Message]) -> Message:
    content = message.get("content")
    role = message["role"]
    if role == "user":
        return Message(role="user", content=_text(content, f"{at}.content"))
    if role == "tool":
        call_id = message.get("tool_call_id")
        if not isinstance(call_id, str) or call_id not in _open_calls(before):
            raise InvalidRequest(
                f"`{at}.tool_call_id`: {call_id!r} is no call of the message before that waits for "
                "a result",
                param=f"{at}.tool_call_id",
            )
        text = _text(content, f"{at}.content")
        return Message(role="tool", content=text, tool_call_id=call_id)
    calls = _calls(message.get("tool_calls"), f"{at}.tool_calls")
    if content is None:
        content = message.get("refusal") or ""
    return Message(role="assistant", content=_text(content, f"{at}.content"), tool_calls=calls)


def _text(content: Any, at: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"`{at}`: must be a text or a list of parts", param=at)
    return "".join(_part(part, f"{at}[{place}]") for place, part in enumerate(content))


def _part(part: Any, at: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in {"text", "refusal"}:
        raise InvalidRequest(
            f"`{at}`: parts of type {kind!r} cannot be taken, only text",
            param=at,
            code="unsupported_value",
        )
    text = part.get(kind)
    if not isinstance(text, str):
        raise InvalidRequest(f"`{at}.{kind}`: must be a text", param=f"{at}.{kind}")
    return text


def _calls(given: Any, at: str) -> tuple[ToolCall, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise InvalidRequest(f"`{at}`: must be a list", param=at)
    return tuple(_call(call, f"{at}[{place}]") for place, call in enumerate(given))


def _call(call: Any, at: str) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise InvalidRequest(f"`{at}`: must be a call of a function", param=at)
    values = (call.get("id"), function.get("name"), function.get("arguments"))
    if not all(isinstance(value, str) for value in values):
        raise InvalidRequest(
            f"`{at}`: `id`, `function.name` and `function.arguments` must be texts", param=at
        )
    call_id, name, arguments = values
    return ToolCall(id=call_id, name=name, arguments=arguments)
