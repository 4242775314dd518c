"""What clients of chat completions rely on in a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.codecs.codec import Frame

__all__ = ["SILENT", "check_chat_completions"]

REASONS = {"stop", "length", "tool_calls", "content_filter"}
SILENT = frozenset(
    [
        "agent.completed",
        "agent.handoff",
        "agent.started",
        "approval.resolved",
        "checkpoint.saved",
        "custom",
        "edge.taken",
        "guardrail.tripped",
        "history.rolled_back",
        "input.dequeued",
        "run.attempt_released",
        "input.steered",
        "message.started",
        "model.completed",
        "model.failed",
        "model.retrying",
        "model.started",
        "node.completed",
        "node.failed",
        "node.started",
        "node.update",
        "reasoning.started",
        "run.attempt_started",
        "run.stop_requested",
        "superstep.completed",
        "superstep.started",
        "tool.completed",
        "tool.failed",
        "tool.progress",
        "tool.started",
        "tool.unknown_outcome",
        "tool_call.delta",
        "tool_call.ready",
        "tool_call.started",
    ]
)
"""Of these a chat completion has no word; the server's own tools are nothing for clients to run."""

HEAD = {"id", "object", "created", "model"}


def check_chat_completions(frames: Sequence[Frame], cut: bool) -> None:
    """Raise AssertionError if a client would not bear these messages."""
    assert all(frame.event is None for frame in frames), "chunks have no names"
    *chunks, last = frames
    if cut or last.data != b"[DONE]":
        _check_error(orjson.loads(last.data))
    said = [orjson.loads(chunk.data) for chunk in chunks]
    assert cut or said
    assert all(set(chunk) - {"usage"} == HEAD | {"choices"} for chunk in said)
    assert len({(c["id"], c["created"], c["model"]) for c in said}) <= 1
    assert all(c["object"] == "chat.completion.chunk" for c in said)
    assert all(c["id"].startswith("chatcmpl-") for c in said)
    has_failed = cut or last.data != b"[DONE]"
    finishes = [place for place, chunk in enumerate(said) if _reason(chunk) is not None]
    assert len(finishes) == (0 if has_failed else 1)
    _check_usage(said, finishes)
    for place, chunk in enumerate(said):
        if chunk["choices"]:
            (choice,) = chunk["choices"]
            assert set(choice) == {"index", "delta", "logprobs", "finish_reason"}
            assert ("role" in choice["delta"]) is (place == 0)
            assert not finishes or place <= finishes[0], "nothing is said after the end"
    calls = _check_calls(said)
    for place in finishes:
        reason = _reason(said[place])
        assert reason in REASONS
        assert said[place]["choices"][0]["delta"] == {}
        assert reason != "tool_calls" or calls


def _reason(chunk: dict[str, Any]) -> str | None:
    return next((choice["finish_reason"] for choice in chunk["choices"]), None)


def _check_error(body: dict[str, Any]) -> None:
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    assert body["error"]["type"]
    assert body["error"]["code"]


def _check_usage(said: Sequence[dict[str, Any]], finishes: Sequence[int]) -> None:
    for place, chunk in enumerate(said):
        if chunk.get("usage") is None:
            assert chunk["choices"]
            continue
        assert finishes
        assert place == len(said) - 1 == finishes[0] + 1
        assert chunk["choices"] == []
        usage = chunk["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def _check_calls(said: Sequence[dict[str, Any]]) -> int:
    """Check that each call is opened once, in order, and has arguments."""
    arguments: list[str] = []
    for chunk in said:
        for choice in chunk["choices"]:
            for part in choice["delta"].get("tool_calls", ()):
                if "id" in part:
                    assert part["index"] == len(arguments)
                    assert part["type"] == "function"
                    assert part["id"]
                    assert part["function"]["name"]
                    arguments.append("")
                assert part["index"] == len(arguments) - 1, "calls do not interleave"
                arguments[-1] += part["function"]["arguments"]
    assert all(arguments)
    return len(arguments)
