"""Events, and the chunks that are made of them, for tests of the UI message stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.codecs.codec import Frame
from gateway.codecs.vercel import UiMessageStream
from gateway.log.entry import Entry
from gateway.log.serde import load
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    ErrorInfo,
    Event,
    InputAccepted,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelStarted,
    RunCompleted,
    RunInterrupted,
    RunResumed,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolStarted,
)
from runtime.messages import ClientTool, Message, Usage
from tests.codecs.rules_vercel import chunks_of
from tests.support.legal_runs import entries_of

RUN: dict[str, Any] = {"run_id": "run_1", "path": ("assistant",)}
START: dict[str, Any] = {
    "type": "start",
    "messageId": "run_1",
    "messageMetadata": {
        "runId": "run_1",
        "sessionId": "ses_story",
        "createdAt": 1_700_000_000_010,
        "status": "running",
    },
}
NO = ErrorInfo(code="rejected", message="a human rejected this call")
BROKEN = ErrorInfo(code="model_error", message="it broke")


def frames(codec: UiMessageStream, entries: Iterable[Entry]) -> list[Frame]:
    state = codec.begin()
    told: list[Frame] = []
    for entry in entries:
        event = load(entry)
        assert event is not None
        state, said = codec.encode(state, event, entry)
        told += said
    return told


def tell(*events: Event, codec: UiMessageStream | None = None) -> list[dict[str, Any]]:
    """Return the chunks of a stream that has not ended."""
    told = frames(codec or UiMessageStream(), entries_of(events))
    return [_parsed(frame) for frame in told if frame.data != b"[DONE]"]


def _parsed(frame: Frame) -> dict[str, Any]:
    [chunk] = chunks_of([frame, Frame(b"[DONE]")])
    return chunk


def accepted(*tools: str) -> InputAccepted:
    return InputAccepted(
        run_id="run_1",
        message=Message(role="user", content="hi", message_id="u1"),
        command_id="c1",
        policy="enqueue",
        tools=tuple(ClientTool(name=name) for name in tools) or None,
    )


def model(turn: int = 1, path: tuple[str, ...] = RUN["path"]) -> ModelStarted:
    return ModelStarted(run_id="run_1", path=path, turn=turn, model="m", message_count=1)


def message(id_: str, *pieces: str, **of: Any) -> list[Event]:
    where = RUN | of
    return [
        MessageStarted(**where, message_id=id_),
        *(MessageDelta(**where, message_id=id_, text=piece) for piece in pieces),
        MessageCompleted(**where, message_id=id_, text="".join(pieces)),
    ]


def call(id_: str, name: str, *pieces: str, **of: Any) -> list[Event]:
    where = RUN | of | {"call_id": id_}
    return [
        ToolCallStarted(**where, name=name),
        *(ToolCallDelta(**where, arguments=piece) for piece in pieces),
        ToolCallReady(**where, name=name, arguments="".join(pieces)),
    ]


def started(id_: str, name: str, arguments: str = "{}", **of: Any) -> ToolStarted:
    where = RUN | of
    return ToolStarted(**where, call_id=id_, name=name, arguments=arguments, idempotency_key="k")


def asked(id_: str | None, **given: Any) -> ApprovalRequested:
    return ApprovalRequested(**RUN, approval_id="apr_1", call_id=id_, **given)


def decided(decision: Any, **given: Any) -> ApprovalResolved:
    return ApprovalResolved(run_id="run_1", approval_id="apr_1", decision=decision, **given)


def completed(output: str = "", reason: str | None = None) -> RunCompleted:
    usage = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5, reasoning_tokens=1)
    return RunCompleted(
        **RUN, output=output, usage=usage, finish_reason=reason, message_count=1, num_turns=1
    )


PAUSED = RunInterrupted(**RUN, reason="approval", pending=("apr_1",))
RESUMED = RunResumed(**RUN, from_seq=1)
FINISHED = {
    "type": "finish",
    "finishReason": "stop",
    "messageMetadata": {
        "status": "completed",
        "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5, "reasoningTokens": 1},
    },
}


def kinds(chunks: Sequence[dict[str, Any]]) -> list[str]:
    return [chunk["type"] for chunk in chunks]


def of_kind(chunks: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [chunk for chunk in chunks if chunk["type"] == kind]
