"""From a run's events to the chunks of a chat completion. Pure.

What is said in the run's own conversation is the `content`: of a graph, what its nodes say, one
after the other; of agents that were called as tools, nothing. A blank line stands between two
messages. Where what a run gives back was not said by anybody, as with graphs that compute, it is
said at the end. The server's own tools are not shown, because a client would try to run them; those
of the client's are, once the run waits for them: before that, a hook may still refuse the call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from gateway.codecs.codec import Frame
from gateway.codecs.openai.chat_completions.failure import End, Failure, failure_of
from gateway.codecs.openai.chat_completions.floor import Field, Floor, Piece, clear, close, say
from gateway.codecs.openai.error import error_object
from gateway.log.entry import Entry
from runtime.events import (
    ApprovalRequested,
    ApprovalResolved,
    Event,
    InputAccepted,
    InputQueued,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelCompleted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
    RunStarted,
)
from runtime.journal import spoken_below
from runtime.messages import Usage

__all__ = ["ChatCompletions", "ChatState"]

BETWEEN_MESSAGES = "\n\n"
DONE = Frame(b"[DONE]")

_FINISH = {"length": "length", "content_filter": "content_filter"}
"""Why a run ended, in the words of these clients; all else is `stop`."""

OPENING = (InputAccepted, InputQueued, RunStarted, RunResumed)

Speech = (
    MessageStarted
    | MessageDelta
    | MessageCompleted
    | ReasoningStarted
    | ReasoningDelta
    | ReasoningCompleted
)


@dataclass(frozen=True, slots=True)
class ChatState:
    """Where an answer stands.

    Attributes:
        id: The answer's id; empty before the first event.
        is_open: Whether anything was sent.
        created: When the run began, in seconds since 1970.
        floor: Who speaks.
        said: The ids of the message and of the reasoning that were said last.
        told: The whole texts of the messages so far.
        calls: How many calls of the client's tools were shown.
        decisions: The approvals that wait for a decision, which this client cannot give.
        usage: What the model calls took so far.
        failure: Why there is no answer, if there is none.
    """

    id: str = ""
    is_open: bool = False
    created: int = 0
    floor: Floor = ()
    said: tuple[tuple[Field, str], ...] = ()
    told: tuple[str, ...] = ()
    calls: int = 0
    decisions: frozenset[str] = frozenset()
    usage: Usage = field(default_factory=Usage)
    failure: Failure | None = None


Step = tuple[ChatState, list[Frame]]


@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """The chunks of one answer.

    Attributes:
        model: What the client called the agent.
        include_usage: Whether a chunk at the end says how many tokens it took.
        superseded: Messages that are left out, because what they say was said anew.
    """

    model: str
    include_usage: bool = False
    superseded: frozenset[str] = frozenset()

    def begin(self) -> ChatState:
        """Return the state before the first event."""
        return ChatState()

    def encode(self, state: ChatState, event: Event, entry: Entry) -> Step:
        """Say an event. The answer is opened as soon as the run is known, before anything is said."""
        if not state.id:
            name = f"chatcmpl-{entry.session_id}.{event.run_id or 'none'}"
            state = replace(state, id=name, created=entry.at // 1000)
        state, frames = self._said(state, event, entry)
        if not state.is_open and (frames or isinstance(event, OPENING)):
            state = replace(state, is_open=True)
            role = {"role": "assistant", "content": "", "refusal": None}
            frames = [self._chunk(state, role), *frames]
        return state, frames

    def _said(self, state: ChatState, event: Event, entry: Entry) -> Step:
        match event:
            case (
                MessageStarted()
                | MessageDelta()
                | MessageCompleted()
                | ReasoningStarted()
                | ReasoningDelta()
                | ReasoningCompleted()
            ):
                return self._speech(state, event)
            case ModelCompleted(usage=Usage() as usage):
                return replace(state, usage=state.usage + usage), []
            case ApprovalRequested() | ApprovalResolved():
                return self._approval(state, event)
            case RunCompleted() | RunFailed() | RunCancelled() | RunInterrupted():
                return self._end(state, event, entry)
            case _:
                return state, []

    def cut(self, state: ChatState, reason: str) -> list[Frame]:
        """Say that the server stops: without a word, an end would look like a whole answer."""
        if reason == "shutdown":
            return [_error(Failure(503, "shutting_down", "the server is shutting down"))]
        return [_error(Failure(503, reason, "the answer cannot be sent any further"))]

    # --- what is said --------------------------------------------------------------------------

    def _speech(self, state: ChatState, event: Speech) -> Step:
        if spoken_below(event.path) or event.message_id in self.superseded:
            return state, []
        reasons = isinstance(event, ReasoningStarted | ReasoningDelta | ReasoningCompleted)
        where: Field = "reasoning_content" if reasons else "content"
        text = "" if isinstance(event, MessageStarted | ReasoningStarted) else event.text
        piece = Piece(where, event.message_id, text)
        if isinstance(event, MessageCompleted | ReasoningCompleted):
            floor, pieces = close(state.floor, event.path, piece)
        else:
            floor, pieces = say(state.floor, event.path, piece)
        state = replace(state, floor=floor)
        if isinstance(event, MessageCompleted):
            state = replace(state, told=(*state.told, event.text))
        return self._say(state, pieces)

    def _say(self, state: ChatState, pieces: Iterable[Piece]) -> Step:
        frames: list[Frame] = []
        said = dict(state.said)
        for where, message_id, text in pieces:
            between = "" if said.get(where, message_id) == message_id else BETWEEN_MESSAGES
            said[where] = message_id
            frames.append(self._chunk(state, {where: between + text}))
        return replace(state, said=tuple(said.items())), frames

    def _approval(self, state: ChatState, event: ApprovalRequested | ApprovalResolved) -> Step:
        if isinstance(event, ApprovalResolved):
            return replace(state, decisions=state.decisions - {event.approval_id}), []
        if event.wants is None:
            return replace(state, decisions=state.decisions | {event.approval_id}), []
        function = {"name": event.tool, "arguments": ""}
        call = {"index": state.calls, "id": event.call_id, "type": "function", "function": function}
        # A model may leave out the arguments of a tool that needs none; no JSON parser may.
        arguments = {"arguments": event.arguments or "{}"}
        rest = {"index": state.calls, "function": arguments}
        frames = [self._chunk(state, {"tool_calls": [part]}) for part in (call, rest)]
        return replace(state, calls=state.calls + 1), frames

    # --- the end -------------------------------------------------------------------------------

    def _end(self, state: ChatState, event: End, entry: Entry) -> Step:
        state, frames = self._say(replace(state, floor=()), clear(state.floor))
        match event:
            case RunCompleted():
                if event.output.strip() and event.output not in state.told:
                    output = Piece("content", event.run_id, event.output)
                    state, more = self._say(state, [output])
                    frames += more
                reason = _FINISH.get(event.finish_reason or "", "stop")
                return state, [*frames, *self._finish(state, reason, event.usage)]
            case RunInterrupted() if state.calls and not state.decisions:
                return state, [*frames, *self._finish(state, "tool_calls", state.usage)]
            case _:
                failure = failure_of(event, entry.session_id)
                return replace(state, failure=failure), [*frames, _error(failure)]

    def _finish(self, state: ChatState, reason: str, usage: Usage) -> list[Frame]:
        frames = [self._chunk(state, {}, finish_reason=reason)]
        if self.include_usage:
            frames.append(_frame(self._head(state) | {"choices": [], "usage": _usage(usage)}))
        return [*frames, DONE]

    # --- their shape ---------------------------------------------------------------------------

    def _head(self, state: ChatState) -> dict[str, Any]:
        return {
            "id": state.id,
            "object": "chat.completion.chunk",
            "created": state.created,
            "model": self.model,
        }

    def _chunk(
        self, state: ChatState, delta: dict[str, Any], *, finish_reason: str | None = None
    ) -> Frame:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self.include_usage else {}
        return _frame(self._head(state) | {"choices": [choice]} | usage)


def _frame(body: dict[str, Any]) -> Frame:
    return Frame(orjson.dumps(body))


def _error(failure: Failure) -> Frame:
    return _frame({"error": error_object(failure.status, failure.code, failure.message)})


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }
