"""What a session is at one position of its log: data that the fold fills in. Pure.

`gateway.sessions.fold` changes it, and nothing else does. It can be stored whole, so that a session
is loaded from a snapshot and the entries after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from gateway.codecs.native import timestamp
from gateway.log.engine import SessionStatus
from gateway.log.position import Position
from gateway.sessions.snapshot import (
    ApprovalView,
    MessageView,
    NodeView,
    OpenCall,
    OpenText,
    OpenView,
    QueueView,
    RunKind,
    RunStatus,
    RunView,
    Snapshot,
    ToolCallView,
)
from runtime.boundaries import Boundaries
from runtime.events import ErrorInfo, Event
from runtime.history import failure_text, legal, result_text
from runtime.journal import spoken_below
from runtime.messages import ClientTool, Message, ToolCall, Usage
from runtime.runnable import Decision, DecisionKind

__all__ = ["Resolution", "RunState", "SessionState", "answers", "nested", "unanswered"]


RESOLVED_KEPT = 100
"""Settled approvals that are remembered: far more than anybody can have on a screen."""


def nested(path: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the path of what is said below a run's own agent; None for what that agent says."""
    return path if len(path) > 1 else None


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Resolution(_State):
    """How an approval was settled, and by which command."""

    run_id: str
    call_id: str | None
    decision: DecisionKind
    by: str | None = None
    message: str | None = None
    arguments: str | None = None
    result: Any = None


class RunState(_State):
    """A run as its events tell it.

    Attributes:
        agent: The agent or the graph.
        instructions: In addition to the agent's own.
        tools: The client's.
        cancel_after: Seconds alone after which it is cancelled; None: it goes on.
        rewind_to: While it is in the queue: which message, with all after it, will not count.
        turn_at: How many messages the session had when its turn began: with its input, or that of
            the run that it goes on from.
        turns: How many model steps its own agent has finished; 0 for a graph.
        stopping: The command that wants it to end after its current step.
        settled_early: Approvals that were settled while it was at work, which does not know it yet.
        nodes: The nodes of a graph, by the path and name of each, in the order in which they
            began.
        visits: How many messages the session had when each of these began in its superstep.
        handed_over: How many of its attempts ended in order, by a process that was to stop.
        released: The last of these; 0 if there is none.
        segments: Where in the log its segments begin, as cursors: right before its input,
            and right before each time that it went on after a pause.
        journal: What the run has done so far, as it needs it in order to go on
            (`runtime.journal`). A cancelled or failed run keeps it for the run that continues it.
    """

    run_id: str
    agent: str
    kind: RunKind = "agent"
    status: RunStatus = "running"
    attempt: int = 1
    handed_over: int = 0
    released: int = 0
    options: Mapping[str, Any] = {}
    timeout: float | None = None
    instructions: str | None = None
    tools: tuple[ClientTool, ...] = ()
    cancel_after: float | None = None
    rewind_to: str | None = None
    parent_run_id: str | None = None
    turn_at: int = 0
    turns: int = 0
    usage: Usage = Usage()
    error: ErrorInfo | None = None
    stopping: str | None = None
    settled_early: list[str] = Field(default_factory=list)
    nodes: dict[str, NodeView] = Field(default_factory=dict)
    visits: dict[str, int] = Field(default_factory=dict)
    segments: list[str] = Field(default_factory=list)
    journal: list[Event] = Field(default_factory=list)

    def view(self) -> RunView:
        """Return the run as clients see it."""
        return RunView(
            run_id=self.run_id,
            status=self.status,
            attempt=self.attempt,
            agent=self.agent,
            error=self.error,
            stopping=True if self.stopping and self.status == "running" else None,
            nodes=list(self.nodes.values()) if self.nodes or self.kind == "graph" else None,
        )


class SessionState(_State):
    """The fold of a session's log.

    Attributes:
        position: Up to where it is folded.
        current: The run that is running or interrupted; at most one.
        last: The run that ended last.
        queue: Inputs that wait, in order.
        unqueued: Runs whose inputs left the queue, the newest last: as many as anybody could still
            ask for.
        heard: How many messages there were with the newest input.
        resolved: Settled approvals by id, so that a late decision can be told who was first; of
            runs that are over the latest, and without what was decided about.
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
    unqueued: list[str] = Field(default_factory=list)
    messages: list[MessageView] = Field(default_factory=list)
    heard: int = 0
    approvals: dict[str, ApprovalView] = Field(default_factory=dict)
    resolved: dict[str, Resolution] = Field(default_factory=dict)
    usage: Usage | None = None
    _open: Boundaries = PrivateAttr(default_factory=Boundaries)

    @property
    def open(self) -> Boundaries:
        """What the current run has opened and not closed."""
        return self._open

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

    def had_run(self, run_id: str) -> bool:
        """Tell whether a run that does not wait is, or was, one of the session's."""
        known = (self.current, self.last, *self.unqueued)
        return run_id in known or any(message.run_id == run_id for message in self.messages)

    def run_over(self) -> None:
        """Forget what only an active run needs: what it had open, and all but who decided what."""
        self._open = Boundaries()
        self.resolved = {
            approval_id: Resolution(
                run_id=settled.run_id,
                call_id=settled.call_id,
                decision=settled.decision,
                by=settled.by,
            )
            for approval_id, settled in [*self.resolved.items()][-RESOLVED_KEPT:]
        }

    def messages_of(self, run_id: str) -> list[MessageView]:
        """Return the assistant messages of a run."""
        return [m for m in self.messages if m.run_id == run_id and m.role == "assistant"]

    def call(self, call_id: str, path: tuple[str, ...]) -> ToolCallView | None:
        """Return the latest tool call of that id; a run that goes on may finish another's calls.

        Ids are the models' own, so agents at different paths may use the same.
        """
        below = nested(path)
        for message in reversed(self.messages):
            for call in message.tool_calls:
                if call.call_id == call_id and message.path == below:
                    return call
        return None

    def before(self, message_id: str) -> list[MessageView]:
        """Return what was said before a message; all there is if there is no such message."""
        for place, message in enumerate(self.messages):
            if message.message_id == message_id:
                return self.messages[:place]
        return self.messages

    def history(self) -> tuple[Message, ...]:
        """Return the conversation for the current run, its pending calls left open.

        What agents said that were called as tools is for their callers, and no part of it. A graph
        gets the same conversation however often it goes on: the one up to its input. What its nodes
        said since is in the journal.
        """
        messages: list[Message] = []
        for view in self._heard():
            if view.superseded or spoken_below(view.path or ()):
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
            messages.extend(answers(view))
        return legal(messages, keep_pending=True)

    def _heard(self) -> list[MessageView]:
        """Return the messages from which the current run begins."""
        run = self.current_run
        if run is None or run.kind == "agent":
            return self.messages
        return self.messages[: self.heard]

    def decisions(self, run_id: str) -> dict[str, Decision]:
        """Return what humans said: to tool calls by call id, to a graph by approval id."""
        return {
            settled.call_id or approval_id: Decision(
                kind=settled.decision,
                message=settled.message,
                arguments=settled.arguments,
                result=settled.result,
            )
            for approval_id, settled in self.resolved.items()
            if settled.run_id == run_id
        }

    def snapshot(self, *, shared: bool = False) -> Snapshot:
        """Return the session as clients see it.

        Args:
            shared: Its messages are the state's own, to be looked at before anything else happens.
        """
        shown = self.current_run or (self.runs[self.last] if self.last else None)
        return Snapshot(
            session_id=self.session_id,
            agent=self.agent,
            status=self.status,
            run=shown.view() if shown else None,
            queue=list(self.queue),
            messages=self.messages
            if shared
            else [message.model_copy(deep=True) for message in self.messages],
            open=_open_view(self._open),
            approvals=list(self.approvals.values()),
            usage=self.usage,
            cursor=str(self.position),
            created_at=timestamp(self.created_at),
            metadata=self.metadata,
        )


def unanswered(messages: Sequence[MessageView]) -> tuple[str, ...]:
    """Return the ids of the calls that a conversation ends with, and that nobody has answered."""
    if not messages or messages[-1].path is not None:
        return ()
    return tuple(call.call_id for call in messages[-1].tool_calls if call.status == "ready")


def answers(view: MessageView) -> list[Message]:
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
            OpenText(
                message_id=id_,
                run_id=said.opened.run_id,
                text=said.text,
                agent=said.opened.agent,
                turn=said.opened.turn,
                path=nested(said.opened.path),
            )
            for id_, said in opened.messages.items()
        ],
        reasoning=[
            OpenText(
                message_id=id_,
                run_id=said.opened.run_id,
                text=said.text,
                path=nested(said.opened.path),
            )
            for id_, said in opened.reasoning.items()
        ],
        tool_calls=[
            OpenCall(
                call_id=id_,
                name=call.opened.name,
                arguments=call.text,
                path=nested(call.opened.path),
            )
            for id_, call in opened.tool_calls.items()
        ],
        tools=list(opened.tools),
        nodes=[node for _, node in opened.nodes],
    )
