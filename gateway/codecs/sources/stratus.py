"""Stratus: a chat as named events, `content`, `tool_start`, `tool_done` and `done`. Pure.

`done` ends a model call and not the stream; only the end of the body does that. Whoever speaks below
the run's own conversation is not heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.codecs.codec import Frame
from gateway.codecs.waiting import waits_for_human
from gateway.log.entry import Entry
from runtime.events import (
    Event,
    MessageDelta,
    ModelCompleted,
    RunCancelled,
    RunFailed,
    RunInterrupted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
)
from runtime.journal import spoken_below
from runtime.messages import Usage
from runtime.sse.words import json_line

__all__ = ["StratusCodec"]


@dataclass(frozen=True, slots=True)
class StratusCodec:
    """The words of `POST /chat`. It has no state: it can begin anywhere in a run.

    Attributes:
        deltas: Whether the pieces of tool arguments are told too, as `tool_delta`.
    """

    deltas: bool = False

    def begin(self) -> None:
        """Return the state before the first event: there is none."""

    def encode(self, state: None, event: Event, entry: Entry) -> tuple[None, Sequence[Frame]]:
        """Say an event."""
        if not spoken_below(event.path) and (frame := self._frame(event, entry)) is not None:
            return None, (frame,)
        return None, ()

    def cut(self, state: None, reason: str) -> Sequence[Frame]:
        """Say that the server cannot go on; that also ends the run."""
        return (_error("the server cannot go on with this answer", reason),)

    def _frame(self, event: Event, entry: Entry) -> Frame | None:
        frame: Frame | None = None
        match event:
            case MessageDelta():
                frame = _frame("content", {"text": event.text})
            case ToolCallStarted():
                frame = _frame("tool_start", {"name": event.name, "id": event.call_id})
            case ToolCallDelta() if self.deltas:
                frame = _frame("tool_delta", {"id": event.call_id, "arguments": event.arguments})
            case ToolCallReady():
                frame = _frame("tool_done", {"id": event.call_id, "name": event.name})
            case ModelCompleted():
                frame = _frame("done", _done(event))
            case RunFailed():
                frame = _error(event.error.message, event.error.code)
            case RunCancelled():
                frame = _error(f"the run was cancelled: {event.reason}", "cancelled")
            case RunInterrupted():
                frame = _error(waits_for_human(entry.session_id), "approval_required")
            case _:
                pass
        return frame


def _frame(name: str, data: Mapping[str, Any]) -> Frame:
    return Frame(json_line(data), name)


def _error(message: str, code: str) -> Frame:
    return _frame("error", {"message": message, "code": code})


def _done(event: ModelCompleted) -> dict[str, Any]:
    """Return what is known of a model call; what is not known is left out."""
    done: dict[str, Any] = {}
    if event.usage is not None:
        done["usage"] = _usage(event.usage)
    if event.finish_reason is not None:
        done["finishReason"] = event.finish_reason
    return done


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "promptTokens": usage.prompt_tokens,
        "completionTokens": usage.completion_tokens,
        "totalTokens": usage.total_tokens,
    }
