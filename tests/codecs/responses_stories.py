"""Runs to be told as responses, and ways to look at what is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from openai.types.responses import Response

from gateway.codecs.codec import Frame
from gateway.codecs.openai.responses import Responses
from runtime.events import (
    ApprovalRequested,
    ErrorInfo,
    Event,
    InputAccepted,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    RunCompleted,
    RunInterrupted,
    RunResumed,
    RunStarted,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
)
from runtime.messages import ClientTool, Message, Usage
from tests.codecs.rules_responses import check_responses
from tests.support.legal_runs import entries_of

RUN = {"run_id": "run_1"}
ROOT: dict[str, Any] = {"run_id": "run_1", "path": ("assistant",)}
LOOK = ClientTool(name="look", description="Look.", parameters={"type": "object"})
USAGE = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5, cache_read_tokens=1)
ACCEPTED = InputAccepted(
    run_id="run_1",
    message=Message(role="user", content="hi", message_id="msg_in"),
    command_id="cmd",
    policy="enqueue",
    agent="assistant",
    instructions="Be brief.",
    tools=(LOOK,),
    options={"temperature": 0.5, "max_tokens": 9},
)
STARTED = RunStarted(**ROOT, agent="assistant", options={"temperature": 0.5, "max_tokens": 9})
BEGINNING: tuple[Event, ...] = (ACCEPTED, STARTED)
COMPLETED = RunCompleted(
    **RUN, output="x", usage=USAGE, message_count=1, num_turns=1, finish_reason="stop"
)
INTERRUPTED = RunInterrupted(**RUN, reason="approval")
RESUMED = RunResumed(**RUN, from_seq=1)
BROKEN = ErrorInfo(code="boom", message="it broke")


def said(text: str, message_id: str = "msg_a", **fields: Any) -> list[Event]:
    of = ROOT | fields
    return [
        MessageStarted(**of, message_id=message_id),
        MessageDelta(**of, message_id=message_id, text=text),
        MessageCompleted(**of, message_id=message_id, text=text),
    ]


def written(name: str, arguments: str = "{}", call_id: str = "call_1") -> list[Event]:
    return [
        ToolCallStarted(**ROOT, call_id=call_id, name=name),
        ToolCallDelta(**ROOT, call_id=call_id, arguments=arguments),
        ToolCallReady(**ROOT, call_id=call_id, name=name, arguments=arguments),
    ]


def handed(call_id: str = "call_1", arguments: str = "{}") -> ApprovalRequested:
    return ApprovalRequested(
        **ROOT,
        approval_id=f"apr_{call_id}",
        call_id=call_id,
        tool="look",
        arguments=arguments,
        wants="result",
    )


def frames_of(*events: Event, codec: Responses | None = None) -> list[Frame]:
    codec = codec or Responses()
    state, frames = codec.begin(), list[Frame]()
    for entry, event in zip(entries_of(events), events, strict=True):
        state, told = codec.encode(state, event, entry)
        frames += told
    return frames


def tell(*events: Event, codec: Responses | None = None) -> list[dict[str, Any]]:
    """Return the messages of a stream that has ended; they obey the rules."""
    frames = frames_of(*events, codec=codec)
    check_responses(frames, was_cut=False)
    return [json.loads(frame.data) for frame in frames]


def short(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Return what kinds of messages there are, with the index of the item that each is about."""
    return [
        f"{m['type'].removeprefix('response.')}"
        + (f" {m['output_index']}" if "output_index" in m else "")
        for m in messages
    ]


def output_of(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    output: list[dict[str, Any]] = messages[-1]["response"]["output"]
    return output


def text_of(messages: Sequence[dict[str, Any]]) -> str:
    return Response.model_validate(messages[-1]["response"]).output_text
