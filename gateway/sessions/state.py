"""What a session is at one position of its log: data that the fold fills in. Pure.

`gateway.sessions.fold` changes it, and nothing else does. It can be stored whole, so that a session
is loaded from a snapshot and the entries after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from gateway.codecs.native import timestamp
from gateway.log.engine import SessionStatus
from gateway.log.position import Position
from gateway.sessions.snapshot import (
    ApprovalView,
    MessageView,
    OpenCall,
    OpenText,
    OpenView,
    QueueView,
    RunStatus,
    RunView,
    Snapshot,
    ToolCallView,
)
from runtime.boundaries import Boundaries
from runtime.events import ErrorInfo
from runtime.history import failure_text, legal, result_text
from runtime.messages import Message, ToolCall, Usage
from runtime.runnable import Decision

__all__ = ["Resolution", "RunState", "SessionState"]


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Resolution(_State):
    """How an approval was settled, and by which command."""

    run_id: str
    call_id: str | None
    decision: str
    by: str | None = None
    message: str | None = None
    arguments: str | None = None


class RunState(_State):
    """A run as its events tell it. `turns` counts its finished model steps."""

    run_id: str
    agent: str
    status: RunStatus = "running"
    attempt: int = 1
    options: Mapping[str, Any] = {}
    timeout: float | None = None
    parent_run_id: str | None = None
    turns: int = 0
    usage: Usage = Usage()
    error: ErrorInfo | None = None


class SessionState(_State):
    """The fold of a session's log.

    Attributes:
        position: Up to where it is folded.
        current: The run that is running or interrupted; at most one.
        last: The run that ended last.
        queue: Inputs that wait, in order.
        resolved: Settled approvals by id, so that a late decision can be told who was first.
    """

    session_id: str
    agent: str
    metadata: Mapping[str, Any]
    created_at: int
    epoch: str
    seq: int = 0
    tag: str
    closed: bool = False
    current: str | None = None
    last: str | None = None
    runs: dict[str, RunState] = Field(default_factory=dict)
    queue: list[QueueView] = Field(default_factory=list)
    queued_runs: dict[str, RunState] = Field(default_factory=dict)
    messages: list[MessageView] = Field(default_factory=list)
    approvals: dict[str, ApprovalView] = Field(default_factory=dict)
    resolved: dict[str, Resolution] = Field(default_factory=dict)
    usage: Usage | None = None
    _open: Boundaries = PrivateAttr(default_factory=Boundaries)

    @property
    def open(self) -> Boundaries:
        """What the current run has opened and not closed. Not stored: snapshots are saved idle."""
        return self._open

    def open_anew(self) -> None:
        """Forget what was open: a run has ended, and closed it all."""
        self._open = Boundaries()

    @property
    def position(self) -> Position:
        """Up to where the log is folded."""
        return Position(self.epoch, self.seq, self.tag)

    @property
    def current_run(self) -> RunState | None:
        """The run that is running or interrupted."""
        return self.runs[self.current] if self.current else None

    @property
    def status(self) -> SessionStatus:
        """What the session is doing."""
        if self.closed:
            return "closed"
        run = self.current_run
        if run is None:
            return "idle"
        return "interrupted" if run.status == "interrupted" else "running"

    def messages_of(self, run_id: str) -> list[MessageView]:
        """Return the assistant messages of a run."""
        return [m for m in self.messages if m.run_id == run_id and m.role == "assistant"]

    def call(self, call_id: str) -> ToolCallView | None:
        """Return the latest tool call of that id; a run that goes on may finish another's calls."""
        for message in reversed(self.messages):
            for call in message.tool_calls:
                if call.call_id == call_id:
                    return call
        return None

    def history(self) -> tuple[Message, ...]:
        """Return the conversation for the current run's model, its pending calls left open."""
        messages: list[Message] = []
        for view in self.messages:
            if view.superseded:
                continue
            messages.append(
                Message(
                    role=view.role,
                    content=view.text,
                    message_id=view.message_id,
                    tool_calls=tuple(
                        ToolCall(id=call.call_id, name=call.name, arguments=call.arguments)
                        for call in view.tool_calls
                    ),
                )
            )
            messages.extend(_answers(view))
        return legal(messages, keep_pending=True)

    def decisions(self, run_id: str) -> dict[str, Decision]:
        """Return what humans said to a run's tool calls, by call id."""
        kinds: dict[str, Any] = {"approved": "approved", "rejected": "rejected", "edited": "edited"}
        return {
            settled.call_id: Decision(
                kind=kinds.get(settled.decision, "expired"),
                message=settled.message,
                arguments=settled.arguments,
            )
            for settled in self.resolved.values()
            if settled.run_id == run_id and settled.call_id is not None
        }

    def snapshot(self) -> Snapshot:
        """Return the session as clients see it."""
        shown = self.current_run or (self.runs[self.last] if self.last else None)
        return Snapshot(
            session_id=self.session_id,
            agent=self.agent,
            status=self.status,
            run=RunView(
                run_id=shown.run_id,
                status=shown.status,
                attempt=shown.attempt,
                agent=shown.agent,
                error=shown.error,
            )
            if shown
            else None,
            queue=list(self.queue),
            messages=[message.model_copy(deep=True) for message in self.messages],
            open=_open_view(self._open),
            approvals=list(self.approvals.values()),
            usage=self.usage,
            cursor=str(self.position),
            created_at=timestamp(self.created_at),
            metadata=self.metadata,
        )


def _answers(view: MessageView) -> list[Message]:
    """Return the tool messages that answer an assistant message's calls."""
    answers: list[Message] = []
    for call in view.tool_calls:
        if call.status == "completed":
            text = result_text(call.result)
        elif call.status in {"failed", "unknown"} and call.error is not None:
            text = failure_text(call.error)
        else:
            continue
        answers.append(Message(role="tool", content=text, tool_call_id=call.call_id))
    return answers


def _open_view(opened: Boundaries) -> OpenView:
    return OpenView(
        messages=[
            OpenText(message_id=id_, run_id=said.opened.run_id, text=said.text)
            for id_, said in opened.messages.items()
        ],
        reasoning=[
            OpenText(message_id=id_, run_id=said.opened.run_id, text=said.text)
            for id_, said in opened.reasoning.items()
        ],
        tool_calls=[
            OpenCall(call_id=id_, name=getattr(call.opened, "name", ""), arguments=call.text)
            for id_, call in opened.tool_calls.items()
        ],
        tools=list(opened.tools),
        nodes=[node for _, node in opened.nodes],
    )
