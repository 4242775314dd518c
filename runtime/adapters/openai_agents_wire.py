"""Between our words and those of the OpenAI Agents SDK. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from agents import ModelSettings, TResponseInputItem
from agents.exceptions import (
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    ModelRefusalError,
    ModelTimeoutError,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)
from openai import APIConnectionError, APIStatusError
from openai.types.responses import ResponseUsage

from runtime.errors import (
    GuardrailTripwire,
    ModelRefused,
    ModelSpokeNonsense,
    ModelUnavailable,
    StepLimitExceeded,
)
from runtime.history import legal
from runtime.messages import Message, Usage
from runtime.runnable import Decision, RunOptions

__all__ = ["input_items", "model_settings", "translated", "usage_of", "with_edited"]

BUSY = frozenset({408, 409, 429})
"""Statuses of a provider that may be better at another time, beside all from 500."""


def input_items(history: Sequence[Message]) -> list[TResponseInputItem]:
    """Return a conversation as the SDK takes it."""
    items: list[dict[str, Any]] = []
    for message in legal(history):
        if message.role == "tool":
            items.append(
                {
                    "type": "function_call_output",
                    "call_id": message.tool_call_id or "",
                    "output": message.content,
                }
            )
            continue
        if message.content:
            items.append({"role": message.role, "content": message.content})
        items += [
            {
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
            }
            for call in message.tool_calls
        ]
    return cast("list[TResponseInputItem]", items)


def model_settings(options: RunOptions) -> ModelSettings:
    """Return what a caller has set. Stop sequences are for models that take `stop`."""
    stop = {"stop": list(options.stop_sequences)} if options.stop_sequences else None
    return ModelSettings(
        temperature=options.temperature, max_tokens=options.max_tokens, extra_args=stop
    )


def with_edited(state: Any, decisions: Mapping[str, Decision]) -> Any:
    """Return a state in which the calls that humans have edited have their new arguments."""
    edited = {
        call_id: decision.arguments
        for call_id, decision in decisions.items()
        if decision.kind == "edited" and decision.arguments is not None
    }
    return _edit(state, edited) if edited else state


def _edit(part: Any, edited: Mapping[str, str]) -> Any:
    if isinstance(part, list):
        return [_edit(each, edited) for each in part]
    if not isinstance(part, dict):
        return part
    # The SDK remembers a hash of each call; it makes that of an edited one anew.
    kept = {key: value for key, value in part.items() if not _is_hash_of(key, value, edited)}
    changed = {key: _edit(value, edited) for key, value in kept.items()}
    call_id = str(changed.get("call_id"))
    if call_id in edited and isinstance(changed.get("arguments"), str):
        changed["arguments"] = edited[call_id]
    return changed


def _is_hash_of(key: str, value: Any, edited: Mapping[str, str]) -> bool:
    return key in edited and isinstance(value, dict) and "fingerprint" in value


def usage_of(told: ResponseUsage | None) -> Usage | None:
    """Return what a model call took, if the provider says it."""
    if told is None:
        return None
    return Usage(
        prompt_tokens=told.input_tokens,
        completion_tokens=told.output_tokens,
        total_tokens=told.total_tokens,
        cache_read_tokens=told.input_tokens_details.cached_tokens or None,
        reasoning_tokens=told.output_tokens_details.reasoning_tokens or None,
    )


def translated(error: Exception, max_turns: int) -> Exception:  # noqa: PLR0911 - one table
    """Return a failure of theirs as one of ours; itself, if we have none like it."""
    match error:
        case MaxTurnsExceeded():
            return StepLimitExceeded(max_turns)
        case InputGuardrailTripwireTriggered():
            return GuardrailTripwire(error.guardrail_result.guardrail.get_name(), "input")
        case OutputGuardrailTripwireTriggered():
            return GuardrailTripwire(error.guardrail_result.guardrail.get_name(), "output")
        case ToolInputGuardrailTripwireTriggered():
            return GuardrailTripwire(error.guardrail.get_name(), "tool_input")
        case ToolOutputGuardrailTripwireTriggered():
            return GuardrailTripwire(error.guardrail.get_name(), "tool_output")
        case ModelBehaviorError():
            return ModelSpokeNonsense("the model's answers could not be used")
        case ModelRefusalError():
            return ModelRefused("the model refused to answer")
        case ModelTimeoutError() | APIConnectionError():
            return ModelUnavailable("the model's provider could not be reached in time")
        case APIStatusError(status_code=status):
            busy = status in BUSY or status >= 500  # noqa: PLR2004 - HTTP
            kind = ModelUnavailable if busy else ModelRefused
            return kind(f"the model's provider answered with status {status}", status_code=status)
        case _:
            return error
