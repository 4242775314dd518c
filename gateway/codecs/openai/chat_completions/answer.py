"""One answer out of all its chunks: so it says exactly what the stream would have said. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

__all__ = ["completion"]

_TEXTS = ("content", "reasoning_content")


def completion(chunks: Iterable[bytes]) -> dict[str, Any]:
    """Return the `chat.completion` that these chunks say.

    Args:
        chunks: All of a stream that did not fail, with its usage.
    """
    message: dict[str, Any] = {}
    calls: list[dict[str, Any]] = []
    answer: dict[str, Any] = {}
    for chunk in map(orjson.loads, chunks):
        answer = answer or {name: chunk[name] for name in ("id", "created", "model")}
        for choice in chunk["choices"]:
            _add(message, calls, choice["delta"])
            answer["finish_reason"] = choice["finish_reason"]
        answer["usage"] = chunk["usage"]
    if calls:
        message["tool_calls"] = calls
        message["content"] = message["content"] or None
    return {
        "id": answer["id"],
        "object": "chat.completion",
        "created": answer["created"],
        "model": answer["model"],
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": answer["finish_reason"],
            }
        ],
        "usage": answer["usage"],
    }


def _add(message: dict[str, Any], calls: list[dict[str, Any]], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for part in value:
                _add_call(calls, part)
        elif name in _TEXTS:
            message[name] = message.get(name, "") + value
        else:
            message[name] = value


def _add_call(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    if part["index"] == len(calls):
        calls.append({name: value for name, value in part.items() if name != "index"})
    else:
        calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
