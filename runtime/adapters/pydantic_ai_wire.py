"""Between our words and those of pydantic-ai: one answer, one tool, one failure at a time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from pydantic_ai import RunContext, ToolDefinition
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolResultEvent,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.result import AgentStream
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from runtime.adapters.answer import Answer
from runtime.adapters.speaking import Speaker
from runtime.errors import ModelRefused, ModelSpokeNonsense, ModelUnavailable
from runtime.events import ErrorInfo
from runtime.failure import error_info
from runtime.history import result_text
from runtime.messages import Message, ToolCall, Usage
from runtime.plain import plain
from runtime.runnable import RunOptions

__all__ = [
    "ToolsStart",
    "answered",
    "hear_answer",
    "message_history",
    "model_settings",
    "translated",
]

BUSY = frozenset({408, 409, 425, 429})
"""Statuses of a provider that may be better at another time, beside all from 500."""


def message_history(history: Sequence[Message]) -> list[ModelMessage]:
    """Return a conversation as pydantic-ai takes it."""
    names = {call.id: call.name for message in history for call in message.tool_calls}
    messages: list[ModelMessage] = []
    for message in history:
        match message.role:
            case "system":
                messages.append(ModelRequest(parts=[SystemPromptPart(message.content)]))
            case "user":
                messages.append(ModelRequest(parts=[UserPromptPart(message.content)]))
            case "assistant":
                text = [TextPart(message.content)] if message.content else []
                calls = [_call_part(call) for call in message.tool_calls]
                messages.append(ModelResponse(parts=[*text, *calls]))
            case "tool":
                call_id = message.tool_call_id or ""
                part = ToolReturnPart(names.get(call_id, ""), message.content, call_id)
                messages.append(ModelRequest(parts=[part]))
    return messages


def _call_part(call: ToolCall) -> ToolCallPart:
    return ToolCallPart(call.name, call.arguments, call.id)


def model_settings(options: RunOptions) -> ModelSettings:
    """Return what a caller has set."""
    settings = ModelSettings()
    if options.temperature is not None:
        settings["temperature"] = options.temperature
    if options.max_tokens is not None:
        settings["max_tokens"] = options.max_tokens
    if options.stop_sequences:
        settings["stop_sequences"] = list(options.stop_sequences)
    return settings


class _Listener:
    """Hears one answer of a model, part by part."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._calls: dict[int, ToolCallPart] = {}

    async def hear(self, event: object) -> None:
        match event:
            case PartStartEvent(part=TextPart(content=text)):
                await self._answer.says(text)
            case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                await self._answer.says(text)
            case PartStartEvent(part=ThinkingPart(content=text)):
                await self._answer.thinks(text)
            case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=str(text))):
                await self._answer.thinks(text)
            case PartStartEvent(index=index, part=ToolCallPart() as part):
                self._calls[index] = part
                arguments = part.args if isinstance(part.args, str) else ""
                await self._answer.calls(part.tool_call_id, part.tool_name, arguments)
            case PartDeltaEvent(index=index, delta=ToolCallPartDelta(args_delta=str(piece))):
                if (call := self._calls.get(index)) is not None:
                    await self._answer.calls(call.tool_call_id, call.tool_name, piece)
            case PartEndEvent(part=ToolCallPart() as part):
                await self._answer.ready(part.tool_call_id, part.tool_name, part.args_as_json_str())
            case _:
                pass


async def hear_answer(
    stream: AbstractAsyncContextManager[AgentStream[Any, Any]], answer: Answer, speaker: Speaker
) -> None:
    """Report one model call."""
    listener = _Listener(answer)
    try:
        async with stream as events:
            async for event in events:
                await listener.hear(event)
            response = events.response
    except Exception as error:
        speaker.report.check()
        await answer.fails(error_info(translated(error)))
        raise
    await answer.ends(
        _usage(response.usage),
        finish_reason=response.finish_reason,
        model=response.model_name,
        response_id=response.provider_response_id,
    )


def _usage(usage: RequestUsage) -> Usage:
    return Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens or None,
        reasoning_tokens=usage.output_reasoning_tokens or None,
    )


async def answered(event: object, speaker: Speaker) -> None:
    """Report what came of a tool call, if the event tells it."""
    if not isinstance(event, ToolResultEvent):
        return
    part = event.part
    if part.outcome == "success":
        await speaker.tool_ends(part.tool_call_id, part.tool_name, part.content)
        return
    text = result_text(plain(part.content, f"tool {part.tool_name!r}"))
    code = "rejected" if part.outcome == "denied" else "tool_failed"
    error = ErrorInfo(code=code, message=text)
    await speaker.tool_ends(part.tool_call_id, part.tool_name, error=error)


class ToolsStart(AbstractCapability[Any]):
    """Reports a tool before it has any effect. A call that waits for a human does not get here."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    async def before_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
    ) -> dict[str, Any]:
        """Report that the tool starts, and leave its arguments as they are."""
        arguments = call.args_as_json_str()
        await self._speaker.tool_starts(call.tool_call_id, call.tool_name, arguments)
        return args


def translated(error: Exception) -> Exception:
    """Return a failure of theirs as one of ours, in words that a client may see."""
    if isinstance(error, ModelHTTPError):
        kind = ModelUnavailable if _busy(error.status_code) else ModelRefused
        return kind(
            f"the model's provider answered with status {error.status_code}",
            status_code=error.status_code,
            retry_after=error.retry_after,
        )
    if isinstance(error, UnexpectedModelBehavior):
        return ModelSpokeNonsense("the model's answers could not be used")
    return error


def _busy(status: int) -> bool:
    return status in BUSY or status >= 500  # noqa: PLR2004 - HTTP
