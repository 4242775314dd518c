"""The wire of Anthropic's Messages API, from the server's side."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from runtime.messages import Usage
from runtime.models.anthropic import AnthropicModel
from runtime.models.anthropic_wire import MessageDecoder
from runtime.models.base import Finish, ReasoningText, Text, ToolCallFragment
from tests.models.servers.loopback import KEY
from tests.models.servers.wire import Cue, Failure, Heard, Together

REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}


def event(kind: str, /, **fields: Any) -> bytes:
    """Return one event of the wire."""
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def start(usage: Usage | None = None) -> bytes:
    usage = usage or Usage()
    return event(
        "message_start",
        message={
            "id": "msg_01",
            "type": "message",
            "role": "assistant",
            "model": "m-2026",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": usage.prompt_tokens - (usage.cache_read_tokens or 0),
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": usage.cache_read_tokens,
                "output_tokens": 1,
            },
        },
    )


class _Answer:
    """Writes one answer: blocks are opened when they are first spoken of, and closed at the end."""

    def __init__(self) -> None:
        self._blocks: dict[object, int] = {}

    def _open(self, key: object, block: dict[str, Any]) -> tuple[int, bytes]:
        if key in self._blocks:
            return self._blocks[key], b""
        index = self._blocks[key] = len(self._blocks)
        return index, event("content_block_start", index=index, content_block=block)

    def say(self, delta: object) -> bytes:
        match delta:
            case Text():
                index, opened = self._open("text", {"type": "text", "text": ""})
                said = {"type": "text_delta", "text": delta.text}
            case ReasoningText():
                index, opened = self._open(
                    "thinking", {"type": "thinking", "thinking": "", "signature": ""}
                )
                said = {"type": "thinking_delta", "thinking": delta.text}
            case ToolCallFragment():
                index, opened = self._open(
                    delta.index,
                    {"type": "tool_use", "id": delta.id, "name": delta.name, "input": {}},
                )
                said = {"type": "input_json_delta", "partial_json": delta.arguments}
            case _:
                raise AssertionError(delta)
        return opened + event("content_block_delta", index=index, delta=said)

    def end(self, finish: Finish) -> bytes:
        stops = b"".join(event("content_block_stop", index=i) for i in self._blocks.values())
        usage = finish.usage or Usage()
        reason = REASONS.get(finish.reason, finish.reason)
        return (
            stops
            + event(
                "message_delta",
                delta={"stop_reason": reason, "stop_sequence": None},
                usage={
                    "output_tokens": usage.completion_tokens,
                    "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
                },
            )
            + event("message_stop")
        )

    def fail(self, word: str) -> bytes:
        return event("error", error={"type": word, "message": f"prompt with {KEY}"})


class Messages:
    path = "/v1/messages"
    busy = "overloaded_error"
    wrong_key = json.dumps(
        {
            "type": "error",
            "error": {"type": "authentication_error", "message": f"invalid x-api-key {KEY}"},
            "request_id": "req_1",
        }
    ).encode()

    def encode(self, cues: Iterable[Cue]) -> list[object]:
        cues = list(cues)
        usage = next((cue.usage for cue in cues if isinstance(cue, Finish)), None)
        answer = _Answer()
        pieces: list[object] = [start(usage), event("ping")]
        for cue in cues:
            match cue:
                case Text() | ReasoningText() | ToolCallFragment():
                    pieces.append(answer.say(cue))
                case Together():
                    pieces.append(b"".join(answer.say(delta) for delta in cue.deltas))
                case Finish():
                    pieces.append(answer.end(cue))
                case Failure():
                    pieces.append(answer.fail(cue.word))
                case _:
                    pieces.append(cue)
        return pieces

    def heard(self, body: dict[str, Any]) -> Heard:
        form = body.get("output_config", {}).get("format", {})
        return Heard(body.get("temperature"), body.get("max_tokens"), form.get("schema"))

    def decoder(self) -> MessageDecoder:
        return MessageDecoder()

    def model(self, url: str, **options: Any) -> AnthropicModel:
        return AnthropicModel("claude-x", base_url=url, api_key=KEY, **options)
