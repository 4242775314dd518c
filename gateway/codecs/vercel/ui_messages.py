"""Messages as the AI SDK's clients keep them, and as a history. Pure."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import CommandMalformed
from runtime.history import result_text
from runtime.messages import Message, ToolCall

__all__ = ["Approval", "CallPart", "UiMessage", "message_id_for", "read_history"]

_OPEN = ConfigDict(frozen=True, extra="ignore")


class Approval(BaseModel):
    """What a tool part says about its approval."""

    model_config = _OPEN

    id: str
    approved: bool | None = None
    reason: str | None = None


class CallPart(BaseModel):
    """A tool part: `tool-<name>`, or `dynamic-tool` with the name beside it."""

    model_config = _OPEN

    type: str
    call_id: str = Field(alias="toolCallId")
    tool_name: str | None = Field(default=None, alias="toolName")
    state: str = ""
    input: Any = None
    output: Any = None
    error_text: str | None = Field(default=None, alias="errorText")
    preliminary: bool | None = None
    approval: Approval | None = None

    @property
    def name(self) -> str:
        """The tool."""
        return self.tool_name or self.type.removeprefix("tool-")


class UiMessage(BaseModel):
    """One message of a chat. Parts are looked at only where they are needed."""

    model_config = _OPEN

    id: str = ""
    role: Literal["system", "user", "assistant"]
    parts: tuple[Mapping[str, Any], ...] = ()

    def text(self) -> str:
        """Return the text of all text parts."""
        return "\n".join(_texts(self.parts))

    def calls(self) -> Iterator[CallPart]:
        """Yield the tool parts."""
        return _calls(self.parts)

    def input_text(self) -> str:
        """Return what the user says.

        Raises:
            CommandMalformed: If a part cannot be taken: it would be lost without a word.
        """
        for part in self.parts:
            if part.get("type") == "file":
                name = part.get("filename") or part.get("mediaType") or "a file"
                raise CommandMalformed(
                    f"files cannot be sent to this server, only text; take {str(name)[:100]!r} out"
                )
        return self.text()


def _texts(parts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for part in parts:
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            yield part["text"]


def _calls(parts: Iterable[Mapping[str, Any]]) -> Iterator[CallPart]:
    for part in parts:
        kind = part.get("type")
        if not isinstance(kind, str) or not (kind.startswith("tool-") or kind == "dynamic-tool"):
            continue
        try:
            yield CallPart.model_validate(part)
        except ValueError:
            raise CommandMalformed("`messages`: a tool part has no `toolCallId`") from None


# --- as a history ------------------------------------------------------------------------------

_MESSAGE_ID = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)


def message_id_for(ui_id: str) -> str:
    """Return the id under which a session keeps a user's message: the chat's own, if it can be one."""
    if _MESSAGE_ID.fullmatch(ui_id) is not None:
        return ui_id
    return f"ui_{hashlib.sha256(ui_id.encode(errors='replace')).hexdigest()[:40]}"


def read_history(messages: Iterable[UiMessage]) -> tuple[Message, ...]:
    """Return what was said before, for a session that does not know it.

    System messages are not part of it. Files are named in place of what is in them. Calls without an
    outcome are left out, and ids that come twice are told apart.
    """
    history: list[Message] = []
    message_ids: set[str] = set()
    calls: Counter[str] = Counter()
    for message in messages:
        if message.role == "user":
            message_id = message_id_for(message.id)
            named = message_id if message.id and message_id not in message_ids else None
            message_ids.add(message_id)
            text = "\n".join(_shown(message.parts))
            if text.strip():
                history.append(Message(role="user", content=text, message_id=named))
        elif message.role == "assistant":
            for step in _steps(message.parts):
                history += _step(step, calls)
    return tuple(history)


def _shown(parts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for part in parts:
        if part.get("type") == "file":
            yield f"[a file: {part.get('filename') or part.get('mediaType') or 'without a name'}]"
        else:
            yield from _texts((part,))


def _steps(parts: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Cut an assistant message into its steps; what is said after a call is a step of its own."""
    steps: list[list[Mapping[str, Any]]] = [[]]
    for part in parts:
        called = any(_calls(steps[-1]))
        says = part.get("type") == "text" and called
        if part.get("type") == "step-start" or says:
            steps.append([])
        steps[-1].append(part)
    return steps


def _step(parts: Iterable[Mapping[str, Any]], calls: Counter[str]) -> list[Message]:
    """Return an assistant message and the results of its calls."""
    parts = list(parts)
    made: list[ToolCall] = []
    results: list[Message] = []
    for call in _calls(parts):
        result = _result(call)
        if result is None:
            continue
        calls[call.call_id] += 1
        again = calls[call.call_id]
        call_id = call.call_id if again == 1 else f"{call.call_id}~{again}"
        arguments = orjson.dumps({} if call.input is None else call.input).decode()
        made.append(ToolCall(id=call_id, name=call.name, arguments=arguments))
        results.append(Message(role="tool", content=result, tool_call_id=call_id))
    text = "\n".join(_texts(parts))
    if not text and not made:
        return []
    return [Message(role="assistant", content=text, tool_calls=tuple(made)), *results]


def _result(call: CallPart) -> str | None:
    """Return what the model was told came of a call; None if nothing came of it."""
    match call.state:
        case "output-available" if not call.preliminary:
            return result_text(call.output)
        case "output-error":
            return f"error: {call.error_text or 'the tool failed'}"
        case "output-denied":
            reason = call.approval.reason if call.approval is not None else None
            return f"error: a human rejected this call{f': {reason}' if reason else ''}"
        case _:
            return None
