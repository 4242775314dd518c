"""What the events of one agent's run say about its conversation. Pure.

It answers what a run needs to go on (`messages`, `turns`, `usage`, `started`), and what people want
to know of it when it is over. The gateway keeps a whole session in the same way; this is for one
run, in one process, or below another run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.events import (
    AgentHandoff,
    ApprovalRequested,
    ApprovalResolved,
    Event,
    InputSteered,
    MessageCompleted,
    ModelCompleted,
    RunCompleted,
    ToolCompleted,
    ToolFailedEvent,
    ToolStarted,
    ToolUnknownOutcome,
)
from runtime.history import UNKNOWN_OUTCOME, failure_text, result_text
from runtime.journal import spoken_below
from runtime.messages import Message, Usage

__all__ = ["Transcript"]


class Transcript:
    """A fold over the events at one path; `note` each event of the run, in order.

    With `whole`, all that is spoken in the run counts: the nodes of a graph, and the agents in them,
    speak for the graph.

    Attributes:
        path: Whose events count. Empty until the first event, whose path is then taken.
        messages: The conversation so far, with the history that it began with.
        turns: Model calls that are finished.
        usage: What the model calls took, those below this path included.
        started: Ids of tool calls that have begun and have no outcome.
        approvals: What waits for a human, at any depth, by `approval_id`.
        last_agent: Who was handed the conversation last; None if nobody was.
        finish_reason: Of the last model call.
    """

    def __init__(
        self, history: Sequence[Message] = (), path: Sequence[str] = (), *, whole: bool = False
    ) -> None:
        self.path = tuple(path)
        self._whole = whole
        self.messages: list[Message] = list(history)
        self.turns = 0
        self.usage = Usage()
        self.started: set[str] = set()
        self.approvals: dict[str, ApprovalRequested] = {}
        self.last_agent: str | None = None
        self.finish_reason: str | None = None

    @classmethod
    def of(
        cls, events: Iterable[Event], *, history: Sequence[Message] = (), path: Sequence[str] = ()
    ) -> Transcript:
        """Return the transcript of these events."""
        transcript = cls(history, path)
        for event in events:
            transcript.note(event)
        return transcript

    def note(self, event: Event) -> None:
        """Take one event into account."""
        self.path = self.path or event.path
        match event:
            case ModelCompleted():
                self.usage += event.usage or Usage()
            case ApprovalRequested():
                self.approvals[event.approval_id] = event
            case ApprovalResolved():
                self.approvals.pop(event.approval_id, None)
            case _:
                pass
        if event.path == self.path or (self._whole and not spoken_below(event.path)):
            self._note_own(event)

    def _note_own(self, event: Event) -> None:
        match event:
            case ModelCompleted():
                self._said(event)
            case MessageCompleted(incomplete=True, superseded=None) if event.text:
                self.messages.append(
                    Message(role="assistant", content=event.text, message_id=event.message_id)
                )
            case InputSteered():
                self.messages.append(event.message)
            case ToolStarted():
                self.started.add(event.call_id)
            case ToolCompleted():
                self._answered(event.call_id, result_text(event.result))
            case ToolFailedEvent(will_retry=False):
                self._answered(event.call_id, failure_text(event.error))
            case ToolUnknownOutcome():
                self._answered(event.call_id, failure_text(UNKNOWN_OUTCOME))
            case AgentHandoff() if not event.denied:
                self.last_agent = event.target
            case RunCompleted():
                self.usage = event.usage
            case _:
                pass

    def _said(self, event: ModelCompleted) -> None:
        self.turns = self.turns + 1 if self._whole else event.turn
        self.finish_reason = event.finish_reason
        self.messages.append(
            Message(
                role="assistant",
                content=event.content or "",
                message_id=event.message_id,
                tool_calls=event.tool_calls,
            )
        )

    def _answered(self, call_id: str, content: str) -> None:
        self.started.discard(call_id)
        self.messages.append(Message(role="tool", content=content, tool_call_id=call_id))
