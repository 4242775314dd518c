"""The wire of OpenAI's Responses API: requests out, events in. Pure.

Events that are not known are passed over, as the API's authors ask for.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from pydantic import BaseModel, ValidationError

from runtime.errors import ModelSpokeNonsense
from runtime.messages import Message, Usage
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
from runtime.models.output_format import guaranteed
from runtime.models.sse import loaded

__all__ = ["ResponseDecoder", "request_body"]

_INCOMPLETE = {"max_output_tokens": "length"}
"""Why an answer is not whole, in our words; other reasons are told as they are."""

_PIECES = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "summary",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "call",
}
"""Events that carry a piece, and of what."""

_WHOLES = {
    "response.output_text.done": "text",
    "response.refusal.done": "refusal",
    "response.reasoning_summary_text.done": "summary",
    "response.reasoning_text.done": "reasoning",
    "response.function_call_arguments.done": "call",
}
"""Events that carry a part once more, whole."""

_ITEMS = frozenset({"response.output_item.added", "response.output_item.done"})
_STATES = frozenset(
    {
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    }
)


def request_body(model: str, request: ModelRequest) -> dict[str, Any]:
    """Return the JSON of a streaming request."""
    options = request.options
    instructions = tuple(takewhile(lambda m: m.role == "system", request.messages))
    body: dict[str, Any] = {
        "model": model,
        "input": [
            item for message in request.messages[len(instructions) :] for item in _items(message)
        ],
        "stream": True,
        "store": False,
    }
    if instructions:
        body["instructions"] = "\n\n".join(message.content for message in instructions)
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters),
                "strict": False,  # else the API takes only schemas of the part that it guarantees
            }
            for tool in request.tools
        ]
    if options.temperature is not None:
        body["temperature"] = options.temperature
    if options.max_tokens is not None:
        body["max_output_tokens"] = options.max_tokens
    if request.output_schema is not None:
        form = guaranteed(request.output_schema, request.output_name)
        body["text"] = {"format": {"type": "json_schema", **form}}
    return body


def _items(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [
            {
                "type": "function_call_output",
                "call_id": message.tool_call_id,
                "output": message.content,
            }
        ]
    items: list[dict[str, Any]] = []
    if message.content or not message.tool_calls:
        items.append({"role": message.role, "content": message.content})
    items.extend(
        {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in message.tool_calls
    )
    return items


class _Item(BaseModel):
    type: str = ""
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class _InputDetails(BaseModel):
    cached_tokens: int | None = None


class _OutputDetails(BaseModel):
    reasoning_tokens: int | None = None


class _Usage(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(BaseModel):
    reason: str | None = None


class _Response(BaseModel):
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: dict[str, Any] | None = None
    incomplete_details: _Incomplete | None = None


class _Event(BaseModel):
    type: str
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    item: _Item | None = None
    response: _Response | None = None


_Part = tuple[str, int, int, int]
"""A part of an answer: what it is, and the three numbers that the API gives it."""


class ResponseDecoder:
    """Turns the events of one answer into deltas.

    Attributes:
        done: Whether the event that ends the answer has come.
    """

    def __init__(self) -> None:
        self.done = False
        self._reason: str | None = None
        self._response = _Response()
        self._calls: dict[int, int] = {}
        self._said: dict[_Part, int] = {}
        self._refused = False
        self._paragraph: tuple[int, int, int] | None = None
        self._mender = Mender()

    def take(self, data: str) -> list[Delta]:
        """Return the deltas in the data of one event.

        Raises:
            ModelError: If the event reports an error.
            ModelSpokeNonsense: If it cannot be read.
        """
        if data.startswith("[DONE]"):  # some servers end this wire as they end the other one
            return []
        raw = loaded(data)
        if raw.get("type") == "error" or (raw.get("error") and "type" not in raw):
            raise from_stream(raw)
        name = raw.get("type")
        kind = _PIECES.get(name) or _WHOLES.get(name) if isinstance(name, str) else None
        if kind is None and name not in _ITEMS and name not in _STATES:
            return []
        try:
            event = _Event.model_validate(raw)
        except ValidationError as error:
            raise ModelSpokeNonsense("the provider sent an event that cannot be read") from error
        if kind is not None:
            return self._deltas(kind, event)
        if event.item is not None:
            return self._item(event, event.item)
        if event.response is not None:
            self._note(event.type, event.response)
        return []

    def finish(self) -> Finish:
        """Return the finish, once the stream is over.

        Raises:
            ModelSpokeNonsense: If the stream was cut before the model had finished.
        """
        if self._reason is None:
            raise ModelSpokeNonsense("the model's answer ended without a finish")
        response = self._response
        usage = None if response.usage is None else _usage(response.usage)
        return Finish(self._reason, usage, response.model, response.id)

    def _note(self, kind: str, response: _Response) -> None:
        """Take what an event says of the answer as a whole."""
        self._response = response
        if kind == "response.failed":
            raise from_stream(response.error)
        if kind == "response.completed":
            self.done = True
            self._reason = "tool_calls" if self._calls else "stop"
            if self._refused:
                self._reason = "content_filter"
        elif kind == "response.incomplete":
            self.done = True
            details = response.incomplete_details
            reason = (details.reason if details else None) or "incomplete"
            self._reason = _INCOMPLETE.get(reason, reason)

    def _deltas(self, kind: str, event: _Event) -> list[Delta]:
        """Return what an event says of a part of the answer."""
        if event.type in _PIECES:
            said = self._more(kind, event, event.delta)
        else:
            said = self._rest(kind, event, event.text or event.refusal or event.arguments)
        if kind == "call" and event.output_index not in self._calls:
            raise ModelSpokeNonsense("the model went on with a tool call that it had not begun")
        if not said:
            return []
        match kind:
            case "call":
                return [ToolCallFragment(self._calls[event.output_index], arguments=said)]
            case "summary" | "reasoning":
                return [ReasoningText(self._parted(event) + said)]
            case _:
                self._refused = self._refused or kind == "refusal"
                return [Text(said)]

    def _item(self, event: _Event, item: _Item) -> list[Delta]:
        """Return what an event says of a tool call as a whole; nothing for other items."""
        if item.type != "function_call":
            return []
        index = event.output_index
        new = index not in self._calls
        place = self._calls.setdefault(index, len(self._calls))
        arguments = self._rest("call", event, item.arguments)
        if new:
            return [ToolCallFragment(place, item.call_id, item.name, arguments)]
        return [ToolCallFragment(place, arguments=arguments)] if arguments else []

    def _more(self, kind: str, event: _Event, delta: str | None) -> str:
        """Return a piece of a part of the answer, and count it."""
        part = _part(kind, event)
        self._said[part] = self._said.get(part, 0) + len(delta or "")
        return self._mender.mend(part, delta)

    def _rest(self, kind: str, event: _Event, whole: str | None) -> str:
        """Return what a whole part has that its pieces had not: servers may leave them out."""
        said = self._said.get(_part(kind, event), 0)
        return self._more(kind, event, (whole or "")[said:])

    def _parted(self, event: _Event) -> str:
        """Return what stands between two paragraphs of reasoning, where one begins."""
        paragraph = (event.output_index, event.summary_index, event.content_index)
        before, self._paragraph = self._paragraph, paragraph
        return "" if before in {None, paragraph} else "\n\n"


def _part(kind: str, event: _Event) -> _Part:
    return (kind, event.output_index, event.content_index, event.summary_index)


def _usage(usage: _Usage) -> Usage:
    heard, said = usage.input_tokens_details, usage.output_tokens_details
    return Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens or usage.input_tokens + usage.output_tokens,
        cache_read_tokens=None if heard is None else heard.cached_tokens,
        reasoning_tokens=None if said is None else said.reasoning_tokens,
    )
