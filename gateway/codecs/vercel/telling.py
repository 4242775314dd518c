"""One event told: what it adds to a stream, and what it makes of the stream's state. Pure."""

from __future__ import annotations

from gateway.codecs.vercel.asides import aside, below, superseded
from gateway.codecs.vercel.calls import Calls
from gateway.codecs.vercel.chunks import DONE, finish_reason
from gateway.log.entry import Entry
from runtime.events import (
    Event,
    InputAccepted,
    InputQueued,
    MessageCompleted,
    MessageDelta,
    MessageStarted,
    ModelStarted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunResumed,
)
from runtime.journal import spoken_below
from runtime.messages import Usage

__all__ = ["Telling"]

STOPPED = frozenset({"cancel", "disconnect", "superseded"})
"""Reasons to cancel that somebody wanted; to a client, the others are failures."""

End = RunCompleted | RunFailed | RunCancelled | RunInterrupted


class Telling(Calls):
    """Tells one event."""

    def start(self, event: Event, entry: Entry) -> None:
        """Begin the message, if it is not begun: with the first event, whatever that is."""
        state = self.state
        if not state.run_id:
            self._set(run_id=event.run_id or "", created=entry.at)
        if not state.started:
            self._set(started=True)
            told = {
                "runId": self.state.run_id,
                "sessionId": entry.session_id,
                "createdAt": self.state.created,
                "status": "running",
            }
            self._say("start", messageId=self.state.run_id, messageMetadata=told)

    def tell(self, event: Event) -> None:
        """Say the event."""
        self._supersede(event)
        match event:
            case ModelStarted():
                self._set(turned=True)
            case MessageStarted() | MessageDelta() | MessageCompleted():
                self._message(event)
            case ReasoningStarted() | ReasoningDelta() | ReasoningCompleted():
                self._reason(event)
            case RunResumed():
                self._go_on()
            case RunCompleted() | RunFailed() | RunCancelled() | RunInterrupted():
                self._end(event)
            case _:
                if not self._of_calls(event):
                    self._beside(event)

    def _beside(self, event: Event) -> None:
        if isinstance(event, InputAccepted | InputQueued):
            self._set(client_tools=frozenset(tool.name for tool in event.tools or ()))
        frames = aside(event)
        if not frames and spoken_below(event.path):
            frames = below(event)
        self.frames += frames

    def _supersede(self, event: Event) -> None:
        said, ids = self.state.said.note(event)
        if said is not self.state.said:
            self._set(said=said)
        ids = tuple(id_ for id_ in ids if id_ not in self._left_out)
        if ids:
            self.frames.append(superseded(ids))
            self._drop(ids)

    # --- speech --------------------------------------------------------------------------------

    def _message(self, event: MessageStarted | MessageDelta | MessageCompleted) -> None:
        id_ = event.message_id
        if id_ in self._left_out:
            return
        if spoken_below(event.path):
            self.frames += below(event)
            return
        if isinstance(event, MessageCompleted):
            if id_ not in self.state.texts and event.text:  # it came without pieces
                self._piece("text", id_, event.text, event.path)
            if id_ in self.state.texts:
                self._say("text-end", id=id_)
                self._set(texts=tuple(known for known in self.state.texts if known != id_))
        elif isinstance(event, MessageDelta) and event.text:
            self._piece("text", id_, event.text, event.path)

    def _reason(self, event: ReasoningStarted | ReasoningDelta | ReasoningCompleted) -> None:
        id_ = event.message_id
        if id_ in self._left_out or spoken_below(event.path):
            return
        if isinstance(event, ReasoningCompleted):
            if id_ in self.state.reasoning:
                self._say("reasoning-end", id=id_)
                self._set(reasoning=tuple(known for known in self.state.reasoning if known != id_))
        elif isinstance(event, ReasoningDelta) and event.text:
            self._piece("reasoning", id_, event.text, event.path)

    # --- the end -------------------------------------------------------------------------------

    def _end(self, event: End) -> None:
        if isinstance(event, RunInterrupted):
            self._pause()
        else:
            self._close_all(stopped=isinstance(event, RunCancelled) and event.reason in STOPPED)
        if isinstance(event, RunCompleted) and event.output and not self.state.spoke:
            self._piece("text", f"{event.run_id}:output", event.output, event.path)
        if self.state.answered and not isinstance(event, RunInterrupted):
            # Some clients send by themselves after a step whose calls they have answered.
            self._leave_step()
            self._say("start-step")
            self._set(in_step=True, stepped=True)
        self._leave_step()
        self._say_end(event)
        self.frames.append(DONE)

    def _say_end(self, event: End) -> None:
        match event:
            case RunCompleted():
                told = {"status": "completed", "usage": _usage(event.usage)}
                reason = finish_reason(event.finish_reason)
                self._say("finish", finishReason=reason, messageMetadata=told)
            case RunInterrupted():
                told = {"status": "interrupted"}
                self._say("finish", finishReason="tool-calls", messageMetadata=told)
            case RunCancelled():
                told = {"status": "cancelled", "reason": event.reason}
                self._say("message-metadata", messageMetadata=told)
                if event.reason in STOPPED:
                    self._say("abort", reason=event.reason)
                else:
                    self._say("error", errorText=f"the run was stopped: {event.reason}")
            case RunFailed():
                told = {"status": "failed", "code": event.error.code}
                self._say("message-metadata", messageMetadata=told)
                self._say("error", errorText=event.error.message)


def _usage(usage: Usage) -> dict[str, int]:
    """Return what a run took, under the names that the AI SDK has for it."""
    told = {
        "inputTokens": usage.prompt_tokens,
        "outputTokens": usage.completion_tokens,
        "totalTokens": usage.total_tokens,
        "cachedInputTokens": usage.cache_read_tokens,
        "reasoningTokens": usage.reasoning_tokens,
    }
    return {name: value for name, value in told.items() if value is not None}
