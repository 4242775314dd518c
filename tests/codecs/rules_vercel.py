"""What `ai` 6 and `ai` 7 bear: the chunks that both know, in the orders that neither chokes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gateway.codecs.codec import Frame

__all__ = ["SILENT_IN_VERCEL", "Client", "check_vercel", "chunks_of"]

FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "start": (set(), {"messageId", "messageMetadata"}),
    "start-step": (set(), set()),
    "finish-step": (set(), set()),
    "text-start": ({"id"}, {"providerMetadata"}),
    "text-delta": ({"id", "delta"}, {"providerMetadata"}),
    "text-end": ({"id"}, {"providerMetadata"}),
    "reasoning-start": ({"id"}, {"providerMetadata"}),
    "reasoning-delta": ({"id", "delta"}, {"providerMetadata"}),
    "reasoning-end": ({"id"}, {"providerMetadata"}),
    "tool-input-start": ({"toolCallId", "toolName"}, {"providerExecuted"}),
    "tool-input-delta": ({"toolCallId", "inputTextDelta"}, set()),
    "tool-input-available": ({"toolCallId", "toolName", "input"}, {"providerExecuted"}),
    "tool-input-error": ({"toolCallId", "toolName", "input", "errorText"}, {"providerExecuted"}),
    "tool-approval-request": ({"approvalId", "toolCallId"}, {"reason"}),
    "tool-output-available": ({"toolCallId", "output"}, {"providerExecuted", "preliminary"}),
    "tool-output-error": ({"toolCallId", "errorText"}, {"providerExecuted"}),
    "tool-output-denied": ({"toolCallId"}, set()),
    "message-metadata": ({"messageMetadata"}, set()),
    "finish": (set(), {"finishReason", "messageMetadata"}),
    "abort": (set(), {"reason"}),
    "error": ({"errorText"}, set()),
}
"""The chunks that both versions know, with the fields that each must and may have."""

DATA = ({"data"}, {"id", "transient"})
REASONS = {"stop", "length", "content-filter", "tool-calls", "error", "other"}
SETTLED = {"output-available", "output-error", "output-denied"}
ENDS = {"finish", "abort", "error"}


SILENT_IN_VERCEL = frozenset(
    {
        "checkpoint.saved",
        "edge.taken",
        "guardrail.tripped",
        "input.dequeued",
        "run.attempt_released",
        "input.steered",
        "message.started",
        "model.completed",
        "model.failed",
        "model.retrying",
        "model.started",
        "reasoning.started",
        "run.resumed",
        "run.stop_requested",
        "superstep.completed",
        "superstep.started",
    }
)
"""The types of events that never make a chunk."""


def chunks_of(frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Return the chunks of a stream, and check that it has one end: `[DONE]`."""
    assert all(frame.event is None for frame in frames)
    assert [frame.data for frame in frames].count(b"[DONE]") == 1
    assert frames[-1].data == b"[DONE]"
    return [json.loads(frame.data) for frame in frames[:-1]]


class Client:
    """A message as the clients put it together; raises where one of them would."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self.metadata: dict[str, Any] = {}
        self.message_id: str | None = None
        self.in_step = False
        self.end: str | None = None
        self.reason: str | None = None
        self._texts: dict[str, dict[str, Any]] = {}
        self._writing: set[str] = set()

    def text(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    def take(self, chunk: dict[str, Any]) -> None:
        kind = chunk["type"]
        must, may = DATA if kind.startswith("data-") else FIELDS[kind]
        given = set(chunk) - {"type"}
        assert must <= given <= must | may, chunk
        assert self.end is None, f"{kind} after {self.end}"
        begun = self.message_id is not None
        assert begun != (kind == "start") or kind == "error", chunk
        self.metadata |= chunk.get("messageMetadata", {})
        if kind in ENDS:
            self._finish(chunk)
        elif kind.startswith(("text-", "reasoning-")):
            self._speak(chunk)
        elif kind.startswith("tool-"):
            self._call(chunk)
        elif kind.startswith("data-"):
            self._data(chunk)
        elif kind == "start":
            self.message_id = chunk["messageId"]
        elif kind == "start-step":
            assert not self.in_step
            assert not [part for part in self.tools() if part["state"] not in SETTLED]
            self.in_step = True
            self.parts.append({"type": "step-start"})
        elif kind == "finish-step":
            assert self.in_step
            assert not self._texts, "ai 6 forgets what is open here"
            self.in_step = False

    def _finish(self, chunk: dict[str, Any]) -> None:
        self.end = chunk["type"]
        if self.end == "error":
            return
        assert not self.in_step
        assert not self._texts
        self.reason = chunk.get("finishReason")
        assert self.end == "abort" or self.reason in REASONS
        paused = self.metadata.get("status") == "interrupted"
        for part in self.tools():
            wanted = part["state"] == "input-available" and not part["providerExecuted"]
            asked = part["state"] == "approval-requested"
            assert part["state"] in SETTLED or (paused and (wanted or asked)), part
            assert not part.get("preliminary")

    def _speak(self, chunk: dict[str, Any]) -> None:
        kind, _, what = chunk["type"].partition("-")
        key = f"{kind}:{chunk['id']}"
        if what == "start":
            assert key not in self._texts
            part = {"type": kind, "id": chunk["id"], "text": ""}
            self._texts[key] = part
            self.parts.append(part)
        elif what == "delta":
            assert chunk["delta"]
            self._texts[key]["text"] += chunk["delta"]
        else:
            assert self._texts.pop(key)["text"]

    def tools(self, *, last_step: bool = False) -> list[dict[str, Any]]:
        parts = self.parts
        if last_step:
            starts = [at for at, part in enumerate(parts) if part["type"] == "step-start"]
            parts = parts[starts[-1] + 1 :] if starts else parts
        return [part for part in parts if part["type"] == "tool"]

    def _call(self, chunk: dict[str, Any]) -> None:
        kind, call_id = chunk["type"], chunk["toolCallId"]
        if kind.startswith("tool-input-"):
            self._input(chunk)
            return
        found = [part for part in self.tools() if part["id"] == call_id]
        assert found, f"{kind} without an input"
        part = found[-1]
        if kind == "tool-approval-request":
            part |= {"state": "approval-requested", "approval": chunk["approvalId"]}
            return
        part["state"] = kind.removeprefix("tool-")
        part["output"] = chunk.get("output", chunk.get("errorText"))
        part["preliminary"] = chunk.get("preliminary", False)
        part["providerExecuted"] = chunk.get("providerExecuted", part["providerExecuted"])

    def _input(self, chunk: dict[str, Any]) -> None:
        kind, call_id = chunk["type"], chunk["toolCallId"]
        here = [part for part in self.tools(last_step=True) if part["id"] == call_id]
        if kind == "tool-input-delta":
            assert call_id in self._writing
            return
        if not here:
            open_before = [p for p in self.tools() if p["id"] == call_id]
            assert all(part["state"] in SETTLED for part in open_before), "a second part"
            self.parts.append({"type": "tool", "id": call_id})
            here = [self.parts[-1]]
        elif kind == "tool-input-start":
            assert here[-1]["state"] in SETTLED
        if kind == "tool-input-start":
            self._writing.add(call_id)
        else:
            self._writing.discard(call_id)
        state = {
            "tool-input-start": "input-streaming",
            "tool-input-available": "input-available",
            "tool-input-error": "output-error",
        }[kind]
        here[-1] |= {
            "state": state,
            "name": chunk["toolName"],
            "input": chunk.get("input"),
            "providerExecuted": chunk["providerExecuted"],
        }

    def _data(self, chunk: dict[str, Any]) -> None:
        if chunk.get("transient"):
            return
        key = (chunk["type"], chunk.get("id"))
        for part in self.parts:
            if key[1] is not None and (part["type"], part.get("id")) == key:
                part["data"] = chunk["data"]
                return
        self.parts.append(dict(chunk))


def check_vercel(frames: Sequence[Frame], cut: bool) -> None:
    """Raise AssertionError if a client would not bear this stream."""
    client = Client()
    for chunk in chunks_of(frames):
        client.take(chunk)
    if cut:
        assert client.end == "error"
    else:
        assert client.end is not None
