"""The wire of Anthropic's Messages API: requests out, events in. Pure.

Events and blocks that are not known are passed over, as the API's authors ask for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ValidationError

from runtime.errors import ModelRefused, ModelSpokeNonsense
from runtime.messages import Message, ToolCall, Usage
from runtime.models.base import (
    Delta,
    Finish,
    ModelRequest,
    ReasoningText,
    Text,
    ToolCallFragment,
)
from runtime.models.faults import from_stream
from runtime.models.halves import Mender
from runtime.models.output_format import narrowed, without_limits
from runtime.models.sse import loaded

__all__ = ["MessageDecoder", "request_body"]

HOTTEST = 1.0
"""The API's own limit; others go up to 2."""

BEGINNING = "(The conversation begins.)"
"""Said for the user where a conversation begins with the assistant, which the API does not take."""

FORM = "Answer with one JSON value and nothing else. It has to fit this JSON Schema: "
"""Said in the instructions where the API cannot guarantee a schema."""

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""Why an answer ended, in our words; other reasons are told as they are."""


def request_body(model: str, request: ModelRequest, *, max_tokens: int) -> dict[str, Any]:
    """Return the JSON of a streaming request.

    Args:
        model: The model's name.
        request: What is asked.
        max_tokens: The limit of an answer where the request has none: the API wants one.

    Raises:
        ModelRefused: If the temperature is higher than the API takes.
    """
    options = request.options
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": options.max_tokens or max_tokens,
        "messages": _turns(request.messages),
        "stream": True,
    }
    system = [m.content for m in request.messages if m.role == "system" and m.content]
    if request.output_schema is not None:
        form = narrowed(request.output_schema)
        if form is None:  # the API would refuse it
            system.append(FORM + json.dumps(dict(request.output_schema), ensure_ascii=False))
        else:
            schema = {"type": "json_schema", "schema": without_limits(form)}
            body["output_config"] = {"format": schema}
    if system:
        body["system"] = "\n\n".join(system)
    body |= _tools(request)
    if options.temperature is not None:
        if options.temperature > HOTTEST:
            raise ModelRefused(
                f"this provider takes a temperature from 0 to 1; {options.temperature:g} was asked"
            )
        body["temperature"] = options.temperature
    # Those of white space alone are refused; they are cut on this side.
    if stops := [sequence for sequence in options.stop_sequences if sequence.strip()]:
        body["stop_sequences"] = stops
    return body


def _tools(request: ModelRequest) -> dict[str, Any]:
    if request.tools:
        return {
            "tools": [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "input_schema": dict(tool.parameters),
                }
                for tool in request.tools
            ]
        }
    called = dict.fromkeys(call.name for m in request.messages for call in m.tool_calls)
    if not called:
        return {}
    # A history with calls is taken only where tools are offered; none of these may be called.
    stubs = [{"name": name, "input_schema": {"type": "object"}} for name in called]
    return {"tools": stubs, "tool_choice": {"type": "none"}}


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the conversation as turns of user and assistant; tools answer as the user."""
    spoken = [
        (message.role == "assistant", blocks)
        for message in messages
        if message.role != "system" and (blocks := _blocks(message))
    ]
    turns: list[dict[str, Any]] = [
        {
            "role": "assistant" if assistant else "user",
            "content": [block for _, blocks in group for block in blocks],
        }
        for assistant, group in groupby(spoken, key=lambda turn: turn[0])
    ]
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": BEGINNING}]})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [
            {
                "type": "tool_result",
                "tool_use_id": _call_id(message.tool_call_id or ""),
                "content": message.content,
            }
        ]
    blocks: list[dict[str, Any]] = []
    if message.content.strip():  # a text block without text is refused
        blocks.append({"type": "text", "text": message.content})
    blocks.extend(
        {
            "type": "tool_use",
            "id": _call_id(call.id),
            "name": call.name,
            "input": _input(call),
        }
        for call in message.tool_calls
    )
    return blocks


def _call_id(call_id: str) -> str:
    """Return the id of a call, maybe of another provider, with the letters that the API takes."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", call_id)


def _input(call: ToolCall) -> dict[str, Any]:
    """Return the arguments of a call as the object that the API wants, whatever was written."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    return arguments if isinstance(arguments, dict) else {"no_json_object": call.arguments}


_KNOWN = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
)


class _Thinking(BaseModel):
    thinking_tokens: int | None = None


class _Usage(BaseModel):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: _Thinking | None = None


class _Message(BaseModel):
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None


class _Block(BaseModel):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None


class _Delta(BaseModel):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(BaseModel):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


class MessageDecoder:
    """Turns the events of one answer into deltas.

    Attributes:
        done: Whether the event that ends the answer has come.
    """

    def __init__(self) -> None:
        self.done = False
        self._reason: str | None = None
        self._message = _Message()
        self._usage: _Usage | None = None
        self._calls: dict[int, int] = {}
        self._given: dict[int, dict[str, Any]] = {}
        self._mender = Mender()

    def take(self, data: str) -> list[Delta]:
        """Return the deltas in the data of one event.

        Raises:
            ModelError: If the event reports an error.
            ModelSpokeNonsense: If it cannot be read.
        """
        raw = loaded(data)
        if raw.get("type") == "error":
            raise from_stream(raw)
        if raw.get("type") not in _KNOWN:
            return []
        try:
            event = _Event.model_validate(raw)
        except ValidationError as error:
            raise ModelSpokeNonsense("the provider sent an event that cannot be read") from error
        self._count(event.usage)
        if event.content_block is not None:
            return self._begin(event.index, event.content_block)
        if event.type == "content_block_stop":
            return self._end(event.index)
        if event.delta is not None:
            self._reason = event.delta.stop_reason or self._reason
            return self._go_on(event.index, event.delta)
        if event.message is not None:
            self._message = event.message
            self._count(event.message.usage)
        self.done = event.type == "message_stop"
        return []

    def finish(self) -> Finish:
        """Return the finish, once the stream is over.

        Raises:
            ModelSpokeNonsense: If the stream was cut before the model had finished.
        """
        if self._reason is None:
            raise ModelSpokeNonsense("the model's answer ended without a finish")
        return Finish(
            _REASONS.get(self._reason, self._reason),
            None if self._usage is None else _usage(self._usage),
            self._message.model,
            self._message.id,
        )

    def _begin(self, index: int, block: _Block) -> list[Delta]:
        if block.type == "tool_use":
            place = self._calls.setdefault(index, len(self._calls))
            self._given[index] = block.input or {}
            return [ToolCallFragment(place, block.id, block.name)]
        if block.type in {"text", "thinking"}:
            return self._go_on(index, _Delta(text=block.text, thinking=block.thinking))
        return []

    def _go_on(self, index: int, delta: _Delta) -> list[Delta]:
        deltas: list[Delta] = []
        if thinking := self._mender.mend((index, "thinking"), delta.thinking):
            deltas.append(ReasoningText(thinking))
        if text := self._mender.mend((index, "text"), delta.text):
            deltas.append(Text(text))
        if arguments := self._mender.mend((index, "arguments"), delta.partial_json):
            if index not in self._calls:
                return deltas  # of a tool that the provider itself runs
            self._given.pop(index, None)
            deltas.append(ToolCallFragment(self._calls[index], arguments=arguments))
        return deltas

    def _end(self, index: int) -> list[Delta]:
        """Return the arguments of a call that came without pieces: none, or those it began with."""
        given = self._given.pop(index, None)
        if given is None:
            return []
        return [ToolCallFragment(self._calls[index], arguments=json.dumps(given))]

    def _count(self, usage: _Usage | None) -> None:
        """Take newer counts; they are sums, and what is left out has not changed."""
        if usage is None:
            return
        before = self._usage or _Usage()
        newer = {field: value for field, value in usage if value is not None}
        self._usage = before.model_copy(update=newer)


def _usage(usage: _Usage) -> Usage:
    heard = (
        (usage.input_tokens or 0)
        + (usage.cache_creation_input_tokens or 0)
        + (usage.cache_read_input_tokens or 0)
    )
    said = usage.output_tokens or 0
    details = usage.output_tokens_details
    return Usage(
        prompt_tokens=heard,
        completion_tokens=said,
        total_tokens=heard + said,
        cache_read_tokens=usage.cache_read_input_tokens,
        reasoning_tokens=None if details is None else details.thinking_tokens,
    )
