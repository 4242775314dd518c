"""What a LangGraph graph does not stream by itself: when models and tools begin, end and fail.

A callback says it through the stream writer of the node that it happens in, so that it comes in
order with all else that the graph streams.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.config import get_stream_writer
from langgraph.errors import GraphBubbleUp

__all__ = [
    "Callbacks",
    "Happening",
    "ModelEnds",
    "ModelFails",
    "ModelSpeaks",
    "ModelStarts",
    "ToolEnds",
    "ToolFails",
    "ToolStarts",
    "place",
]

UNSTREAMED = frozenset({"nostream", "langsmith:nostream"})
"""Tags by which a graph's author hides what a model says."""


@dataclass(frozen=True, slots=True)
class ModelStarts:
    """A model is called; `hidden` if what it says is not to be shown."""

    call: UUID
    place: tuple[str, ...]
    model: str
    messages: int
    hidden: bool


@dataclass(frozen=True, slots=True)
class ModelSpeaks:
    """What it says has this id, which many providers choose themselves."""

    call: UUID
    message_id: str


@dataclass(frozen=True, slots=True)
class ModelEnds:
    """It has said `message`."""

    call: UUID
    message: BaseMessage


@dataclass(frozen=True, slots=True)
class ModelFails:
    """It failed."""

    call: UUID
    error: BaseException


@dataclass(frozen=True, slots=True)
class ToolStarts:
    """A tool runs, because a model called it."""

    call_id: str
    place: tuple[str, ...]
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolEnds:
    """It gave `output`."""

    call_id: str
    output: Any


@dataclass(frozen=True, slots=True)
class ToolFails:
    """It failed."""

    call_id: str
    error: BaseException


Happening = ModelStarts | ModelSpeaks | ModelEnds | ModelFails | ToolStarts | ToolEnds | ToolFails


def place(namespace: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names in a namespace such as `node:id|inner:id`."""
    parts = namespace.split("|") if isinstance(namespace, str) else namespace
    names = (part.split(":", 1)[0] for part in parts)
    return tuple(name for name in names if name and not name.isdigit())


class Callbacks(BaseCallbackHandler):
    """Listens to models and tools of one run."""

    run_inline = True  # in the task or thread of the node, where its stream writer is

    def __init__(self) -> None:
        self._tools: dict[UUID, str] = {}
        self._spoke: set[tuple[UUID, str]] = set()

    def on_chat_model_start(
        self,
        serialized: Mapping[str, Any],
        messages: Sequence[Sequence[BaseMessage]],
        *,
        run_id: UUID,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Tell that a model is called."""
        known = metadata or {}
        name = known.get("ls_model_name") or known.get("ls_provider") or "unknown"
        hidden = not UNSTREAMED.isdisjoint(tags or ())
        _say(ModelStarts(run_id, _place(known), str(name), len(messages[0]), hidden))

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: Any = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Tell whose message a piece belongs to; LangGraph streams the piece after this."""
        message_id = getattr(getattr(chunk, "message", None), "id", None)
        if message_id and (run_id, message_id) not in self._spoke:
            self._spoke.add((run_id, message_id))
            _say(ModelSpeaks(run_id, message_id))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell that a model is done."""
        for generations in response.generations:
            for generation in generations:
                if isinstance(generation, ChatGeneration):
                    _say(ModelEnds(run_id, generation.message))
                    return

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell that a model failed."""
        if isinstance(error, Exception):
            _say(ModelFails(run_id, error))

    def on_tool_start(
        self,
        serialized: Mapping[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        metadata: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Tell that a tool runs. One that no model called has no id, and is the node's affair."""
        if (call_id := kwargs.get("tool_call_id")) is None:
            return
        self._tools[run_id] = call_id
        arguments = json.dumps(inputs, default=str) if inputs is not None else input_str
        name = str(serialized.get("name", "tool"))
        _say(ToolStarts(call_id, _place(metadata or {}), name, arguments))

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell that a tool is done."""
        if (call_id := self._tools.pop(run_id, None)) is not None:
            _say(ToolEnds(call_id, output))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell that a tool failed; one that waits for a human has not."""
        call_id = self._tools.pop(run_id, None)
        if call_id is not None and not isinstance(error, GraphBubbleUp):
            _say(ToolFails(call_id, error))


def _place(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    return place(str(metadata.get("langgraph_checkpoint_ns", "")))


def _say(happening: Happening) -> None:
    with contextlib.suppress(RuntimeError):  # not in a node: nobody listens
        get_stream_writer()(happening)
