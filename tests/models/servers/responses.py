"""The wire of OpenAI's Responses API, from the server's side."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from runtime.messages import Usage
from runtime.models.base import Finish, ReasoningText, Text, ToolCallFragment
from runtime.models.openai_responses import OpenAIResponsesModel
from runtime.models.responses_wire import ResponseDecoder
from tests.models.servers.chat_completions import ChatCompletions
from tests.models.servers.loopback import KEY
from tests.models.servers.wire import Cue, Failure, Heard, Together


def event(kind: str, /, **fields: Any) -> bytes:
    """Return one event of the wire."""
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def response(status: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": "m-2026",
        "output": [],
        "store": False,
        "usage": None,
        "text": {"format": {"type": "text"}},
        **fields,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


@dataclass
class _Item:
    """An item of the answer that is being written."""

    index: int
    kind: str
    id: str
    call_id: str | None = None
    name: str | None = None
    parts: list[str] = field(default_factory=list)

    def body(self, status: str) -> dict[str, Any]:
        whole = "".join(self.parts)
        if self.kind == "function_call":
            return {
                "type": "function_call",
                "id": self.id,
                "call_id": self.call_id,
                "name": self.name,
                "arguments": whole,
                "status": status,
            }
        if self.kind == "reasoning":
            return {"type": "reasoning", "id": self.id, "summary": []}
        content = [{"type": "output_text", "text": whole, "annotations": []}] if whole else []
        return {
            "type": "message",
            "id": self.id,
            "role": "assistant",
            "status": status,
            "content": content,
        }


class _Answer:
    """Writes one answer: items are opened when they are first spoken of, and closed at the end."""

    def __init__(self) -> None:
        self._number = 0
        self._items: dict[object, _Item] = {}

    def event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return event(kind, sequence_number=self._number, **fields)

    def begin(self) -> bytes:
        return self.event("response.created", response=response("in_progress")) + self.event(
            "response.in_progress", response=response("in_progress")
        )

    def _open(self, key: object, kind: str, **fields: Any) -> tuple[_Item, bytes]:
        if key in self._items:
            return self._items[key], b""
        index = len(self._items)
        item = self._items[key] = _Item(index, kind, f"{kind}_{index}", **fields)
        opened = self.event(
            "response.output_item.added", output_index=index, item=item.body("in_progress")
        )
        return item, opened

    def say(self, delta: object) -> bytes:
        match delta:
            case Text():
                item, opened = self._open("message", "message")
                item.parts.append(delta.text)
                kind, place, said = "output_text", {"content_index": 0, "logprobs": []}, delta.text
            case ReasoningText():
                item, opened = self._open("reasoning", "reasoning")
                kind, place, said = "reasoning_summary_text", {"summary_index": 0}, delta.text
                if opened:
                    opened += self.event(
                        "response.reasoning_summary_part.added",
                        output_index=item.index,
                        item_id=item.id,
                        summary_index=0,
                        part={"type": "summary_text", "text": ""},
                    )
            case ToolCallFragment():
                item, opened = self._open(
                    delta.index, "function_call", call_id=delta.id, name=delta.name
                )
                item.parts.append(delta.arguments)
                kind, place, said = "function_call_arguments", {}, delta.arguments
                if not said:
                    return opened
            case _:
                raise AssertionError(delta)
        return opened + self.event(
            f"response.{kind}.delta",
            item_id=item.id,
            output_index=item.index,
            delta=said,
            obfuscation="x7",
            **place,
        )

    def end(self, finish: Finish) -> bytes:
        written = b""
        for item in self._items.values():
            if item.kind == "function_call":
                written += self.event(
                    "response.function_call_arguments.done",
                    item_id=item.id,
                    output_index=item.index,
                    arguments="".join(item.parts),
                )
            elif item.kind == "message":
                written += self.event(
                    "response.output_text.done",
                    item_id=item.id,
                    output_index=item.index,
                    content_index=0,
                    text="".join(item.parts),
                )
            written += self.event(
                "response.output_item.done", output_index=item.index, item=item.body("completed")
            )
        usage = None if finish.usage is None else _usage(finish.usage)
        if finish.reason in {"stop", "tool_calls"}:
            return written + self.event(
                "response.completed", response=response("completed", usage=usage)
            )
        reason = {"length": "max_output_tokens"}.get(finish.reason, finish.reason)
        return written + self.event(
            "response.incomplete",
            response=response("incomplete", usage=usage, incomplete_details={"reason": reason}),
        )

    def fail(self, word: str) -> bytes:
        return self.event("error", code=word, message=f"prompt with {KEY}", param=None)


class Responses:
    path = "/v1/responses"
    busy = "rate_limit_exceeded"
    wrong_key = ChatCompletions.wrong_key

    def encode(self, cues: Iterable[Cue]) -> list[object]:
        answer = _Answer()
        pieces: list[object] = [answer.begin()]
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
        form = body.get("text", {}).get("format", {})
        return Heard(
            body.get("temperature"),
            body.get("max_output_tokens"),
            form.get("schema"),
            form.get("name"),
        )

    def decoder(self) -> ResponseDecoder:
        return ResponseDecoder()

    def model(self, url: str, **options: Any) -> OpenAIResponsesModel:
        return OpenAIResponsesModel("gpt-x", base_url=f"{url}/v1", api_key=KEY, **options)
