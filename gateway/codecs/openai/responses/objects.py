"""The objects of the Responses API: the response itself, and the items of its output. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.codecs.openai.responses.state import Item, State
from runtime.events import ApprovalResolved, ErrorInfo
from runtime.history import result_text
from runtime.messages import ClientTool, Message, Usage

__all__ = [
    "SERVER_LABEL",
    "answer_object",
    "input_objects",
    "item_object",
    "output_text",
    "response_id",
    "response_object",
    "summary_text",
    "tool_object",
]

SERVER_LABEL = "tidegate"
"""The server whose tools are called here, where OpenAI's clients expect that of an MCP server."""

_TOO_MANY_REQUESTS = 429


def response_id(session_id: str, run_id: str, segment: int) -> str:
    """Return the id of the response that is a segment of a run."""
    name = f"resp_{session_id}.{run_id}"
    return f"{name}.{segment}" if segment else name


def output_text(text: str) -> dict[str, Any]:
    """Return a part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def summary_text(text: str) -> dict[str, Any]:
    """Return a part of a reasoning item."""
    return {"type": "summary_text", "text": text}


def tool_object(tool: ClientTool) -> dict[str, Any]:
    """Return a tool of the client's as it gave it."""
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "strict": False,
    }


def item_object(item: Item, text: str | None = None) -> dict[str, Any]:
    """Return an item as clients see it.

    Args:
        item: It.
        text: Its text or its arguments so far, where it is still open.
    """
    said = item.text if text is None else text
    shown: dict[str, Any] = {"id": item.id, "type": item.kind}
    match item.kind:
        case "message":
            begun = said or item.status != "in_progress"
            content = [output_text(said)] if begun else []
            return shown | {"status": item.status, "role": "assistant", "content": content}
        case "reasoning":
            begun = said or item.status != "in_progress"
            return shown | {"status": item.status, "summary": [summary_text(said)] if begun else []}
        case "function_call":
            call = {"call_id": item.call_id, "name": item.name, "arguments": said}
            return shown | {"status": item.status, **call}
        case "mcp_call":
            return shown | {
                "status": item.status,
                "server_label": SERVER_LABEL,
                "name": item.name,
                "arguments": said,
                "approval_request_id": item.request_id,
                "output": item.output,
                "error": None if item.error is None else _tool_error(item.error),
            }
        case "mcp_approval_request":
            return shown | {"server_label": SERVER_LABEL, "name": item.name, "arguments": said}


def _tool_error(message: str) -> dict[str, Any]:
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": message}]}


def response_object(
    state: State,
    *,
    previous: str | None,
    metadata: Mapping[str, str],
    texts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a response.

    Args:
        state: It.
        previous: The id of the response before it.
        metadata: What its session was made with.
        texts: What its open items have said so far, by their ids.
    """
    asked, told = state.asked, texts or {}
    before = state.segment - 1
    return {
        "id": response_id(state.session_id, state.run_id, state.segment),
        "object": "response",
        "created_at": state.created_at // 1000,
        "completed_at": None if state.ended_at is None else state.ended_at // 1000,
        "status": state.status,
        "error": None if state.error is None else _error(state.error),
        "incomplete_details": _incomplete(state),
        "instructions": asked.instructions,
        "max_output_tokens": asked.options.get("max_tokens"),
        "metadata": dict(metadata),
        "model": asked.agent,
        "output": [item_object(item, told.get(item.id)) for item in state.items if not item.void],
        "parallel_tool_calls": True,
        "previous_response_id": previous
        if state.segment <= 0
        else response_id(state.session_id, state.run_id, before),
        "store": True,
        "temperature": asked.options.get("temperature"),
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [tool_object(tool) for tool in asked.tools],
        "top_p": None,
        "truncation": "disabled",
        "usage": _usage(state.usage) if state.phase == "over" else None,
    }


def _incomplete(state: State) -> dict[str, Any] | None:
    return None if state.why_incomplete is None else {"reason": state.why_incomplete}


def _error(error: ErrorInfo) -> dict[str, Any]:
    """Return why a response failed: clients know a closed list of codes, in which two fit."""
    limited = error.status_code == _TOO_MANY_REQUESTS
    code = "rate_limit_exceeded" if limited else "server_error"
    return {"code": code, "message": error.message}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.total_tokens,
    }


def input_objects(message: Message) -> list[dict[str, Any]]:
    """Return a message as input items, which have no ids yet."""
    if message.role == "tool":
        return [_output_object(message.tool_call_id or "", message.content)]
    spoken = (
        output_text(message.content)
        if message.role == "assistant"
        else {"type": "input_text", "text": message.content}
    )
    items: list[dict[str, Any]] = []
    if message.content or not message.tool_calls:
        shown = {"type": "message", "status": "completed", "role": message.role}
        items.append(shown | {"content": [spoken]})
    return items + [
        {
            "type": "function_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in message.tool_calls
    ]


def answer_object(item: Item, resolved: ApprovalResolved) -> dict[str, Any]:
    """Return the input item that an answer was, or might have been, to what an item asks."""
    if item.kind == "function_call":
        told = resolved.result if resolved.decision == "answered" else resolved.message
        return _output_object(item.call_id, result_text(told))
    return {
        "type": "mcp_approval_response",
        "approval_request_id": item.id,
        "approve": resolved.decision in {"approved", "edited"},
        "reason": resolved.message,
    }


def _output_object(call_id: str, output: str) -> dict[str, Any]:
    return {
        "type": "function_call_output",
        "status": "completed",
        "call_id": call_id,
        "output": output,
    }
