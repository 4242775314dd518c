"""From what a LangGraph graph streams to events."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata

from runtime.adapters.answer import Answer
from runtime.adapters.langgraph_callbacks import (
    Happening,
    ModelEnds,
    ModelFails,
    ModelSpeaks,
    ModelStarts,
    ToolEnds,
    ToolFails,
    ToolStarts,
    place,
)
from runtime.adapters.speaking import Speaker
from runtime.events import (
    Custom,
    ErrorInfo,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    NodeUpdate,
)
from runtime.failure import error_info
from runtime.messages import Usage
from runtime.plain import plain

__all__ = ["Ears", "without_messages"]

INTERRUPTED = ErrorInfo(code="interrupted", message="it waits for a human")
"""Why a node is closed that goes on later; the words of our own graphs."""


MADE = "lc_run--"
"""Begins the ids that LangChain makes of a call's id, where the provider gives none."""


class Ears:
    """Hears one run. `hear` each piece of the stream, in order."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._report = speaker.report
        self._answers: dict[UUID | str, Answer] = {}  # by call; by message, of calls not told
        self._call_of: dict[str, UUID] = {}  # by message
        self._tool_calls: dict[tuple[str, int | None], tuple[str, str]] = {}
        self._hidden: set[UUID] = set()
        self._held: tuple[BaseMessage, Mapping[str, Any]] | None = None
        self._counted: set[str] = set()  # messages of hidden calls
        self._ended: set[str] = set()
        self._nodes: dict[str, float] = {}
        self._running: dict[tuple[tuple[str, ...], str], int] = {}

    async def hear(self, namespace: Sequence[str], mode: str, data: Any) -> None:
        """Report one piece: of a message, of a node's life, or what somebody said."""
        if self._held is not None:
            await self._let_go(data)
        path = (*self._report.path, *place(namespace))
        if mode == "tasks":
            await self._node(path, data)
        elif mode == "messages":
            await self._message(*data)
        elif isinstance(data, Happening):
            await self._happening(data)
        else:
            await self._said(path, data)

    async def _let_go(self, following: Any = None) -> None:
        """Report the message that was held back, if what follows it says whose it is, or not.

        LangGraph may stream a message before our callback can tell from which call it comes: the
        callback is then the very next.
        """
        if self._held is None:
            return
        (message, metadata), self._held = self._held, None
        key = _key(message.id)
        match following:
            case ModelSpeaks(call=call, message_id=message_id) if _key(message_id) == key:
                self._call_of[key] = call
            case ModelEnds(call=call, message=ended) if _key(ended.id) == key:
                self._call_of[key] = call
            case _:
                pass
        await self._message(message, metadata, sure=True)

    async def ends(self) -> None:
        """Take the end of the stream: what models said is whole then."""
        await self._let_go()
        for answer in self._answers.values():
            await answer.ends()
        self._answers.clear()

    # --- nodes ---------------------------------------------------------------------------------

    async def _node(self, path: tuple[str, ...], task: Mapping[str, Any]) -> None:
        """Report a node; several runs of one node at once are one."""
        node, key = task["name"], (path, task["name"])
        if "input" in task:
            self._nodes[task["id"]] = time.monotonic()
            self._running[key] = self._running.get(key, 0) + 1
            if self._running[key] == 1:
                await self._report(NodeStarted(run_id=self._report.run_id, path=path, node=node))
            return
        began = self._nodes.pop(task["id"], time.monotonic())
        self._running[key] = self._running.get(key, 1) - 1
        run_id, last = self._report.run_id, not self._running[key]
        updates = without_messages(task.get("result"))
        if not last:
            if updates:
                await self._report(NodeUpdate(run_id=run_id, path=path, node=node, updates=updates))
            return
        if task.get("interrupts") or task.get("error"):
            failed = ErrorInfo(code="node_failed", message=f"node {node!r} failed", node=node)
            error = INTERRUPTED if task.get("interrupts") else failed
            await self._report(NodeFailed(run_id=run_id, path=path, node=node, error=error))
            return
        await self._report(
            NodeCompleted(
                run_id=run_id,
                path=path,
                node=node,
                updates=updates,
                duration_ms=round((time.monotonic() - began) * 1000, 3),
            )
        )
        if path == self._report.path:
            self._speaker.after_step()

    async def _said(self, path: tuple[str, ...], data: Any) -> None:
        """Report what a node wrote to its stream: as its update, if only one can have done it."""
        run_id = self._report.run_id
        there = [node for (where, node), count in self._running.items() if where == path and count]
        if len(there) == 1 and isinstance(data, Mapping):
            updates = plain(dict(data), f"node {there[0]!r}")
            await self._report(NodeUpdate(run_id=run_id, path=path, node=there[0], updates=updates))
            return
        payload = plain(data, "a node")
        await self._report(Custom(run_id=run_id, path=path, name="update", payload=payload))

    # --- messages ------------------------------------------------------------------------------

    async def _message(
        self, message: BaseMessage, metadata: Mapping[str, Any], *, sure: bool = False
    ) -> None:
        if isinstance(message, ToolMessage):
            await self._tool_said(message)
            return
        if not isinstance(message, AIMessage):
            return
        key = _key(message.id)
        where = place(str(metadata.get("langgraph_checkpoint_ns", "")))
        call = self._call_of.get(key) or self._made_of(key)
        if key in self._ended:
            return
        if call is None and not sure:
            self._held = message, metadata
            return
        if isinstance(message, AIMessageChunk):
            answer = self._answers.get(call or key)
            if answer is None:  # a model whose beginning nobody told
                answer = self._answers[key] = self._speaker.says((*self._report.path, *where))
            await self._piece(key, answer, message)
        elif call is None or call in self._hidden:  # said by the node, and not by a model just now
            answer = self._speaker.says((*self._report.path, *where))
            await self._whole(answer, message)
            await answer.ends(None if key in self._counted else _usage(message.usage_metadata))
            self._ended.add(key)

    def _made_of(self, key: str) -> UUID | None:
        """Return the call that LangChain made this id of, if it did and the call is known."""
        calls = (call for call in self._answers if isinstance(call, UUID))
        return next((call for call in calls if key == f"{MADE}{call}"), None)

    async def _piece(self, key: str, answer: Answer, chunk: AIMessageChunk) -> None:
        await _speak(answer, chunk)
        for piece in chunk.tool_call_chunks:
            index = key, piece.get("index")
            if piece.get("id") and piece.get("name"):
                self._tool_calls[index] = str(piece["id"]), str(piece["name"])
            if (call := self._tool_calls.get(index)) is not None:
                await answer.calls(*call, piece.get("args") or "")

    async def _whole(self, answer: Answer, message: AIMessage) -> None:
        if not answer.text:
            await _speak(answer, message)
        for call in message.tool_calls:
            arguments = answer.arguments(call["id"] or "") or json.dumps(call["args"])
            await answer.ready(call["id"] or "", call["name"], arguments)

    async def _tool_said(self, message: ToolMessage) -> None:
        """Report a tool's result, if nobody told it when the tool was done."""
        if message.tool_call_id in self._ended:
            return
        self._ended.add(message.tool_call_id)
        name = message.name or "tool"
        if message.status == "error":
            error = ErrorInfo(code="tool_failed", message=str(message.text))
            await self._speaker.tool_ends(message.tool_call_id, name, error=error)
        else:
            await self._speaker.tool_ends(message.tool_call_id, name, message.content)

    # --- what the callbacks tell ---------------------------------------------------------------

    async def _happening(self, happening: Happening) -> None:  # noqa: C901 - one table
        root = self._report.path
        match happening:
            case ModelStarts(hidden=True):
                self._hidden.add(happening.call)
            case ModelStarts():
                answer = await self._speaker.asks(
                    happening.model, happening.messages, (*root, *happening.place)
                )
                self._answers[happening.call] = answer
            case ModelSpeaks():
                self._call_of[_key(happening.message_id)] = happening.call
            case ModelEnds():
                await self._model_ends(happening.call, happening.message)
            case ModelFails():
                if (failed := self._answers.pop(happening.call, None)) is not None:
                    await failed.fails(error_info(happening.error))
            case ToolStarts():
                await self._speaker.tool_starts(
                    happening.call_id,
                    happening.name,
                    happening.arguments,
                    (*root, *happening.place),
                )
            case ToolEnds(output=ToolMessage() as message):
                await self._tool_said(message)
            case ToolEnds():
                pass  # its message comes with what the node returns
            case ToolFails():
                self._ended.add(happening.call_id)
                text = f"{type(happening.error).__name__}: {happening.error}"
                error = ErrorInfo(code="tool_error", message=text)
                await self._speaker.tool_ends(happening.call_id, "tool", error=error)

    async def _model_ends(self, call: UUID, message: BaseMessage) -> None:
        usage = _usage(message.usage_metadata) if isinstance(message, AIMessage) else None
        key = _key(message.id or f"{MADE}{call}")
        if call in self._hidden:
            self._speaker.usage += usage or Usage()
            self._counted.add(key)
            return
        answer = self._answers.pop(call, None)
        if answer is None or not isinstance(message, AIMessage):
            return
        await self._whole(answer, message)
        told = message.response_metadata
        await answer.ends(
            usage,
            finish_reason=told.get("finish_reason") or told.get("stop_reason"),
            model=told.get("model_name") or told.get("model"),
            response_id=told.get("id"),
        )
        self._ended.add(key)


def _key(message_id: str | None) -> str:
    """Return a message's id as it is while it streams; a whole one has a number after it."""
    message_id = message_id or ""
    return message_id[: len(MADE) + 36] if message_id.startswith(MADE) else message_id


async def _speak(answer: Answer, message: AIMessage) -> None:
    """Take text and reasoning, in whichever of the many ways a provider writes them."""
    for block in message.content_blocks:
        if block["type"] == "text":
            await answer.says(block["text"])
        elif block["type"] == "reasoning":
            await answer.thinks(block.get("reasoning") or "")


def _usage(told: UsageMetadata | None) -> Usage | None:
    if told is None:
        return None
    return Usage(
        prompt_tokens=told["input_tokens"],
        completion_tokens=told["output_tokens"],
        total_tokens=told["total_tokens"],
        cache_read_tokens=told.get("input_token_details", {}).get("cache_read"),
        reasoning_tokens=told.get("output_token_details", {}).get("reasoning"),
    )


def without_messages(values: Any) -> dict[str, Any] | None:
    """Return keys of a state as clients see them: without messages, which are told as such."""
    if not isinstance(values, Mapping):
        return None
    return {
        str(key): plain(value, f"key {key!r}")
        for key, value in values.items()
        if not _are_messages(value)
    } or None


def _are_messages(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    return bool(parts) and all(isinstance(part, BaseMessage) for part in parts)
