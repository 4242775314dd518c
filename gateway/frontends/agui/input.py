"""What an AG-UI client asks: its `RunAgentInput` in our words. Pure.

Clients send the whole conversation with each request. What is new in it is its end: what the user
says now, or what came of calls of the client's own tools.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from ag_ui.core import (
    AssistantMessage,
    ContentPart,
    Context,
    DeveloperMessage,
    ResumeEntry,
    RunAgentInput,
    SystemMessage,
    TextPart,
    Tool,
    ToolMessage,
    UserMessage,
)
from ag_ui.core import Message as AguiMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.commands import ApprovalDecision, explain
from gateway.errors import CommandMalformed
from gateway.sessions.snapshot import ApprovalView
from runtime.messages import ClientTool, Message, ToolCall

__all__ = [
    "Asked",
    "Place",
    "Said",
    "command_id_of",
    "decision_of",
    "is_modern",
    "read",
    "read_place",
]

_ID = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_VERSION = re.compile(r"(\d+)\.\d+", re.ASCII)


class _Wishes(BaseModel):
    """`forwardedProps.tidegate`."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    on_disconnect: Literal["continue", "cancel"] = Field("continue", alias="onDisconnect")
    options: dict[str, Any] = Field(default_factory=dict)


class _Place(BaseModel):
    threadId: str  # noqa: N815 - the protocol's name
    runId: str | None = None  # noqa: N815 - the protocol's name
    protocolVersion: str | None = None  # noqa: N815 - the protocol's name


@dataclass(frozen=True, slots=True)
class Place:
    """Which conversation a request is about, and which run if it says so."""

    thread_id: str
    run_id: str | None
    modern: bool


@dataclass(frozen=True, slots=True)
class Said:
    """What the user says now."""

    text: str
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to run.

    Attributes:
        place: Which conversation, and which run.
        said: What the user says now; None if the conversation ends otherwise.
        results: What came of tool calls, by call, of the whole conversation.
        answers: The calls whose results it ends with.
        resume: Answers to interrupts.
        history: What was said before what is new.
        instructions: Of the application: system messages and context.
        tools: The client's.
        options: Run options.
        cancels: Whether the run ends with the connection.
    """

    place: Place
    said: Said | None
    results: Mapping[str, str]
    answers: tuple[str, ...]
    resume: tuple[ResumeEntry, ...]
    history: tuple[Message, ...]
    instructions: str | None
    tools: tuple[ClientTool, ...]
    options: Mapping[str, Any]
    cancels: bool


def is_modern(version: str | None) -> bool:
    """Tell whether a client speaks version 1.0 of the protocol, or a later one."""
    match = _VERSION.fullmatch(version or "")
    return match is not None and int(match[1]) >= 1


def command_id_of(run_id: str) -> str:
    """Return the id of the command by which a client begins a run: its own id of the run."""
    if _ID.fullmatch(run_id) is not None:
        return run_id
    return f"agui_{hashlib.sha256(run_id.encode(errors='replace')).hexdigest()}"


def read_place(body: Mapping[str, Any]) -> Place:
    """Read what a request to join or to stop is about; other fields are not looked at.

    Raises:
        CommandMalformed: If it does not say.
    """
    try:
        place = _Place.model_validate(body)
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error
    return Place(place.threadId, place.runId, is_modern(place.protocolVersion))


def read(body: Mapping[str, Any]) -> Asked:
    """Read a request to run. Fields that are not known are passed over.

    Raises:
        CommandMalformed: If it is none, or has nothing new in it; the text says what is wrong.
    """
    try:
        given = RunAgentInput.model_validate({**body, "messages": _plain(body.get("messages"))})
    except ValidationError as error:
        raise CommandMalformed(explain(error)) from error
    wishes = _wishes(given.forwarded_props)
    spoken = [m for m in given.messages if isinstance(m, _SPOKEN)]
    last = spoken[-1] if spoken else None
    answers = _trailing(spoken)
    said = _said(last) if isinstance(last, UserMessage) else None
    if said is None and not answers and not given.resume:
        raise CommandMalformed(
            "`messages`: there is nothing to answer: the last message is neither a user's nor a "
            "tool's, and nothing is resumed"
        )
    return Asked(
        place=Place(given.thread_id, given.run_id, is_modern(given.protocol_version)),
        said=said,
        results={m.tool_call_id: _text(m.content) for m in spoken if isinstance(m, ToolMessage)},
        answers=answers,
        resume=tuple(given.resume or ()),
        history=_history(spoken[:-1]),
        instructions=_instructions(given.messages, given.context or ()),
        tools=tuple(_tool(tool) for tool in given.tools or ()),
        options=wishes.options,
        cancels=wishes.on_disconnect == "cancel",
    )


_SPOKEN = (UserMessage, AssistantMessage, ToolMessage)
_SPOKEN_ROLES = frozenset({"user", "assistant", "tool"})
_ROLES = _SPOKEN_ROLES | {"system", "developer", "activity", "reasoning"}


def _plain(messages: Any) -> Any:
    """Leave out what no agent here reads: messages of unknown roles, parts that are no text.

    Raises:
        CommandMalformed: If what is new has such parts: nobody would see that they are missing.
    """
    if not isinstance(messages, list):
        return messages
    known = [m for m in messages if not isinstance(m, dict) or m.get("role") in _ROLES]
    spoken = [m for m in known if isinstance(m, dict) and m.get("role") in _SPOKEN_ROLES]
    if spoken and spoken[-1]["role"] == "user" and _text_only(spoken[-1]) is not spoken[-1]:
        raise CommandMalformed("`messages`: the agents here read text, and the message has more")
    return [_text_only(message) for message in known]


def _text_only(message: Any) -> Any:
    """Return a message without the parts that are no text; the same one if it has none."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    kept = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return message if len(kept) == len(content) else {**message, "content": kept}


def _wishes(forwarded: Any) -> _Wishes:
    ours = forwarded.get("tidegate") if isinstance(forwarded, dict) else None
    try:
        return _Wishes.model_validate(ours or {})
    except ValidationError as error:
        raise CommandMalformed(f"forwardedProps.tidegate: {explain(error)}") from error


def _said(message: UserMessage) -> Said:
    return Said(_text(message.content), _id(message.id))


def _trailing(messages: Sequence[AguiMessage]) -> tuple[str, ...]:
    """Return the calls whose results the conversation ends with."""
    calls: list[str] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        calls.append(message.tool_call_id)
    return tuple(reversed(calls))


def _text(content: str | Sequence[ContentPart]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


def _id(text: str) -> str | None:
    return text if _ID.fullmatch(text) is not None else None


def _tool(tool: Tool) -> ClientTool:
    parameters = tool.parameters if isinstance(tool.parameters, dict) else None
    try:
        return ClientTool(
            name=tool.name,
            description=tool.description,
            parameters=parameters or {"type": "object"},
        )
    except ValidationError as error:
        raise CommandMalformed(f"`tools`: {tool.name!r}: {explain(error)}") from error


def _instructions(messages: Iterable[AguiMessage], context: Iterable[Context]) -> str | None:
    parts = [m.content for m in messages if isinstance(m, SystemMessage | DeveloperMessage)]
    parts += [f"{item.description}: {item.value}" for item in context]
    return "\n\n".join(part for part in parts if part.strip()) or None


def _history(messages: Iterable[AguiMessage]) -> tuple[Message, ...]:
    """Return a conversation that was had elsewhere, without what contradicts itself."""
    history: list[Message] = []
    ids: set[str | None] = set()
    made: set[str] = set()
    answered: set[str] = set()
    for message in messages:
        own = _id(message.id)
        as_ours = _message(message, None if own in ids else own, made)
        ids.add(own)
        call_id = as_ours.tool_call_id if as_ours is not None else None
        if as_ours is None or (
            call_id is not None and (call_id in answered or call_id not in made)
        ):
            continue
        if call_id is not None:
            answered.add(call_id)
        made |= {call.id for call in as_ours.tool_calls}
        history.append(as_ours)
    return tuple(history)


def _message(message: AguiMessage, own: str | None, made: Collection[str]) -> Message | None:
    """Return a message as ours, without the calls that were `made` before."""
    match message:
        case UserMessage():
            return Message(role="user", content=_text(message.content), message_id=own)
        case ToolMessage(tool_call_id=call_id):
            text = _text(message.content)
            return Message(role="tool", content=text, message_id=own, tool_call_id=call_id)
        case AssistantMessage():
            calls = {call.id: call.function for call in message.tool_calls or ()}
            return Message(
                role="assistant",
                content=message.content or "",
                message_id=own,
                tool_calls=tuple(
                    ToolCall(id=id_, name=call.name, arguments=call.arguments)
                    for id_, call in calls.items()
                    if id_ not in made
                ),
            )
        case _:
            return None


# --- answers to interrupts ---------------------------------------------------------------------


def decision_of(entry: ResumeEntry, asked: ApprovalView | None) -> ApprovalDecision:
    """Return what an answer to an interrupt decides.

    `cancelled` rejects. A payload is `true`, `false` or `{approved, editedArgs?, value?, message?}`;
    for a node of a graph any other value is what it goes on with.

    Args:
        entry: The answer.
        asked: What was asked, if it still waits.

    Raises:
        CommandMalformed: If the payload says neither yes nor no.
    """
    payload = entry.payload
    details = payload if isinstance(payload, dict) else {}
    message = details.get("message") or details.get("reason")
    text = message if isinstance(message, str) else None
    if entry.status == "cancelled":
        return _decided(entry, "reject", message=text)
    if asked is not None and asked.wants == "result":
        return _decided(entry, "answer", result=payload)
    approved = details.get("approved") if isinstance(payload, dict) else payload
    if isinstance(approved, bool):
        edited = details.get("editedArgs", details.get("value"))
        if not approved:
            return _decided(entry, "reject", message=text)
        if edited is None:
            return _decided(entry, "approve", message=text)
        return _decided(entry, "edit", message=text, arguments=_json(edited))
    if asked is not None and asked.node is not None and payload is not None:
        return _decided(entry, "edit", arguments=_json(payload))
    raise CommandMalformed(
        f"`resume`: the payload for {entry.interrupt_id!r} has no `approved`: true or false"
    )


def _decided(entry: ResumeEntry, decision: str, **fields: Any) -> ApprovalDecision:
    known = {name: value for name, value in fields.items() if value is not None}
    if decision == "answer":
        known = fields
    return ApprovalDecision.model_validate(
        {"approval_id": entry.interrupt_id, "decision": decision, **known}
    )


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
