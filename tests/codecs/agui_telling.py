"""What AG-UI clients are told, for tests of the codec."""

from __future__ import annotations

from typing import Any

from gateway.codecs.agui import AguiCodec, Names
from gateway.codecs.codec import Frame
from runtime.events import (
    ApprovalRequested,
    ErrorInfo,
    Event,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    RunCompleted,
    RunStarted,
)
from runtime.messages import Usage
from tests.codecs.rules_agui import check_agui, events_of
from tests.codecs.telling import AT, entries_of

__all__ = [
    "BROKEN",
    "COMPLETED",
    "GRAPH",
    "NAMES",
    "RUN",
    "STARTED",
    "ask",
    "ends",
    "model_done",
    "one",
    "say",
    "told",
]

RUN: Any = {"run_id": "run_1", "path": ("assistant",)}
GRAPH: Any = {"run_id": "run_1", "path": ("graph",)}
NAMES = Names("t1", "r1", modern=True)
BROKEN = ErrorInfo(code="model_error", message="it broke")
STARTED = RunStarted(**RUN, agent="assistant")
COMPLETED = RunCompleted(
    **RUN, output="Hello", usage=Usage(), message_count=2, num_turns=1, finish_reason="stop"
)


def told(*events: Event, codec: AguiCodec | None = None) -> list[dict[str, Any]]:
    """Return what a client is told, without when, and without the first event."""
    speaking = codec or AguiCodec(NAMES)
    state = speaking.begin()
    frames: list[Frame] = []
    for event, entry in zip(events, entries_of(events), strict=True):
        state, said = speaking.encode(state, event, entry)
        frames += said
    check_agui(frames if state.phase == "over" else [*frames, *speaking.cut(state, "x")], False)
    messages = events_of(frames)
    assert all(message.pop("timestamp", AT) == AT for message in messages)
    assert messages[0]["type"] == "RUN_STARTED"
    return messages[1:]


def one(*events: Event, codec: AguiCodec | None = None) -> dict[str, Any]:
    """Return the one thing that a client is told."""
    (message,) = told(*events, codec=codec)
    return message


def say(message_id: str, text: str, of: Any = RUN, **end: Any) -> list[Event]:
    return [
        MessageStarted(**of, message_id=message_id),
        MessageDelta(**of, message_id=message_id, text=text),
        MessageCompleted(**of, message_id=message_id, text=text, **end),
    ]


def model_done(message_id: str, turn: int = 1, of: Any = RUN, **fields: Any) -> ModelCompleted:
    return ModelCompleted(**of, message_id=message_id, turn=turn, **fields)


def ask(approval_id: str = "apr_1", **fields: Any) -> ApprovalRequested:
    return ApprovalRequested(**(RUN | {"approval_id": approval_id} | fields))


def ends(*events: Event, modern: bool = True) -> dict[str, Any]:
    """Return the end that a client is told."""
    codec = AguiCodec(Names("t1", "r1", modern=modern))
    return told(STARTED, *events, codec=codec)[-1]
