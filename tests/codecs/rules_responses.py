"""The rules of a stream of the Responses API, as OpenAI's own clients hold servers to them.

From what openai-python and openai-node check while they accumulate a stream, and from the types of
openai-python, which every message has to fit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.codecs.codec import Frame

__all__ = ["SILENT_IN_RESPONSES", "check_responses"]

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_LIFE = {"response.created", "response.queued", "response.in_progress"}
_ENDS = {"response.completed", "response.failed", "response.incomplete"}
_ABOUT_AN_ITEM = {
    "message": ("response.content_part", "response.output_text"),
    "reasoning": ("response.reasoning_summary_part", "response.reasoning_summary_text"),
    "function_call": ("response.function_call_arguments",),
    "mcp_call": ("response.mcp_call", "response.mcp_call_arguments"),
    "mcp_approval_request": (),
}

SILENT_IN_RESPONSES = frozenset(
    {
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
        "model.completed",
        "model.failed",
        "model.retrying",
        "model.started",
        "node.completed",
        "node.failed",
        "node.started",
        "node.update",
        "run.attempt_started",
        "run.stop_requested",
        "superstep.completed",
        "superstep.started",
        "tool.progress",
        "tool_call.delta",
        "tool_call.ready",
        "tool_call.started",
    }
)
"""What makes no message. Calls of tools that are not the client's are told when they run."""


def check_responses(frames: Sequence[Frame], was_cut: bool) -> None:
    """Raise AssertionError if OpenAI's clients would not bear these messages in this order."""
    stream = _Stream()
    for frame in frames:
        event = json.loads(frame.data)
        assert frame.event == event["type"]
        _EVENT.validate_python(event)
        stream.take(event)
    stream.end(was_cut=was_cut)


class _Stream:
    def __init__(self) -> None:
        self.number = 0
        self.life: list[str] = []
        self.id = ""
        self.items: list[dict[str, Any]] = []
        self.open: set[int] = set()
        self.texts: dict[int, str] = {}
        self.whole: dict[int, str] = {}
        self.cut = False

    def take(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        assert not self.cut, "nothing follows an error"
        assert not _ENDS & set(self.life), "nothing follows the end"
        if kind == "error":
            self.cut = True
            assert event["sequence_number"] == max(self.number - 1, 0)
            return
        assert event["sequence_number"] == self.number
        self.number += 1
        if kind in _LIFE | _ENDS:
            self._response(kind, event["response"])
        elif kind == "response.output_item.added":
            self._added(event["output_index"], event["item"])
        elif kind == "response.output_item.done":
            self._done(event["output_index"], event["item"])
        else:
            self._about(kind, event)

    def _response(self, kind: str, response: dict[str, Any]) -> None:
        if not self.life:
            assert kind == "response.created"
            self.id = response["id"]
        assert response["id"] == self.id
        allowed: dict[str, list[list[str]]] = {
            "response.created": [[]],
            "response.queued": [["response.created"]],
            "response.in_progress": [["response.created"], ["response.created", "response.queued"]],
        }
        assert kind in _ENDS or self.life in allowed[kind]
        self.life.append(kind)
        if kind not in _ENDS:
            assert response["output"] == []
            assert response["usage"] is None
            assert response["status"] in {"queued", "in_progress"}
            return
        assert not self.open, "all that was opened is closed before the end"
        assert response["usage"] is not None
        statuses = {
            "response.completed": {"completed"},
            "response.failed": {"failed"},
            "response.incomplete": {"incomplete", "cancelled"},
        }
        assert response["status"] in statuses[kind]
        assert (response["error"] is not None) == (kind == "response.failed")
        done = [item for item in self.items if item in response["output"]]
        assert done == response["output"], "the output is of the items that were closed, in order"

    def _added(self, index: int, item: dict[str, Any]) -> None:
        assert self.life, "a response is created before its items"
        assert self.life[-1] != "response.queued"
        assert index == len(self.items)
        assert item["id"], "an item has an id"
        assert item["id"] not in {known["id"] for known in self.items}
        if item["type"] == "function_call":
            calls = [known["call_id"] for known in self.items if known["type"] == "function_call"]
            assert item["call_id"] not in calls
        if item["type"] != "mcp_approval_request":
            assert item["status"] == "in_progress"
        self.items.append(item)
        self.open.add(index)

    def _done(self, index: int, item: dict[str, Any]) -> None:
        assert index in self.open
        self.open.remove(index)
        was = self.items[index]
        same = ("id", "type", "call_id", "name")
        assert [was.get(key) for key in same] == [item.get(key) for key in same]
        assert item.get("status") != "in_progress"
        if index in self.whole:
            match item["type"]:
                case "message":
                    assert item["content"][0]["text"] == self.whole[index]
                case "reasoning":
                    assert item["summary"][0]["text"] == self.whole[index]
                case "mcp_call":
                    assert item["arguments"] == self.whole[index]
                case _:  # a hook may have changed what a client is to call with
                    pass
        self.items[index] = item

    def _about(self, kind: str, event: dict[str, Any]) -> None:
        index = event["output_index"]
        assert index in self.open, f"{kind} is about an open item"
        item = self.items[index]
        assert event["item_id"] == item["id"]
        base, _, what = kind.rpartition(".")
        assert base in _ABOUT_AN_ITEM[item["type"]]
        assert event.get("content_index", 0) == 0
        assert event.get("summary_index", 0) == 0
        if what == "delta":
            assert index not in self.whole, "no delta after the whole"
            self.texts[index] = self.texts.get(index, "") + event["delta"]
        elif what == "done" and "part" not in event:
            text = event.get("text", event.get("arguments"))
            assert self.texts.get(index, "") == text, "the deltas, joined, are the whole"
            self.whole[index] = text

    def end(self, *, was_cut: bool) -> None:
        if was_cut:
            assert self.cut or _ENDS & set(self.life)
        elif self.life:
            assert self.life[-1] in _ENDS, "a stream ends with the end of its response"
