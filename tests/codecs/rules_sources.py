"""The rules of the streams of Stratus, Agentlang and Sekuire, as their own clients rely on them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from gateway.codecs.codec import Frame

__all__ = [
    "SILENT_IN_AGENTLANG",
    "SILENT_IN_SEKUIRE",
    "SILENT_IN_STRATUS",
    "check_agentlang",
    "check_sekuire",
    "check_stratus",
]

_SILENT_IN_ALL = frozenset(
    {
        "input.accepted",
        "input.queued",
        "input.dequeued",
        "run.attempt_released",
        "input.steered",
        "history.rolled_back",
        "run.attempt_started",
        "run.stop_requested",
        "run.started",
        "run.resumed",
        "superstep.started",
        "superstep.completed",
        "node.update",
        "edge.taken",
        "agent.handoff",
        "model.started",
        "model.retrying",
        "message.started",
        "message.completed",
        "reasoning.started",
        "reasoning.delta",
        "reasoning.completed",
        "tool.started",
        "tool.progress",
        "tool.completed",
        "tool.failed",
        "tool.unknown_outcome",
        "approval.requested",
        "approval.resolved",
        "guardrail.tripped",
        "checkpoint.saved",
    }
)
_OF_TOOL_CALLS = frozenset({"tool_call.started", "tool_call.delta", "tool_call.ready"})
_OF_FLOWS = frozenset(
    {
        "node.started",
        "node.completed",
        "node.failed",
        "agent.started",
        "agent.completed",
        "model.failed",
        "custom",
    }
)

SILENT_IN_STRATUS = _SILENT_IN_ALL | _OF_FLOWS | {"run.completed"}
SILENT_IN_AGENTLANG = _SILENT_IN_ALL | _OF_TOOL_CALLS | {"message.delta"}
SILENT_IN_SEKUIRE = _SILENT_IN_ALL | _OF_TOOL_CALLS | _OF_FLOWS | {"model.completed"}


def check_stratus(frames: Sequence[Frame], was_cut: bool) -> None:
    """Each tool's start has its end, each piece a home; an error is the last word, or a pause."""
    opened: Counter[str] = Counter()
    told = [(frame.event, json.loads(frame.data)) for frame in frames]
    for name, data in told:
        match name:
            case "content":
                assert list(data) == ["text"]
            case "tool_start":
                assert set(data) == {"id", "name"}
                opened[data["id"]] += 1
            case "tool_delta":
                assert opened[data["id"]] > 0
            case "tool_done":
                assert set(data) == {"id", "name"}
                opened[data["id"]] -= 1
            case "done":
                assert set(data) <= {"usage", "finishReason"}
            case "error":
                assert set(data) == {"message", "code"}
            case _:
                raise AssertionError(f"an unknown event {name}")
        assert all(count >= 0 for count in opened.values())
    if not was_cut:
        assert not +opened, "a tool call was never done"
    errors = [place for place, (name, _) in enumerate(told) if name == "error"]
    _last_or_pause(told, errors, lambda data: data["code"] == "approval_required", was_cut=was_cut)


def check_sekuire(frames: Sequence[Frame], was_cut: bool) -> None:
    """Pieces; then `[DONE]` or an error, once and last; an error may also be a pause."""
    told: list[tuple[str | None, Any]] = []
    for place, frame in enumerate(frames):
        if frame.data == b"[DONE]":
            assert frame.event is None
            assert place == len(frames) - 1
            assert not was_cut
            continue
        data = json.loads(frame.data)
        assert (frame.event, list(data)) in [(None, ["chunk"]), ("error", ["error"])]
        told.append((frame.event, data))
    errors = [place for place, (name, _) in enumerate(told) if name == "error"]
    done = bool(frames) and frames[-1].data == b"[DONE]"
    assert done != (bool(errors) and errors[-1] == len(frames) - 1), "one end, and only one"
    pauses = lambda data: data["error"].startswith("the run waits for a human")  # noqa: E731
    _last_or_pause(told, errors, pauses, was_cut=was_cut, allowed_after=done)


def check_agentlang(frames: Sequence[Frame], was_cut: bool) -> None:
    """`result`, or an error with a status, once and last; such an error may also be a pause."""
    told = [(frame.event, json.loads(frame.data)) for frame in frames]
    ends = [
        place
        for place, (name, data) in enumerate(told)
        if name == "result" or (name == "error" and isinstance(data, dict) and "statusCode" in data)
    ]
    assert ends, "the stream ends without a word"
    assert ends[-1] == len(told) - 1
    for place in ends[:-1]:
        assert told[place][1]["statusCode"] == 409
    assert not (was_cut and told[-1][0] == "result")


def _last_or_pause(
    told: Sequence[tuple[str | None, Any]],
    errors: Sequence[int],
    is_pause: Any,
    *,
    was_cut: bool,
    allowed_after: bool = False,
) -> None:
    for place in errors:
        is_last = place == len(told) - 1 and not allowed_after
        assert is_last or is_pause(told[place][1])
    if was_cut:
        assert errors
        assert errors[-1] == len(told) - 1
