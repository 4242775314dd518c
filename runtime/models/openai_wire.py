"""The chat completions wire: requests out, chunks in. Pure.

Read leniently, since many servers speak it with an accent: fields that are missing or unknown do no
harm; fields of the wrong type do.
"""

from __future__ import annotations

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

__all__ = ["ChunkDecoder", "request_body"]

_END = "[DONE]"
"""The data of the last event."""


def request_body(model: str, request: ModelRequest, *, limit_field: str) -> dict[str, Any]:
    """Return the JSON of a streaming request.

    Args:
        model: The model's name.
        request: What is asked.
        limit_field: What the server calls the limit of tokens: `max_completion_tokens` at OpenAI,
            whose newer models refuse `max_tokens`, the only one that many others know.
    """
    options = request.options
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                },
            }
            for tool in request.tools
        ]
    if options.temperature is not None:
        body["temperature"] = options.temperature
    if options.max_tokens is not None:
        body[limit_field] = options.max_tokens
    if options.stop_sequences:
        body["stop"] = list(options.stop_sequences)
    if request.output_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": guaranteed(request.output_schema, request.output_name),
        }
    return body


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if not message.tool_calls:
        return {"role": message.role, "content": message.content}
    return {
        "role": message.role,
        "content": message.content or None,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ],
    }


class _Function(BaseModel):
    name: str | None = None
    arguments: str | None = None


class _Call(BaseModel):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _ChoiceDelta(BaseModel):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None  # llama.cpp, vLLM, DeepSeek
    reasoning: str | None = None  # Ollama, OpenRouter
    tool_calls: list[_Call] | None = None


class _Choice(BaseModel):
    index: int = 0
    delta: _ChoiceDelta | None = None
    finish_reason: str | None = None


class _PromptDetails(BaseModel):
    cached_tokens: int | None = None


class _CompletionDetails(BaseModel):
    reasoning_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Chunk(BaseModel):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


class ChunkDecoder:
    """Turns the chunks of one answer into deltas.

    Attributes:
        done: Whether the event that ends the stream has come.
    """

    def __init__(self) -> None:
        self.done = False
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._model: str | None = None
        self._response_id: str | None = None
        self._calls: list[tuple[int | None, str | None]] = []
        self._mender = Mender()

    def take(self, data: str) -> list[Delta]:
        """Return the deltas in the data of one event.

        Raises:
            ModelError: If the event reports an error.
            ModelSpokeNonsense: If it is no chunk.
        """
        if data.startswith(_END):
            self.done = True
            return []
        chunk = loaded(data)
        if chunk.get("error"):
            raise from_stream(chunk)
        try:
            read = _Chunk.model_validate(chunk)
        except ValidationError as error:
            raise ModelSpokeNonsense("the provider sent a chunk that cannot be read") from error
        self._model = read.model or self._model
        self._response_id = read.id or self._response_id
        if read.usage is not None:
            self._usage = _usage(read.usage)
        deltas: list[Delta] = []
        for choice in read.choices or ():
            if choice.index != 0:
                continue  # one answer was asked for
            self._reason = choice.finish_reason or self._reason
            if choice.delta is not None:
                deltas += self._deltas(choice.delta)
        return deltas

    def finish(self) -> Finish:
        """Return the finish, once the stream is over.

        Raises:
            ModelSpokeNonsense: If the stream was cut before the model had finished.
        """
        if self._reason is None:
            raise ModelSpokeNonsense("the model's answer ended without a finish")
        return Finish(self._reason, self._usage, self._model, self._response_id)

    def _deltas(self, delta: _ChoiceDelta) -> list[Delta]:
        deltas: list[Delta] = []
        mend = self._mender.mend
        if reasoning := mend("reasoning", delta.reasoning_content or delta.reasoning):
            deltas.append(ReasoningText(reasoning))
        if text := mend("text", delta.content or delta.refusal):
            deltas.append(Text(text))
        for call in delta.tool_calls or ():
            place = self._place(call)
            function = call.function or _Function()
            arguments = mend(place, function.arguments)
            deltas.append(ToolCallFragment(place, call.id or None, function.name, arguments))
        return deltas

    def _place(self, call: _Call) -> int:
        """Return which call of the answer a fragment belongs to, from 0.

        Some servers do not number the calls, some give all of them the same number: so the last
        call with this number is meant, unless the fragment has another id.
        """
        known = self._calls
        for place in range(len(known) - 1, -1, -1):
            index, call_id = known[place]
            if call.id and call_id and call.id != call_id:
                continue
            if call.index is None or index is None or call.index == index:
                known[place] = (index, call_id or call.id)
                return place
        known.append((call.index, call.id or None))
        return len(known) - 1


def _usage(usage: _Usage) -> Usage:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens or usage.prompt_tokens + usage.completion_tokens,
        cache_read_tokens=None if prompt is None else prompt.cached_tokens,
        reasoning_tokens=None if completion is None else completion.reasoning_tokens,
    )
