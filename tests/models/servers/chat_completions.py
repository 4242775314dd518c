"""OpenAI's chat completions wire, from the server's side."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from runtime.messages import Usage
from runtime.models.base import Finish, ReasoningText, Text, ToolCallFragment
from runtime.models.openai import OpenAIModel
from runtime.models.openai_wire import ChunkDecoder
from tests.models.servers.loopback import KEY
from tests.models.servers.wire import Cue, Failure, Heard, Together

DONE = b"data: [DONE]\n\n"


def chunk(
    delta: dict[str, Any] | None = None,
    *,
    finish: str | None = None,
    usage: dict[str, Any] | None = None,
) -> bytes:
    """Return one chunk as a server-sent event."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-2026",
        "choices": choices,
        "usage": usage,
    }
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


class ChatCompletions:
    path = "/v1/chat/completions"
    busy = "rate_limit_exceeded"
    wrong_key = json.dumps(
        {
            "error": {
                "message": f"Incorrect API key provided: {KEY}",
                "type": "invalid_request_error",
                "param": None,
                "code": "invalid_api_key",
            }
        }
    ).encode()

    def encode(self, cues: Iterable[Cue]) -> list[object]:
        pieces: list[object] = [chunk({"role": "assistant", "content": "", "refusal": None})]
        for cue in cues:
            match cue:
                case Text() | ReasoningText() | ToolCallFragment():
                    pieces.append(chunk(self._delta(cue)))
                case Together():
                    merged: dict[str, Any] = {}
                    for delta in cue.deltas:
                        merged |= self._delta(delta)
                    pieces.append(chunk(merged))
                case Finish():
                    pieces.append(chunk({}, finish=cue.reason))
                    if cue.usage is not None:
                        pieces.append(chunk(usage=_usage(cue.usage)))
                    pieces.append(DONE)
                case Failure():
                    error = {"message": f"prompt with {KEY}", "type": cue.word, "code": None}
                    pieces.append(f"data: {json.dumps({'error': error})}\n\n".encode())
                case _:
                    pieces.append(cue)
        return pieces

    def heard(self, body: dict[str, Any]) -> Heard:
        form = body.get("response_format", {}).get("json_schema", {})
        return Heard(
            body.get("temperature"), body.get("max_tokens"), form.get("schema"), form.get("name")
        )

    def decoder(self) -> ChunkDecoder:
        return ChunkDecoder()

    def model(self, url: str, **options: Any) -> OpenAIModel:
        return OpenAIModel("gpt-x", base_url=f"{url}/v1", api_key=KEY, **options)

    @staticmethod
    def _delta(delta: object) -> dict[str, Any]:
        match delta:
            case Text():
                return {"content": delta.text}
            case ReasoningText():
                return {"reasoning_content": delta.text}
            case ToolCallFragment():
                function: dict[str, Any] = {"arguments": delta.arguments}
                call: dict[str, Any] = {"index": delta.index, "function": function}
                if delta.name is not None:
                    function["name"] = delta.name
                    call |= {"id": delta.id, "type": "function"}
                return {"tool_calls": [call]}
            case _:
                raise AssertionError(delta)
